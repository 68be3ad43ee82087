//! Membership: the device table, as TLS asks for it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::identity::Identity;
use super::presence::{Announcer, own_event};
use crate::fleet::renewal::Life;
use crate::reactor::Clock;
use crate::reactor::channel::{CertificateStatus, Membership};
use crate::store::{DeviceCertificate, Store, StoreError, UnknownDevice};
use crate::wire::certificate::{self, BACKDATED_MILLISECONDS, Issued as Number, KeyType};
use crate::wire::event::Severity;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::time::{Moment, WallTime};

/// Pause after which it is looked again whether one more device may wait for approval.
const FULL_SECONDS: u64 = 60;

/// The fleet's certificates, asked in the middle of a handshake and again when a session is resumed; and
/// those that this server has issued and does not know any more, because its state was restored from a
/// copy: their devices wait for approval, and an administrator is told that they come.
pub(super) struct Issued {
    store: Store,
    identity: Arc<Identity>,
    announcer: Announcer,
    clock: Clock,
    offers: Arc<Offers>,
}

/// Devices that were offered to administrators since the start.
#[derive(Default)]
struct Offers {
    /// There were some.
    has_said: AtomicBool,
    /// As many wait as may, as far as is known; until it is looked at again.
    full_until: Mutex<Moment>,
}

impl Issued {
    pub(super) fn new(store: Store, identity: Arc<Identity>, announcer: Announcer, clock: Clock) -> Self {
        Self { store, identity, announcer, clock, offers: Arc::default() }
    }

    /// Returns the status of a certificate that is not in the table and whose owner has shown that it has the
    /// key. One that this server has issued to a device that is there is known from now on: the server was
    /// restored from a copy that is older than the renewal, or the device was.
    pub(super) fn status_of_unseen(&self, certificate: &[u8], peer: Option<IpAddr>) -> CertificateStatus {
        let Some(Number { device, counter }) = self.identity.issued(certificate) else {
            return CertificateStatus::Unknown;
        };
        let taken_over = || self.announcer.say_record_taken_over(self.clock.now().wall, device);
        let (announcer, clock) = (self.announcer.clone(), self.clock.clone());
        let noted = move |in_use| {
            announcer.note_certificate(&clock.now(), device, in_use, counter, peer);
        };
        match admit(&self.store, device, stored(certificate, counter), taken_over, noted) {
            CertificateStatus::Unknown => self.offer(device, stored(certificate, counter)),
            status => status,
        }
    }

    /// The device has shown this certificate: when it is a renewed one, the one before is forgotten.
    pub(super) fn certificate_shown(&self, device: DeviceId, hash: CertificateHash, peer: Option<IpAddr>) {
        let (announcer, clock) = (self.announcer.clone(), self.clock.clone());
        self.store.devices().certificate_shown(device, hash, move |number| {
            let now = clock.now();
            if announcer.note_certificate(&now, device, 0, number, peer) {
                return;
            }
            let now = now.wall;
            let message = format!("its certificate was renewed: it uses number {number} now");
            let fields = [("number", number.to_string())];
            let event = own_event(Severity::Info, "certificate_renewed", message, now, fields);
            announcer.say_of(device, &event, now);
        });
    }

    /// Has a device wait for approval that this server has enrolled and does not know any more. Without room
    /// it is not enrolled, and comes again.
    fn offer(&self, device: DeviceId, certificate: DeviceCertificate) -> CertificateStatus {
        let now = self.clock.now();
        if now.moment < *self.offers.full_until.lock() {
            return CertificateStatus::Unknown;
        }
        let (offers, announcer) = (self.offers.clone(), self.announcer.clone());
        let unknown = UnknownDevice { device, certificate, now: now.wall };
        self.store.devices().offer(unknown, move |is_new| match is_new {
            Ok(true) => offers.say(&announcer, device, now.wall),
            Ok(false) => {}
            Err(error) => {
                log::warn!(
                    "device {device} is not enrolled here any more, and can't wait for approval: {error}"
                );
                if matches!(error, StoreError::TooManyWaiting(_)) {
                    *offers.full_until.lock() = now.moment.plus_seconds(FULL_SECONDS);
                }
            }
        });
        CertificateStatus::Waiting(device)
    }
}

