//! Where a device is, as far as the server can honestly tell.

use crate::wire::time::WallTime;

/// How much later than its interval a device may be before it counts as lost, in seconds, beside half an interval: a
/// handshake, a reboot, a slow network.
pub const MARGIN_SECONDS: u64 = 120;

/// Where a device is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Presence {
    /// It has a link.
    Connected,
    /// It has none, and need not have one: it was here within its interval.
    Idle,
    /// It should have come and has not.
    Lost,
    /// It has enrolled and was never heard of since.
    NeverSeen,
}

/// What there is to judge by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signs {
    /// Whether it has a link.
    pub is_connected: bool,
    /// When it was last heard; zero when it never was.
    pub last_seen: WallTime,
    /// How often it syncs, in seconds.
    pub interval_seconds: u32,
    /// When this server process started: before, nobody could come, so nobody is lost for not having come.
    pub server_started: WallTime,
}

/// Where the device is now.
#[must_use]
pub fn presence(signs: &Signs, now: WallTime) -> Presence {
    if signs.is_connected {
        return Presence::Connected;
    }
    if signs.last_seen == WallTime(0) {
        return Presence::NeverSeen;
    }
    if now.0 > lost_at(signs).0 { Presence::Lost } else { Presence::Idle }
}

/// When the device counts as lost unless it is heard of before: its slot lies at most one and a half intervals ahead
/// ([`next_seconds`](super::pacing::next_seconds)), and it has a margin.
#[must_use]
pub fn lost_at(signs: &Signs) -> WallTime {
    let allowed_seconds = u64::from(signs.interval_seconds) * 3 / 2 + MARGIN_SECONDS;
    let from = signs.last_seen.max(signs.server_started);
    WallTime(from.0.saturating_add(allowed_seconds * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn signs(last_seen_minutes: u64, started_minutes: u64) -> Signs {
        Signs {
            is_connected: false,
            last_seen: WallTime(last_seen_minutes * MINUTE),
            interval_seconds: 900,
            server_started: WallTime(started_minutes * MINUTE),
        }
    }

    #[test]
    fn a_device_is_lost_only_after_its_slot_and_the_margin() {
        let signs = signs(1_000, 0);
        // 22.5 minutes until the latest slot, 2 of margin.
        assert_eq!(presence(&signs, WallTime(1_024 * MINUTE)), Presence::Idle);
        assert_eq!(presence(&signs, WallTime(1_025 * MINUTE)), Presence::Lost);
        assert_eq!(
            presence(&Signs { is_connected: true, ..signs }, WallTime(2_000 * MINUTE)),
            Presence::Connected
        );
    }

    #[test]
    fn after_the_servers_own_restart_nobody_is_lost_until_everybody_could_have_come() {
        let signs = signs(1_000, 5_000);
        assert_eq!(presence(&signs, WallTime(5_024 * MINUTE)), Presence::Idle);
        assert_eq!(presence(&signs, WallTime(5_025 * MINUTE)), Presence::Lost);
    }

    #[test]
    fn a_device_that_only_enrolled_is_not_called_lost() {
        assert_eq!(presence(&signs(0, 0), WallTime(9_000 * MINUTE)), Presence::NeverSeen);
    }
}
