//! Tasks: what is due is done, and the devices that it concerns are called.

use super::nudge::Nudges;
use crate::store::{Store, TaskTime, TimeChange};
use crate::wire::datagram::WakeReason;
use crate::wire::time::WallTime;

/// Works on tasks.
pub(super) struct Tasks {
    store: Store,
    /// Whether stored times were put right since the start: the last one may have had a clock that was wrong.
    is_corrected: bool,
    /// Whether the last step failed: that is said once, until one does not.
    has_failed: bool,
}

impl Tasks {
    pub(super) fn new(store: Store) -> Self {
        Self { store, is_corrected: false, has_failed: false }
    }

    /// Does a piece of what is due; whether more is to be done at once. Devices that have something to execute, or are to end something,
    /// are woken for it.
    pub(super) fn step(&mut self, now: WallTime, nudges: &Nudges) -> bool {
        let time = TaskTime::certain(now);
        let corrected = if self.is_corrected {
            Ok(0)
        } else {
            self.store.correct_task_times(time, TimeChange::default())
        };
        match corrected.and_then(|_| self.store.step_tasks(time)) {
            Ok(step) => {
                nudges.add(&step.devices, Some(WakeReason::Task));
                (self.is_corrected, self.has_failed) = (true, false);
                step.has_more
            }
            Err(error) => {
                if !self.has_failed {
                    log::warn!("tasks could not be worked on, that is tried again every second: {error}");
                }
                self.has_failed = true;
                false
            }
        }
    }
}
