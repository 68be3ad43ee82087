//! The counters of datagrams, over restarts: which wakes were taken, which numbers of notices may have been
//! used.

use std::path::Path;

use minicbor::{Decode, Encode};

use crate::agent::ab_slots::{AbSlots, SlotError};
use crate::wire::datagram::DropReason;
use crate::wire::time::WallTime;

/// Name of the slots that hold them.
pub const COUNTER_SLOT: &str = "datagram-counters";

/// Notice numbers that are set aside at a time, in numbers: whatever happens to the agent, none of them is
/// used again, and writing one file is enough for all of them.
const NOTICES_RESERVED: u32 = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
struct Saved {
    /// The highest counter among the wakes that were taken.
    #[n(0)]
    wake: u32,
    /// No notice has a higher number than this.
    #[n(1)]
    notices_through: u32,
}

/// The counters. The disk is never behind what was said or done.
#[derive(Debug)]
pub struct Counters {
    slots: AbSlots,
    saved: Saved,
    /// Whether the disk has it; otherwise the next use tries again to write it.
    is_on_disk: bool,
    /// The highest number that a notice may have had.
    notice: u32,
}

impl Counters {
    /// Reads the counters of a data directory.
    ///
    /// When both copies are damaged, wakes are taken from `now` on, in seconds of the wall clock, as the
    /// server counts them: what was sent before is a replay. If this clock is wrong, the next sync tells the
    /// server to go on above it. The numbers of notices begin anew, and the server says where to go on.
    #[must_use]
    pub fn read(directory: &Path, now: WallTime) -> Self {
        let slots = AbSlots::new(directory, COUNTER_SLOT);
        let saved = match slots.read() {
            Ok(None) => Saved::default(),
            Ok(Some(bytes)) => minicbor::decode(&bytes).unwrap_or_else(|error| {
                log::warn!(
                    "{COUNTER_SLOT} is not understood ({error}): earlier wakes are not taken any more"
                );
                Self::after_damage(now)
            }),
            Err(error) => {
                log::warn!("{error}: wakes that were sent before this moment are not taken any more");
                Self::after_damage(now)
            }
        };
        Self { slots, saved, is_on_disk: true, notice: saved.notices_through }
    }

    fn after_damage(now: WallTime) -> Saved {
        Saved { wake: u32::try_from(now.0 / 1_000).unwrap_or(u32::MAX), notices_through: 0 }
    }

    /// The highest counter among the wakes that were taken; 0 when none was.
    #[must_use]
    pub fn wake(&self) -> u32 {
        self.saved.wake
    }

    /// The highest number that a notice may have had; 0 when there was none.
    #[must_use]
    pub fn notice(&self) -> u32 {
        self.notice
    }

    /// Takes a wake with this counter, once.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn take_wake(&mut self, counter: u32) -> Result<(), DropReason> {
        match counter.cmp(&self.saved.wake) {
            std::cmp::Ordering::Equal => Err(DropReason::Repeated),
            std::cmp::Ordering::Less => Err(DropReason::Stale),
            std::cmp::Ordering::Greater => {
                self.save(Saved { wake: counter, ..self.saved });
                Ok(())
            }
        }
    }

    /// The number of the next notice: none has had it, whatever happened.
    pub fn next_notice(&mut self) -> u32 {
        self.notice = self.notice.saturating_add(1);
        let notices_through = match self.saved.notices_through {
            through if self.notice > through => self.notice.saturating_add(NOTICES_RESERVED - 1),
            through => through,
        };
        if notices_through != self.saved.notices_through || !self.is_on_disk {
            self.save(Saved { notices_through, ..self.saved });
        }
        self.notice
    }

    /// The server has heard a notice with this number: the next one is higher.
    pub fn raise_notice(&mut self, counter: u32) {
        if counter > self.notice {
            self.notice = counter;
            self.save(Saved { notices_through: self.saved.notices_through.max(counter), ..self.saved });
        }
    }

    /// Another server counts its wakes anew.
    pub fn forget_wakes(&mut self) {
        self.save(Saved { wake: 0, ..self.saved });
    }

    fn save(&mut self, saved: Saved) {
        self.saved = saved;
        let bytes = minicbor::to_vec(saved).unwrap_or_default();
        let written = self.slots.write(&bytes);
        self.is_on_disk = written.is_ok();
        if let Err(error) = written {
            // A full disk must not make a device that nobody can call. The risk is that a wake of now counts
            // once more after a restart, or a notice as a repetition.
            log::warn!("the counters of datagrams can't be written: {error}");
        }
    }
}

