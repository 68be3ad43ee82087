//! Whether devices are well: what there is to judge them by, read for many at a time, and what came of it.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

use rusqlite::{Connection, Row, params};
use serde_json::Value;

use super::table::DeviceTable;
use super::{Devices, certificates, number_of};
use crate::fleet::status::{DISK_APPLICATION, DISK_STATISTIC, Facts, Reason, Rules};
use crate::store::error::StoreError;
use crate::store::policies::{self, OWN_APPLICATION};
use crate::store::sql::Sql as _;
use crate::store::writer::Origin;
use crate::store::{inventory, tasks};
use crate::wire::id::DeviceId;
use crate::wire::status::Status;
use crate::wire::time::WallTime;

/// Status of a device, as it was judged last.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceStatus {
    /// Its level.
    pub status: Status,
    /// Since when; `None`: nothing was ever known against it.
    pub since: Option<WallTime>,
    /// Why, the worst first.
    pub reasons: Vec<Reason>,
}

/// A device, to be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Which device.
    pub device: DeviceId,
    /// By what.
    pub rules: Arc<Rules>,
    /// Facts that the store knows of it. Whether it is lost is in the device table.
    pub facts: Facts,
    /// Result of the last judgement.
    pub device_status: DeviceStatus,
}

/// Devices to be judged, and where the next slice begins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Slice {
    /// The devices.
    pub devices: Vec<Judged>,
    /// Behind which device of the file the next slice begins; `None`: at the first again.
    pub next: Option<i64>,
}

/// A device's new status.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Which device.
    pub device: DeviceId,
    /// Its level.
    pub status: Status,
    /// Why.
    pub reasons: Vec<Reason>,
}

impl Devices {
    /// Devices whose facts changed since this was asked last, at most `most`; the others come next time.
    #[must_use]
    pub fn take_changed(&self, most: usize) -> Vec<DeviceId> {
        self.table().take_marked(most)
    }

    /// Facts by which these devices are judged. Those that are gone are left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn facts_of(&self, devices: &[DeviceId], now: WallTime) -> Result<Vec<Judged>, StoreError> {
        let reader = self.database.reader()?;
        let mut rules = GroupRules::default();
        let mut judged = Vec::new();
        for device in devices {
            if let Ok(number) = number_of(&reader, *device) {
                judged.extend(read(&reader, self.table(), number..=number, now, &mut rules)?);
            }
        }
        Ok(judged)
    }

    /// The same for a slice of all devices: the next `most` of them behind `after`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn facts_behind(&self, after: Option<i64>, most: usize, now: WallTime) -> Result<Slice, StoreError> {
        let reader = self.database.reader()?;
        let first = after.map_or(i64::MIN, |after| after.saturating_add(1));
        let sql = "SELECT max(number), count(*) FROM
            (SELECT number FROM devices WHERE number >= ?1 AND removed_at IS NULL ORDER BY number LIMIT ?2)";
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let (last, count): (Option<i64>, i64) = reader.one(sql, [first, limit], |row| row.try_into())?;
        let Some(last) = last else { return Ok(Slice::default()) };
        let devices = read(&reader, self.table(), first..=last, now, &mut GroupRules::default())?;
        Ok(Slice { devices, next: (count == limit).then_some(last) })
    }

    /// Stores what became of devices. `done` is called when it is durable.
    pub fn set_statuses(
        &self,
        verdicts: Vec<Verdict>,
        now: WallTime,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let bytes = verdicts.iter().map(|verdict| 64 + verdict.reasons.len() * 256).sum();
        let (memory, devices) =
            (Arc::clone(&self.memory), verdicts.iter().map(|verdict| verdict.device).collect::<Vec<_>>());
        self.database.writer.submit(
            Origin::Server,
            bytes,
            move |connection| write(connection, &verdicts, now),
            move |written| {
                devices.iter().for_each(|device| memory.listed.note(*device));
                done(written);
            },
        );
    }
}

fn write(connection: &Connection, verdicts: &[Verdict], now: WallTime) -> Result<(), StoreError> {
    // Devices that are gone are passed over.
    let sql = "INSERT INTO status_reasons (device, status, since, reasons)
        SELECT number, ?2, ?3, ?4 FROM devices WHERE id = ?1 AND removed_at IS NULL
        ON CONFLICT (device) DO UPDATE SET
            since = CASE WHEN status = excluded.status THEN since ELSE excluded.since END,
            status = excluded.status, reasons = excluded.reasons";
    let mut statement = connection.prepare_cached(sql)?;
    for verdict in verdicts {
        let reasons = serde_json::to_string(&verdict.reasons).unwrap_or_else(|_| "[]".to_owned());
        statement.execute(params![verdict.device, verdict.status.name(), now, reasons])?;
    }
    Ok(())
}

/// A standing in three columns from `at` on, which are null when there is none.
pub(super) fn device_status(row: &Row<'_>, at: usize) -> rusqlite::Result<DeviceStatus> {
    let Some(status) = row.get::<_, Option<String>>(at)? else { return Ok(DeviceStatus::default()) };
    // A status that a newer muster wrote is judged anew within a minute.
    Ok(DeviceStatus {
        status: status.parse().unwrap_or_default(),
        since: row.get(at + 1)?,
        reasons: serde_json::from_str(&row.get::<_, String>(at + 2)?).unwrap_or_default(),
    })
}

