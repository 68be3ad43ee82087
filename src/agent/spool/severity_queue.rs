//! The journal of one severity, used from one thread, which appends, flushes and makes room.

use std::collections::VecDeque;
use std::io;

use super::{SpoolError, failed};
use crate::journal::layout::record_bytes;
use crate::journal::{
    AppendError, Forward, Item, Journal, NoRoom, Opened, Options, Position, Record, SegmentState, Storage,
};

/// End of one segment, in sequence numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    base: u64,
    pub(super) last_sequence: u64,
}

/// An event as the spool keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// Its sequence number.
    pub sequence: u64,
    /// When it was spooled, milliseconds since 1970.
    pub wall_ms: u64,
    /// The encoded event.
    pub body: Vec<u8>,
}

/// Why a queue takes no event.
#[derive(Debug)]
pub(super) enum Refused {
    /// The severity's quota is used up.
    Quota,
    /// The disk is full.
    Disk,
    /// Something that does not pass.
    Error(SpoolError),
}

pub(super) struct SeverityQueue<S: Storage> {
    opened: Opened<S>,
    segment_bytes: u64,
    limit_bytes: u64,
    reader: Forward<S>,
    /// Read and not yet taken.
    ahead: Option<Spooled>,
    pub(super) marks: VecDeque<Mark>,
    /// Begins of the segments that were set aside: nothing deletes them, whole records in them are delivered.
    set_aside: Vec<u64>,
    /// Events that the server has not confirmed.
    pub(super) waiting: u64,
    /// The highest sequence number in it, ever.
    pub(super) last_sequence: u64,
}

impl<S: Storage> SeverityQueue<S> {
    pub(super) fn open(storage: S, limit_bytes: u64, acked: u64, now_ms: u64) -> Result<Self, SpoolError> {
        let options = Options::spool(limit_bytes);
        let segment_bytes = options.segment_bytes;
        let (mut marks, mut waiting, mut last_sequence) = (VecDeque::new(), 0, 0);
        let opened = Journal::open(storage, options, Position(0), now_ms, |view| {
            let sequence = view.record.sequence;
            last_sequence = last_sequence.max(sequence);
            waiting += u64::from(sequence > acked);
            note(&mut marks, segment_bytes, view.position.0, sequence);
        })
        .map_err(|error| SpoolError::Open(error.to_string()))?;
        let reader = opened.journal.reader().forward(Position(0));
        let mut segments = opened.journal.segments();
        segments.retain(|segment| segment.state == SegmentState::SetAside);
        let set_aside = segments.into_iter().map(|segment| segment.base.0).collect();
        Ok(Self {
            set_aside,
            opened,
            segment_bytes,
            limit_bytes,
            reader,
            ahead: None,
            marks,
            waiting,
            last_sequence,
        })
    }

    /// Damage of this queue: events that were acknowledged to their emitters, and are gone.
    pub(super) fn damages(&self) -> Vec<String> {
        self.opened.recovery.damages.iter().map(ToString::to_string).collect()
    }

    pub(super) fn append(&mut self, sequence: u64, wall_ms: u64, body: &[u8]) -> Result<(), Refused> {
        let record = Record { wall_ms, device: 0, sequence, payload: body };
        // Each reason can be met once: flushed, then a segment made, then flushed again for its seal.
        for _ in 0..4 {
            match self.opened.journal.append(&record) {
                Ok(end) => {
                    let position = end.0 - record_bytes(body.len()) as u64;
                    note(&mut self.marks, self.segment_bytes, position, sequence);
                    self.waiting += 1;
                    self.last_sequence = sequence;
                    return Ok(());
                }
                Err(AppendError::NoRoom(NoRoom::FlushBehind)) => self.flush().map_err(Refused::Error)?,
                Err(AppendError::NoRoom(NoRoom::NotReady | NoRoom::Full)) => {
                    self.flush().map_err(Refused::Error)?;
                    self.opened.preallocator.preallocate_once(wall_ms);
                }
                Err(error @ (AppendError::TooLarge { .. } | AppendError::Failed)) => {
                    return Err(Refused::Error(failed(error)));
                }
            }
        }
        let is_quota = self.bytes() + self.segment_bytes > self.limit_bytes;
        Err(if is_quota { Refused::Quota } else { Refused::Disk })
    }

    /// Makes everything that was appended durable.
    pub(super) fn flush(&mut self) -> Result<(), SpoolError> {
        while self.opened.journal.durable() < self.opened.journal.end() {
            self.opened.flusher.flush_once().map_err(failed)?;
        }
        Ok(())
    }

    /// Makes the next segment, when it is needed, so that the next append finds it.
    pub(super) fn prepare(&mut self, now_ms: u64) {
        self.opened.preallocator.preallocate_once(now_ms);
    }

    /// Changes the quota: when there is more already, the next append without room for it makes some.
    pub(super) fn set_limit(&mut self, limit_bytes: u64) -> Result<(), SpoolError> {
        self.opened.journal.set_limit(Some(limit_bytes)).map_err(failed)?;
        self.limit_bytes = limit_bytes;
        Ok(())
    }

    /// Size that counts towards the quota: without what was set aside, which nothing deletes.
    pub(super) fn bytes(&self) -> u64 {
        self.opened.journal.stats().bytes
    }

