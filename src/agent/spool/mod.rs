//! The spool: events that the server does not have yet, on the device's disk.
//!
//! One [journal](crate::journal) for each severity, merged by sequence number when read, so that a flood of
//! info events can never push out a critical one: each severity has a quota of its own, and what goes when it
//! is used up is its own oldest segment. Number and severities of the events that went become an event itself
//! (`muster-agent` / `spool.dropped`).
//!
//! Sequence numbers count under one epoch and are never used twice: after a restart they go on behind the
//! highest one in the journals and in the stored state.
//!
//! One thread uses it: append what there is, [`flush`](Spool::flush) once, then tell those who emitted.

mod notice;
mod severity_queue;
pub mod state;

use std::path::Path;

pub use severity_queue::Spooled;
use severity_queue::{Refused, SeverityQueue};
use state::{PendingDrop, SEVERITIES, SpoolState, StateFile, StateStore};

use super::ab_slots::SlotError;
use super::local::protocol::{SeverityStatus, SpoolStatus};
use super::settings::SpoolSettings;
use crate::journal::{FileStorage, Storage};
use crate::wire::event::Severity;
use crate::wire::id::Epoch;
use crate::wire::time::WallTime;

/// Why the spool does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It could not be opened.
    #[error("the spool can't be opened: {0}")]
    Open(String),
    /// There is no room on the disk. Passes when there is.
    #[error("the device's disk is full: the event was not taken; make room and emit it again")]
    DiskFull,
    /// A write or a read failed. The process must end and read again what is on the disk.
    #[error("the spool failed ({0}): the agent must be started again")]
    Failed(String),
    /// The state could not be written.
    #[error("the spool's state can't be written: {0}")]
    State(#[from] SlotError),
}

impl SpoolError {
    /// Whether the spool is of no more use to this process.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::DiskFull)
    }
}

/// The spool of a device.
pub struct Spool<S: Storage = FileStorage, T: StateStore = StateFile> {
    queues: [SeverityQueue<S>; SEVERITIES],
    quotas: [u64; SEVERITIES],
    store: T,
    state: SpoolState,
    /// The last event that was read; reading goes on behind it.
    read_through: Option<u64>,
    /// Sequence numbers and severities of what was read and not confirmed: tells how many of each a
    /// confirmation covers.
    unconfirmed: std::collections::VecDeque<(u64, u8)>,
}

fn place(severity: Severity) -> usize {
    severity as usize
}

fn failed(error: impl std::fmt::Display) -> SpoolError {
    SpoolError::Failed(error.to_string())
}

impl Spool {
    /// Opens the spool in `directory`. A new one counts under `epoch`.
    ///
    /// # Errors
    /// When it is in use, can't be read, or the system refuses.
    pub fn open_directory(
        directory: &Path,
        settings: &SpoolSettings,
        epoch: Epoch,
        now: WallTime,
    ) -> Result<Self, SpoolError> {
        let open = |severity: Severity| {
            FileStorage::open(&directory.join(severity.name()))
                .map_err(|error| SpoolError::Open(error.to_string()))
        };
        let [info, warning, error, critical] = Severity::ALL.map(open);
        let storages = [info?, warning?, error?, critical?];
        Self::open(storages, StateFile::new(directory), settings.quotas_bytes(), epoch, now)
    }
}

impl<S: Storage, T: StateStore> Spool<S, T> {
    /// Opens a spool on the given storages, mildest severity first. A drop that a crash interrupted is
    /// finished.
    ///
    /// # Errors
    /// When something can't be read or made good.
    pub fn open(
        storages: [S; SEVERITIES],
        store: T,
        quotas: [u64; SEVERITIES],
        epoch: Epoch,
        now: WallTime,
    ) -> Result<Self, SpoolError> {
        let stored = store.read()?;
        let mut state = stored.clone().unwrap_or_else(|| SpoolState::new(epoch));
        let mut quota = quotas.into_iter();
        let [info, warning, error, critical] = storages.map(|storage| {
            SeverityQueue::open(storage, quota.next().unwrap_or_default(), state.acked_through, now.0)
        });
        let queues = [info?, warning?, error?, critical?];
        let highest = queues.iter().map(|queue| queue.last_sequence).max().unwrap_or_default();
        state.highest_sequence = state.highest_sequence.max(highest);
        let unconfirmed = std::collections::VecDeque::new();
        let mut spool = Self { queues, quotas, store, state, read_through: None, unconfirmed };
        if stored.is_none() {
            // The epoch must be on the disk before an event that counts under it leaves. Once in each slot:
            // they are written over from then on, also when there is no room for another file.
            spool.store.write(&spool.state)?;
            spool.store.write(&spool.state)?;
        }
        spool.finish_drop(now)?;
        Ok(spool)
    }

