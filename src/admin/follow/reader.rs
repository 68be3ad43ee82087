//! The part of the log that was read for a follower, and not given to it yet.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::admin::context::{EventLog, LogRecord};
use crate::admin::events::Filter;
use crate::journal::ReadError;
use crate::wire::api::{EventRecord, FOLLOW_NEWEST_MAX, FollowLine};

/// Records that one read looks at.
const READ_RECORDS_MAX: usize = 4_096;

/// Events that are held at once: what a follower may have in memory is this many, 8 KiB each at most.
const EVENTS_MAX: usize = FOLLOW_NEWEST_MAX as usize;

/// Reads the log from a position on.
pub(in crate::admin) struct Reader {
    filter: Filter,
    /// Most events that are held.
    events_max: usize,
    /// Whether older ones give way to newer ones. Otherwise reading waits until they are taken.
    leaves_out: bool,
    reached: u64,
    /// Parts of the log that were deleted before they were read.
    gone: Vec<FollowLine>,
    /// Wanted events, oldest first. They are decoded when they are taken.
    held: VecDeque<(LogRecord<'static>, Vec<u8>)>,
    /// Wanted events that gave way.
    skipped: u64,
}

impl Reader {
    /// Begins at a position. `newest`: how many events a batch has at most, and that it has the newest.
    pub(in crate::admin) fn new(filter: Filter, from: u64, newest: Option<usize>) -> Self {
        Self {
            filter,
            events_max: newest.unwrap_or(EVENTS_MAX).min(EVENTS_MAX),
            leaves_out: newest.is_some(),
            reached: from,
            gone: Vec::new(),
            held: VecDeque::new(),
            skipped: 0,
        }
    }

    pub(in crate::admin) fn leaves_out(&self) -> bool {
        self.leaves_out
    }

    /// Position up to which everything was read.
    pub(in crate::admin) fn reached(&self) -> u64 {
        self.reached
    }

    /// Reads on for a while. Says whether the end of the log is reached.
    pub(in crate::admin) fn read(&mut self, log: &dyn EventLog) -> Result<bool, ReadError> {
        let oldest = log.oldest();
        if self.reached < oldest {
            self.gone.push(FollowLine::Gone { from: self.reached, to: oldest });
            self.reached = oldest;
        }
        let (mut looked_at, mut is_at_end) = (0, true);
        log.forward(self.reached, &mut |record| {
            let is_full = self.held.len() == self.events_max;
            if looked_at == READ_RECORDS_MAX || (is_full && !self.leaves_out) {
                is_at_end = false;
                return ControlFlow::Break(());
            }
            looked_at += 1;
            self.reached = record.next_position;
            if self.filter.wants(record) {
                if is_full {
                    self.held.pop_front();
                    self.skipped += 1;
                }
                self.held.push_back(owned(record));
            }
            ControlFlow::Continue(())
        })?;
        Ok(is_at_end)
    }

