//! When a device's certificate is renewed.
//!
//! The server decides, by its own clock: a device's may be anything. A certificate is due when two thirds of
//! its life are over, a little earlier or later by the device's id, so that a fleet that enrolled in one hour
//! does not renew in one; and when it has expired.

use crate::wire::digest::mix;
use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;

const MILLISECONDS_PER_DAY: u64 = 24 * 3_600 * 1_000;

/// Share of its life after which a certificate is due, before it is spread.
const DUE_THOUSANDTHS: u64 = 667;

/// Largest distance from that.
const SPREAD_THOUSANDTHS: u64 = 50;

/// Shortest time between two certificates of a device, unless a tenth of their life is shorter.
const PAUSE_MILLISECONDS_MAX: u64 = 60_000;

/// Numbers of certificates that one machine has as one device. A device renews about so often in two
/// centuries of days, or in a month of minutes; beyond it the next generation begins, which costs it nothing.
const GENERATION_COUNTERS: u32 = 1 << 16;

/// The latest day that is told from others, in days since 1970: a clock that is that far ahead leaves room
/// for thousands of generations.
const GENERATION_DAYS_MAX: u64 = 60_000;

/// The number of the certificate with which a machine takes a record over, of which `known` is the highest
/// number until then. Its generation, the upper half, is higher than any before: also when this server was
/// restored from a copy and knows neither the renewals nor the take-overs since, as it follows the days.
#[must_use]
pub fn take_over_counter(known: u32, now: WallTime) -> u32 {
    let days = (now.0 / MILLISECONDS_PER_DAY).min(GENERATION_DAYS_MAX) as u32;
    (known / GENERATION_COUNTERS + 1).max(days).saturating_mul(GENERATION_COUNTERS)
}

/// The lowest number of a certificate that lives beside this one: that of its generation.
#[must_use]
pub fn lowest_beside(counter: u32) -> u32 {
    counter - counter % GENERATION_COUNTERS
}

/// A certificate's dates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    /// When it was made.
    pub issued_at: WallTime,
    /// Until when it is good.
    pub expires_at: WallTime,
}

impl Life {
    /// Its length, in milliseconds.
    #[must_use]
    pub fn milliseconds(self) -> u64 {
        self.expires_at.0.saturating_sub(self.issued_at.0)
    }

    /// When it is due, if certificates are made for `life_milliseconds` now: a shorter life counts for those
    /// that are there, too.
    #[must_use]
    pub fn due_at(self, device: DeviceId, life_milliseconds: u64) -> WallTime {
        let spread = mix(device.0) % (2 * SPREAD_THOUSANDTHS + 1);
        let share = DUE_THOUSANDTHS - SPREAD_THOUSANDTHS + spread;
        let life = self.milliseconds().min(life_milliseconds);
        // Whole first: ten years in milliseconds, a thousand times, are far from the end of the numbers.
        WallTime(self.issued_at.0.saturating_add(life.saturating_mul(share) / 1_000))
    }

    /// Whether it is due.
    #[must_use]
    pub fn is_due(self, device: DeviceId, life_milliseconds: u64, now: WallTime) -> bool {
        now >= self.expires_at || now >= self.due_at(device, life_milliseconds)
    }

    /// Whether it is so new that no other is made yet. One that was made by a clock that was far ahead is not
    /// new.
    #[must_use]
    pub fn is_new(self, now: WallTime) -> bool {
        now.0.abs_diff(self.issued_at.0) < self.pause_milliseconds()
    }

    /// Time between two certificates, and between two requests to a device to renew, in milliseconds.
    #[must_use]
    pub fn pause_milliseconds(self) -> u64 {
        (self.milliseconds() / 10).min(PAUSE_MILLISECONDS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;
    const NOW: WallTime = WallTime(1_795_514_400_000);

    fn life(days: u64) -> Life {
        Life { issued_at: NOW, expires_at: WallTime(NOW.0 + days * DAY) }
    }

    #[test]
    fn a_certificate_is_due_at_two_thirds_of_its_life_give_or_take_a_twentieth() {
        let share = |device| (life(1_000).due_at(DeviceId(device), u64::MAX).0 - NOW.0) / DAY;
        let shares: Vec<_> = (0..1_000).map(share).collect();
        let (least, most) = (*shares.iter().min().unwrap(), *shares.iter().max().unwrap());
        assert!((617..=622).contains(&least) && (712..=717).contains(&most), "{least} to {most}");
        let due = life(365).due_at(DeviceId(7), u64::MAX);
        assert!(!life(365).is_due(DeviceId(7), u64::MAX, WallTime(due.0 - 1)));
        assert!(life(365).is_due(DeviceId(7), u64::MAX, due));
    }

    #[test]
    fn a_shorter_life_counts_for_certificates_that_are_there() {
        let due = life(3_650).due_at(DeviceId(7), 60_000);
        assert!((37_000..=43_000).contains(&(due.0 - NOW.0)), "{due}");
        assert_eq!(life(30).due_at(DeviceId(7), u64::MAX), life(30).due_at(DeviceId(7), 365 * DAY));
    }

    #[test]
    fn an_expired_one_is_due_whatever_its_beginning_says() {
        let odd = Life { issued_at: WallTime(u64::MAX), expires_at: NOW };
        assert!(odd.is_due(DeviceId(7), DAY, NOW));
        assert!(!life(1).is_due(DeviceId(7), DAY, WallTime(0)), "the clock is behind");
    }

    #[test]
    fn each_take_over_is_a_generation_above_all_before_it_known_or_not() {
        let day = |days: u64| WallTime(days * DAY);
        assert_eq!(take_over_counter(1, day(0)), 0x1_0000);
        assert_eq!(take_over_counter(0x1_0007, day(0)), 0x2_0000);
        let first = take_over_counter(1, day(20_781));
        assert_eq!((first, lowest_beside(first + 9)), (20_781 << 16, first));
        // The server was restored from before that, and knows nothing of it.
        assert!(take_over_counter(1, day(20_782)) > first + 0xffff);
        assert_eq!(take_over_counter(first + 9, day(20_781)), first + 0x1_0000, "twice in a day");
        let late = take_over_counter(1, WallTime(u64::MAX));
        assert!(take_over_counter(late, WallTime(0)) > late, "a clock of that time leaves room");
    }

    #[test]
    fn one_a_minute_is_made_or_ten_in_a_life() {
        let minute = Life { issued_at: NOW, expires_at: WallTime(NOW.0 + 60_000) };
        assert!(minute.is_new(WallTime(NOW.0 + 5_999)) && !minute.is_new(WallTime(NOW.0 + 6_000)));
        assert!(life(365).is_new(WallTime(NOW.0 + 59_999)) && !life(365).is_new(WallTime(NOW.0 + 60_000)));
        assert!(!life(365).is_new(WallTime(NOW.0 - 100 * DAY)), "it was made by a wrong clock");
    }
}