    /// Damage, for each severity that has some.
    #[must_use]
    pub fn damages(&self) -> Vec<String> {
        let of_queue = |(severity, queue): (Severity, &SeverityQueue<S>)| {
            queue.damages().into_iter().map(move |damage| format!("spool of {severity} events: {damage}"))
        };
        Severity::ALL.into_iter().zip(&self.queues).flat_map(of_queue).collect()
    }

    /// Takes an event and gives it a sequence number. It is durable after the next [`flush`](Self::flush),
    /// not before.
    ///
    /// # Errors
    /// [`SpoolError::DiskFull`] passes; after anything else the process must end.
    pub fn append(&mut self, severity: Severity, body: &[u8], now: WallTime) -> Result<u64, SpoolError> {
        loop {
            let sequence = self.state.highest_sequence + 1;
            match self.queues[place(severity)].append(sequence, now.0, body) {
                Ok(()) => {
                    self.state.highest_sequence = sequence;
                    return Ok(sequence);
                }
                Err(Refused::Quota) => {
                    self.drop_oldest(severity)?;
                    // There is room for this event now.
                    self.append_notice_if_room(now)?;
                }
                Err(Refused::Disk) => return Err(SpoolError::DiskFull),
                Err(Refused::Error(error)) => return Err(error),
            }
        }
    }

    /// Makes everything that was appended durable, with one write for each severity that has something.
    ///
    /// # Errors
    /// When the disk fails: the process must end, and nothing that was appended since the last flush may be
    /// promised.
    pub fn flush(&mut self) -> Result<(), SpoolError> {
        self.queues.iter_mut().try_for_each(SeverityQueue::flush)
    }

    /// Makes the next segments where they are needed: after a flush, off the path of those who wait.
    ///
    /// # Errors
    /// When the disk fails; a full one is no error here.
    pub fn prepare(&mut self, now: WallTime) -> Result<(), SpoolError> {
        for queue in &mut self.queues {
            queue.prepare(now.0);
        }
        self.append_notice_if_room(now)
    }

    /// Events behind `after_sequence`, oldest first: at least one when there is one, and then not more than
    /// `max_bytes` of bodies and `max_events`. Everything that was appended must have been flushed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn read(
        &mut self,
        after_sequence: u64,
        max_bytes: usize,
        max_events: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, SpoolError> {
        let after = after_sequence.max(self.state.acked_through);
        if self.read_through != Some(after) {
            for queue in &mut self.queues {
                queue.rewind(after);
            }
            while self.unconfirmed.back().is_some_and(|(sequence, _)| *sequence > after) {
                self.unconfirmed.pop_back();
            }
        }
        let (mut events, mut bytes, mut through) = (Vec::new(), 0, after);
        while events.len() < max_events {
            let mut oldest: Option<(usize, u64, usize)> = None;
            for (index, queue) in self.queues.iter_mut().enumerate() {
                if let Some(event) = queue.peek(through)?
                    && oldest.is_none_or(|(_, sequence, _)| event.sequence < sequence)
                {
                    oldest = Some((index, event.sequence, event.body.len()));
                }
            }
            let Some((index, _, length)) = oldest else { break };
            if !events.is_empty() && bytes + length > max_bytes {
                break;
            }
            if let Some(event) = self.queues[index].take() {
                bytes += length;
                through = event.sequence;
                self.unconfirmed.push_back((through, u8::try_from(index).unwrap_or_default()));
                events.push((event.sequence, event.body));
            }
        }
        self.read_through = Some(through);
        Ok(events)
    }

