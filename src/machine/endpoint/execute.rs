//! Execution of a session's commands.

use super::{Connection, Endpoint, Rule, Rules, Services};
use crate::machine::command::Command;
use crate::machine::device_state::LinkRef;
use crate::machine::permits::Permit;
use crate::machine::session::Session;
use crate::wire::id::DeviceId;
use crate::wire::time::Now;

impl<C: Connection, R: Rules, const SEGMENT: usize> Endpoint<C, R, SEGMENT> {
    /// Does what a session wants done, in order. Appends have been done while the record was at hand.
    /// `permit` is for its first job; the others take one of their own.
    pub(super) fn execute<S: Services>(
        &mut self,
        now: &Now,
        link: LinkRef,
        device: Option<DeviceId>,
        commands: Vec<Command<'_>>,
        mut permit: Option<Permit>,
        services: &S,
    ) {
        for command in commands {
            match command {
                Command::Send(message) => self.transmit(now, link, message, services),
                Command::Append { .. } | Command::AckWhenDurable => {}
                Command::EventsHeld { seconds } => {
                    self.tally.events_held += 1;
                    if self.rules.breaks(Rule::NothingBehindHeld)
                        && let Some(session) = self.links.session(link)
                    {
                        session.look_again();
                    }
                    if let Some(device) = device {
                        services.events_held(now, device, seconds);
                    }
                }
                Command::Job(job) => match permit.take().or_else(|| self.permits.try_take()) {
                    Some(permit) => {
                        if self.rules.breaks(Rule::PermitComesBack) {
                            std::mem::forget(self.permits.try_take());
                        }
                        self.jobs.push_back((link, job, permit));
                    }
                    None => self.handle_outcome(now, link, job.failure(), services),
                },
                Command::ServerRestored => {
                    device.into_iter().for_each(|device| services.server_restored(device));
                }
                Command::Called(step) => {
                    device.into_iter().for_each(|device| services.called(device, step));
                }
                Command::Probe { address, counter } => {
                    device.into_iter().for_each(|device| services.probe(device, address, counter));
                }
                Command::Synced => self.tally.syncs += 1,
                Command::Close(reason) => return self.close(now, link, reason, services),
            }
        }
    }

    /// Tells a link's session something that its device is to hear.
    pub(super) fn tell<S: Services>(
        &mut self,
        now: &Now,
        link: LinkRef,
        services: &S,
        tell: impl FnOnce(&mut Session, &mut Vec<Command<'_>>),
    ) {
        let Some(session) = self.links.session(link) else { return };
        let device = session.device();
        let mut commands = Vec::new();
        tell(session, &mut commands);
        self.execute(now, link, device, commands, None, services);
    }
}
