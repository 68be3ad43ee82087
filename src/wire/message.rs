//! Messages: what a frame's body says.
//!
//! A body is a CBOR array (RFC 8949) of two: the kind (unsigned) and a map with integer keys. Unknown keys
//! are ignored; an unknown kind is answered with an error, not a hang-up, so that either side may be newer
//! than the other.
//!
//! Kinds below 33 travel to the server, kinds from 33 on to the agent ([`kind`]). One conversation, in order:
//! [`ToServer::Enrol`] once in a device's life; then on each connection [`ToServer::Sync`], answered with
//! [`ToAgent::InSync`], or with [`ToAgent::Want`], which is followed by [`ToServer::Part`]s and then by
//! [`ToAgent::InSync`]. [`ToServer::Events`] may come at any time once the device is known, and
//! [`ToAgent::Ack`] when they are durable, or [`ToAgent::Resend`] when the server has lost what it
//! acknowledged before. On a link that stays, [`ToServer::Ping`] is answered with [`ToAgent::Pong`], and
//! [`ToAgent::SyncNow`] asks for a sync at once. [`ToServer::Goodbye`] is a device's goodbye.
//!
//! The device's identity lives by the same links: [`ToAgent::RenewNow`] asks for [`ToServer::Renew`], which
//! is answered with [`ToAgent::Renewed`]; [`ToAgent::Trust`] comes before [`ToAgent::InSync`] when the device
//! has named another label in its sync than the server's; [`ToAgent::Fork`] sends one of two machines with
//! one identity to enrol anew.
//!
//! Orders travel before [`ToAgent::InSync`]: [`ToAgent::Settings`] and [`ToAgent::Run`], one for each, then
//! the list [`ToAgent::Runs`]. Reports of runs come as [`ToServer::Runs`] at any time, answered with
//! [`ToAgent::RunsStored`]; [`ToServer::Statistics`] come with a sync and are not answered. Before a run that
//! has an artifact begins, [`ToServer::Fetch`] asks for one [`ToAgent::ArtifactPart`] after the other.

pub mod kind;
mod to_agent;
mod to_server;

pub use to_agent::{
    Ack, Enrolled, ErrorCode, ErrorReport, Fork, InSync, Later, Probed, Renewed, Resend, SyncNow, ToAgent,
    Trust, Want, WantedSection,
};
pub(crate) use to_agent::{decode_pins, encode_pins};
pub use to_server::{
    Enrol, EventItem, Events, Goodbye, NamedSection, Part, PartContent, Ping, Probe, Reach, Renew, Sync,
    SyncIdentity, SyncReason, ToServer,
};

use minicbor::{Decoder, Encode, Encoder};

/// Why a body is no message. The link lives on: the peer is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A kind that this version does not know.
    #[error("message kind {0} is not known here")]
    UnknownKind(u32),
    /// Not the CBOR that the kind asks for, or over a limit.
    #[error("malformed message: {0}")]
    Malformed(String),
}

impl From<minicbor::decode::Error> for MessageError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Writes a message: the array head, the kind and the body.
fn write(out: &mut Vec<u8>, kind: u32, body: &impl Encode<()>) {
    let done = Encoder::new(out).array(2).and_then(|e| e.u32(kind)?.encode(body)).map(drop);
    // A vector can always be written to, and none of our types refuses to be encoded.
    debug_assert!(done.is_ok());
}

/// Reads the array head and the kind.
fn read_kind(decoder: &mut Decoder<'_>) -> Result<u32, MessageError> {
    match decoder.array()? {
        Some(2) => Ok(decoder.u32()?),
        _ => Err(MessageError::Malformed("a message is an array of two: kind and body".into())),
    }
}

/// A body must be one message and nothing after it.
fn at_end(decoder: &Decoder<'_>) -> Result<(), MessageError> {
    match decoder.input().len() - decoder.position() {
        0 => Ok(()),
        left => Err(MessageError::Malformed(format!("{left} bytes after the message"))),
    }
}

#[cfg(test)]
mod tests;
