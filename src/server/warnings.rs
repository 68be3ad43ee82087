//! Warnings and worse, which are kept for longer than other events: the archive of the journal.
//!
//! A device that sends many events of no weight pushes older ones out of the journal, and with them what an
//! administrator looks for afterwards. So retention copies events of severity warning and worse, those of
//! devices and the server's own, into an archive with a bound and an age of its own.

use std::ops::ControlFlow;
use std::path::Path;

use super::config::{Config, JournalConfig};
use super::event_log::DAMAGES_LOGGED_MAX;
use crate::journal::{
    Archive, ArchiveOptions, ArchiveTrouble, Archiver, Damage, FileStorage, Item, Journal, Position,
    ReadError, Reader, Record, Retention, SegmentInfo, original,
};
use crate::machine::record;
use crate::wire::event::{Event, Severity};
use crate::wire::limits::EVENT_BYTES_MAX;
use crate::wire::time::WallTime;

/// Segments of the archive in its bound, count: what one is written into and what is deleted at a time is
/// one.
const SEGMENTS: u64 = 1024;

/// Smallest and largest segment of the archive.
const SEGMENT_BYTES: (u64, u64) = (64 * 1024, 64 * 1024 * 1024);

/// Bytes of the disk that the archive leaves free: half of what the journal leaves, so that warnings still
/// find room when events do not.
const KEEP_FREE_BYTES: u64 = 32 * 1024 * 1024;

/// The archive for the journal of this server, open when there is one.
pub(super) fn open(config: &Config, now: WallTime) -> Archiver {
    let directory = config.warnings_directory();
    let is_there = directory.exists();
    let options = ArchiveOptions {
        segment_bytes: segment_bytes(&config.journal),
        retention: retention(&config.journal),
        keep_free_bytes: KEEP_FREE_BYTES,
    };
    let storage = move || FileStorage::open(&directory);
    let mut archiver = Archiver::new(options, storage, is_kept_longer);
    if is_there {
        match archiver.open(now.0) {
            Ok(damages) => tell_damages(&damages),
            Err(why) => log::error!("the journal of warnings can't be opened: {why}; tried again later"),
        }
    }
    archiver
}

fn segment_bytes(config: &JournalConfig) -> u64 {
    let (least, most) = SEGMENT_BYTES;
    (config.warnings_bytes() / SEGMENTS).next_multiple_of(4096).clamp(least, most)
}

/// The archive's retention.
pub(super) fn retention(config: &JournalConfig) -> Retention {
    Retention {
        bytes: config.warnings_bytes(),
        age_ms: u64::try_from(config.warnings_age().as_millis()).ok(),
    }
}

/// Whether a record is an event that is shown as a warning or worse. One that can't be read is.
fn is_kept_longer(record: &Record<'_>) -> bool {
    record::decode(record.payload).is_some_and(|(_, body)| {
        body.len() <= EVENT_BYTES_MAX
            && Event::from_bytes(body).map_or(true, |event| event.severity >= Severity::Warning)
    })
}

fn tell_damages(damages: &[Damage]) {
    for damage in damages.iter().take(DAMAGES_LOGGED_MAX) {
        log::error!("the journal of warnings is damaged: {damage}; see 'musterd journal verify'");
    }
    if damages.len() > DAMAGES_LOGGED_MAX {
        log::error!("and {} more places of the journal of warnings", damages.len() - DAMAGES_LOGGED_MAX);
    }
}

/// Logs the trouble.
pub(super) fn tell(trouble: &ArchiveTrouble) {
    match trouble {
        ArchiveTrouble::NotCopied(why) => {
            log::warn!("warnings of old segments can't be copied to the journal of warnings now: {why}");
        }
        ArchiveTrouble::Lost(why) => log::warn!(
            "an old segment of the journal was deleted with its warnings, to make room for new events: they \
             could not be copied to the journal of warnings: {why}; 'musterctl status' counts such segments"
        ),
        ArchiveTrouble::Damaged(damages) => tell_damages(damages),
    }
}

/// Shows the records of journal and archive that begin before `before`, newest first, each once, until `show`
/// breaks; segments in which nothing was received at or after `since` are passed over.
pub(super) fn backward(
    journal: &Journal,
    archive: &Archive,
    before: u64,
    since: WallTime,
    show: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let mut records = journal.reader().backward(Position(before)).since(since.0);
    let mut archived = archive.backward(Position(before), since.0)?;
    while let Some(item) = records.next()? {
        let from = match &item {
            Item::Record(view) => view.position,
            // Records of a damaged place were copied from within it.
            Item::Damage(damage) => Position(damage.from.0.saturating_sub(1)),
        };
        while let Some(view) = archived.next_behind(from)? {
            if show(Item::Record(view)).is_break() {
                return Ok(());
            }
        }
        if show(item).is_break() {
            return Ok(());
        }
    }
    while let Some(view) = archived.next()? {
        if show(Item::Record(view)).is_break() {
            break;
        }
    }
    Ok(())
}

/// Shows every record of a stopped server's archive, as it was in the journal, oldest first, until `visit`
/// breaks. There are none without an archive.
///
/// # Errors
/// When the archive can't be read.
pub fn for_each_archived(
    directory: &Path,
    visit: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ReadError> {
    if !directory.exists() {
        return Ok(ControlFlow::Continue(()));
    }
    let mut records = Reader::open(directory)?.forward(Position(0));
    while let Some(item) = records.next()? {
        let item = match item {
            Item::Record(view) => match original(&view) {
                Some(copied) => Item::Record(copied),
                None => continue,
            },
            damage @ Item::Damage(_) => damage,
        };
        if visit(item).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// First position from which on all warnings are there, when events before them were deleted.
#[must_use]
pub fn complete_from(segments: &[SegmentInfo]) -> Option<(Position, Option<WallTime>)> {
    let last = segments.last()?;
    let mut first = segments.len() - 1;
    let mut base = last.base;
    while let Some(before) = first.checked_sub(1).and_then(|place| segments.get(place))
        && before.base.0 + before.bytes == base.0
    {
        base = before.base;
        first -= 1;
    }
    let received = segments.get(first..).unwrap_or_default().iter().map(|segment| segment.summary);
    let received =
        received.filter(|summary| summary.records > 0).map(|summary| WallTime(summary.earliest_ms));
    (base > Position(0)).then(|| (base, received.min()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Epoch;

    #[test]
    fn what_is_shown_as_a_warning_or_worse_is_kept_longer() {
        let is_kept = |body: &[u8]| {
            let mut payload = Vec::new();
            record::encode(Epoch(3), body, &mut payload);
            is_kept_longer(&Record { wall_ms: 1, device: 7, sequence: 4, payload: &payload })
        };
        for severity in Severity::ALL {
            let event = Event {
                severity,
                application: "shop".into(),
                kind: "test".into(),
                message: String::new(),
                occurred_at: WallTime(1),
                fields: Vec::new(),
            };
            assert_eq!(is_kept(&event.to_bytes().unwrap()), severity != Severity::Info, "{severity}");
        }
        assert!(is_kept(b"\xa0"), "what this version can't read is shown as a warning");
        assert!(!is_kept(&[0xa0; EVENT_BYTES_MAX + 1]), "but for what is no event of any version");
    }
}
