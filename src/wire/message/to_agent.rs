//! The server's messages to an agent.

use minicbor::{Decode, Decoder, Encode, Encoder};

use super::{MessageError, at_end, kind, read_kind, write};
use crate::wire::artifact::ArtifactPart;
use crate::wire::bounded;
use crate::wire::digest::Digest;
use crate::wire::frame;
use crate::wire::id::{DeviceId, Epoch, TokenId};
use crate::wire::limits::{DATAGRAM_KEY_BYTES, PINS_MAX, SECTIONS_MAX, TOKEN_SECRET_BYTES};
use crate::wire::section::Section;
use crate::wire::settings::SettingsOrder;
use crate::wire::task::{RunList, RunOrder, RunsStored};
use crate::wire::time::WallTime;

/// A message to the agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ToAgent {
    /// Kind 33: the device belongs to the fleet now.
    Enrolled(Box<Enrolled>),
    /// Kind 34: everything is in sync.
    InSync(InSync),
    /// Kind 35: these sections differ.
    Want(Want),
    /// Kind 36: events are durable.
    Ack(Ack),
    /// Kind 37: not now.
    Later(Later),
    /// Kind 38: answer to a ping.
    Pong,
    /// Kind 39: something was refused.
    Error(ErrorReport),
    /// Kind 40: sync at once.
    SyncNow(SyncNow),
    /// Kind 41: answer to a probe.
    Probed(Probed),
    /// Kind 42: settings that an application is to have.
    Settings(Box<SettingsOrder>),
    /// Kind 43: something to execute.
    Run(Box<RunOrder>),
    /// Kind 44: all runs that the device is to have.
    Runs(RunList),
    /// Kind 45: what was said of runs is stored.
    RunsStored(RunsStored),
    /// Kind 46: the server does not know events that it once acknowledged.
    Resend(Resend),
    /// Kind 47: it is time for another certificate.
    RenewNow,
    /// Kind 48: a new certificate.
    Renewed(Renewed),
    /// Kind 49: which servers to accept from now on, and the keys of datagrams.
    Trust(Box<Trust>),
    /// Kind 50: two machines use this identity, and this one is to have one of its own.
    Fork(Fork),
    /// Kind 51: a part of an artifact.
    ArtifactPart(ArtifactPart),
}

