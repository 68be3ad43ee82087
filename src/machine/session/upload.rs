//! The parts of one section, put together.

use crate::machine::command::SectionChange;
use crate::wire::digest::Digest;
use crate::wire::inventory::InventoryChange;
use crate::wire::limits::{INVENTORY_ENTRIES_MAX, PARTS_PER_UPLOAD_MAX};
use crate::wire::message::{Part, PartContent};
use crate::wire::section::Section;

/// A section of which parts have come.
#[derive(Debug)]
pub(super) struct Upload {
    section: Section,
    revision: u64,
    digest: Digest,
    base: Option<Digest>,
    next_index: u32,
    content: PartContent,
    /// Memory that the content takes.
    held_bytes: usize,
}

/// A section of which every part has come.
pub(super) struct Finished {
    pub(super) revision: u64,
    pub(super) digest: Digest,
    pub(super) base: Option<Digest>,
    pub(super) change: SectionChange,
}

/// Fault of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UploadError {
    #[error("part {got} came where part {wanted} was due")]
    OutOfOrder { got: u32, wanted: u32 },
    #[error("a part of another upload came in between")]
    Mixed,
    #[error("more than {INVENTORY_ENTRIES_MAX} entries, or more than {PARTS_PER_UPLOAD_MAX} parts")]
    TooLarge,
    #[error("the parts do not bring what belongs to the section")]
    WrongContent,
}

impl Upload {
    /// The first part has come.
    pub(super) fn begin(part: Part) -> Result<Self, UploadError> {
        let upload = Self {
            section: part.section,
            revision: part.revision,
            digest: part.digest,
            base: part.base,
            next_index: 0,
            content: PartContent::default(),
            held_bytes: 0,
        };
        upload.take(part)
    }

    /// The next part has come.
    pub(super) fn take(mut self, part: Part) -> Result<Self, UploadError> {
        let is_of_this = part.section == self.section
            && part.revision == self.revision
            && part.digest == self.digest
            && part.base == self.base;
        if !is_of_this {
            return Err(UploadError::Mixed);
        }
        if part.index != self.next_index {
            return Err(UploadError::OutOfOrder { got: part.index, wanted: self.next_index });
        }
        let entries = |content: &PartContent| content.added.len().max(content.removed.len());
        let is_too_long = self.next_index as usize >= PARTS_PER_UPLOAD_MAX
            || entries(&self.content) + entries(&part.content) > INVENTORY_ENTRIES_MAX;
        if is_too_long {
            return Err(UploadError::TooLarge);
        }
        self.next_index += 1;
        self.held_bytes += part.content.memory_bytes();
        let PartContent { added, removed, host, conditions } = part.content;
        self.content.added.extend(added);
        self.content.removed.extend(removed);
        self.content.conditions.extend(conditions);
        self.content.host = host.or(self.content.host);
        Ok(self)
    }

    /// Memory that it takes.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The last part has come.
    pub(super) fn finish(self) -> Result<Finished, UploadError> {
        let PartContent { added, removed, host, conditions } = self.content;
        let has_inventory = !added.is_empty() || !removed.is_empty();
        let change = match (self.section, host) {
            (Section::Inventory, None) if conditions.is_empty() => {
                SectionChange::Inventory(InventoryChange { added, removed })
            }
            // Both always travel whole, in one part.
            (Section::Host, Some(host)) if !has_inventory && conditions.is_empty() && self.base.is_none() => {
                SectionChange::Host(host)
            }
            (Section::Conditions, None) if !has_inventory && self.base.is_none() => {
                SectionChange::Conditions(conditions)
            }
            _ => return Err(UploadError::WrongContent),
        };
        Ok(Finished { revision: self.revision, digest: self.digest, base: self.base, change })
    }
}
