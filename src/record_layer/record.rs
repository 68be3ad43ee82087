//! The bytes of a record (RFC 8446 section 5), and of the messages in it.

use super::error::Alert;
use super::error::OpenError;
use super::limits::HEADER_BYTES;

/// The version that every protected record names: that of TLS 1.2 (RFC 8446 section 5.2).
const VERSION: [u8; 2] = [3, 3];

/// The handshake message KeyUpdate (RFC 8446 section 4.6.3).
const KEY_UPDATE: u8 = 24;

/// Kind of content that a record may bring once the handshake is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ContentType {
    Alert,
    Handshake,
    ApplicationData,
}

impl ContentType {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::Alert, Self::Handshake, Self::ApplicationData].into_iter().find(|kind| kind.number() == number)
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::ApplicationData => 23,
        }
    }
}

/// Refuses what can't become a protected record, from as many bytes of its header as there are.
pub(super) fn check_beginning(input: &[u8]) -> Result<(), OpenError> {
    // Every protected record claims to be data.
    if input.first().is_some_and(|byte| *byte != ContentType::ApplicationData.number()) {
        return Err(OpenError::NotProtected);
    }
    if input.iter().skip(1).zip(VERSION).any(|(byte, expected)| *byte != expected) {
        return Err(OpenError::RecordVersion);
    }
    Ok(())
}

/// Returns the number of bytes behind a header.
pub(super) fn length([.., high, low]: [u8; HEADER_BYTES]) -> usize {
    usize::from(u16::from_be_bytes([high, low]))
}

/// The header of a protected record of `length` bytes.
pub(super) fn header(length: u16) -> [u8; HEADER_BYTES] {
    let [high, low] = length.to_be_bytes();
    [ContentType::ApplicationData.number(), VERSION[0], VERSION[1], high, low]
}

/// The content type, which is the last byte that is not padding, and what stands before it.
pub(super) fn strip(inner: &[u8]) -> Option<(u8, &[u8])> {
    let end = inner.iter().rposition(|byte| *byte != 0)?;
    Some((inner[end], &inner[..end]))
}

pub(super) fn parse_alert(content: &[u8]) -> Result<Alert, OpenError> {
    match *content {
        [] => Err(OpenError::EmptyMessage),
        // The level is ignored: RFC 8446 section 6 leaves it no meaning.
        [_, description] => Ok(Alert(description)),
        _ => Err(OpenError::AlertLength),
    }
}

/// Whether the KeyUpdate wants one in return. Nothing but a KeyUpdate, whole and alone, is taken: a client
/// has nothing else to say once its handshake is over, when it offers no authentication after it.
pub(super) fn parse_key_update(content: &[u8]) -> Result<bool, OpenError> {
    match *content {
        [] => Err(OpenError::EmptyMessage),
        [kind, ..] if kind != KEY_UPDATE => Err(OpenError::UnexpectedHandshake),
        [_, a, b, c, ..] if [a, b, c] != [0, 0, 1] => Err(OpenError::KeyUpdateLength),
        [_, _, _, _, wanted] => match wanted {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(OpenError::KeyUpdateRequest),
        },
        [_, _, _, _, _, ..] => Err(OpenError::KeyUpdateNotLast),
        _ => Err(OpenError::KeyUpdateSplit),
    }
}

/// The message KeyUpdate.
pub(super) fn key_update(wants_one: bool) -> [u8; 5] {
    [KEY_UPDATE, 0, 0, 1, wants_one.into()]
}