impl ToAgent {
    /// Appends the message as a frame.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        frame::append(out, |out| match self {
            Self::Enrolled(body) => write(out, kind::ENROLLED, body),
            Self::InSync(body) => write(out, kind::IN_SYNC, body),
            Self::Want(body) => write(out, kind::WANT, body),
            Self::Ack(body) => write(out, kind::ACK, body),
            Self::Later(body) => write(out, kind::LATER, body),
            Self::Pong => write(out, kind::PONG, &NoBody {}),
            Self::Error(body) => write(out, kind::ERROR, body),
            Self::SyncNow(body) => write(out, kind::SYNC_NOW, body),
            Self::Probed(body) => write(out, kind::PROBED, body),
            Self::Settings(body) => write(out, kind::SETTINGS, body),
            Self::Run(body) => write(out, kind::RUN, body),
            Self::Runs(body) => write(out, kind::RUN_LIST, body),
            Self::RunsStored(body) => write(out, kind::RUNS_STORED, body),
            Self::Resend(body) => write(out, kind::RESEND, body),
            Self::RenewNow => write(out, kind::RENEW_NOW, &NoBody {}),
            Self::Renewed(body) => write(out, kind::RENEWED, body),
            Self::Trust(body) => write(out, kind::TRUST, body),
            Self::Fork(body) => write(out, kind::FORK, body),
            Self::ArtifactPart(body) => write(out, kind::ARTIFACT_PART, body),
        });
    }

    /// Decodes a frame's body.
    ///
    /// # Errors
    /// When the kind is unknown, or the body is not what the kind asks for.
    pub fn from_body(body: &[u8]) -> Result<Self, MessageError> {
        let mut decoder = Decoder::new(body);
        let message = match read_kind(&mut decoder)? {
            kind::ENROLLED => Self::Enrolled(decoder.decode()?),
            kind::IN_SYNC => Self::InSync(decoder.decode()?),
            kind::WANT => Self::Want(decoder.decode()?),
            kind::ACK => Self::Ack(decoder.decode()?),
            kind::LATER => Self::Later(decoder.decode()?),
            kind::PONG => {
                decoder.skip()?;
                Self::Pong
            }
            kind::ERROR => Self::Error(decoder.decode()?),
            kind::SYNC_NOW => Self::SyncNow(decoder.decode()?),
            kind::PROBED => Self::Probed(decoder.decode()?),
            kind::SETTINGS => Self::Settings(decoder.decode()?),
            kind::RUN => Self::Run(decoder.decode()?),
            kind::RUN_LIST => Self::Runs(decoder.decode()?),
            kind::RUNS_STORED => Self::RunsStored(decoder.decode()?),
            kind::RESEND => Self::Resend(decoder.decode()?),
            kind::RENEW_NOW => {
                decoder.skip()?;
                Self::RenewNow
            }
            kind::RENEWED => Self::Renewed(decoder.decode()?),
            kind::TRUST => Self::Trust(decoder.decode()?),
            kind::FORK => Self::Fork(decoder.decode()?),
            kind::ARTIFACT_PART => Self::ArtifactPart(decoder.decode()?),
            unknown => return Err(MessageError::UnknownKind(unknown)),
        };
        at_end(&decoder)?;
        Ok(message)
    }
}

/// The body of a message that says all with its kind.
#[derive(Encode)]
#[cbor(map)]
struct NoBody {}

/// The device belongs to the fleet now. It connects anew, with its certificate.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Enrolled {
    /// Its id.
    #[n(0)]
    pub device: DeviceId,
    /// Its name; differs from what it asked for when that name was taken.
    #[cbor(n(1), decode_with = "bounded::name")]
    pub name: String,
    /// Its certificate, DER.
    #[cbor(n(2), encode_with = "minicbor::bytes::encode", decode_with = "bounded::certificate")]
    pub certificate: Vec<u8>,
    /// The server certificates that it accepts, DER, the current one first.
    #[cbor(n(3), encode_with = "encode_pins", decode_with = "decode_pins")]
    pub pins: Vec<Vec<u8>>,
    /// Key of the datagrams that wake it.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub wake_key: [u8; DATAGRAM_KEY_BYTES],
    /// Key of the datagrams in which it says that it shuts down.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub notice_key: [u8; DATAGRAM_KEY_BYTES],
    /// Names what it is to trust, as in [`Trust`]; 0: nothing does, and it is told with its first sync.
    #[cbor(n(6), default)]
    pub trust_label: u64,
    /// As in [`Trust`].
    #[cbor(n(7), default)]
    pub voucher_floor: u32,
    /// Whether it waits for an administrator to approve it before it is served.
    #[cbor(n(8), default, skip_if = "is_false")]
    pub is_waiting: bool,
}

impl std::fmt::Debug for Enrolled {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolled")
            .field("device", &self.device)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A new certificate. It counts once a link that shows it has ended a sync well; until then the one before
/// is good, too.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Renewed {
    /// DER.
    #[cbor(n(0), encode_with = "minicbor::bytes::encode", decode_with = "bounded::certificate")]
    pub certificate: Vec<u8>,
}

