//! Orders of the server: settings and runs.

use super::{Agent, Now};
use crate::wire::settings::SettingsOrder;

impl Agent {
    /// Tells the machine what is kept here of what was ordered: the next sync names it.
    pub(super) fn name_orders(&mut self) {
        self.machine.set_orders(self.settings_digest, self.runs_digest);
    }

    /// Keeps ordered settings, and has them put in place.
    pub(super) fn take_settings(&mut self, _now: &Now, order: &SettingsOrder) {
        log::warn!("{}: settings are not taken yet", order.application);
    }
}
