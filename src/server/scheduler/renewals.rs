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
        let is_too_late = comes_at >= life.expires_at.0 && (!record.is_to_renew() || ages < life.expires_at);
        if record.link.is_some() && is_too_late && has_rested {
            // One that is away is not woken for it: an expired certificate is renewed like any other.
            self.notifications.add(&[device], None);
        }
        last_sync > life.due_at(device, life_milliseconds).0.saturating_add(life.pause_milliseconds())
    }
}