/// Why a device is as it is, the worst first.
pub(in crate::store) fn reasons_of(connection: &Connection, number: i64) -> Result<Vec<Reason>, StoreError> {
    let sql = "SELECT reasons FROM status_reasons WHERE device = ?1";
    let reasons = connection.perhaps(sql, [number], |row| row.get::<_, String>(0))?;
    Ok(reasons.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

/// The worst reason of each device that has one, by the device's number.
pub(in crate::store) fn worst_reasons(connection: &Connection) -> Result<HashMap<i64, Reason>, StoreError> {
    let mut worst = HashMap::new();
    connection.each("SELECT device, reasons FROM status_reasons WHERE status != 'ok'", [], |row| {
        let reasons: Vec<Reason> = serde_json::from_str(&row.get::<_, String>(1)?).unwrap_or_default();
        if let Some(first) = reasons.into_iter().next() {
            worst.insert(row.get(0)?, first);
        }
        Ok(())
    })?;
    Ok(worst)
}

/// Rules, and why they are the defaults instead of those that somebody set.
type ReadRules = (Arc<Rules>, Option<String>);

/// The rules of groups, each worked out once.
#[derive(Default)]
struct GroupRules {
    by_group: HashMap<i64, ReadRules>,
}

impl GroupRules {
    /// The rules for a device. Those without settings of their own have those of their group.
    fn of(
        &mut self,
        connection: &Connection,
        number: i64,
        group: i64,
        has_own: bool,
    ) -> Result<ReadRules, StoreError> {
        if has_own {
            return rules_of(connection, number);
        }
        if let Some(rules) = self.by_group.get(&group) {
            return Ok(rules.clone());
        }
        let rules = rules_of(connection, number)?;
        self.by_group.insert(group, rules.clone());
        Ok(rules)
    }
}

/// The rules for a device: what the effective settings of the server's own application say.
fn rules_of(connection: &Connection, number: i64) -> Result<ReadRules, StoreError> {
    let merged = policies::effective(connection, number, OWN_APPLICATION)?.unwrap_or_default();
    Ok(match Rules::parse(&Value::Object(merged.settings)) {
        Ok(rules) => (Arc::new(rules), None),
        Err(why) => (Arc::new(Rules::default()), Some(why)),
    })
}

/// Facts by which the devices whose numbers lie in the range are judged: a few questions for all of them,
/// whose answers name only what speaks against one.
fn read(
    connection: &Connection,
    table: &DeviceTable,
    range: RangeInclusive<i64>,
    now: WallTime,
    rules: &mut GroupRules,
) -> Result<Vec<Judged>, StoreError> {
    let bounds = [*range.start(), *range.end()];
    let sql = "SELECT d.number, d.id, d.group_id,
            EXISTS (SELECT 1 FROM own_settings o WHERE o.device = d.number AND o.application = ?3),
            r.status, r.since, r.reasons, d.waiting_since, d.was_unknown,
            EXISTS (SELECT 1 FROM device_states s WHERE s.device = d.number AND s.trust_label <> ?4)
        FROM devices d LEFT JOIN status_reasons r ON r.device = d.number
        WHERE d.number BETWEEN ?1 AND ?2 AND d.removed_at IS NULL";
    let mut judged = BTreeMap::new();
    let (label, prepared_at) = (table.trust_label().cast_signed(), table.pin_prepared_at());
    connection.each(sql, params![bounds[0], bounds[1], OWN_APPLICATION, label], |row| {
        let number = row.get(0)?;
        let (rules, rules_error) = rules.of(connection, number, row.get(2)?, row.get(3)?)?;
        let waiting_since: Option<WallTime> = row.get(7)?;
        let was_unknown = row.get(8)?;
        let waits = waiting_since.map(|since| (since, was_unknown));
        let pin_missing_since = prepared_at.filter(|_| row.get(9).unwrap_or(false));
        let facts = Facts { rules_error, waits, pin_missing_since, ..Facts::default() };
        let device_status = device_status(row, 4)?;
        judged.insert(number, Judged { device: row.get(1)?, rules, facts, device_status });
        Ok(())
    })?;
    enter(&mut judged, inventory::bad_conditions(connection, bounds)?, |facts, condition| {
        facts.applications.push(condition);
    });
    enter(&mut judged, policies::untold(connection, bounds)?, |facts, untold| facts.untold.push(untold));
    enter(&mut judged, tasks::failed_runs(connection, bounds, now)?, |facts, run| {
        facts.failed_runs.push(run);
    });
    enter(
        &mut judged,
        inventory::latest(connection, bounds, DISK_APPLICATION, DISK_STATISTIC)?,
        |facts, free| {
            facts.disk_free_percent = free;
        },
    );
    // Of a renewed one nothing is known before the device has shown it: then it is the only one.
    let sql = "SELECT device, issued_at, expires_at, min(counter) FROM certificates
        WHERE device BETWEEN ?1 AND ?2 GROUP BY device";
    let lives = connection
        .all(sql, bounds, |row| Ok((row.get(0)?, certificates::life_of((row.get(1)?, row.get(2)?)))))?;
    enter(&mut judged, lives, |facts, life| facts.certificate = life);
    Ok(judged.into_values().collect())
}

/// Enters facts, each with the number of its device.
fn enter<T>(judged: &mut BTreeMap<i64, Judged>, found: Vec<(i64, T)>, put: impl Fn(&mut Facts, T)) {
    for (number, fact) in found {
        if let Some(judged) = judged.get_mut(&number) {
            put(&mut judged.facts, fact);
        }
    }
}
