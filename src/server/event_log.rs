//! The journal of a server: opened, replayed into the device table, and kept going by threads of its own.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::ServerError;
use super::config::{Config, JournalConfig};
use super::panic_guard::{Failures, ServerFailure};
use super::sequences;
use super::warnings;
use crate::concurrency::reactors::ReactorMailboxes;
use crate::journal::{
    Archive, FileStorage, Flusher, Item, Journal, Notice, Opened, Options, Position, Preallocator,
    RecordView, Retention, Threads,
};
use crate::machine::replay::{self, FoundEvent};
use crate::store::Store;
use crate::store::table::DeviceTable;
use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;

/// Places of one segment that are logged one by one, in places.
pub(super) const DAMAGES_LOGGED_MAX: usize = 8;

/// Opens it, and brings the device table up to date with what the store does not have yet. The archive is
/// that of its warnings.
pub(super) fn open(config: &Config, store: &Store, now: WallTime) -> Result<(Opened, Archive), ServerError> {
    let archiver = warnings::open(config, now);
    let directory = config.journal_directory();
    let storage = FileStorage::open(&directory)?;
    let options = Options {
        segment_bytes: config.journal.segment_bytes,
        retention: Some(retention(&config.journal)),
        // Everything in the archive was in the journal.
        remembered: Position(sequences::remembered(store)?).max(archiver.copied_to()),
        ..Options::server()
    };
    let from = Position(store.devices().journal_position()?);
    let mut table: &DeviceTable = store.table();
    let opened = Journal::open(storage, options, from, now.0, |view| note_found(&mut table, &view))?;
    let recovery = &opened.recovery;
    for damage in &recovery.damages {
        log::error!("the journal is damaged: {damage}; see 'musterd journal verify'");
    }
    if recovery.end < recovery.durable {
        log::error!(
            "the journal ends at position {}, the database remembers {}: events are missing (an older copy of the journal, or a \
             file that is gone); new events begin behind that",
            recovery.end,
            recovery.durable
        );
    }
    if recovery.has_losses() {
        distrust_lost(table, &opened)?;
    }
    let archive = archiver.archive();
    Ok((Opened { preallocator: opened.preallocator.with_archiver(archiver), ..opened }, archive))
}

fn note_found(table: &mut &DeviceTable, view: &RecordView<'_>) {
    let record = view.record;
    if let Some(found) = FoundEvent::decode(record.device, record.sequence, record.payload, view.end().0) {
        replay::note(table, found);
    }
}

/// Lets go of what the store says of events that are lost, for what the whole journal still has.
fn distrust_lost(mut table: &DeviceTable, opened: &Opened) -> Result<(), ServerError> {
    let distrusted = replay::distrust(&mut table, |end| opened.recovery.is_lost(Position(end)));
    if distrusted.is_empty() {
        return Ok(());
    }
    log::error!(
        "the last event of {} devices is not in the journal: it was restored from an older copy, or a part is lost; these \
         devices are asked for what they still have",
        distrusted.len()
    );
    let mut reader = opened.journal.reader().forward(Position(0));
    while let Some(item) = reader.next()? {
        if let Item::Record(view) = item
            && distrusted.contains(&DeviceId(view.record.device))
        {
            note_found(&mut table, &view);
        }
    }
    Ok(())
}

/// Starts its threads. The receiver has the durable position; it is closed when nothing becomes durable any
/// more.
pub(super) fn start(
    flusher: Flusher<FileStorage>,
    preallocator: Preallocator<FileStorage>,
    durable_now: Position,
    mailboxes: ReactorMailboxes,
    failures: Failures,
) -> Result<(Threads<FileStorage>, watch::Receiver<u64>), ServerError> {
    let (durable, durable_seen) = watch::channel(durable_now.0);
    // Gone with a failure: a position that is waited for would never come.
    let durable = Mutex::new(Some(durable));
    let threads = Threads::spawn("journal", flusher, preallocator, move |notice| match notice {
        Notice::Durable(position) => {
            mailboxes.notify_waiting();
            if let Some(durable) = &*durable.lock() {
                durable.send_if_modified(|known| {
                    let is_further = *known < position.0;
                    *known = position.0.max(*known);
                    is_further
                });
            }
        }
        Notice::Failed(error) => {
            drop(durable.lock().take());
            failures.tell(ServerFailure::Journal(error.0.clone()));
        }
        Notice::NoRoom(why) => log::error!("no room for more events, devices keep them: {why}"),
        Notice::RoomAgain => {
            log::info!("there is room for events again");
            mailboxes.notify_all();
        }
        Notice::Deleted(segments) => {
            log::info!("{} old segments of the journal were deleted", segments.len());
        }
        Notice::Damaged(damages) => {
            for damage in damages.iter().take(DAMAGES_LOGGED_MAX) {
                log::error!("the journal is damaged: {damage}; its segment was set aside, all that is whole in it is still read");
            }
            if damages.len() > DAMAGES_LOGGED_MAX {
                log::error!("and {} more places of the journal, see 'musterd journal verify'", damages.len() - DAMAGES_LOGGED_MAX);
            }
        }
        Notice::Archive(trouble) => warnings::tell(&trouble),
        Notice::NotDeleted(error) => log::warn!("an old segment of the journal was not deleted: {error}"),
    })
    .map_err(ServerError::when("start the journal's threads"))?;
    Ok((threads, durable_seen))
}

/// A duration in whole seconds, as the wire counts them.
pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// The journal's retention.
pub(super) fn retention(config: &JournalConfig) -> Retention {
    Retention { bytes: config.retention_bytes, age_ms: u64::try_from(config.retention_age.as_millis()).ok() }
}
