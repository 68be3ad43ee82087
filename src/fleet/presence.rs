//! Presence of a device, as far as the server can honestly tell.

pub use crate::wire::presence::Presence;

use crate::wire::datagram::NoticeKind;
use crate::wire::limits::{REBOOT_SECONDS_MAX, RECONNECT_SECONDS_MAX, RECONNECT_SECONDS_MIN};
use crate::wire::time::WallTime;

/// Longest delay of a device behind its slot before it counts as lost: a handshake, a slow network. Half an
/// interval, when that is less.
pub const MARGIN_SECONDS_MAX: u64 = 120;

/// And at least.
pub const MARGIN_SECONDS_MIN: u64 = 10;

/// Signs to judge by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signs {
    /// Whether it waits for approval.
    pub is_waiting: bool,
    /// Whether it has a link.
    pub is_connected: bool,
    /// Whether its link is to stay.
    pub is_persistent: bool,
    /// Its announced departure, if it has not synced since.
    pub departure: Option<NoticeKind>,
    /// When it was last heard; zero when it never was.
    pub last_seen: WallTime,
    /// When its last sync ended; zero when none did.
    pub last_sync: WallTime,
    /// In how many seconds after that sync it was told to come again.
    pub due_seconds: u32,
    /// Its sync interval.
    pub interval_seconds: u32,
    /// When this server process started: before, nobody could come, so nobody is lost for not having come.
    pub server_started: WallTime,
}

/// Presence of the device now.
#[must_use]
pub fn presence(signs: &Signs, now: WallTime) -> Presence {
    if signs.is_waiting {
        return Presence::Waiting;
    }
    if signs.is_connected && signs.departure.is_none() {
        return Presence::Connected;
    }
    match signs.departure {
        Some(NoticeKind::Suspend) => return Presence::Asleep,
        Some(NoticeKind::AgentStopped) => return Presence::AgentStopped,
        Some(NoticeKind::Shutdown) => return Presence::ShutDown,
        Some(NoticeKind::Reboot) if now.0 <= lost_at(signs).0 => return Presence::ShutDown,
        Some(NoticeKind::Reboot | NoticeKind::Probe) | None => {}
    }
    if signs.last_seen == WallTime(0) {
        return Presence::NeverSeen;
    }
    if now.0 > lost_at(signs).0 { Presence::Lost } else { Presence::Idle }
}

/// Presence of the device for the log of events: that a device without a persistent link comes by and goes
/// again is no news.
#[must_use]
pub fn notable_presence(signs: &Signs, now: WallTime) -> Presence {
    match presence(signs, now) {
        Presence::Connected if !signs.is_persistent => Presence::Idle,
        presence => presence,
    }
}

