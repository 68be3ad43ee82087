//! Applications: across the fleet with how far each is spread, on one device, and which devices have them.

use std::collections::HashMap;

use rusqlite::{Connection, Row, params};

use super::set;
use crate::fleet::version::VersionExpression;
use crate::store::devices::list::{DeviceKey, number_by_key};
use crate::store::error::StoreError;
use crate::store::page::{Page, PageRequest};
use crate::store::sql::{Columns as _, Sql as _};
use crate::wire::api::{Installation, InstalledApplication};

/// Which applications are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApplicationFilter {
    /// Only what is installed on this device.
    pub device: Option<DeviceKey>,
    /// Only names that match: `*` any text, `?` one character, `[…]` one of several.
    pub name: Option<String>,
    /// Only versions for which this holds.
    pub version: Option<VersionExpression>,
}

/// Number of devices that have the application `a`: the maintained counts, no set is read.
const DEVICES: &str = "a.difference_devices + coalesce((SELECT sum(b.devices) FROM base_applications x
    JOIN inventory_bases b ON b.id = x.base WHERE x.application = a.id), 0)";

struct Entry {
    id: u32,
    row: InstalledApplication,
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let (name, version, publisher) = (row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(Entry {
        id: row.get(0)?,
        row: InstalledApplication { name, version, publisher, devices: row.number(4)? },
    })
}

fn key(row: &InstalledApplication) -> [&str; 3] {
    [&row.name, &row.version, &row.publisher]
}

/// Walks over what the filter lets through, by name, version (as text) and publisher, from behind `after` on,
/// until `each` has enough.
fn walk(
    connection: &Connection,
    filter: &ApplicationFilter,
    from: &[String; 3],
    is_from_included: bool,
    mut each: impl FnMut(Entry) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let compared = if is_from_included { ">=" } else { ">" };
    // A pattern that begins with plain text needs only the names that begin so.
    let prefix: String = match &filter.name {
        Some(pattern) => pattern.chars().take_while(|c| !matches!(c, '*' | '?' | '[')).collect(),
        None => String::new(),
    };
    let start = if from[0].as_str() < prefix.as_str() {
        [prefix.clone(), String::new(), String::new()]
    } else {
        from.clone()
    };
    let compared = if start == *from { compared } else { ">=" };
    let sql = format!(
        "SELECT a.id, a.name, a.version, a.publisher, {DEVICES} FROM applications a
         WHERE (a.name, a.version, a.publisher) {compared} (?1, ?2, ?3) AND (?4 IS NULL OR a.name GLOB ?4)
         ORDER BY a.name, a.version, a.publisher"
    );
    if let Some(key) = &filter.device {
        // A device's set is bounded, the dictionary is not: look up the set's entries instead of walking.
        let ids = set::set_of(connection, number_by_key(connection, key)?)?;
        return walk_set(connection, filter, &ids, &start, compared == ">=", each);
    }
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![start[0], start[1], start[2], filter.name])?;
    while let Some(row) = rows.next()? {
        let is_beyond = !row.get_ref(1)?.as_str().unwrap_or_default().starts_with(&prefix);
        if is_beyond {
            break;
        }
        let version = row.get_ref(2)?.as_str().unwrap_or_default();
        if filter.version.as_ref().is_some_and(|expression| !expression.holds_for(version)) {
            continue;
        }
        let entry = entry(row)?;
        // One of no use waits to be removed.
        if entry.row.devices > 0 && !each(entry)? {
            break;
        }
    }
    Ok(())
}

fn walk_set(
    connection: &Connection,
    filter: &ApplicationFilter,
    ids: &[u32],
    from: &[String; 3],
    is_from_included: bool,
    mut each: impl FnMut(Entry) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let sql = format!(
        "SELECT a.id, a.name, a.version, a.publisher, {DEVICES} FROM applications a
         WHERE a.id = ?1 AND (?2 IS NULL OR a.name GLOB ?2)"
    );
    let mut entries = Vec::new();
    for id in ids {
        entries.extend(connection.perhaps(&sql, params![id, filter.name], entry)?);
    }
    entries.sort_by(|a, b| key(&a.row).cmp(&key(&b.row)));
    let from = [from[0].as_str(), from[1].as_str(), from[2].as_str()];
    for entry in entries {
        let key = key(&entry.row);
        let is_wanted = (key > from || (is_from_included && key == from))
            && filter.version.as_ref().is_none_or(|e| e.holds_for(&entry.row.version));
        if is_wanted && !each(entry)? {
            break;
        }
    }
    Ok(())
}

/// The applications that the filter lets through, with how many devices have each, by name and version (as
/// text).
///
/// # Errors
/// When there is no such device, the cursor is none, or the file cannot be read.
pub fn applications(
    connection: &Connection,
    filter: &ApplicationFilter,
    page: &PageRequest,
) -> Result<Page<InstalledApplication>, StoreError> {
    let after = page.after('a')?;
    let is_first = after.is_none();
    let mut items = Vec::new();
    walk(connection, filter, &after.unwrap_or_default(), is_first, |entry| {
        items.push(entry.row);
        Ok(items.len() <= page.items())
    })?;
    Ok(page.page('a', items, |row| key(row).map(str::to_owned)))
}

