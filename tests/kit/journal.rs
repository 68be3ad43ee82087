//! A journal on disk, as a server leaves it and without one.

use std::path::{Path, PathBuf};

use muster::journal::{AppendError, FileStorage, Item, Journal, Options, Position, Reader, Record};
use muster::machine::record;
use muster::wire::event::Event;
use muster::wire::id::Epoch;

use super::Site;

/// Writes copies of an event in segments of 1 MiB, with the time that the server received them, until
/// `is_enough` of their number and the number of segments.
pub(crate) fn write_journal(
    directory: &Path,
    event: &Event,
    received_ms: u64,
    is_enough: impl Fn(u64, usize) -> bool,
) {
    let storage = FileStorage::open(directory).unwrap();
    let options = Options { segment_bytes: 1 << 20, ..Options::server() };
    let mut opened = Journal::open(storage, options, Position(0), received_ms, |_| {}).unwrap();
    let mut payload = Vec::new();
    record::encode(Epoch(7), &event.to_bytes().unwrap(), &mut payload);
    let mut sequence = 0;
    while !is_enough(sequence, opened.journal.reader().segments().len()) {
        sequence += 1;
        let record = Record { wall_ms: received_ms + sequence, device: 5 << 33, sequence, payload: &payload };
        while let Err(error) = opened.journal.append(&record) {
            assert!(matches!(error, AppendError::NoRoom(_)), "{error}");
            opened.flusher.flush_once().unwrap();
            opened.preallocator.preallocate_once(received_ms);
        }
    }
    opened.flusher.flush_once().unwrap();
}

/// The journal's files of this kind, in their order.
pub(crate) fn segments(directory: &Path, kind: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|is| is == kind)).collect();
    paths.sort();
    paths
}

/// Sequence number and message of every event in the stopped server's journal, in its order.
pub(crate) fn stored(site: &Site) -> Vec<(u64, String)> {
    let events = events_in(&site.path("server/journal")).into_iter();
    events.map(|(sequence, event)| (sequence, event.message)).collect()
}

/// Sequence number and event of every record in a journal that nobody writes; without the server's own, such
/// as a change of presence.
pub(crate) fn events_in(journal: &Path) -> Vec<(u64, Event)> {
    let reader = Reader::open(journal).unwrap();
    let mut records = reader.forward(Position(0));
    let mut stored = Vec::new();
    while let Some(item) = records.next().unwrap() {
        match item {
            Item::Record(view) => {
                let (epoch, body) = record::decode(view.record.payload).unwrap();
                if epoch.0 != 0 {
                    stored.push((view.record.sequence, Event::from_bytes(body).unwrap()));
                }
            }
            Item::Damage(damage) => panic!("{damage}"),
        }
    }
    stored
}
