//! The configuration, read again while the agent runs.

use super::{Agent, WATCH};
use crate::agent::settings::Settings;
use crate::agent::watch::Watch;

impl Agent {
    pub(super) fn reload(&mut self) {
        let Some(file) = &self.context.config else {
            self.datagrams.set_port(self.settings.wake.port);
            return log::info!("there is no configuration file to read again");
        };
        let settings = match Settings::read(file) {
            Ok(settings) => settings,
            Err(error) => return log::error!("the old configuration stays: {error}"),
        };
        let server = settings.server.as_ref().unwrap_or(&self.identity.server).parse();
        match server {
            Ok(server) => self.connection.set_server(server),
            Err(error) => return log::error!("the old configuration stays: {error}"),
        }
        if settings.socket != self.settings.socket {
            log::warn!("[socket] changes when the agent is started again");
        }
        self.datagrams.set_port(settings.wake.port);
        // One that is closed is no longer announced.
        self.machine.set_reach(self.datagrams.reach());
        self.settings = settings;
        if let Err(error) = self.put_own_in_force() {
            log::error!("[spool]: {error}");
        }
        log::info!("the configuration was read again");
        self.sections.fingerprint = None;
        self.sections.is_wanted = true;
        self.start_watching();
    }

    pub(super) fn start_watching(&mut self) {
        self.watch = None;
        match Watch::new(&self.settings, self.poll.registry(), WATCH) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => log::warn!("package databases can't be watched, the timer has to do: {error}"),
        }
    }
}
