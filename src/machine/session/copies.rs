//! Links of a machine that is a copy of the device that it says it is.

use super::{Session, State, SyncPolicy};
use crate::machine::clones::Verdict;
use crate::machine::close::CloseReason;
use crate::machine::command::{Command, ForkOutcome, Job};
use crate::wire::message::{ErrorCode, Later, ToAgent};

/// A machine is told this when it uses the identity of another one.
const COPY: &str = "another machine uses this device's identity, and was first: this one is a copy of it, as one made \
    from its disk is, and is not served. Make it a device of its own: muster-agent enroll --force";

impl Session {
    /// The device is a copy of another one, and this is done about it.
    pub fn turn_away(&mut self, verdict: Verdict, out: &mut Vec<Command<'_>>) {
        let State::Known { device, .. } = &self.state else { return };
        let device = *device;
        match verdict {
            Verdict::Serve => {}
            Verdict::Refuse => self.refuse(ErrorCode::Cloned, COPY, CloseReason::Cloned, out),
            Verdict::Fork => {
                self.state = State::Forking(device);
                out.push(Command::Job(Box::new(Job::Fork(device))));
            }
        }
    }

    /// Whether it is a copy's, to which nothing is said but how it enrols: its words are passed over, so that
    /// they take nothing over.
    #[must_use]
    pub fn is_turned_away(&self) -> bool {
        matches!(self.state, State::Forking(_))
    }

    /// There is a token with which the copy enrols anew, or none can be made now.
    pub(super) fn forked(&mut self, outcome: ForkOutcome, policy: &SyncPolicy, out: &mut Vec<Command<'_>>) {
        out.push(Command::Send(match outcome {
            ForkOutcome::Token(fork) => ToAgent::Fork(fork),
            ForkOutcome::Failed => ToAgent::Later(Later::with_all(policy.later_seconds)),
        }));
        self.close(CloseReason::Cloned, out);
    }
}
