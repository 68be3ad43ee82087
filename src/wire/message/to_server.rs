//! An agent's messages to the server.

use minicbor::{Decode, Decoder, Encode};

use super::to_agent::is_false;
use super::{MessageError, at_end, kind, read_kind, write};
use crate::wire::artifact::Fetch;
use crate::wire::bounded;
use crate::wire::datagram::NoticeKind;
use crate::wire::digest::Digest;
use crate::wire::frame;
use crate::wire::id::{Epoch, TokenId};
use crate::wire::inventory::Application;
use crate::wire::limits::{
    EVENTS_PER_MESSAGE_MAX, FRAME_BODY_BYTES_MAX, PART_ENTRIES_MAX, SECTIONS_MAX, TOKEN_SECRET_BYTES,
};
use crate::wire::section::{ApplicationCondition, HostFacts, Section, decode_conditions};
use crate::wire::settings::SETTINGS_SECTION;
use crate::wire::statistics::Statistics;
use crate::wire::task::{RUNS_SECTION, RunUpdates};
use crate::wire::time::WallTime;

/// A message to the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ToServer<'b> {
    /// Kind 1: a device without a certificate asks for one.
    Enrol(Enrol),
    /// Kind 2: where the device's sections stand.
    Sync(Sync),
    /// Kind 3: a piece of a section that the server wants.
    Part(Box<Part>),
    /// Kind 4: events, oldest first.
    Events(Events<'b>),
    /// Kind 5: the link is alive; answered with a pong.
    Ping(Ping),
    /// Kind 6: the device's goodbye on this link.
    Goodbye(Goodbye),
    /// Kind 7: somebody on the device looks whether everything works.
    Probe(Probe),
    /// Kind 8: what has become of runs.
    Runs(RunUpdates),
    /// Kind 9: numbers, as they are now.
    Statistics(Statistics),
    /// Kind 10: the device asks for a certificate for another key, or for a longer time.
    Renew(Renew),
    /// Kind 11: the device asks for a part of an artifact.
    Fetch(Fetch),
}

impl<'b> ToServer<'b> {
    /// Appends the message as a frame.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        frame::append(out, |out| match self {
            Self::Enrol(body) => write(out, kind::ENROL, body),
            Self::Sync(body) => write(out, kind::SYNC, body),
            Self::Part(body) => write(out, kind::PART, body),
            Self::Events(body) => write(out, kind::EVENTS, body),
            Self::Ping(body) => write(out, kind::PING, body),
            Self::Goodbye(body) => write(out, kind::GOODBYE, body),
            Self::Probe(body) => write(out, kind::PROBE, body),
            Self::Runs(body) => write(out, kind::RUNS, body),
            Self::Statistics(body) => write(out, kind::STATISTICS, body),
            Self::Renew(body) => write(out, kind::RENEW, body),
            Self::Fetch(body) => write(out, kind::FETCH, body),
        });
    }

    /// Decodes a frame's body. Event bodies stay where they are, so that they reach the journal with one
    /// copy.
    ///
    /// # Errors
    /// When the kind is unknown, or the body is not what the kind asks for.
    pub fn from_body(body: &'b [u8]) -> Result<Self, MessageError> {
        let mut decoder = Decoder::new(body);
        let message = match read_kind(&mut decoder)? {
            kind::ENROL => Self::Enrol(decoder.decode()?),
            kind::SYNC => Self::Sync(decoder.decode()?),
            kind::PART => Self::Part(decoder.decode()?),
            kind::EVENTS => Self::Events(decoder.decode()?),
            kind::PING => Self::Ping(decoder.decode()?),
            kind::GOODBYE => Self::Goodbye(decoder.decode()?),
            kind::PROBE => Self::Probe(decoder.decode()?),
            kind::RUNS => Self::Runs(decoder.decode()?),
            kind::STATISTICS => Self::Statistics(decoder.decode()?),
            kind::RENEW => Self::Renew(decoder.decode()?),
            kind::FETCH => Self::Fetch(decoder.decode()?),
            unknown => return Err(MessageError::UnknownKind(unknown)),
        };
        at_end(&decoder)?;
        Ok(message)
    }
}

/// A device without a certificate asks for one.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Enrol {
    /// Which token invites it.
    #[n(0)]
    pub token: TokenId,
    /// The token's secret.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub secret: [u8; TOKEN_SECRET_BYTES],
    /// PKCS #10 request (RFC 2986), DER. Only its public key is used.
    #[cbor(n(2), encode_with = "minicbor::bytes::encode", decode_with = "bounded::certificate")]
    pub request: Vec<u8>,
    /// The name that the device would like; the server may add a number to keep names apart.
    #[cbor(n(3), decode_with = "bounded::name")]
    pub name: String,
}

