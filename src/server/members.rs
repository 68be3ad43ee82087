//! Membership: the device table, as TLS asks for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::identity::Identity;
use super::presence::{Announcer, own_event};
use crate::reactor::Clock;
use crate::reactor::channel::{CertificateStatus, Membership};
use crate::store::table::DeviceTable;
use crate::wire::certificate::Issued as Issue;
use crate::wire::event::Severity;
use crate::wire::id::{CertificateHash, DeviceId};

/// Most devices that are named in the log because they are not enrolled here any more, in devices.
const NAMED_MAX: usize = 1_000;

/// The fleet's certificates, asked in the middle of a handshake and again when a session is resumed; and
/// those that this server has issued and does not know any more, because its state was restored from a
/// copy: those are told to enrol again, and an administrator that they come.
pub(super) struct Issued {
    table: Arc<DeviceTable>,
    identity: Arc<Identity>,
    announcer: Announcer,
    clock: Clock,
    named: Mutex<BTreeSet<DeviceId>>,
}

impl Issued {
    pub(super) fn new(
        table: Arc<DeviceTable>,
        identity: Arc<Identity>,
        announcer: Announcer,
        clock: Clock,
    ) -> Self {
        Self { table, identity, announcer, clock, named: Mutex::default() }
    }

    fn say(&self, device: DeviceId) {
        let mut named = self.named.lock();
        let is_first = named.is_empty();
        if named.len() >= NAMED_MAX || !named.insert(device) {
            return;
        }
        drop(named);
        log::warn!(
            "device {device} has a certificate of this server and is not enrolled here any more: the server was restored from a copy that is \
             older than its enrolment. It has to enrol again ('muster-agent enroll --force')"
        );
        if is_first {
            let now = self.clock.now().wall;
            let message = format!(
                "devices come that enrolled at this server and are not known here any more, first {device}; the log names each: \
                 the server was restored from an older copy, and they have to enrol again"
            );
            let fields = [("device", device.to_string())];
            let event = own_event(Severity::Warning, "not_enrolled_any_more", message, now, fields);
            self.announcer.say_of_server(&event, now);
        }
    }
}

impl Issued {
    /// Returns the status of a certificate that is not in the table.
    pub(super) fn status_of_unseen(&self, certificate: &[u8]) -> CertificateStatus {
        let Some(Issue { device, counter }) = self.identity.issued(certificate) else {
            return CertificateStatus::Unknown;
        };
        if counter < self.table.certificate_floor(device) {
            return CertificateStatus::Superseded(device);
        }
        self.say(device);
        CertificateStatus::Unknown
    }
}

impl Membership for Issued {
    fn certificate_status(&self, certificate: &CertificateHash) -> CertificateStatus {
        self.table.by_certificate(certificate)
    }

    fn has_issued(&self, certificate: &[u8]) -> bool {
        self.identity.issued(certificate).is_some()
    }
}
