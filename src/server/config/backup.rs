//! `[backup]`: where scheduled backups go, when they are made, how many are kept.

use std::path::PathBuf;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use serde::{Deserialize, Deserializer};

use crate::configuration::{self, ConfigError, Source, count, duration};
use crate::wire::time::WallTime;

/// Most backups that may be kept, in backups.
const KEEP_MAX: u64 = 1_000;

/// Scheduled backups.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackupConfig {
    /// Their directory; `None`: none are made.
    #[serde(deserialize_with = "configuration::path")]
    pub directory: Option<PathBuf>,
    /// Time from one to the next; does not count when they are made at a time of day.
    #[serde(deserialize_with = "duration::<60, { 365 * 86_400 }, _, _>")]
    pub every: Duration,
    /// Time of day at which one is made, in this machine's time zone.
    #[serde(deserialize_with = "time_of_day")]
    pub at: Option<Time>,
    /// Backups that are kept, count.
    #[serde(deserialize_with = "count::<1, KEEP_MAX, _, usize, _>")]
    pub keep: usize,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self { directory: None, every: Duration::from_secs(86_400), at: None, keep: 7 }
    }
}

impl BackupConfig {
    pub(super) fn check(&self, source: Source<'_>) -> Result<(), ConfigError> {
        let given = ["backup.every", "backup.at", "backup.keep"].into_iter().find(|key| source.has(key));
        match given.filter(|_| self.directory.is_none()) {
            Some(key) => {
                Err(source.wrong(key, "is not allowed without directory: without one no backups are made"))
            }
            None => Ok(()),
        }
    }

    /// The time until that time of day; `None`: no time of day is set.
    #[must_use]
    pub fn until_time_of_day(&self, now: WallTime) -> Option<Duration> {
        self.until_in(now, TimeZone::system())
    }

    fn until_in(&self, now: WallTime, zone: TimeZone) -> Option<Duration> {
        let at = self.at?;
        let now = Timestamp::from_millisecond(i64::try_from(now.0).ok()?).ok()?;
        let zoned = now.to_zoned(zone);
        // On a day on which the clocks are set, as RFC 5545 says: an hour that is skipped counts as the one
        // after it.
        let on = |day: &Zoned| day.date().to_datetime(at).to_zoned(zoned.time_zone().clone()).ok();
        let today = on(&zoned)?;
        let next = if today.timestamp() > now { today } else { on(&zoned.tomorrow().ok()?)? };
        Duration::try_from(next.timestamp().duration_since(now)).ok()
    }
}

fn time_of_day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
    let expected = "a time of day, such as \"03:15\"";
    configuration::text(deserializer, expected.into(), |text| Time::strptime("%H:%M", text).ok()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_that_of_the_time_zone() {
        let config = BackupConfig { at: Some(Time::constant(3, 15, 0, 0)), ..BackupConfig::default() };
        let until = |now: &str, hours: i8| {
            let zone = TimeZone::fixed(jiff::tz::Offset::constant(hours));
            config.until_in(now.parse().unwrap(), zone).unwrap().as_secs()
        };
        assert_eq!(until("2026-11-28T03:00:00Z", 0), 900);
        assert_eq!(until("2026-11-28T02:00:00Z", 1), 900);
        assert_eq!(until("2026-11-28T03:15:00Z", 0), 86_400, "now is today's");
        assert_eq!(until("2026-11-28T23:15:00Z", 0), 4 * 3_600);
        assert_eq!(BackupConfig::default().until_time_of_day(WallTime(1)), None);
    }
}
