//! Faults, and the alerts that say so.

use super::alert::Alert;

/// The crypto library refused what it can't refuse: it has no memory left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the crypto library failed")]
pub struct CryptoFailed;

/// Why nothing more is opened. Each of them ends the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The type is not that of a protected record. Once the handshake is over every record is protected.
    #[error("a record is not protected")]
    NotProtected,
    /// The version is not the one that every protected record names.
    #[error("a record names another version")]
    RecordVersion,
    /// The header names more than is allowed.
    #[error("a record is too long")]
    RecordTooLong,
    /// The header names less than an authentication tag has.
    #[error("a record is too short")]
    RecordTooShort,
    /// It is not what the peer sealed as its next record: changed, repeated, out of order, or somebody
    /// else's.
    #[error("a record is not authentic")]
    Forged,
    /// The sealed content is longer than is allowed.
    #[error("a record's content is too long")]
    ContentTooLong,
    /// The sealed content is nothing but padding.
    #[error("a record has no content type")]
    NoContentType,
    /// The content is of a kind that does not exist, or has no place here.
    #[error("a record's content is of another kind")]
    ContentType,
    /// An alert or a handshake message of no bytes, which is not allowed.
    #[error("an alert or a handshake message is empty")]
    EmptyMessage,
    /// An alert that has not two bytes.
    #[error("an alert has another length")]
    AlertLength,
    /// A handshake message that a client may not send once its handshake is over.
    #[error("a handshake message comes after the handshake")]
    UnexpectedHandshake,
    /// A KeyUpdate that names another length than it has.
    #[error("a KeyUpdate has another length")]
    KeyUpdateLength,
    /// A KeyUpdate in pieces.
    #[error("a KeyUpdate is in pieces")]
    KeyUpdateSplit,
    /// Something follows a KeyUpdate under the key that it ends (RFC 8446 section 5.1).
    #[error("a KeyUpdate is not the end of its record")]
    KeyUpdateNotLast,
    /// A KeyUpdate that asks for something that does not exist.
    #[error("a KeyUpdate asks for something else")]
    KeyUpdateRequest,
    /// More than [`super::EMPTY_RECORDS_IN_A_ROW_MAX`].
    #[error("too many records bring nothing")]
    TooManyEmptyRecords,
    /// More than [`super::KEY_UPDATES_AHEAD_MAX`].
    #[error("too many KeyUpdates")]
    TooManyKeyUpdates,
    /// There are no numbers left (RFC 8446 section 5.3).
    #[error("all record numbers are used up")]
    NumbersUsedUp,
    /// Ours.
    #[error("{CryptoFailed}")]
    Crypto,
}

impl OpenError {
    /// Returns the alert for the peer.
    #[must_use]
    pub fn alert(self) -> Alert {
        match self {
            Self::RecordVersion => Alert::PROTOCOL_VERSION,
            Self::RecordTooLong | Self::ContentTooLong => Alert::RECORD_OVERFLOW,
            Self::RecordTooShort | Self::Forged => Alert::BAD_RECORD_MAC,
            Self::AlertLength | Self::KeyUpdateLength => Alert::DECODE_ERROR,
            Self::KeyUpdateRequest => Alert::ILLEGAL_PARAMETER,
            Self::NotProtected
            | Self::NoContentType
            | Self::ContentType
            | Self::EmptyMessage
            | Self::UnexpectedHandshake
            | Self::KeyUpdateSplit
            | Self::KeyUpdateNotLast
            | Self::TooManyEmptyRecords
            | Self::TooManyKeyUpdates => Alert::UNEXPECTED_MESSAGE,
            Self::NumbersUsedUp | Self::Crypto => Alert::INTERNAL_ERROR,
        }
    }
}

impl From<CryptoFailed> for OpenError {
    fn from(_: CryptoFailed) -> Self {
        Self::Crypto
    }
}

/// Why something was not sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// A closing alert was said or heard, or the link has failed.
    #[error("nothing more may be sent")]
    Closed,
    /// The key has sealed [`super::SEALED_RECORDS_MAX`] records.
    #[error("the key is used up")]
    KeyUsedUp,
    /// Ours.
    #[error("{CryptoFailed}")]
    Crypto,
}

impl From<CryptoFailed> for SealError {
    fn from(_: CryptoFailed) -> Self {
        Self::Crypto
    }
}
