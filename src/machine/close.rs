//! Why a link ended. Every close has a reason; each reason has a counter.

use crate::wire::named::reasons;

reasons! {
    /// Why a link ended.
    CloseReason {
        /// The peer closed the link in good order (close_notify, RFC 8446 section 6.1).
        PeerClosed = "peer_closed",
        /// The peer's connection broke or was cut without close_notify.
        PeerReset = "peer_reset",
        /// The handshake did not end in time.
        HandshakeTimeout = "handshake_timeout",
        /// The handshake did not get on, and somebody else waited for its place.
        HandshakeEvicted = "handshake_evicted",
        /// The peer's bytes are not TLS.
        NotTls = "not_tls",
        /// The peer does not speak TLS 1.3.
        TlsVersion = "tls_version",
        /// The peer does not offer the protocol `muster/1` (ALPN, RFC 7301).
        NoProtocol = "no_protocol",
        /// The TLS layer refused something else.
        TlsError = "tls_error",
        /// The peer refused our certificate or our part of the handshake with an alert.
        PeerAlert = "peer_alert",
        /// The peer's certificate is not one of this fleet.
        ForeignCertificate = "foreign_certificate",
        /// The device was removed by an administrator.
        DeviceRemoved = "device_removed",
        /// The device's record was taken over by another machine, and its certificate died with that.
        CertificateSuperseded = "certificate_superseded",
        /// The device waits for an administrator to approve it.
        WaitingForApproval = "waiting_for_approval",
        /// A peer without a certificate did not enrol.
        NotEnrolled = "not_enrolled",
        /// A peer without a certificate came while no join token is valid: it could not enrol.
        NoValidToken = "no_valid_token",
        /// A peer without a certificate made room for another one.
        StrangerEvicted = "stranger_evicted",
        /// Nothing was said after the handshake.
        SilentStranger = "silent_stranger",
        /// Nothing came within the time that the link was given.
        Idle = "idle",
        /// Enrolment has ended, well or not; the device connects anew.
        EnrolmentDone = "enrolment_done",
        /// The device is a copy of another one.
        Cloned = "cloned",
        /// A newer link of the same device took over.
        Superseded = "superseded",
        /// A frame's length field names more than is allowed, or nothing.
        FrameLength = "frame_length",
        /// Too many messages that did not decode.
        Malformed = "malformed",
        /// The events contradict what is stored: the device begins a new spool epoch on a new link.
        SpoolEpochConflict = "spool_epoch_conflict",
        /// The journal has no room for an event; the device comes again with it.
        JournalFull = "journal_full",
        /// The peer does not read what it is sent.
        SlowReader = "slow_reader",
        /// All links together held too much of memory, and this one had the largest part in it.
        HeldMost = "held_most",
        /// The device opened more links at a time than it may.
        ExtraLink = "extra_link",
        /// The server has all the links that it may have.
        TooManyLinks = "too_many_links",
        /// Others waited too long for a device that only comes by to be served now; it comes again.
        Overloaded = "overloaded",
        /// The server stops.
        Stopping = "stopping",
        /// Something failed at the server.
        Internal = "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place_and_a_name_of_its_own() {
        for (place, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
            assert_eq!(CloseReason::ALL.iter().filter(|other| other.name() == reason.name()).count(), 1);
        }
    }
}