    /// Everything in the oldest segment that can be deleted, and the position that it ends before; `None`
    /// when it is the one being written.
    pub(super) fn oldest_segment(&mut self) -> Result<Option<(u64, Vec<Spooled>)>, SpoolError> {
        let oldest = self.marks.iter().position(|mark| !self.set_aside.contains(&mark.base));
        let pair = oldest.and_then(|at| self.marks.get(at).zip(self.marks.get(at + 1)));
        let Some((first, second)) = pair else { return Ok(None) };
        let (last_sequence, end) = (first.last_sequence, second.base);
        let mut reader = self.opened.journal.reader().forward(Position(first.base));
        let mut events = Vec::new();
        while let Some(event) = next(&mut reader)? {
            if event.sequence > last_sequence {
                break;
            }
            events.push(event);
        }
        Ok(Some((end, events)))
    }

    /// Deletes the segments before a position.
    pub(super) fn delete_before(&mut self, position: u64) -> io::Result<()> {
        self.opened.journal.delete_before(Position(position))?;
        let (set_aside, last) = (&self.set_aside, self.marks.back().map(|mark| mark.base));
        self.marks.retain(|mark| {
            mark.base >= position || Some(mark.base) == last || set_aside.contains(&mark.base)
        });
        Ok(())
    }

    /// The position before which every event is confirmed, when that is a whole segment at least.
    pub(super) fn confirmed_before(&self, acked: u64) -> Option<u64> {
        let confirmed = self.marks.iter().take_while(|mark| mark.last_sequence <= acked).count();
        let keep = confirmed.min(self.marks.len().saturating_sub(1));
        let is_kept = |mark: &Mark| self.set_aside.contains(&mark.base);
        (!self.marks.iter().take(keep).all(is_kept)).then(|| self.marks[keep].base)
    }

    /// Goes back to read from the first event behind `after`.
    pub(super) fn rewind(&mut self, after: u64) {
        let first = self.marks.iter().find(|mark| mark.last_sequence > after);
        let position = first.map_or_else(|| self.opened.journal.durable().0, |mark| mark.base);
        self.reader = self.opened.journal.reader().forward(Position(position));
        self.ahead = None;
    }

    /// The next event behind `after`, which stays where it is.
    pub(super) fn peek(&mut self, after: u64) -> Result<Option<&Spooled>, SpoolError> {
        while self.ahead.as_ref().is_none_or(|event| event.sequence <= after) {
            self.ahead = next(&mut self.reader)?;
            if self.ahead.is_none() {
                return Ok(None);
            }
        }
        Ok(self.ahead.as_ref())
    }

    /// When the first event behind `after` was spooled, milliseconds since 1970.
    pub(super) fn first_after(&self, after: u64) -> Result<Option<u64>, SpoolError> {
        Ok(self.find(after, |event| event.sequence > after)?.map(|event| event.wall_ms))
    }

    /// Whether it holds the event of this number.
    pub(super) fn holds(&self, sequence: u64) -> Result<bool, SpoolError> {
        let found = self.find(sequence.saturating_sub(1), |event| event.sequence >= sequence)?;
        Ok(found.is_some_and(|event| event.sequence == sequence))
    }

    /// Counts anew what the server has not confirmed.
    pub(super) fn recount(&mut self, acked: u64) -> Result<(), SpoolError> {
        let mut reader = self.opened.journal.reader().forward(Position(0));
        self.waiting = 0;
        while let Some(event) = next(&mut reader)? {
            self.waiting += u64::from(event.sequence > acked);
        }
        Ok(())
    }

    /// The first event that fits, looked for from the segment that holds what is behind `after`.
    fn find(&self, after: u64, fits: impl Fn(&Spooled) -> bool) -> Result<Option<Spooled>, SpoolError> {
        let Some(mark) = self.marks.iter().find(|mark| mark.last_sequence > after) else { return Ok(None) };
        let mut reader = self.opened.journal.reader().forward(Position(mark.base));
        while let Some(event) = next(&mut reader)? {
            if fits(&event) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Takes what [`peek`](Self::peek) showed.
    pub(super) fn take(&mut self) -> Option<Spooled> {
        self.ahead.take()
    }
}

/// The next event that is durable. Damage is passed over here: the opening has told of it.
fn next<S: Storage>(reader: &mut Forward<S>) -> Result<Option<Spooled>, SpoolError> {
    loop {
        match reader.next().map_err(failed)? {
            None => return Ok(None),
            Some(Item::Damage(damage)) => log::error!("the spool is damaged: {damage}"),
            Some(Item::Record(view)) => {
                let record = view.record;
                return Ok(Some(Spooled {
                    sequence: record.sequence,
                    wall_ms: record.wall_ms,
                    body: record.payload.to_vec(),
                }));
            }
        }
    }
}

fn note(marks: &mut VecDeque<Mark>, segment_bytes: u64, position: u64, sequence: u64) {
    // Every segment of a spool has the same length, and the first begins at 0.
    let base = position - position % segment_bytes;
    match marks.back_mut() {
        Some(mark) if mark.base == base => mark.last_sequence = sequence,
        _ => marks.push_back(Mark { base, last_sequence: sequence }),
    }
}
