//! Orders of the server: settings and runs.

use super::{Agent, Now};
use crate::wire::settings::SettingsOrder;

impl Agent {
    /// Tells the machine what is kept here of what was ordered: the next sync names it.
    pub(super) fn name_desired_digests(&mut self) {
        self.machine.set_desired_digests(self.settings_digest, self.runs_digest);
    }

    /// Keeps ordered settings, and has them put in place.
    pub(super) fn take_settings(&mut self, now: &Now, order: &SettingsOrder) {
        if let Err(error) = self.managed.take(order, now.wall) {
            // Settings that are not kept are not named: the server orders them again.
            log::error!("{}: ordered settings can't be kept: {error}", order.application);
            return;
        }
        self.settings_digest = self.managed.digest();
        self.name_desired_digests();
        self.set_own_when_ordered(now);
        self.managed_changed(now);
        // The helper begins with it, and what happened is flushed.
        self.has_more = true;
    }
}
