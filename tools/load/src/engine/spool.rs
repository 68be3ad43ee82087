//! A device's events that are not acknowledged yet: only when each happened. Their contents are the same for
//! all.

use std::collections::VecDeque;

use muster::machine::agent::SpoolState;
use muster::wire::event::{Event, Severity};
use muster::wire::id::Epoch;
use muster::wire::limits::EVENTS_PER_MESSAGE_MAX;
use muster::wire::time::{Moment, Now, WallTime};

/// Size of the shortest event, whatever is asked for.
pub(crate) const EVENT_BYTES_MIN: usize = 64;

/// The kind of the simulated devices' events.
pub(crate) const EVENT_KIND: &str = "load.event";

/// One device's spool.
#[derive(Debug)]
pub(crate) struct Spool {
    pub(super) epoch: Epoch,
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

    /// The number of the first event behind a sequence number that is still there.
    pub(crate) fn first_after(&self, sequence: u64) -> u64 {
        sequence.max(self.forgotten_through) + 1
    }

    /// When the events behind a sequence number happened.
    pub(crate) fn after(&self, sequence: u64) -> impl Iterator<Item = Moment> {
        let passed = usize::try_from(sequence.saturating_sub(self.forgotten_through)).unwrap_or(usize::MAX);
        self.happened.iter().skip(passed).copied()
    }
}

/// Contents of events: one buffer for all devices of an engine. The same event has the same bytes however
/// often it is sent: a server that finds others under its number takes the device for one that was rolled
/// back.
#[derive(Debug)]
pub(crate) struct Paper {
    body: Vec<u8>,
    /// Wall time of moment 0, in milliseconds.
    wall_zero: u64,
    items: Vec<(u64, Vec<u8>)>,
}

impl Paper {
    /// For events of `bytes` bytes, by a clock that shows this now.
    pub(crate) fn new(bytes: usize, now: &Now) -> Self {
        let wall_zero = now.wall.0.saturating_sub(now.moment.0 / 1_000);
        Self { body: body(bytes), wall_zero, items: Vec::new() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The events from number `first` on, that happened at these moments.
    pub(crate) fn write(&mut self, first: u64, happened: impl Iterator<Item = Moment>) -> &[(u64, Vec<u8>)] {
        let mut count = 0;
        for (number, at) in (first..).zip(happened.take(EVENTS_PER_MESSAGE_MAX)) {
            if self.items.len() == count {
                self.items.push((0, self.body.clone()));
            }
            let (sequence, body) = &mut self.items[count];
            *sequence = number;
            if let Some(time) = body.last_chunk_mut() {
                *time = (self.wall_zero + at.0 / 1_000).to_be_bytes();
            }
            count += 1;
        }
        &self.items[..count]
    }
}

/// One event of `bytes` bytes, as it travels. Its time is the last field: eight bytes, as a time of our days
/// takes (RFC 8949 section 3.1).
fn body(bytes: usize) -> Vec<u8> {
    let event = |padding: usize| Event {
        severity: Severity::Info,
        application: "muster-load".into(),
        kind: EVENT_KIND.into(),
        message: "x".repeat(padding),
        occurred_at: WallTime(1 << 40),
        fields: Vec::new(),
    };
    let length = |padding| event(padding).to_bytes().map_or(0, |bytes| bytes.len());
    // The head of a text grows with its length: two steps find it.
    let mut padding = bytes.saturating_sub(length(0));
    for _ in 0..2 {
        padding = (padding + bytes).saturating_sub(length(padding));
    }
    event(padding).to_bytes().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { moment: Moment(5_000_000), wall: WallTime(1_795_514_400_000) };

    #[test]
    fn an_event_has_the_bytes_that_were_asked_for() {
        for bytes in [EVENT_BYTES_MIN, 100, 200, 1_000] {
            let made = body(bytes).len();
            assert!(made.abs_diff(bytes) <= 1, "{made} for {bytes}");
        }
        assert_eq!(body(200).len(), 200);
    }

    #[test]
    fn what_is_acknowledged_is_told_once_and_what_is_left_keeps_its_number() {
        let mut spool = Spool::new(Epoch(3));
        (1..=5).for_each(|at| spool.push(Moment(at)));
        assert_eq!(spool.forget_through(2).collect::<Vec<_>>(), [Moment(1), Moment(2)]);
        assert_eq!(spool.forget_through(2).count(), 0);
        spool.epoch = Epoch(4);
        let state = spool.state();
        assert_eq!((state.epoch, state.highest, state.forgotten_through), (Epoch(4), 5, 2));
        assert_eq!(spool.forget_through(99).count(), 3, "no more than there is");
        assert_eq!(spool.highest(), 5);
    }

    #[test]
    fn one_sheet_serves_all_and_an_event_that_is_sent_again_is_the_same() {
        let mut paper = Paper::new(200, &NOW);
        let moments = [5_000_000, 5_000_999, 7_500_000].map(Moment);
        let first: Vec<_> = paper.write(7, moments.into_iter()).to_vec();
        assert_eq!(first.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [7, 8, 9]);
        let times = first.iter().map(|(_, body)| Event::from_bytes(body).unwrap().occurred_at.0);
        assert_eq!(times.collect::<Vec<_>>(), [1_795_514_400_000, 1_795_514_400_000, 1_795_514_402_500]);
        let others = paper.write(1, (0..2_000).map(Moment)).to_vec();
        assert_eq!(others.len(), EVENTS_PER_MESSAGE_MAX);
        assert_eq!(paper.write(8, moments.into_iter().skip(1)), &first[1..]);
    }

    #[test]
    fn what_is_read_is_what_was_not_acknowledged() {
        let mut spool = Spool::new(Epoch(3));
        (1..=5).for_each(|at| spool.push(Moment(at)));
        spool.forget_through(1).for_each(drop);
        assert_eq!((spool.first_after(0), spool.first_after(4)), (2, 5));
        assert_eq!(spool.after(1).collect::<Vec<_>>(), [2, 3, 4, 5].map(Moment));
        assert_eq!(spool.after(4).collect::<Vec<_>>(), [Moment(5)]);
        assert_eq!(spool.after(5).count() + spool.after(99).count(), 0);
    }
}
