//! Alerts (RFC 8446 section 6).

use std::fmt;

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
