//! Sections on their way up, cut into parts.

use std::sync::Arc;

use super::state::SectionContent;
use crate::wire::digest::Digest;
use crate::wire::inventory::{self, Application, InventoryChange};
use crate::wire::limits::{PART_CONTENT_BYTES_TARGET, PART_ENTRIES_MAX};
use crate::wire::message::{Part, PartContent, ToServer};
use crate::wire::section::ApplicationCondition;

/// Bytes that CBOR needs around the texts of one entry, at most.
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// An inventory that the server has, so that a difference may start from it.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) digest: Digest,
    pub(super) applications: Arc<[Application]>,
}

impl Base {
    pub(super) fn new(applications: Arc<[Application]>) -> Self {
        Self { digest: inventory::digest_of(&applications), applications }
    }
}

/// One section that the server wants. Its content is what it was when the sync began, whatever has changed
/// since.
#[derive(Debug)]
pub(super) struct Upload {
    head: Part,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Inventory(InventoryChange),
    Conditions(Vec<ApplicationCondition>),
    Host(Box<PartContent>),
}

impl Upload {
    pub(super) fn new(
        content: &SectionContent,
        digest: Digest,
        revision: u64,
        wanted_base: Option<Digest>,
        base: Option<&Base>,
    ) -> Self {
        let base = base.filter(|base| wanted_base == Some(base.digest));
        let (rest, base) = match content {
            SectionContent::Inventory(applications) => {
                let old = base.map_or(&[][..], |base| &base.applications[..]);
                (Rest::Inventory(InventoryChange::between(old, applications)), base.map(|base| base.digest))
            }
            SectionContent::Host(host) => {
                let content = PartContent { host: Some((**host).clone()), ..PartContent::default() };
                (Rest::Host(Box::new(content)), None)
            }
            SectionContent::Conditions(conditions) => (Rest::Conditions(conditions.to_vec()), None),
        };
        let section = content.section();
        let content = PartContent::default();
        Self { head: Part { section, revision, digest, base, index: 0, is_last: false, content }, rest }
    }

    /// The next part as a frame, and whether it is the last.
    pub(super) fn next_part(&mut self) -> (Vec<u8>, bool) {
        let mut part = self.head.clone();
        part.is_last = match &mut self.rest {
            Rest::Host(content) => {
                part.content = std::mem::take(content);
                true
            }
            Rest::Inventory(change) => {
                let mut room = PART_CONTENT_BYTES_TARGET;
                part.content.removed = take_front(&mut change.removed, &mut room, |_| 9);
                part.content.added = take_front(&mut change.added, &mut room, |application| {
                    application.name.len() + application.version.len() + application.publisher.len()
                });
                change.is_empty()
            }
            Rest::Conditions(conditions) => {
                let mut room = PART_CONTENT_BYTES_TARGET;
                part.content.conditions = take_front(conditions, &mut room, |condition| {
                    condition.application.len() + condition.version.len() + condition.detail.len()
                });
                conditions.is_empty()
            }
        };
        self.head.index += 1;
        let is_last = part.is_last;
        let mut frame = Vec::new();
        ToServer::Part(Box::new(part)).write_to(&mut frame);
        (frame, is_last)
    }
}

/// Takes entries from the front while there is room, at most [`PART_ENTRIES_MAX`]. The last one may exceed
/// the room: an entry is small beside what a frame has left.
fn take_front<T>(entries: &mut Vec<T>, room: &mut usize, bytes: impl Fn(&T) -> usize) -> Vec<T> {
    let mut count = 0;
    while *room > 0 && count < PART_ENTRIES_MAX && count < entries.len() {
        *room = room.saturating_sub(bytes(&entries[count]) + ENTRY_OVERHEAD_BYTES);
        count += 1;
    }
    let rest = entries.split_off(count);
    std::mem::replace(entries, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;

    fn application(number: usize) -> Application {
        let name = format!("application-{number:06}");
        Application { name, version: "1.0-1".into(), publisher: "x".repeat(200) }
    }

    fn parts(mut upload: Upload) -> Vec<Part> {
        let mut parts = Vec::new();
        loop {
            let (bytes, is_last) = upload.next_part();
            let (body, _) = frame::split(&bytes).unwrap().unwrap();
            let ToServer::Part(part) = ToServer::from_body(body).unwrap() else { panic!("not a part") };
            assert_eq!((part.index as usize, part.is_last), (parts.len(), is_last));
            parts.push(*part);
            if is_last {
                return parts;
            }
        }
    }

    #[test]
    fn a_long_inventory_travels_in_parts_that_fit() {
        let applications: Arc<[_]> = (0..3_000).map(application).collect();
        let content = SectionContent::Inventory(applications.clone());
        let parts = parts(Upload::new(&content, content.digest(), 1, None, None));
        assert!(parts.len() > 20);
        let all: Vec<_> = parts.into_iter().flat_map(|part| part.content.added).collect();
        assert_eq!(all[..], applications[..]);
    }

    #[test]
    fn only_the_difference_travels_when_the_base_is_the_one_that_the_server_names() {
        let old: Arc<[_]> = (0..100).map(application).collect();
        let new: Arc<[_]> = (1..101).map(application).collect();
        let (content, base) = (SectionContent::Inventory(new), Base::new(old));
        let one = parts(Upload::new(&content, content.digest(), 2, Some(base.digest), Some(&base)));
        assert_eq!((one[0].content.added.len(), one[0].content.removed.len(), one.len()), (1, 1, 1));
        assert_eq!(one[0].base, Some(base.digest));
        let whole = parts(Upload::new(&content, content.digest(), 2, Some(Digest(1)), Some(&base)));
        assert_eq!((whole[0].base, whole[0].content.added.len()), (None, 100));
    }

    #[test]
    fn an_empty_section_is_one_empty_part() {
        let content = SectionContent::Conditions(Arc::new([]));
        assert_eq!(parts(Upload::new(&content, content.digest(), 1, None, None)).len(), 1);
    }
}
