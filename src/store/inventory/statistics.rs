//! Statistics: the latest numbers of each device, and a day of them.
//!
//! One row for each application of a device. The last report of an application stands in it exactly; the day
//! before in a [ring](crate::fleet::ring), which all rings of a device together keep below
//! [`RINGS_BYTES_MAX`].

use std::sync::Arc;

use rusqlite::Connection;

use super::Inventory;
use crate::fleet::ring::{Ring, SLOT_MILLISECONDS, SLOTS};
use crate::machine::command::StatisticsOutcome;
use crate::machine::wall_clock::AgeTime;
use crate::store::devices;
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::store::writer::Origin;
use crate::wire::id::DeviceId;
use crate::wire::limits::{NAME_BYTES_MAX, STATISTICS_MAX};
use crate::wire::statistics::{Statistic, Statistics};
use crate::wire::time::WallTime;

/// Most bytes of all rings of a device: a day of eighty numbers every quarter of an hour that change all the
/// time.
pub const RINGS_BYTES_MAX: usize = 24 * 1024;

/// Time for which a number is kept that is not reported any more.
const KEPT_MILLISECONDS: u64 = SLOTS * SLOT_MILLISECONDS;

/// A number as it stands in the column `latest`: name, unit, value.
type Latest = (String, String, Option<f64>);

/// Kept numbers of one application.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplicationStatistics {
    /// The application.
    pub application: String,
    /// When they were reported last.
    pub at: WallTime,
    /// The numbers: name, unit, and the value that was reported last, if the last report had one.
    pub latest: Vec<(String, String, Option<f64>)>,
    /// A day of them; the columns are those of `latest`.
    pub ring: Ring,
}

impl Inventory {
    /// Stores a device's numbers, and forgets what is older than a day unless the time is in doubt. `done` is
    /// called when they are durable. Numbers that are not finite are passed over, and so are names that are
    /// none.
    pub fn take_statistics(
        &self,
        device: DeviceId,
        statistics: Statistics,
        now: impl Into<AgeTime>,
        done: impl FnOnce(StatisticsOutcome) + Send + 'static,
    ) {
        let now = now.into();
        let table = Arc::clone(self.devices.table());
        let entries = bounded(statistics);
        let bytes = entries.iter().map(|entry| entry.application.len() + entry.name.len() + 96).sum();
        self.devices.database().writer.submit(
            Origin::Device,
            bytes,
            move |connection| take(connection, device, &entries, now),
            move |result| {
                done(match result {
                    Ok(()) => {
                        table.mark(device);
                        StatisticsOutcome::Stored
                    }
                    Err(error) => {
                        log::warn!("statistics of device {device} were not stored: {error}");
                        StatisticsOutcome::Lost
                    }
                });
            },
        );
    }
}

/// The part of a report that can be kept, sorted by application and name, each once.
fn bounded(statistics: Statistics) -> Vec<Statistic> {
    let is_name = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    let mut entries = statistics.entries;
    entries.retain(|entry| {
        entry.value.0.is_finite()
            && is_name(&entry.application)
            && is_name(&entry.name)
            && entry.unit.len() <= NAME_BYTES_MAX
    });
    entries.sort_by(|a, b| (&a.application, &a.name).cmp(&(&b.application, &b.name)));
    entries.dedup_by(|a, b| a.application == b.application && a.name == b.name);
    entries.truncate(STATISTICS_MAX);
    entries
}

fn take(
    connection: &Connection,
    device: DeviceId,
    entries: &[Statistic],
    now: AgeTime,
) -> Result<(), StoreError> {
    let number = devices::number_of(connection, device)?;
    if now.may_expire {
        // Reported while the clock was ahead: from now on it counts as of now, and goes in a day.
        connection.run("UPDATE statistics SET at = ?2 WHERE device = ?1 AND at > ?2", (number, now.wall))?;
        let old = WallTime(now.wall.0.saturating_sub(KEPT_MILLISECONDS));
        connection.run("DELETE FROM statistics WHERE device = ?1 AND at < ?2", (number, old))?;
    }
    let by_application: Vec<&[Statistic]> = entries.chunk_by(|a, b| a.application == b.application).collect();
    let bytes_max = RINGS_BYTES_MAX / by_application.len().max(1);
    for entries in by_application {
        let Some(first) = entries.first() else { continue };
        let before = read(connection, number, &first.application)?;
        let (latest, ring) = merged(before, entries, now);
        // Texts and finite numbers can always be written.
        let latest = serde_json::to_string(&latest).unwrap_or_else(|_| "[]".to_owned());
        let sql = "INSERT INTO statistics (device, application, at, latest, ring)
            VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (device, application) DO UPDATE SET at = excluded.at, latest = excluded.latest, ring = excluded.ring";
        connection.run(sql, (number, &first.application, now.wall, latest, ring.encode(bytes_max)))?;
    }
    // Rows of applications that are reported by turns may not pile up.
    let sql = "DELETE FROM statistics WHERE device = ?1 AND application NOT IN
        (SELECT application FROM statistics WHERE device = ?1 ORDER BY at DESC, application LIMIT ?2)";
    connection.run(sql, (number, STATISTICS_MAX)).map(drop)
}

