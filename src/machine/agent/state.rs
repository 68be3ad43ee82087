//! An agent's memory over a restart, and its machine's inputs and actions.

use std::sync::Arc;

use minicbor::{Decode, Encode};

use crate::machine::credentials::Credential;
use crate::wire::artifact::ArtifactPart;
use crate::wire::digest::Digest;
use crate::wire::id::{Epoch, RunId};
use crate::wire::inventory::{self, Application};
use crate::wire::message::{Fork, SyncReason, Trust};
use crate::wire::section::{self, ApplicationCondition, HostFacts, Section};
use crate::wire::settings::SettingsOrder;
use crate::wire::task::{RunAck, RunOrder};

/// State that the caller stores, durably, whenever it is asked to. A few dozen bytes.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct AgentState {
    /// The history that the revisions count in.
    #[n(0)]
    pub agent_epoch: Epoch,
    /// The server's epoch as last heard; `Epoch(0)` before the first reply.
    #[n(1)]
    pub server_epoch: Epoch,
    /// Each section, by [`Section::index`].
    #[n(2)]
    pub sections: [SavedSection; 3],
    /// The UDP port on which the server hears notices; `None` when it has the number of the TCP port.
    #[n(3)]
    pub notice_port: Option<u16>,
    /// Events up to this sequence number were acknowledged by another server, or under an earlier spool
    /// epoch: this server was never told of them under this one, and none of them is sent to it again.
    #[cbor(n(4), default)]
    pub events_after: u64,
}

/// State of a section, here and at the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(array)]
pub struct SavedSection {
    /// Digest of the content under `revision`.
    #[n(0)]
    pub digest: Digest,
    /// Counts the changes of the content, from 1.
    #[n(1)]
    pub revision: u64,
    /// The highest revision that the server said it stored, under this agent epoch.
    #[n(2)]
    pub confirmed_revision: u64,
}

impl AgentState {
    /// The state of an agent that never ran.
    #[must_use]
    pub fn new(agent_epoch: Epoch) -> Self {
        Self {
            agent_epoch,
            server_epoch: Epoch(0),
            sections: [SavedSection::default(); 3],
            notice_port: None,
            events_after: 0,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Writing to a vector can't fail.
        minicbor::to_vec(self).unwrap_or_default()
    }

    /// Reads it back; `None` when the bytes are damaged, and the agent begins a new epoch.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }
}

/// The content of one section. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SectionContent {
    /// The installed applications, sorted, each once.
    Inventory(Arc<[Application]>),
    /// The host's facts.
    Host(Arc<HostFacts>),
    /// The condition of each managed application.
    Conditions(Arc<[ApplicationCondition]>),
}

impl SectionContent {
    /// Whose content it is.
    #[must_use]
    pub fn section(&self) -> Section {
        match self {
            Self::Inventory(_) => Section::Inventory,
            Self::Host(_) => Section::Host,
            Self::Conditions(_) => Section::Conditions,
        }
    }

    /// Its digest, as the server works it out.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Inventory(applications) => inventory::digest_of(applications),
            Self::Host(host) => section::digest_of(&**host),
            Self::Conditions(conditions) => section::digest_of(&conditions.to_vec()),
        }
    }
}

/// State of the spool when the agent starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpoolState {
    /// The history that its sequence numbers count in.
    pub epoch: Epoch,
    /// The highest sequence number given out; 0 when none.
    pub highest: u64,
    /// The sequence number up to which everything was acknowledged and forgotten; 0 when nothing was.
    pub forgotten_through: u64,
}