/// Which devices have the applications that the filter lets through: by application, then in the order of
/// enrolment. No device's set is read.
///
/// # Errors
/// When there is no such device, the cursor is none, or the file cannot be read.
pub fn installations(
    connection: &Connection,
    filter: &ApplicationFilter,
    page: &PageRequest,
) -> Result<Page<Installation>, StoreError> {
    let (mut from, mut after) = (<[String; 3]>::default(), 0_i64);
    if let Some([name, version, publisher, number]) = page.after('i')? {
        after = number.parse().map_err(|_| page.bad_cursor())?;
        from = [name, version, publisher];
    }
    let only = filter.device.as_ref().map(|key| number_by_key(connection, key)).transpose()?;
    let first = from.clone();
    let mut items: Vec<(i64, String, Installation)> = Vec::new();
    walk(connection, filter, &from, true, |entry| {
        let application = entry.row;
        let behind = if key(&application)[..] == first[..] { after } else { 0 };
        let room = page.items() + 1 - items.len();
        let numbers = match only {
            Some(number) => Vec::from_iter((number > behind).then_some(number)),
            None => devices_with(connection, entry.id, behind, room)?,
        };
        let sql = "SELECT id, name FROM devices WHERE number = ?1";
        for number in numbers.into_iter().take(room) {
            let (device_id, device) = connection.one(sql, [number], |row| row.try_into())?;
            let (name, version) = (application.name.clone(), application.version.clone());
            let installation = Installation { name, version, device, device_id };
            items.push((number, application.publisher.clone(), installation));
        }
        Ok(items.len() <= page.items())
    })?;
    let found = page.page('i', items, |(number, publisher, row)| {
        [row.name.clone(), row.version.clone(), publisher.clone(), number.to_string()]
    });
    Ok(found.map(|(_, _, row)| row))
}

/// Calls `each` with the number of each device that has an application that the filter lets through. No
/// device's set is read: those of a base that contains more of them than the device's difference takes away,
/// and those whose difference adds one.
///
/// # Errors
/// When the file cannot be read.
pub(in crate::store) fn each_with(
    connection: &Connection,
    filter: &ApplicationFilter,
    mut each: impl FnMut(i64),
) -> Result<(), StoreError> {
    let (mut bases, mut differences) = (HashMap::<i64, i64>::new(), HashMap::<i64, i64>::new());
    walk(connection, filter, &<[String; 3]>::default(), true, |entry| {
        let sql = "SELECT base FROM base_applications WHERE application = ?1";
        connection.each(sql, [entry.id], |row| {
            *bases.entry(row.get(0)?).or_default() += 1;
            Ok(())
        })?;
        let sql = "SELECT device, is_added FROM inventory_differences WHERE application = ?1";
        connection.each(sql, [entry.id], |row| {
            *differences.entry(row.get(0)?).or_default() += if row.get(1)? { 1 } else { -1 };
            Ok(())
        })?;
        Ok(true)
    })?;
    for (base, count) in bases {
        connection.each("SELECT device FROM device_inventories WHERE base = ?1", [base], |row| {
            let device = row.get(0)?;
            if count + differences.remove(&device).unwrap_or_default() > 0 {
                each(device);
            }
            Ok(())
        })?;
    }
    differences.into_iter().filter(|(_, count)| *count > 0).for_each(|(device, _)| each(device));
    Ok(())
}

/// The numbers of the first `most` devices beyond `after` that have an application.
fn devices_with(
    connection: &Connection,
    application: u32,
    after: i64,
    most: usize,
) -> Result<Vec<i64>, StoreError> {
    let sql = "SELECT device FROM inventory_differences
        WHERE application = ?1 AND is_added = 1 AND device > ?2 ORDER BY device LIMIT ?3";
    let mut numbers: Vec<i64> = connection.all(sql, (application, after, most), |row| row.get(0))?;
    let sql = "SELECT i.device FROM device_inventories i WHERE i.base = ?4 AND i.device > ?2 AND NOT EXISTS
            (SELECT 1 FROM inventory_differences x WHERE x.application = ?1 AND x.device = i.device)
        ORDER BY i.device LIMIT ?3";
    let bases = "SELECT base FROM base_applications WHERE application = ?1";
    for base in connection.all(bases, [application], |row| row.get::<_, i64>(0))? {
        numbers.extend(connection.all(sql, (application, after, most, base), |row| row.get::<_, i64>(0))?);
        if numbers.len() > 8 * most {
            numbers.sort_unstable();
            numbers.truncate(most);
        }
    }
    numbers.sort_unstable();
    numbers.truncate(most);
    Ok(numbers)
}