/// The numbers from before and the new ones, as one. Numbers that were not reported stay as long as the day
/// has a value of them.
fn merged(before: Option<(Vec<Latest>, Ring)>, entries: &[Statistic], now: AgeTime) -> (Vec<Latest>, Ring) {
    let (known, mut ring) = before.unwrap_or_default();
    if now.may_expire {
        ring.forget(now.wall);
    }
    let mut latest: Vec<Latest> =
        entries.iter().map(|entry| (entry.name.clone(), entry.unit.clone(), Some(entry.value.0))).collect();
    let gone = known.iter().enumerate().filter(|(column, (name, ..))| {
        ring.has_values(*column) && !entries.iter().any(|entry| entry.name == *name)
    });
    latest.extend(gone.map(|(_, (name, unit, _))| (name.clone(), unit.clone(), None)));
    latest.truncate(STATISTICS_MAX);
    latest.sort_by(|a, b| a.0.cmp(&b.0));
    // Another unit: other numbers.
    let from: Vec<Option<usize>> = latest
        .iter()
        .map(|(name, unit, _)| known.iter().position(|old| old.0 == *name && old.1 == *unit))
        .collect();
    let mut ring = ring.with_columns(&from);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a plot needs no more; what overflows is infinite and not kept"
    )]
    let values = latest.iter().map(|(.., value)| value.map_or(f32::NAN, |value| value as f32)).collect();
    ring.enter(now.wall, values);
    (latest, ring)
}

fn read(
    connection: &Connection,
    number: i64,
    application: &str,
) -> Result<Option<(Vec<Latest>, Ring)>, StoreError> {
    let sql = "SELECT latest, ring FROM statistics WHERE device = ?1 AND application = ?2";
    let row: Option<(String, Vec<u8>)> =
        connection.perhaps(sql, (number, application), |row| row.try_into())?;
    Ok(row.map(|(latest, ring)| parse(&latest, &ring)))
}

/// Only this store writes it; an edit by hand loses a day's numbers.
fn parse(latest: &str, ring: &[u8]) -> (Vec<Latest>, Ring) {
    let latest: Vec<Latest> = serde_json::from_str(latest).unwrap_or_default();
    let ring = Ring::decode(ring).filter(|ring| ring.columns() == latest.len());
    let ring = ring.unwrap_or_else(|| Ring::new(latest.len()));
    (latest, ring)
}

pub(in crate::store) fn of(
    connection: &Connection,
    number: i64,
) -> Result<Vec<ApplicationStatistics>, StoreError> {
    let sql = "SELECT application, at, latest, ring FROM statistics WHERE device = ?1 ORDER BY application";
    connection.all(sql, [number], |row| {
        let (latest, ring) = parse(&row.get::<_, String>(2)?, &row.get::<_, Vec<u8>>(3)?);
        Ok(ApplicationStatistics { application: row.get(0)?, at: row.get(1)?, latest, ring })
    })
}

/// The value that an application reported last under a name, of the devices whose numbers lie between these
/// two, each with the device's number.
pub(in crate::store) fn latest(
    connection: &Connection,
    [first, last]: [i64; 2],
    application: &str,
    name: &str,
) -> Result<Vec<(i64, Option<f64>)>, StoreError> {
    let sql = "SELECT device, (SELECT value ->> 2 FROM json_each(latest) WHERE value ->> 0 = ?4)
        FROM statistics WHERE device BETWEEN ?1 AND ?2 AND application = ?3";
    connection.all(sql, (first, last, application, name), |row| row.try_into())
}