/// All that the device is to trust from now on, in the place of what it had. It stores it, and names the
/// label in its next sync.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Trust {
    /// Names this content, and no other; never 0.
    #[n(0)]
    pub label: u64,
    /// The server certificates that it accepts, DER, the current one first.
    #[cbor(n(1), encode_with = "encode_pins", decode_with = "decode_pins")]
    pub pins: Vec<Vec<u8>>,
    /// The lowest number of a voucher of the recovery key that it accepts.
    #[n(2)]
    pub voucher_floor: u32,
    /// Key of the datagrams that wake it.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub wake_key: [u8; DATAGRAM_KEY_BYTES],
    /// Key of the datagrams in which it says that it shuts down.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub notice_key: [u8; DATAGRAM_KEY_BYTES],
}

impl std::fmt::Debug for Trust {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("label", &self.label).finish_non_exhaustive()
    }
}

/// Two machines use this identity. This one enrols anew with this token, with a key of its own.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Fork {
    /// Which token invites it.
    #[n(0)]
    pub token: TokenId,
    /// The token's secret.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub secret: [u8; TOKEN_SECRET_BYTES],
}

impl std::fmt::Debug for Fork {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fork").field("token", &self.token).finish_non_exhaustive()
    }
}

pub(crate) fn encode_pins<Ctx, W: minicbor::encode::Write>(
    pins: &Vec<Vec<u8>>,
    encoder: &mut Encoder<W>,
    _: &mut Ctx,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    encoder.array(pins.len() as u64)?;
    for pin in pins {
        encoder.bytes(pin)?;
    }
    Ok(())
}

pub(crate) fn decode_pins<Ctx>(
    decoder: &mut Decoder<'_>,
    context: &mut Ctx,
) -> Result<Vec<Vec<u8>>, minicbor::decode::Error> {
    bounded::list_with(decoder, PINS_MAX, |decoder| bounded::certificate(decoder, context))
}

/// Everything is in sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct InSync {
    /// The server's history. A change of it means that the server's state was restored from a copy.
    #[n(0)]
    pub server_epoch: Epoch,
    /// When to come again, in seconds from now: this device's slot, already spread.
    #[n(1)]
    pub next_seconds: u32,
    /// Time in which all devices can come by once: attempts that fail spread over it in the end.
    #[n(2)]
    pub interval_seconds: u32,
    /// When there, the link stays, and the agent pings at this interval. Otherwise the agent closes the link.
    #[n(3)]
    pub keep_seconds: Option<u32>,
    /// The UDP port on which the server hears notices; left out when it has the number of the TCP port.
    #[n(4)]
    pub notice_port: Option<u16>,
    /// The highest counter of a notice that the server heard, when the device's own lies below: it was rolled
    /// back, and goes on from here.
    #[n(5)]
    pub notice_counter: Option<u32>,
    /// Over how many seconds the device is to spread its return when the link or the server is lost; left out
    /// when the fleet is so small that all of it may come at once.
    #[n(6)]
    pub reconnect_seconds: Option<u32>,
}

/// Sync at once, whatever was said before of when.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct SyncNow {
    /// Whether the device is to look at itself anew before.
    #[n(0)]
    pub is_fresh: bool,
}

/// Answer to a probe.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Probed {
    /// The server's clock.
    #[n(0)]
    pub clock: WallTime,
    /// The highest counter of a notice that reached the server; 0 when none ever did.
    #[n(1)]
    pub notice_counter: u32,
    /// The counter of the wake that was sent; left out when none was.
    #[n(2)]
    pub wake_counter: Option<u32>,
    /// Address that the link comes from, as the server sees it: an IP address.
    #[cbor(n(3), decode_with = "bounded::name")]
    pub address: String,
    /// The UDP port on which the server hears notices; left out when it has the number of the TCP port.
    #[n(4)]
    pub notice_port: Option<u16>,
}

/// These sections differ.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Want {
    /// The wanted sections, in the order in which they should be sent.
    #[cbor(n(0), decode_with = "bounded::list::<Ctx, WantedSection, SECTIONS_MAX>")]
    pub sections: Vec<WantedSection>,
}