impl std::fmt::Debug for Enrol {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrol").field("token", &self.token).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A device that is known asks for a certificate. Answered with [`Renewed`](super::Renewed).
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Renew {
    /// PKCS #10 request (RFC 2986), DER. Only its public key is used.
    #[cbor(n(0), encode_with = "minicbor::bytes::encode", decode_with = "bounded::certificate")]
    pub request: Vec<u8>,
}

/// Why an agent syncs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum SyncReason {
    /// The time that the server named has come.
    #[n(0)]
    Scheduled,
    /// The agent has just started or enrolled.
    #[n(1)]
    Started,
    /// A section changed.
    #[n(2)]
    Changed,
    /// Somebody on the device asked for it.
    #[n(3)]
    Asked,
    /// The link came back after it was lost.
    #[n(4)]
    Reconnected,
    /// A wake datagram of the server came.
    #[n(5)]
    Woken,
    /// The server asked for it on the link.
    #[n(6)]
    Forced,
    /// The device was asleep.
    #[n(7)]
    Resumed,
}

/// State of the device's sections.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Sync {
    /// The history that the revisions count in. A device that lost or rolled back its state draws a new one.
    #[n(0)]
    pub agent_epoch: Epoch,
    /// The server's epoch, as the device last heard it; `Epoch(0)` before the first reply.
    #[n(1)]
    pub server_epoch: Epoch,
    /// Why now.
    #[n(2)]
    pub reason: SyncReason,
    /// The device's clock, so that the server can tell when it is wrong.
    #[n(3)]
    pub clock: WallTime,
    /// One entry for each section that the device has, and one each for the settings and the runs that it was
    /// ordered.
    #[cbor(n(4), decode_with = "bounded::list::<Ctx, NamedSection, SECTIONS_MAX>")]
    pub sections: Vec<NamedSection>,
    /// The device's reach by datagrams; left out by agents that do not know of them.
    #[n(5)]
    pub reach: Option<Reach>,
    /// The device's identity; in the first sync of each link, and whenever it has changed since.
    #[n(6)]
    pub identity: Option<SyncIdentity>,
}

/// Marks of the device's identity, in a sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SyncIdentity {
    /// The label of the [`Trust`](super::Trust) that is stored on the device; 0: none is.
    #[n(0)]
    pub trust_label: u64,
    /// Hash of what is the machine's own, keyed so that it means nothing elsewhere; 0 when unknown.
    #[n(1)]
    pub machine: u64,
}

impl Sync {
    /// The digest of all that the device was ordered and has: settings and runs, as one sum. `None` when it
    /// takes no desired state.
    #[must_use]
    pub fn desired_digest(&self) -> Option<Digest> {
        let named =
            |number| self.sections.iter().find(|named| named.section == number).map(|named| named.digest);
        Some(named(SETTINGS_SECTION)?.with(named(RUNS_SECTION)?))
    }
}

/// Reach of a device by datagrams, and the counters of those that were exchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Reach {
    /// The UDP port on which it hears wakes, at the address that its link comes from; 0 when it hears none.
    #[n(0)]
    pub udp_port: u16,
    /// The highest counter among the wakes that it took; 0 before the first.
    #[n(1)]
    pub wake_counter: u32,
    /// Every notice up to this counter was sent before this sync: one that still arrives is stale.
    #[n(2)]
    pub notice_counter: u32,
    /// Which boot this is ([`boot_of`](crate::wire::datagram::boot_of)); 0 when unknown.
    #[n(3)]
    pub boot: u32,
}

/// The link is alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Ping {
    /// In how many seconds at the latest the device will be heard again on this link; left out: the interval
    /// that it was told.
    #[n(0)]
    pub next_seconds: Option<u32>,
}

/// The device's goodbye on this link: the same as a notice, on a path that does not lose it. Nothing follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Goodbye {
    /// The device's departure.
    #[n(0)]
    pub kind: NoticeKind,
    /// Counts with the notices.
    #[n(1)]
    pub counter: u32,
    /// Which of its boots says so.
    #[n(2)]
    pub boot: u32,
}

/// Somebody on the device looks whether everything works. Answered with a [`Probed`](super::Probed); the link
/// does not become the device's, so that it takes over from no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Probe {
    /// Port for a wake of the kind probe, at the address that the link comes from; 0: none.
    #[n(0)]
    pub udp_port: u16,
}

