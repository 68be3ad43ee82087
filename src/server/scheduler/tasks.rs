//! Tasks: what is due is done, and the devices that it concerns are called.

use super::notifications::Notifications;
use crate::machine::task_clock::{Look, TaskClock};
use crate::reactor::Clock;
use crate::store::{Store, StoreError, TaskStep};
use crate::wire::datagram::WakeReason;

/// Works on tasks.
pub(super) struct Tasks {
    store: Store,
    clock: Clock,
    time: TaskClock,
    /// Whether the last step failed: that is said once, until one does not.
    has_failed: bool,
}

fn look(clock: &Clock) -> Look {
    loop {
        // The number of changes belongs to the time only when it is the same before and after.
        let changes = clock.changes();
        let look = Look { changes, moment: clock.moment(), ages: clock.ages() };
        if clock.changes() == changes {
            return look;
        }
    }
}

impl Tasks {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        let time = TaskClock::start(clock.doubted());
        if time.is_held() {
            log::warn!("tasks that were made before do not begin until the clock is set right or believed");
        }
        Self { store, clock, time, has_failed: false }
    }

    /// Does a piece of the work that is due; whether more is. Devices that have something to execute, or are
    /// to end something, are woken for it.
    pub(super) fn step(&mut self, notifications: &Notifications) -> bool {
        match self.try_step() {
            Ok(step) => {
                notifications.add(&step.devices, Some(WakeReason::Task));
                self.has_failed = false;
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

    fn try_step(&mut self) -> Result<TaskStep, StoreError> {
        let look = look(&self.clock);
        let time = self.time.time(&look, self.clock.doubted().is_some(), self.clock.started_at());
        if let Some(change) = self.time.change(&look) {
            self.store.tasks().correct_times(time, change)?;
            self.time.note_right(look);
        }
        self.store.tasks().step(time)
    }
}