/// When the device counts as lost unless it is heard of before.
///
/// It has a slot that the server issued, and a margin behind it. One whose link was to stay has as long as
/// agents take at most to come back to a server that answers. One that reboots has [`REBOOT_SECONDS_MAX`].
/// And all of them have as long after a start of the server as they would have had after their shutdown
/// notice: who could not come is not lost.
#[must_use]
pub fn lost_at(signs: &Signs) -> WallTime {
    let interval = u64::from(signs.interval_seconds);
    let margin = (interval / 2).clamp(MARGIN_SECONDS_MIN, MARGIN_SECONDS_MAX);
    let reconnect = interval.clamp(RECONNECT_SECONDS_MIN, RECONNECT_SECONDS_MAX) + margin;
    let plus = |from: WallTime, seconds: u64| from.0.saturating_add(seconds.saturating_mul(1_000));
    let from = signs.last_seen.max(signs.server_started);
    let at = match signs.departure {
        Some(NoticeKind::Reboot) => plus(from, REBOOT_SECONDS_MAX),
        _ if signs.is_persistent => plus(from, reconnect),
        _ => {
            let due = plus(signs.last_sync, u64::from(signs.due_seconds));
            // Before its first sync, and after a start of the server behind its slot: it comes as it would
            // come back.
            let due = due.max(plus(signs.server_started, reconnect - margin));
            due.max(from.0).saturating_add(margin * 1_000)
        }
    };
    WallTime(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn at(minutes: u64) -> WallTime {
        WallTime(minutes * MINUTE)
    }

    /// Synced at the minute, told to come again in 20.
    fn signs(last_sync_minutes: u64, started_minutes: u64) -> Signs {
        Signs {
            is_waiting: false,
            is_connected: false,
            is_persistent: false,
            departure: None,
            last_seen: at(last_sync_minutes),
            last_sync: at(last_sync_minutes),
            due_seconds: 1_200,
            interval_seconds: 900,
            server_started: at(started_minutes),
        }
    }

    #[test]
    fn a_device_is_lost_only_after_its_slot_and_the_margin() {
        let signs = signs(1_000, 0);
        assert_eq!(presence(&signs, at(1_022)), Presence::Idle);
        assert_eq!(presence(&signs, at(1_023)), Presence::Lost);
        assert_eq!(presence(&Signs { is_connected: true, ..signs }, at(2_000)), Presence::Connected);
        let heard_later = Signs { last_seen: at(1_030), ..signs };
        assert_eq!(presence(&heard_later, at(1_031)), Presence::Idle, "late, and there");
        let short = Signs { interval_seconds: 10, due_seconds: 12, ..signs };
        assert_eq!(lost_at(&short).0 - short.last_sync.0, 22_000, "the margin follows the interval");
    }

    #[test]
    fn after_the_servers_own_restart_nobody_is_lost_until_everybody_could_have_come() {
        let signs = signs(1_000, 5_000);
        assert_eq!(presence(&signs, at(5_017)), Presence::Idle);
        assert_eq!(presence(&signs, at(5_018)), Presence::Lost);
        let persistent = Signs { is_persistent: true, ..signs };
        assert_eq!(presence(&persistent, at(5_017)), Presence::Idle);
        assert_eq!(presence(&persistent, at(5_018)), Presence::Lost);
    }

    #[test]
    fn a_device_that_waits_for_approval_is_nothing_else() {
        let signs = Signs { is_waiting: true, departure: Some(NoticeKind::Suspend), ..signs(0, 0) };
        assert_eq!(presence(&signs, at(9_000)), Presence::Waiting);
    }

    #[test]
    fn a_device_that_only_enrolled_is_not_called_lost() {
        let signs = Signs { last_seen: WallTime(0), last_sync: WallTime(0), ..signs(0, 0) };
        assert_eq!(presence(&signs, at(9_000)), Presence::NeverSeen);
    }

    #[test]
    fn what_a_device_said_holds_however_long_it_takes() {
        let said = |kind| Signs { departure: Some(kind), ..signs(1_000, 0) };
        for (kind, expected) in [
            (NoticeKind::Shutdown, Presence::ShutDown),
            (NoticeKind::Suspend, Presence::Asleep),
            (NoticeKind::AgentStopped, Presence::AgentStopped),
        ] {
            assert_eq!(presence(&said(kind), at(1_000_000)), expected);
            let closing = Signs { is_connected: true, ..said(kind) };
            assert_eq!(presence(&closing, at(1_000)), expected, "its link is about to end");
        }
        assert_eq!(presence(&said(NoticeKind::Reboot), at(1_015)), Presence::ShutDown);
        assert_eq!(presence(&said(NoticeKind::Reboot), at(1_016)), Presence::Lost, "a reboot ends");
    }

    #[test]
    fn a_device_that_comes_by_is_no_news_and_one_that_is_to_stay_is() {
        let here = Signs { is_connected: true, ..signs(1_000, 0) };
        assert_eq!(notable_presence(&here, at(1_001)), Presence::Idle);
        assert_eq!(notable_presence(&Signs { is_persistent: true, ..here }, at(1_001)), Presence::Connected);
    }
}