    /// All that was read: gaps, and the events, which have no names of devices yet.
    pub(in crate::admin) fn take(&mut self) -> (Vec<FollowLine>, Vec<EventRecord>) {
        let mut lines = std::mem::take(&mut self.gone);
        let skipped = std::mem::take(&mut self.skipped);
        if let Some((first, _)) = self.held.front().filter(|_| skipped > 0) {
            lines.push(FollowLine::Skipped { events: skipped, to: first.position });
        }
        let held = self.held.drain(..);
        let events =
            held.filter_map(|(record, payload)| self.filter.pick(LogRecord { payload: &payload, ..record }));
        (lines, events.collect())
    }
}

fn owned(record: LogRecord<'_>) -> (LogRecord<'static>, Vec<u8>) {
    let LogRecord { position, next_position, received_at, device, sequence, payload } = record;
    (LogRecord { position, next_position, received_at, device, sequence, payload: &[] }, payload.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::context::{Deleted, Visit};
    use crate::machine::record;
    use crate::wire::event::{Event, Severity};
    use crate::wire::id::{DeviceId, Epoch};
    use crate::wire::time::WallTime;

    /// A log of records of 10 bytes, every tenth of which is an error.
    struct Log {
        oldest: u64,
        records: u64,
    }

    impl EventLog for Log {
        fn oldest(&self) -> u64 {
            self.oldest
        }

        fn durable(&self) -> u64 {
            self.records * 10
        }

        fn deleted(&self) -> Option<Deleted> {
            None
        }

        fn forward(&self, from: u64, visit: Visit<'_>) -> Result<(), ReadError> {
            for number in from.div_ceil(10)..self.records {
                let severity = if number % 10 == 0 { Severity::Error } else { Severity::Info };
                let event = Event {
                    severity,
                    application: "shop".into(),
                    kind: "sale".into(),
                    message: number.to_string(),
                    occurred_at: WallTime(1),
                    fields: Vec::new(),
                };
                let mut payload = Vec::new();
                record::encode(Epoch(3), &event.to_bytes().unwrap(), &mut payload);
                let found = LogRecord {
                    position: number * 10,
                    next_position: number * 10 + 10,
                    received_at: WallTime(5_000),
                    device: DeviceId(7),
                    sequence: number,
                    payload: &payload,
                };
                if visit(found).is_break() {
                    break;
                }
            }
            Ok(())
        }

        fn backward(&self, _: u64, _: WallTime, _: Visit<'_>) -> Result<(), ReadError> {
            unreachable!("a follower reads forward")
        }
    }

    /// Reads to the end of the log; the lines, and the sequence numbers of the events.
    fn read_all(reader: &mut Reader, log: &Log) -> (Vec<FollowLine>, Vec<u64>) {
        while !reader.read(log).unwrap() {}
        let (lines, events) = reader.take();
        (lines, events.iter().map(|event| event.sequence).collect())
    }

    #[test]
    fn a_reader_far_behind_has_the_newest_and_says_how_many_there_were_beside_them() {
        let mut log = Log { oldest: 0, records: 10_000 };
        let mut reader = Reader::new(Filter::default(), 0, Some(50));
        let (lines, events) = read_all(&mut reader, &log);
        assert_eq!(lines, [FollowLine::Skipped { events: 9_950, to: 99_500 }]);
        assert_eq!(events, (9_950..10_000).collect::<Vec<_>>());
        assert_eq!(reader.reached(), 100_000);
        log.records += 50;
        assert_eq!(read_all(&mut reader, &log), (vec![], (10_000..10_050).collect()));
        log.records += 51;
        let (lines, events) = read_all(&mut reader, &log);
        assert_eq!((lines, events.len()), (vec![FollowLine::Skipped { events: 1, to: 100_510 }], 50));
    }

    #[test]
    fn only_what_is_wanted_is_counted_among_what_is_left_out() {
        let log = Log { oldest: 0, records: 10_000 };
        let errors = Filter { severity: Some(Severity::Error), ..Filter::default() };
        let (lines, events) = read_all(&mut Reader::new(errors, 0, Some(50)), &log);
        assert_eq!(lines, [FollowLine::Skipped { events: 950, to: 95_000 }]);
        assert_eq!(events, (9_500..10_000).step_by(10).collect::<Vec<_>>());
        let others = Filter { device: Some(DeviceId(8)), ..Filter::default() };
        assert_eq!(read_all(&mut Reader::new(others, 0, Some(50)), &log), (vec![], vec![]));
    }

    #[test]
    fn what_was_deleted_before_it_was_read_is_not_counted_but_named() {
        let log = Log { oldest: 50_000, records: 10_000 };
        let (lines, events) = read_all(&mut Reader::new(Filter::default(), 20, Some(50)), &log);
        let gone = FollowLine::Gone { from: 20, to: 50_000 };
        assert_eq!(lines, [gone, FollowLine::Skipped { events: 4_950, to: 99_500 }]);
        assert_eq!(events.len(), 50);
    }

    #[test]
    fn a_reader_that_wants_all_holds_a_batch_at_a_time_and_misses_none() {
        let log = Log { oldest: 0, records: 10_000 };
        let mut reader = Reader::new(Filter::default(), 0, None);
        let mut all = Vec::new();
        let mut is_at_end = false;
        while !is_at_end {
            is_at_end = reader.read(&log).unwrap();
            let (lines, events) = reader.take();
            assert!(lines.is_empty() && events.len() <= EVENTS_MAX);
            all.extend(events.iter().map(|event| event.sequence));
        }
        assert_eq!(all, (0..10_000).collect::<Vec<_>>());
    }
}