    /// The server has everything up to `sequence`: it may go. Whole segments are deleted; the state is stored
    /// when one is, so after a crash some events may be sent again, which the server notices.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn forget_through(&mut self, sequence: u64) -> Result<(), SpoolError> {
        if sequence <= self.state.acked_through {
            return Ok(());
        }
        self.state.acked_through = sequence;
        while let Some((_, index)) = self.unconfirmed.pop_front_if(|(confirmed, _)| *confirmed <= sequence) {
            if let Some(queue) = self.queues.get_mut(usize::from(index)) {
                queue.waiting = queue.waiting.saturating_sub(1);
            }
        }
        let positions: [Option<u64>; SEVERITIES] =
            std::array::from_fn(|index| self.queues[index].confirmed_before(sequence));
        if positions.iter().any(Option::is_some) {
            // Before a segment goes, what it says of the highest number is on the disk elsewhere.
            if !self.store_if_room()? {
                return Ok(());
            }
            for (queue, position) in self.queues.iter_mut().zip(positions) {
                if let Some(position) = position {
                    queue.delete_before(position).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    /// The server has lost what it confirmed behind `sequence`: what is still there of it is read again, and
    /// may not go before it is confirmed anew. Stored when the next segment is deleted: after a crash before
    /// that the server asks again.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn recall(&mut self, sequence: u64) -> Result<(), SpoolError> {
        if sequence < self.state.acked_through {
            self.state.acked_through = sequence;
            self.read_through = None;
            self.unconfirmed.clear();
            self.queues.iter_mut().try_for_each(|queue| queue.recount(sequence))?;
        }
        Ok(())
    }

    /// From now on everything that is left counts under a new epoch, under its old numbers; durable when this
    /// returns.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn begin_epoch(&mut self, epoch: Epoch) -> Result<(), SpoolError> {
        self.state.epoch = epoch;
        self.read_through = None;
        Ok(self.store.write(&self.state)?)
    }

    /// Stores what is otherwise stored lazily: for a clean end.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn close(&mut self) -> Result<(), SpoolError> {
        self.flush()?;
        self.store_if_room().map(drop)
    }

    /// Stores what may be stored later as well. Whether there was room for it.
    fn store_if_room(&mut self) -> Result<bool, SpoolError> {
        match self.store.write(&self.state) {
            Err(error) if error.is_no_room() => {
                log::warn!("{error}: what the server has of the spool stays in it until there is room");
                Ok(false)
            }
            written => Ok(written.map(|()| true)?),
        }
    }

    /// Changes the quotas, mildest severity first. Events that are above a lower one go with the next one
    /// that needs a new segment.
    ///
    /// # Errors
    /// When one of them could not hold two segments; those before it are changed then.
    pub fn set_quotas(&mut self, quotas: [u64; SEVERITIES]) -> Result<(), SpoolError> {
        for (index, quota) in quotas.into_iter().enumerate() {
            self.queues[index].set_limit(quota)?;
            self.quotas[index] = quota;
        }
        Ok(())
    }

