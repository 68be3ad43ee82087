//! Orders of the server: settings and runs.

use super::{Agent, Now};
use crate::wire::id::RunId;
use crate::wire::settings::SettingsOrder;
use crate::wire::task::{RunAck, RunOrder};

impl Agent {
    /// Tells the machine what is kept here of what was ordered: the next sync names it.
    #[expect(dead_code, reason = "the first order will need it")]
    pub(super) fn name_orders(&mut self) {
        self.machine.set_orders(self.settings_digest, self.runs_digest);
    }

    /// Keeps ordered settings, and has them put in place.
    pub(super) fn take_settings(&mut self, _now: &Now, order: &SettingsOrder) {
        log::warn!("{}: settings are not taken yet", order.application);
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
