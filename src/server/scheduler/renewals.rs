//! Devices whose certificates are due to be renewed: marked, so that their next sync says so, and called when
//! that would come too late.

use std::sync::Arc;

use super::notifications::Notifications;
use crate::fleet::renewal::Life;
use crate::machine::device_state::DeviceState;
use crate::server::renewal::CertificateLife;
use crate::store::table::DeviceTable;
use crate::wire::time::WallTime;

/// Looks after the certificates of devices.
pub(super) struct Renewals {
    life: CertificateLife,
    notifications: Arc<Notifications>,
}

impl Renewals {
    pub(super) fn new(life: CertificateLife, notifications: Arc<Notifications>) -> Self {
        Self { life, notifications }
    }

    /// Looks whether the certificate of a device is due, by the time by which ages are judged. Returns
    /// whether the device has synced since it was, so that its renewal does not work.
    pub(super) fn judge(
        &self,
        table: &DeviceTable,
        record: &DeviceState,
        life: Life,
        now: WallTime,
        ages: WallTime,
    ) -> bool {
        let (device, life_milliseconds) = (record.device, self.life.milliseconds());
        let is_due = life.is_due(device, life_milliseconds, ages);
        if is_due != record.is_to_renew() {
            table.with(device, |record| record.set_to_renew(is_due));
        }
        if !is_due {
            return false;
        }
        // Times of devices follow a step of the clock at once.
        let ahead = now.0.saturating_sub(ages.0);
        let last_sync = record.last_sync.0.saturating_sub(ahead);
        let comes_at = last_sync.saturating_add(u64::from(record.due_seconds()) * 1_000);
        let has_rested = ages.0.saturating_sub(last_sync) >= life.pause_milliseconds();
        // Once when it is found to be due, whatever it did just now; then as often as one is issued.
        let is_asked = !record.is_to_renew() || (has_rested && ages < life.expires_at);
        if record.link.is_some() && comes_at >= life.expires_at.0 && is_asked {
            // One that is away is not woken for it: an expired certificate is renewed like any other.
            self.notifications.add(&[device], None);
        }
        last_sync > life.due_at(device, life_milliseconds).0.saturating_add(life.pause_milliseconds())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::machine::device_state::LinkRef;
    use crate::wire::id::{CertificateHash, DeviceId};

    const NOW: WallTime = WallTime(1_795_514_400_000);
    const DEVICE: DeviceId = DeviceId(7);

    fn later(seconds: u64) -> WallTime {
        WallTime(NOW.0 + seconds * 1_000)
    }

    struct Fixture {
        table: DeviceTable,
        renewals: Renewals,
    }

    /// A device on a link, that has just synced and comes again in a quarter of an hour; certificates live
    /// for a minute.
    fn fixture() -> Fixture {
        let (table, life) = (DeviceTable::default(), CertificateLife::default());
        life.set(Duration::from_secs(60));
        let mut record = DeviceState::new(DEVICE, 900);
        (record.link, record.last_sync) = (LinkRef::new(0, 1, 1), NOW);
        record.set_due_seconds(900);
        table.insert(record, &CertificateHash::of(b"certificate"));
        Fixture { table, renewals: Renewals::new(life, Arc::default()) }
    }

    impl Fixture {
        /// Whether the renewal does not work.
        fn judge(&self, now: WallTime) -> bool {
            let life = Life { issued_at: NOW, expires_at: later(60) };
            let record = self.table.get(DEVICE).unwrap();
            self.renewals.judge(&self.table, &record, life, now, now)
        }

        fn is_marked(&self) -> bool {
            self.table.get(DEVICE).unwrap().is_to_renew()
        }

        /// Whether somebody has asked it to come.
        fn is_notified(&self) -> bool {
            self.renewals.notifications.take_all().contains(&DEVICE)
        }
    }

    #[test]
    fn a_device_is_marked_when_its_certificate_is_due_and_asked_once_when_its_sync_would_be_too_late() {
        let fixture = fixture();
        assert!(!fixture.judge(later(30)) && !fixture.is_marked() && !fixture.is_notified());
        assert!(!fixture.judge(later(45)) && fixture.is_marked() && fixture.is_notified());
        // It has synced, and its renewal came to nothing: it is asked again, and not all the time.
        fixture.table.with(DEVICE, |record| record.last_sync = later(46));
        fixture.judge(later(47));
        assert!(!fixture.is_notified(), "not within a tenth of the life");
        fixture.table.with(DEVICE, |record| record.last_sync = later(50));
        assert!(fixture.judge(later(57)), "it has synced since, and is not renewed");
        assert!(fixture.is_notified());
        assert!(fixture.judge(later(100)) && fixture.is_marked() && !fixture.is_notified(), "it has expired");
    }

    #[test]
    fn a_device_without_a_link_is_not_called_for_it() {
        let fixture = fixture();
        fixture.table.with(DEVICE, |record| record.link = None);
        assert!(!fixture.judge(later(100)) && fixture.is_marked() && !fixture.is_notified());
    }
}
