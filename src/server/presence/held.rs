//! Devices whose events wait on them, as they had more of the log than their rate.

use super::Announcer;
use crate::machine::rate::EventRate;
use crate::wire::id::DeviceId;
use crate::wire::time::{Moment, Now, WallTime};
use crate::wire::units::format_size;

impl Announcer {
    /// The device was told to keep its events for `seconds` seconds.
    pub(in crate::server) fn note_held(&self, now: &Now, device: DeviceId, seconds: u32, rate: EventRate) {
        if !self.held.lock().held(device, now, seconds) {
            return;
        }
        log::warn!(
            "device {device}: it has sent more events than journal.device_burst ({}), and faster than \
             journal.device_rate ({} a second): it keeps the others and sends them at that rate",
            format_size(rate.burst_bytes),
            format_size(rate.bytes_per_second)
        );
        self.note_moved(device);
    }

    /// Since when the device's events wait; `None` when they do not.
    pub(in crate::server) fn held_since(&self, device: DeviceId, now: Moment) -> Option<WallTime> {
        self.held.lock().since(device, now)
    }
}
