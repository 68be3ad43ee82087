//! The spool's memory beside its events: the epoch, the confirmed numbers, the highest sequence number, and a
//! drop that is under way.

use std::path::Path;

use minicbor::{Decode, Encode};

use crate::agent::ab_slots::{AbSlots, SlotError};
use crate::wire::id::Epoch;

/// Number of severities, each with a journal of its own.
pub const SEVERITIES: usize = 4;

/// Dropped events of one severity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub struct Dropped {
    /// Their number.
    #[n(0)]
    pub count: u64,
    /// The lowest sequence number among them.
    #[n(1)]
    pub first: u64,
    /// The highest.
    #[n(2)]
    pub last: u64,
}

impl Dropped {
    /// Adds one more event.
    pub fn note(&mut self, sequence: u64) {
        self.add(Self { count: 1, first: sequence, last: sequence });
    }

    /// Adds others.
    pub fn add(&mut self, other: Self) {
        if other.count == 0 {
            return;
        }
        let first = if self.count == 0 { other.first } else { self.first.min(other.first) };
        *self =
            Self { count: self.count.saturating_add(other.count), first, last: self.last.max(other.last) };
    }
}

/// A drop that was decided: remembered before anything is deleted, forgotten once the event that tells of it
/// is durable. So the count is exact, wherever a crash falls.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub struct PendingDrop {
    /// Sequence number of the event that tells of it.
    #[n(0)]
    pub notice_sequence: u64,
    /// Dropped events, of each severity.
    #[n(1)]
    pub dropped: [Dropped; SEVERITIES],
    /// For each severity: everything before this position of its journal goes.
    #[n(2)]
    pub delete_before: [u64; SEVERITIES],
}

/// The spool's memory.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SpoolState {
    /// The history that the sequence numbers count in.
    #[n(0)]
    pub epoch: Epoch,
    /// Every event up to this one is durable at the server. May lag behind: then some are sent again, and the
    /// server knows them.
    #[n(1)]
    pub acked_through: u64,
    /// No sequence number up to this one is given out again, whatever the journals still hold.
    #[n(2)]
    pub highest_sequence: u64,
    /// Events that were dropped unconfirmed, ever, of each severity.
    #[n(3)]
    pub dropped_ever: [u64; SEVERITIES],
    /// A drop that is under way.
    #[n(4)]
    pub pending: Option<PendingDrop>,
}

impl SpoolState {
    /// The state of an empty spool with a new history.
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, acked_through: 0, highest_sequence: 0, dropped_ever: [0; SEVERITIES], pending: None }
    }
}

/// Store of the state. A trait so that a simulation can cut the power between any two steps.
pub trait StateStore {
    /// The newest state; `None` when there never was one.
    ///
    /// # Errors
    /// When it is damaged or the system refuses.
    fn read(&self) -> Result<Option<SpoolState>, SlotError>;

    /// Replaces the state; durable when this returns.
    ///
    /// # Errors
    /// When the system refuses.
    fn write(&mut self, state: &SpoolState) -> Result<(), SlotError>;
}

/// The state in two slots of a directory.
#[derive(Debug)]
pub struct StateFile(AbSlots);

impl StateFile {
    /// The state in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self(AbSlots::new(directory, "state"))
    }
}

impl StateStore for StateFile {
    /// A damaged state is none: the journals say what there is, and a new epoch keeps the server from taking
    /// new events for repeated ones.
    fn read(&self) -> Result<Option<SpoolState>, SlotError> {
        match self.0.read() {
            Ok(content) => Ok(content.and_then(|content| minicbor::decode(&content).ok())),
            Err(SlotError::Damaged(path)) => {
                log::error!("{} is damaged: the spool begins a new epoch", path.display());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, state: &SpoolState) -> Result<(), SlotError> {
        self.0.write(&minicbor::to_vec(state).unwrap_or_default())
    }
}
