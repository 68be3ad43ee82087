//! Parts of artifacts: one at a time on a link, and the next one when the socket has taken it.

use crate::machine::command::{Command, Job};
use crate::machine::session::SyncPolicy;
use crate::wire::artifact::{ArtifactPart, Fetch};
use crate::wire::id::DeviceId;
use crate::wire::message::ToAgent;

/// After how long a device asks again that has asked before the answer was taken.
const TAKEN_SECONDS: u32 = 1;

/// Progress of the answer to a device that asks for a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fetching {
    /// None is under way.
    Nothing,
    /// A worker reads it.
    WithWorker,
    /// The socket has not taken it yet.
    Unsent,
}

impl Fetching {
    /// The device asks. An answer that waits for the socket is memory: there is no other beside it.
    pub(super) fn begin(
        &mut self,
        device: DeviceId,
        fetch: Fetch,
        policy: &SyncPolicy,
        out: &mut Vec<Command<'_>>,
    ) {
        let seconds = match self {
            Self::Nothing if policy.has_fetch_room => {
                *self = Self::WithWorker;
                return out.push(Command::Job(Box::new(Job::Fetch(device, fetch))));
            }
            Self::Nothing => policy.later_seconds,
            Self::WithWorker | Self::Unsent => TAKEN_SECONDS,
        };
        out.push(Command::Send(ToAgent::ArtifactPart(ArtifactPart::again(fetch, seconds))));
    }

    /// The socket has taken all that was said.
    pub(super) fn sent(&mut self) {
        if *self == Self::Unsent {
            *self = Self::Nothing;
        }
    }

    /// The worker has the answer.
    pub(super) fn answer(&mut self, part: ArtifactPart, out: &mut Vec<Command<'_>>) {
        *self = Self::Unsent;
        out.push(Command::Send(ToAgent::ArtifactPart(part)));
    }
}
