//! Runs that are over: their ids are remembered, so that none is executed again.

use std::path::Path;

use minicbor::{Decode, Encode};

use crate::agent::ab_slots::{AbSlots, SlotError};
use crate::wire::bounded;
use crate::wire::id::RunId;
use crate::wire::task::RunStage;

/// Most runs that are remembered. The server orders 64 at a time and repeats one only until it has heard of
/// it: this is history enough.
pub const TOMBSTONES_MAX: usize = 1_000;

const NAME: &str = "done";

/// A run that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct Tombstone {
    /// Which.
    #[n(0)]
    pub run: RunId,
    /// Its end. With 'not now' it may be executed when it is ordered again.
    #[n(1)]
    pub stage: RunStage,
    /// The serial number of the final report.
    #[n(2)]
    pub serial: u32,
}

#[derive(Encode, Decode, Default)]
#[cbor(map)]
struct File {
    #[cbor(n(0), decode_with = "bounded::list::<Ctx, Tombstone, TOMBSTONES_MAX>")]
    entries: Vec<Tombstone>,
}

/// The last [`TOMBSTONES_MAX`] of them, oldest first.
#[derive(Debug)]
pub struct Tombstones {
    slots: AbSlots,
    entries: Vec<Tombstone>,
}

impl Tombstones {
    /// Opens the file on the disk.
    ///
    /// # Errors
    /// When it is there and damaged, or the system refuses.
    pub fn open(directory: &Path) -> Result<Self, SlotError> {
        let slots = AbSlots::new(directory, NAME);
        let damaged = || SlotError::Damaged(directory.join(NAME));
        let entries = match slots.read()? {
            Some(bytes) => minicbor::decode::<File>(&bytes).map_err(|_| damaged())?.entries,
            None => Vec::new(),
        };
        Ok(Self { slots, entries })
    }

    /// None: what was there is damaged, and is written anew.
    pub(super) fn empty(directory: &Path) -> Self {
        Self { slots: AbSlots::new(directory, NAME), entries: Vec::new() }
    }

    /// End of a run.
    #[must_use]
    pub fn find(&self, run: RunId) -> Option<Tombstone> {
        self.entries.iter().rev().find(|entry| entry.run == run).copied()
    }

    /// These are over; durable when this returns.
    ///
    /// # Errors
    /// When the system refuses; then nothing has changed.
    pub fn add(&mut self, over: &[Tombstone]) -> Result<(), SlotError> {
        let mut entries = self.entries.clone();
        entries.retain(|entry| !over.iter().any(|new| new.run == entry.run));
        entries.extend_from_slice(over);
        entries.drain(..entries.len().saturating_sub(TOMBSTONES_MAX));
        let file = File { entries };
        // Writing to a vector can't fail.
        self.slots.write(&minicbor::to_vec(&file).unwrap_or_default())?;
        self.entries = file.entries;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stone(run: u64) -> Tombstone {
        Tombstone { run: RunId(u64::MAX - run), stage: RunStage::Failed, serial: u32::MAX }
    }

    #[test]
    fn the_last_thousand_are_remembered_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut tombstones = Tombstones::open(directory.path()).unwrap();
        for first in (0..TOMBSTONES_MAX as u64 + 64).step_by(64) {
            let over: Vec<Tombstone> = (first..first + 64).map(stone).collect();
            tombstones.add(&over).unwrap();
        }
        let last = Tombstone { stage: RunStage::NotNow, ..stone(100) };
        tombstones.add(&[last]).unwrap();
        let tombstones = Tombstones::open(directory.path()).unwrap();
        assert_eq!(tombstones.entries.len(), TOMBSTONES_MAX);
        assert_eq!(tombstones.find(last.run), Some(last));
        assert_eq!(tombstones.find(stone(0).run), None);
        assert!(tombstones.find(stone(1_050).run).is_some());
    }
}