/// One section that differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct WantedSection {
    /// Which.
    #[n(0)]
    pub section: Section,
    /// The server's digest: a device that still has that content may send the difference. Left out: send it
    /// whole.
    #[n(1)]
    pub base: Option<Digest>,
}

/// Events are durable at the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Ack {
    /// The history that the sequence number counts in.
    #[n(0)]
    pub spool_epoch: Epoch,
    /// Every event up to and with this sequence number is durable, or was never sent.
    #[n(1)]
    pub through: u64,
}

/// The server does not know events that it once acknowledged: its state was restored from a copy, or a part
/// of its journal is gone. Nothing of the message that showed it was taken. The device sends again all that
/// it still has behind `after`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Resend {
    /// The history that the sequence number counts in.
    #[n(0)]
    pub spool_epoch: Epoch,
    /// The highest sequence number that the server can account for; 0 when it knows none of this history.
    #[n(1)]
    pub after: u64,
}

/// Not now: the server has more to do than it can. The agent keeps everything and comes again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Later {
    /// When to come again, in seconds from now.
    #[n(0)]
    pub seconds: u32,
    /// Only events are to wait, because the device had more of them stored than its rate; the link stays and
    /// all else goes on. Events that are under way are not taken: the device sends them again, from the first
    /// that is not acknowledged, in messages of which the first [says so](super::Events::begins_again). An
    /// agent that does not know this key waits with everything, on another link.
    #[cbor(n(1), default, skip_if = "is_false")]
    pub only_events: bool,
}

impl Later {
    /// Everything waits for `seconds` seconds.
    #[must_use]
    pub fn with_all(seconds: u32) -> Self {
        Self { seconds, only_events: false }
    }

    /// Events wait for `seconds` seconds.
    #[must_use]
    pub fn with_events(seconds: u32) -> Self {
        Self { seconds, only_events: true }
    }
}

pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

/// Why something was refused: for programs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum ErrorCode {
    /// The message did not decode, or broke a limit.
    #[n(0)]
    Malformed,
    /// This version does not know the message.
    #[n(1)]
    UnknownKind,
    /// The message is not allowed in this state of the conversation.
    #[n(2)]
    Unexpected,
    /// The device has no certificate: it must enrol first.
    #[n(3)]
    NotEnrolled,
    /// No such token, or a wrong secret.
    #[n(4)]
    TokenUnknown,
    /// The token's time is over.
    #[n(5)]
    TokenExpired,
    /// The token's uses are used up.
    #[n(6)]
    TokenUsedUp,
    /// An administrator withdrew the token.
    #[n(7)]
    TokenRevoked,
    /// An administrator removed the device: it must enrol again to come back.
    #[n(8)]
    DeviceRemoved,
    /// Another link of the same device took over.
    #[n(9)]
    Superseded,
    /// The sequence numbers contradict what the server has stored: the device was rolled back and must draw a
    /// new spool epoch and send again.
    #[n(10)]
    SpoolEpochConflict,
    /// The revisions contradict what the server has stored: the device was rolled back and must draw a new
    /// agent epoch.
    #[n(11)]
    AgentEpochConflict,
    /// Something failed at the server; it has the reason in its log.
    #[n(12)]
    Internal,
    /// The server stops; come again.
    #[n(13)]
    Stopping,
    /// The device has enrolled, and waits for an administrator to approve it.
    #[n(14)]
    WaitingForApproval,
    /// Another machine uses the same identity, and has the better claim to it.
    #[n(15)]
    Cloned,
    /// The token is for devices of another name.
    #[n(16)]
    NameRefused,
    /// The device's record was taken over, and this certificate died with that.
    #[n(17)]
    CertificateSuperseded,
}

/// Something was refused. Whether the link ends is seen by whether it ends.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ErrorReport {
    /// For programs.
    #[n(0)]
    pub code: ErrorCode,
    /// For people: what was wrong and what to do.
    #[cbor(n(1), decode_with = "bounded::message")]
    pub message: String,
}