/// Removes the counter of wakes for a device that is not running: another server counts its own anew.
///
/// # Errors
/// When the system refuses.
pub fn forget_wakes(directory: &Path) -> Result<(), SlotError> {
    let slots = AbSlots::new(directory, COUNTER_SLOT);
    // Damaged ones are as good as none: the next reading says so.
    let Ok(Some(bytes)) = slots.read() else { return Ok(()) };
    let Ok(saved) = minicbor::decode::<Saved>(&bytes) else { return Ok(()) };
    slots.write(&minicbor::to_vec(Saved { wake: 0, ..saved }).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: WallTime = WallTime(1_795_514_400_000);

    #[test]
    fn a_wake_is_taken_once_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut counters = Counters::read(directory.path(), NOW);
        assert_eq!(counters.take_wake(7), Ok(()));
        for mut counters in [counters, Counters::read(directory.path(), NOW)] {
            assert_eq!(counters.take_wake(7), Err(DropReason::Repeated));
            assert_eq!(counters.take_wake(6), Err(DropReason::Stale));
        }
        forget_wakes(directory.path()).unwrap();
        assert_eq!(Counters::read(directory.path(), NOW).take_wake(1), Ok(()));
    }

    #[test]
    fn damaged_counters_take_no_wake_of_the_past() {
        let directory = tempfile::tempdir().unwrap();
        for slot in ["a", "b"] {
            std::fs::write(directory.path().join(format!("{COUNTER_SLOT}.{slot}")), b"x").unwrap();
        }
        let mut counters = Counters::read(directory.path(), NOW);
        assert_eq!(counters.take_wake(1_795_514_399), Err(DropReason::Stale));
        assert_eq!(counters.take_wake(1_795_514_401), Ok(()));
        assert_eq!(counters.next_notice(), 1);
        counters.raise_notice(50);
        assert_eq!(counters.next_notice(), 51);
    }

    #[test]
    fn what_could_not_be_written_is_written_with_the_next_use() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("data");
        let mut counters = Counters::read(&directory, NOW);
        assert_eq!((counters.next_notice(), counters.take_wake(7)), (1, Ok(())), "nowhere to write it to");
        std::fs::create_dir(&directory).unwrap();
        assert_eq!(counters.next_notice(), 2);
        let mut again = Counters::read(&directory, NOW);
        assert_eq!(again.take_wake(7), Err(DropReason::Repeated));
        assert!(again.next_notice() > 2);
    }

    proptest! {
        /// Whatever is done between restarts, a number of a notice is used once, and a wake is taken once.
        #[test]
        fn nothing_is_used_twice(steps in prop::collection::vec(0u8..10, 1..60)) {
            let directory = tempfile::tempdir().unwrap();
            let mut counters = Counters::read(directory.path(), NOW);
            let (mut last_notice, mut last_wake) = (0, 0);
            for step in steps {
                match step {
                    0 => counters = Counters::read(directory.path(), NOW),
                    1 => counters.raise_notice(last_notice + 3),
                    2..6 => {
                        let notice = counters.next_notice();
                        prop_assert!(notice > last_notice);
                        prop_assert!(counters.notice() >= notice);
                        last_notice = notice;
                    }
                    _ => {
                        let wake = last_wake + u32::from(step % 2);
                        prop_assert_eq!(counters.take_wake(wake).is_ok(), wake > last_wake);
                        last_wake = wake;
                    }
                }
            }
        }
    }
}
