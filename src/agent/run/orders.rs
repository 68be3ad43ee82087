//! Orders of the server: settings and runs.

use super::{Agent, Now};
use crate::wire::id::RunId;
use crate::wire::settings::SettingsOrder;
use crate::wire::task::{RunAck, RunOrder};

impl Agent {
    /// Tells the machine what is kept here of what was ordered: the next sync names it.
    pub(super) fn name_orders(&mut self) {
        self.machine.set_orders(self.settings_digest, self.runs_digest);
    }

    /// Keeps ordered settings, and has them put in place.
    pub(super) fn take_settings(&mut self, now: &Now, order: &SettingsOrder) {
        if let Err(error) = self.managed.take(order, now.wall) {
            // What is not kept is not named: the server orders it again.
            log::error!("{}: ordered settings can't be kept: {error}", order.application);
            return;
        }
        self.settings_digest = self.managed.digest();
        self.name_orders();
        self.set_own_when_ordered(now);
        self.managed_changed(now);
        // The helper begins with it, and what happened is flushed.
        self.has_more = true;
    }

    /// Keeps an ordered run, and has it executed.
    pub(super) fn take_run(&mut self, _now: &Now, order: &RunOrder) {
        log::warn!("{}: runs are not taken yet", order.application);
    }

    /// Ends runs that the server does not want, and reports those that this device does not know.
    pub(super) fn take_run_list(&mut self, _now: &Now, _runs: &[RunId]) {}

    /// Forgets runs whose last word is stored.
    pub(super) fn runs_stored(&mut self, _now: &Now, _acks: &[RunAck]) {}
}
