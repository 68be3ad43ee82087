//! A device's events that are not acknowledged yet: only when each happened. What is said of them is the same for all.

use std::collections::VecDeque;

use muster::machine::agent::SpoolState;
use muster::wire::event::{Event, Severity};
use muster::wire::id::Epoch;
use muster::wire::limits::EVENTS_PER_MESSAGE_MAX;
use muster::wire::time::{Moment, WallTime};

/// How often the events' own time is brought up to date, in milliseconds.
const WALL_MILLISECONDS: u64 = 500;

/// What the shortest event takes, in bytes, whatever is asked for.
pub(crate) const EVENT_BYTES_MIN: usize = 64;

/// One device's spool.
#[derive(Debug)]
pub(crate) struct Spool {
    epoch: Epoch,
    forgotten_through: u64,
    /// When each event behind `forgotten_through` happened.
    happened: VecDeque<Moment>,
}

impl Spool {
    /// An empty one, of a new history.
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self { epoch, forgotten_through: 0, happened: VecDeque::new() }
    }

    pub(crate) fn state(&self) -> SpoolState {
        SpoolState { epoch: self.epoch, highest: self.highest(), forgotten_through: self.forgotten_through }
    }

    pub(crate) fn highest(&self) -> u64 {
        self.forgotten_through + self.happened.len() as u64
    }

    /// An event happens.
    pub(crate) fn push(&mut self, at: Moment) {
        self.happened.push_back(at);
    }

    /// Everything up to a sequence number is acknowledged: when each of these events had happened.
    pub(crate) fn forget_through(&mut self, sequence: u64) -> impl Iterator<Item = Moment> {
        let count = usize::try_from(sequence.saturating_sub(self.forgotten_through)).unwrap_or(usize::MAX);
        let count = count.min(self.happened.len());
        self.forgotten_through += count as u64;
        self.happened.drain(..count)
    }

    /// What is left counts in another epoch.
    pub(crate) fn begin_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }
}

/// What events are made of: one buffer for all devices of an engine.
#[derive(Debug)]
pub(crate) struct Paper {
    bytes: usize,
    made_at: WallTime,
    items: Vec<(u64, Vec<u8>)>,
}

impl Paper {
    /// For events of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { bytes, made_at: WallTime(0), items: Vec::new() }
    }

    /// Bytes of one event.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The events from `first` on, at most `count`.
    pub(crate) fn write(&mut self, wall: WallTime, first: u64, count: usize) -> &[(u64, Vec<u8>)] {
        let count = count.min(EVENTS_PER_MESSAGE_MAX);
        if wall.0.saturating_sub(self.made_at.0) >= WALL_MILLISECONDS {
            self.made_at = wall;
            let body = body(self.bytes, wall);
            for (_, old) in &mut self.items {
                old.clone_from(&body);
            }
        }
        if self.items.len() < count {
            let body = body(self.bytes, self.made_at);
            self.items.resize(count, (0, body));
        }
        for ((sequence, _), number) in self.items[..count].iter_mut().zip(first..) {
            *sequence = number;
        }
        &self.items[..count]
    }
}

/// One event of so many bytes, as it travels.
fn body(bytes: usize, wall: WallTime) -> Vec<u8> {
    let event = |padding: usize| Event {
        severity: Severity::Info,
        application: "muster-load".into(),
        kind: "load.event".into(),
        message: "x".repeat(padding),
        occurred_at: wall,
        fields: Vec::new(),
    };
    let length = |padding| event(padding).to_bytes().map_or(0, |bytes| bytes.len());
    // The head of a text grows with its length (RFC 8949 section 3): two steps find it.
    let mut padding = bytes.saturating_sub(length(0));
    for _ in 0..2 {
        padding = (padding + bytes).saturating_sub(length(padding));
    }
    event(padding).to_bytes().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_bytes_that_were_asked_for() {
        for bytes in [EVENT_BYTES_MIN, 100, 200, 1_000] {
            let made = body(bytes, WallTime(1_795_514_400_000)).len();
            assert!(made.abs_diff(bytes) <= 1, "{made} for {bytes}");
        }
        assert_eq!(body(200, WallTime(1_795_514_400_000)).len(), 200);
    }

    #[test]
    fn what_is_acknowledged_is_told_once_and_what_is_left_keeps_its_number() {
        let mut spool = Spool::new(Epoch(3));
        (1..=5).for_each(|at| spool.push(Moment(at)));
        assert_eq!(spool.forget_through(2).collect::<Vec<_>>(), [Moment(1), Moment(2)]);
        assert_eq!(spool.forget_through(2).count(), 0);
        spool.begin_epoch(Epoch(4));
        let state = spool.state();
        assert_eq!((state.epoch, state.highest, state.forgotten_through), (Epoch(4), 5, 2));
        assert_eq!(spool.forget_through(99).count(), 3, "no more than there is");
        assert_eq!(spool.highest(), 5);
    }

    #[test]
    fn one_sheet_serves_all() {
        let mut paper = Paper::new(200);
        let first: Vec<_> = paper.write(WallTime(1_000), 7, 3).to_vec();
        assert_eq!(first.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [7, 8, 9]);
        let later = paper.write(WallTime(2_000), 1, 2_000);
        assert_eq!(later.len(), EVENTS_PER_MESSAGE_MAX);
        assert_ne!(later[0].1, first[0].1, "it has a later time");
        assert!(later.iter().all(|(_, body)| Event::from_bytes(body).is_ok()));
    }
}
