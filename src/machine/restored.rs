//! Whether the whole server was restored from a copy, or one device only says so.
//!
//! A device that knows more of the server than the server itself is brought over whole, alone: that costs the
//! others nothing, whether it is right or not. A new epoch concerns every device, so it takes the word of
//! several of them, and there is one at most for each start: no device can have a second one drawn.

use crate::wire::id::DeviceId;

/// Devices whose word it takes, in devices.
pub const WITNESSES: usize = 3;

/// Collects which devices know more of the server than it does, since its start.
#[derive(Debug, Default)]
pub struct RestoreWatch {
    witnesses: [Option<DeviceId>; WITNESSES],
    is_told: bool,
}

/// Consequence of a device's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It was heard before, or enough were.
    Known,
    /// One more device says so.
    New,
    /// The device with which it is enough: the server draws a new epoch.
    Enough,
}

impl RestoreWatch {
    /// The device knows more of the server than is stored.
    pub fn claimed(&mut self, device: DeviceId) -> Claim {
        if self.is_told {
            return Claim::Known;
        }
        let is_known = self.witnesses.contains(&Some(device));
        if !is_known && let Some(free) = self.witnesses.iter_mut().find(|witness| witness.is_none()) {
            *free = Some(device);
        }
        self.is_told = self.witnesses.iter().all(Option::is_some);
        match (self.is_told, is_known) {
            (true, _) => Claim::Enough,
            (false, true) => Claim::Known,
            (false, false) => Claim::New,
        }
    }

    /// The new epoch could not be stored: the next claim asks for it again.
    pub fn failed(&mut self) {
        self.is_told = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_device_draws_no_epoch_however_often_it_claims() {
        let mut watch = RestoreWatch::default();
        assert_eq!(watch.claimed(DeviceId(7)), Claim::New);
        for _ in 0..201 {
            assert_eq!(watch.claimed(DeviceId(7)), Claim::Known);
        }
    }

    #[test]
    fn several_devices_draw_one_epoch_for_a_start() {
        let mut watch = RestoreWatch::default();
        let claims = [1, 2, 1, 3, 3, 4, 5, 1].map(|device| watch.claimed(DeviceId(device)));
        assert_eq!(claims[..4], [Claim::New, Claim::New, Claim::Known, Claim::Enough]);
        assert_eq!(claims[4..], [Claim::Known; 4], "once for a start");
    }

    #[test]
    fn an_epoch_that_was_not_stored_is_asked_for_again() {
        let mut watch = RestoreWatch::default();
        for device in 1..=3 {
            watch.claimed(DeviceId(device));
        }
        watch.failed();
        assert_eq!(watch.claimed(DeviceId(2)), Claim::Enough);
        assert_eq!(watch.claimed(DeviceId(2)), Claim::Known);
    }
}
