//! Faults, and the alerts that say so.

use std::fmt;

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

/// An alert's description. Its level says nothing that the description does not, and is ignored (RFC 8446
/// section 6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Alert(pub u8);

impl Alert {
    /// Nothing more will be sent.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// A message came that may not come, or not now.
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    /// A record is not what the peer sealed.
    pub const BAD_RECORD_MAC: Self = Self(20);
    /// A record is longer than is allowed.
    pub const RECORD_OVERFLOW: Self = Self(22);
    /// A field has a value that it can't have.
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    /// A message's length does not fit its content.
    pub const DECODE_ERROR: Self = Self(50);
    /// The version is not spoken.
    pub const PROTOCOL_VERSION: Self = Self(70);
    /// Something failed on this side.
    pub const INTERNAL_ERROR: Self = Self(80);
    /// A handshake is given up; some send it before they close.
    pub const USER_CANCELED: Self = Self(90);
    /// The application protocol is not spoken.
    pub const NO_APPLICATION_PROTOCOL: Self = Self(120);

    /// Its name in the RFC; `unknown` for one that has none there.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => "unknown",
        }
    }

    /// As it is sent: its level, then itself. Only the two closure alerts are warnings.
    pub(super) fn to_bytes(self) -> [u8; 2] {
        let is_warning = matches!(self, Self::CLOSE_NOTIFY | Self::USER_CANCELED);
        [if is_warning { 1 } else { 2 }, self.0]
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alert({self})")
    }
}
