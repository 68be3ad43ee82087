//! Two machines use this device's identity, and this one is to have one of its own: it enrols with the token
//! that the server gave it, and takes the new identity up as in a [move](super::mode), at the same server.

use super::mode::{Mode, Move};
use super::{Agent, Now, RunError, random};
use crate::agent::application::check::AGENT_NAME;
use crate::agent::identity::Identity;
use crate::agent::moving::stage;
use crate::agent::talk::{expected_of, tls_of};
use crate::machine::agent::EPOCH_STEP_MAX;
use crate::wire::event::{Event, Severity};
use crate::wire::id::Epoch;
use crate::wire::message::Fork;

impl Agent {
    /// Enrols anew, behind the loop. When it fails, the server says it again at the next sync.
    pub(super) fn begin_fork(&mut self, now: &Now, fork: Fork) {
        if !matches!(self.mode, Mode::Working) {
            return log::warn!("the agent is about to leave its server: it does not enrol anew now");
        }
        log::warn!(
            "another machine uses the identity of device '{}' ({}), as one does that was made from a copy of its disk: this one enrols as a device of its own",
            self.identity.name,
            self.identity.device
        );
        let server = self.connection.server();
        let key_type = self.own.key_type(&self.settings, &self.identity);
        let begun =
            self.helpers.fork(server, expected_of(&self.identity), fork, key_type, self.directory.path());
        if let Err(error) = begun {
            self.not_forked(now, &format!("no thread to enrol anew: {error}"));
        }
    }

    fn not_forked(&mut self, now: &Now, why: &str) {
        self.last_error_at = Some(now.wall);
        log::error!("this machine is no device of its own yet: {why}; the server is asked again");
    }

    /// The enrolment has ended.
    ///
    /// # Errors
    /// When something can't be written: the agent must be started again, and finds out who it is.
    pub(super) fn forked(
        &mut self,
        now: &Now,
        outcome: Result<Box<Identity>, String>,
    ) -> Result<(), RunError> {
        let mut identity = match outcome {
            Ok(identity) => *identity,
            Err(why) => {
                self.not_forked(now, &why);
                return Ok(());
            }
        };
        if !matches!(self.mode, Mode::Working) {
            self.not_forked(now, "the agent is about to leave its server");
            return Ok(());
        }
        let event = Event {
            severity: Severity::Warning,
            application: AGENT_NAME.to_owned(),
            kind: "identity_forked".to_owned(),
            message: format!(
                "this machine was a copy of device '{}' ({}) and is a device of its own now: '{}' ({})",
                self.identity.name, self.identity.device, identity.name, identity.device
            ),
            occurred_at: now.wall,
            fields: vec![("copy_of".to_owned(), self.identity.device.to_string())],
        };
        // The server is where it was.
        identity.server.clone_from(&self.identity.server);
        let server = self.connection.server().clone();
        let tls = tls_of(&identity).map_err(RunError::Tls)?;
        stage(&self.directory, &identity)?;
        self.mode = Mode::Moving(Box::new(Move::of_copy(identity, server, tls, now.moment)));
        if let Err(error) = self.append(&event, now.wall) {
            log::error!("the server is not told: {error}");
        }
        log::warn!("{}", event.message);
        Ok(())
    }

    /// Higher than the one before, and not that of the other machine.
    pub(super) fn next_spool_epoch(&self) -> Result<Epoch, RunError> {
        let step = 1 + random()? % EPOCH_STEP_MAX;
        Ok(Epoch(self.spool.epoch().0.saturating_add(step)))
    }
}