    /// Size of all of it on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.queues.iter().map(SeverityQueue::bytes).sum()
    }

    /// The history that the sequence numbers count in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.state.epoch
    }

    /// The highest sequence number given out.
    #[must_use]
    pub fn highest_sequence(&self) -> u64 {
        self.state.highest_sequence
    }

    /// Everything up to this one is durable at the server.
    #[must_use]
    pub fn acked_through(&self) -> u64 {
        self.state.acked_through
    }

    /// State of the spool.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn status(&mut self) -> Result<SpoolStatus, SpoolError> {
        let acked = self.state.acked_through;
        let mut severities = Vec::new();
        for (index, severity) in Severity::ALL.into_iter().enumerate() {
            let queue = &mut self.queues[index];
            severities.push(SeverityStatus {
                severity,
                events: queue.waiting,
                bytes: queue.bytes(),
                quota_bytes: self.quotas[index],
                oldest: queue.first_after(acked)?.map(WallTime),
                dropped: self.state.dropped_ever[index],
            });
        }
        Ok(SpoolStatus {
            epoch: self.state.epoch,
            highest_sequence: self.state.highest_sequence,
            acked_through: acked,
            severities,
        })
    }

    /// Drops the oldest segment of a severity: first remembers what goes, then lets it go.
    fn drop_oldest(&mut self, severity: Severity) -> Result<(), SpoolError> {
        let index = place(severity);
        let Some((end, events)) = self.queues[index].oldest_segment()? else {
            return Err(SpoolError::DiskFull);
        };
        let mut pending = self.state.pending.take().unwrap_or_else(|| {
            self.state.highest_sequence += 1;
            PendingDrop { notice_sequence: self.state.highest_sequence, ..PendingDrop::default() }
        });
        let mut gone = 0;
        for event in events.iter().filter(|event| event.sequence > self.state.acked_through) {
            gone += 1;
            match notice::read(&event.body) {
                // It told of others: they are told of by the next one.
                Some(told) => pending.dropped.iter_mut().zip(told).for_each(|(sum, told)| sum.add(told)),
                None => {
                    pending.dropped[index].note(event.sequence);
                    self.state.dropped_ever[index] += 1;
                }
            }
        }
        pending.delete_before[index] = end;
        self.state.pending = Some(pending);
        self.store.write(&self.state)?;
        let queue = &mut self.queues[index];
        queue.waiting = queue.waiting.saturating_sub(gone);
        queue.delete_before(end).map_err(failed)?;
        // Events of it that were read are not there to be confirmed any more.
        let is_dropped =
            |sequence: &u64| events.binary_search_by_key(sequence, |event| event.sequence).is_ok();
        self.unconfirmed.retain(|(sequence, of)| usize::from(*of) != index || !is_dropped(sequence));
        self.read_through = None;
        log::warn!("the spool's quota for {severity} events is used up: {gone} of them were dropped");
        Ok(())
    }

    /// Appends the event that tells of the pending drop. When warnings have no room themselves, their oldest
    /// go as well and the event tells of them too.
    fn append_notice(&mut self, now: WallTime) -> Result<(), SpoolError> {
        let warnings = place(Severity::Warning);
        while let Some(pending) = &mut self.state.pending {
            if self.queues[warnings].last_sequence >= pending.notice_sequence {
                // It found no room at first, and others have come since: numbers rise within a journal.
                self.state.highest_sequence += 1;
                pending.notice_sequence = self.state.highest_sequence;
                self.store.write(&self.state)?;
                continue;
            }
            let (sequence, dropped) = (pending.notice_sequence, pending.dropped);
            if dropped.iter().all(|dropped| dropped.count == 0) {
                // All of it was confirmed: nobody lost anything.
                self.state.pending = None;
                return Ok(self.store.write(&self.state)?);
            }
            let body = notice::event(&dropped, now).to_bytes().map_err(failed)?;
            match self.queues[warnings].append(sequence, now.0, &body) {
                Ok(()) => {
                    // Forgotten only once the event is durable.
                    self.queues[warnings].flush()?;
                    self.state.pending = None;
                    return Ok(self.store.write(&self.state)?);
                }
                Err(Refused::Quota) => self.drop_oldest(Severity::Warning)?,
                Err(Refused::Disk) => return Err(SpoolError::DiskFull),
                Err(Refused::Error(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// The same; without room for it the notice follows when there is some.
    fn append_notice_if_room(&mut self, now: WallTime) -> Result<(), SpoolError> {
        match self.append_notice(now) {
            Err(SpoolError::DiskFull) => Ok(()),
            result => result,
        }
    }

    /// Finishes a drop that a crash interrupted: what was to go goes, and the event that tells of it is
    /// appended unless it is there.
    fn finish_drop(&mut self, now: WallTime) -> Result<(), SpoolError> {
        let Some(pending) = self.state.pending.clone() else { return Ok(()) };
        self.state.highest_sequence = self.state.highest_sequence.max(pending.notice_sequence);
        for (queue, position) in self.queues.iter_mut().zip(pending.delete_before) {
            queue.delete_before(position).map_err(failed)?;
            queue.recount(self.state.acked_through)?;
        }
        if self.queues[place(Severity::Warning)].holds(pending.notice_sequence)? {
            self.state.pending = None;
            return Ok(self.store.write(&self.state)?);
        }
        self.append_notice_if_room(now)
    }
}

#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;