impl Offers {
    fn say(&self, announcer: &Announcer, device: DeviceId, now: WallTime) {
        log::warn!(
            "device {device} has a certificate of this server and is not enrolled here any more: the server was restored from a copy that is \
             older than its enrolment. It waits for approval ('musterctl device approve {device}')"
        );
        if self.has_said.swap(true, Ordering::Relaxed) {
            return;
        }
        let message = format!(
            "devices come that enrolled at this server and are not known here any more, first {device}: the server was restored from an older \
             copy. They wait for approval ('musterctl device list --presence waiting')"
        );
        let fields = [("device", device.to_string())];
        let event = own_event(Severity::Warning, "not_enrolled_any_more", message, now, fields);
        announcer.say_of_server(&event, now);
    }
}

/// Status of a certificate that this server has issued to the device and that is in no table. It is known
/// from now on when the device is there; `noted` is told the number of the one that was in use then.
/// `taken_over` is called before when it is another machine's than the one that this server knows: it took
/// the record over since the copy from which the server was restored. [`CertificateStatus::Unknown`]: the
/// device is not known either.
pub fn admit(
    store: &Store,
    device: DeviceId,
    certificate: DeviceCertificate,
    taken_over: impl FnOnce(),
    noted: impl FnOnce(u32) + Send + 'static,
) -> CertificateStatus {
    let status = store.table().by_number(device, certificate.counter);
    if let CertificateStatus::Known(_) = status {
        if store.table().has_taken_over(device, certificate.counter) {
            taken_over();
        }
        log::info!(
            "device {device} came with its certificate {}, which this server has issued and does not know: one of the two was restored \
             from a copy, or another machine uses its identity",
            certificate.counter
        );
        store.devices().admit_certificate(device, certificate, noted);
    }
    status
}

/// A certificate of this server with this number, as it is stored.
#[must_use]
pub fn stored(certificate: &[u8], counter: u32) -> DeviceCertificate {
    let life = certificate::validity(certificate).map(|(from, expires_at)| Life {
        issued_at: WallTime(from.0.saturating_add(BACKDATED_MILLISECONDS)),
        expires_at,
    });
    let (hash, key_type) = (CertificateHash::of(certificate), KeyType::of(certificate));
    DeviceCertificate { hash, counter, key_type, life }
}

impl Membership for Issued {
    fn certificate_status(&self, certificate: &CertificateHash) -> CertificateStatus {
        self.store.table().by_certificate(certificate)
    }

    fn has_issued(&self, certificate: &[u8]) -> bool {
        self.identity.issued(certificate).is_some()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};

    use super::*;
    use crate::concurrency::counters::Counters;
    use crate::journal::{FileStorage, Journal, Options, Position};
    use crate::server::identity::Wanted;
    use crate::store::testing::enrol_all;

    const NOW: WallTime = WallTime(1_795_514_400_000);

    /// The server was restored from a copy that is older than the take-over.
    #[test]
    fn signs_of_copies_of_a_machine_say_nothing_of_the_one_that_has_taken_its_record_over() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let identity = Identity::open_or_create(&directory.path().join("identity"), &[], NOW).unwrap();
        let storage = FileStorage::open(&directory.path().join("journal")).unwrap();
        let options = Options { segment_bytes: 1 << 20, retention: None, ..Options::server() };
        let journal = Journal::open(storage, options, Position(0), NOW.0, |_| {}).unwrap().journal;
        let clock = Clock::since(NOW);
        let announcer = Announcer::new(journal.clone(), Counters::new(), clock.clone());
        let members = Issued::new(store.clone(), Arc::new(identity), announcer.clone(), clock.clone());

        let device = enrol_all(&store, 1)[0];
        let now = clock.now();
        let is_suspected = || announcer.clones.lock().suspicion(device, &now).is_some();
        (0..6).for_each(|_| announcer.note_taken_over(&now, device, None));
        assert!(is_suspected());
        let shows = |counter: u32| {
            let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
            let request = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
            let wanted = Wanted { device, counter, life_milliseconds: 86_400_000 };
            let issued = members.identity.issue(&request, wanted, NOW).unwrap();
            members.status_of_unseen(&issued.der, None)
        };
        assert_eq!(shows(2), CertificateStatus::Known(device));
        assert!(is_suspected(), "it may be the copy that comes");
        let ended_at = journal.end();
        assert_eq!(shows(5 << 16), CertificateStatus::Known(device));
        assert!(!is_suspected());
        assert!(journal.end() > ended_at, "that is an event");
        assert_eq!(shows((5 << 16) + 1), CertificateStatus::Known(device));
        // Behind all that was handed in.
        store.devices().remove(DeviceId(999), NOW).unwrap_err();
        assert_eq!(shows(3), CertificateStatus::Superseded(device));
    }
}