/// State of one section on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct NamedSection {
    /// Number of the section: [`Section`], or one that this version does not know yet.
    #[n(0)]
    pub section: u32,
    /// Digest of its content.
    #[n(1)]
    pub digest: Digest,
    /// Its revision.
    #[n(2)]
    pub revision: u64,
    /// The revision that the server last said it has; left out when it is `revision`. A server that has less
    /// than it once said was restored from a copy.
    #[n(3)]
    pub confirmed_revision: Option<u64>,
}

impl NamedSection {
    /// Which section this is, when this version knows it.
    #[must_use]
    pub fn known(&self) -> Option<Section> {
        Section::ALL.into_iter().find(|section| section.number() == self.section)
    }
}

impl Section {
    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Inventory => 1,
            Self::Host => 2,
            Self::Conditions => 3,
        }
    }
}

/// A piece of a section. The parts of one section come in order, one section after the other.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Part {
    /// Number of the section.
    #[n(0)]
    pub section: Section,
    /// The revision that all parts together lead to.
    #[n(1)]
    pub revision: u64,
    /// The digest that all parts together lead to.
    #[n(2)]
    pub digest: Digest,
    /// The digest of the content that this is a difference from; left out when the section is sent whole.
    #[n(3)]
    pub base: Option<Digest>,
    /// Which part this is, from 0.
    #[n(4)]
    pub index: u32,
    /// Whether it is the last.
    #[n(5)]
    pub is_last: bool,
    /// Its content.
    #[n(6)]
    pub content: PartContent,
}

/// The content of a part: what belongs to its section is there, the rest is empty.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct PartContent {
    /// Inventory: applications that are new.
    #[cbor(
        n(0),
        default,
        skip_if = "Vec::is_empty",
        decode_with = "bounded::list::<Ctx, Application, PART_ENTRIES_MAX>"
    )]
    pub added: Vec<Application>,
    /// Inventory: digests of applications that are gone.
    #[cbor(
        n(1),
        default,
        skip_if = "Vec::is_empty",
        decode_with = "bounded::list::<Ctx, Digest, PART_ENTRIES_MAX>"
    )]
    pub removed: Vec<Digest>,
    /// Host facts, whole.
    #[n(2)]
    pub host: Option<HostFacts>,
    /// Conditions, whole.
    #[cbor(n(3), default, skip_if = "Vec::is_empty", decode_with = "decode_conditions")]
    pub conditions: Vec<ApplicationCondition>,
}

impl PartContent {
    /// About how much memory it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let added: usize = self.added.iter().map(Application::memory_bytes).sum();
        let conditions: usize = self.conditions.iter().map(ApplicationCondition::memory_bytes).sum();
        let host = self.host.as_ref().map_or(0, |_| FRAME_BODY_BYTES_MAX);
        added + size_of_val(self.removed.as_slice()) + host + conditions
    }
}

/// Events, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Events<'b> {
    /// The history that the sequence numbers count in. A later history has a higher number, so that the
    /// server tells one that was left from one that is new.
    #[n(0)]
    pub spool_epoch: Epoch,
    /// The highest sequence number that the device has given out. A server that has stored a higher one knows
    /// that the device was rolled back.
    #[n(1)]
    pub highest: u64,
    /// The events, by rising sequence number. Gaps are allowed: they were dropped by the device, which says
    /// so.
    #[cbor(b(2), decode_with = "bounded::list::<Ctx, EventItem<'b>, EVENTS_PER_MESSAGE_MAX>")]
    pub items: Vec<EventItem<'b>>,
    /// The highest sequence number of this history that the device was told is durable; left out when it was
    /// told of none. A server that knows less has lost events since, and asks for all that is left of them
    /// ([`Resend`](super::Resend)).
    #[n(3)]
    pub acknowledged: Option<u64>,
    /// Every event up to this sequence number was sent, or dropped by the device: said without events, when
    /// the last ones turn out to be dropped. A server that waits for one of them waits in vain.
    #[n(4)]
    pub sent_through: Option<u64>,
    /// The first message of events since the server said that they are to
    /// [wait](super::Later::only_events): what comes from here on was sent behind that.
    #[cbor(n(5), default, skip_if = "is_false")]
    pub begins_again: bool,
}

/// One event under its sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct EventItem<'b> {
    /// Counts the device's events under one spool epoch, from 1.
    #[n(0)]
    pub sequence: u64,
    /// The encoded [`Event`](crate::wire::event::Event).
    #[cbor(b(1), with = "minicbor::bytes")]
    pub body: &'b [u8],
}