/// An action that the machine wants done, in order, by [`AgentMachine::poll`](super::AgentMachine::poll).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Connect to the server; answer with `connected` or `disconnected`.
    Connect,
    /// Send these bytes: whole frames.
    Send(Vec<u8>),
    /// Close the link, or give up connecting, after what was to be sent before. `disconnected` is not called
    /// for it.
    CloseLink(LinkEnd),
    /// Read events behind this sequence number, oldest first; answer with `spool_read`, whatever is there. At
    /// least one event when there is one, and then no more than `max_bytes` of bodies and `max_events`.
    ReadSpool {
        /// Events with a higher number are wanted.
        after_sequence: u64,
        /// Most bytes of event bodies.
        max_bytes: usize,
        /// Most events.
        max_events: usize,
    },
    /// Everything up to this number is durable at the server: it may go.
    ForgetThrough {
        /// The sequence number.
        sequence: u64,
    },
    /// Behind this number nothing is durable at the server any more, whatever was said before: what is still
    /// there of it is read again, and may not go.
    Recall {
        /// The sequence number.
        after_sequence: u64,
    },
    /// Everything that the spool still holds counts in this epoch from now on, under its old numbers. Durable
    /// before anything else is done.
    NewSpoolEpoch {
        /// The new epoch, higher than the one before.
        epoch: Epoch,
    },
    /// Store this, durably, before anything else is done.
    SaveState(Box<AgentState>),
    /// Store this inventory: the server has it, and a later difference may start from it. It may be lost;
    /// then the next change travels whole.
    SaveBase(Arc<[Application]>),
    /// The server orders settings: keep the order, durably, then say
    /// [`set_desired_digests`](super::AgentMachine::set_desired_digests), and put them in place.
    TakeSettings(Box<SettingsOrder>),
    /// The server orders a run: keep the order, durably, say `set_desired_digests`, and execute it, unless
    /// the device has or had this run.
    TakeRun(Box<RunOrder>),
    /// All runs that the device is to have: end those beside them, and report those that the device does not
    /// know.
    TakeRunList(Vec<RunId>),
    /// The server has stored what was said of these runs, up to these serial numbers: what was the final
    /// report may be forgotten.
    RunsStored(Vec<RunAck>),
    /// The part that [`set_fetch`](super::AgentMachine::set_fetch) named has come, or the server refuses it,
    /// or has no more. Keep it, then say what is wanted next.
    TakeArtifactPart(ArtifactPart),
    /// Collect every section anew, then say [`called`](super::AgentMachine::called) with this reason.
    LookAnew(SyncReason),
    /// The server takes no events for a while, as this device has sent more than its rate.
    EventsHeld {
        /// Its length.
        seconds: u64,
    },
    /// The server heard a notice with this counter, above what this device thinks it sent: go on from here,
    /// durably.
    RaiseNoticeCounter {
        /// The counter.
        counter: u32,
    },
    /// Enrol anew with this token, as a device of its own: another machine uses this identity. Until that has
    /// ended the machine stays away.
    Fork(Box<Fork>),
    /// Make a key and a request for a certificate of it; answer with
    /// [`request_made`](super::AgentMachine::request_made), or
    /// [`renewal_failed`](super::AgentMachine::renewal_failed).
    MakeRequest,
    /// Store this certificate (DER) with the key of its request, in one durable write beside the one in use.
    /// Answer with [`certificate_stored`](super::AgentMachine::certificate_stored), or
    /// [`renewal_failed`](super::AgentMachine::renewal_failed).
    StoreCertificate(Vec<u8>),
    /// From the next link on show this certificate.
    Show(Credential),
    /// Take this certificate and its key off the disk; the other one is the only one then.
    Forget(Credential),
    /// Trust this and nothing else from the next connection on: store it, durably, then say
    /// [`set_trust`](super::AgentMachine::set_trust).
    TakeTrust(Box<Trust>),
    /// A sync has ended; those that wait for one are told.
    SyncFinished(SyncResult),
}

/// Why the agent ends a link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkEnd {
    /// Synced, events delivered, and the server does not want the link to stay.
    Done,
    /// The server said when to come again.
    Later,
    /// The connection attempt or the server's answer took too long.
    Silent,
    /// The server refused something, or broke the protocol.
    Refused,
    /// The spool begins a new epoch on a new link.
    NewSpoolEpoch,
    /// The next link shows a new certificate.
    NewCertificate,
}

/// End of a sync.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SyncResult {
    /// Everything is in sync.
    InSync {
        /// Which sections travelled.
        uploaded: Vec<Section>,
    },
    /// The server is busy; the agent comes again by itself.
    Later {
        /// In how many seconds.
        seconds: u32,
    },
    /// It did not work; the agent tries again by itself.
    Failed {
        /// Why.
        reason: String,
    },
}
