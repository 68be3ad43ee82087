//! Facts by which devices are selected and listed, in memory: read whole when the first question comes, and
//! of those devices alone that have changed before each other one.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use rusqlite::{Connection, Row};

use crate::store::devices::list::DeviceRow;
use crate::store::devices::{DeviceStatus, reasons_of};
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::wire::id::DeviceId;
use crate::wire::status::Status;
use crate::wire::time::WallTime;

/// Texts that no device has any more and that are kept all the same, at most: devices choose them.
const UNUSED_TEXTS_MAX: usize = 1_024;

/// The facts of all devices, by name.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    /// The places of the entries, by number.
    by_number: Vec<(i64, u32)>,
    /// Paths.
    groups: HashMap<i64, String>,
    /// Ids and names of operating systems.
    systems: Texts<(String, String)>,
    agent_versions: Texts<String>,
}

/// The facts of one device.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: i64,
    pub(super) device: DeviceId,
    pub(super) group: i64,
    pub(super) name: Box<str>,
    /// `None`: as its name.
    hostname: Option<Box<str>>,
    system: u32,
    agent_version: u32,
    enrolled_at: WallTime,
    pub(super) status: Status,
    since: Option<WallTime>,
}

impl Entry {
    pub(super) fn hostname(&self) -> &str {
        self.hostname.as_deref().unwrap_or(&self.name)
    }
}

/// Texts that many devices share, each once.
#[derive(Debug)]
struct Texts<T> {
    texts: Vec<T>,
    places: HashMap<T, u32>,
}

impl<T> Default for Texts<T> {
    fn default() -> Self {
        Self { texts: Vec::new(), places: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Texts<T> {
    fn place(&mut self, text: T) -> u32 {
        if let Some(place) = self.places.get(&text) {
            return *place;
        }
        let place = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.clone());
        self.places.insert(text, place);
        place
    }
}

/// In whatever case of ASCII letters, as names are told apart.
pub(super) fn compare_names(a: &str, b: &str) -> Ordering {
    let lower = |byte: u8| byte.to_ascii_lowercase();
    a.bytes().map(lower).cmp(b.bytes().map(lower))
}

const COLUMNS: &str = "SELECT d.number, d.id, d.group_id, d.name, h.hostname, h.os_id, h.os_name,
        h.agent_version, d.enrolled_at, r.status, r.since
    FROM devices d LEFT JOIN host_facts h ON h.device = d.number
    LEFT JOIN status_reasons r ON r.device = d.number WHERE d.removed_at IS NULL";

impl Index {
    pub(super) fn load(connection: &Connection) -> Result<Self, StoreError> {
        let mut index = Self::default();
        connection.each(COLUMNS, [], |row| {
            let entry = index.read(row)?;
            index.entries.push(entry);
            Ok(())
        })?;
        index.entries.shrink_to_fit();
        index.order();
        index.read_groups(connection)?;
        Ok(index)
    }

    /// Brings the index up to date with what these devices are now, or are not any more.
    pub(super) fn read_anew(
        &mut self,
        connection: &Connection,
        changed: &BTreeSet<DeviceId>,
    ) -> Result<(), StoreError> {
        if changed.is_empty() {
            return Ok(());
        }
        let mut now = HashMap::new();
        let sql = format!("{COLUMNS} AND d.id = ?1");
        for device in changed {
            let entry = connection.perhaps(&sql, [device], |row| self.read(row))?;
            now.extend(entry.map(|entry| (*device, entry)));
        }
        // Most changes are of what a device says of itself, and leave it where it is.
        let mut keeps_places = true;
        self.entries.retain_mut(|entry| {
            if !changed.contains(&entry.device) {
                return true;
            }
            let replaced = now.remove(&entry.device).map(|new| std::mem::replace(entry, new));
            keeps_places &= replaced.as_ref().is_some_and(|old| old.name == entry.name);
            replaced.is_some()
        });
        if !keeps_places || !now.is_empty() {
            self.entries.extend(now.into_values());
            self.order();
        }
        let texts = self.systems.texts.len().max(self.agent_versions.texts.len());
        if texts > self.entries.len() + UNUSED_TEXTS_MAX {
            *self = Self::load(connection)?;
        }
        self.read_groups(connection)
    }

    fn order(&mut self) {
        // Stable: it is quick with what is nearly in order.
        self.entries.sort_by(|a, b| compare_names(&a.name, &b.name));
        let places = self.entries.iter().zip(0_u32..).map(|(entry, place)| (entry.number, place));
        self.by_number = places.collect();
        self.by_number.sort_unstable();
    }

    fn read_groups(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let groups = connection.all("SELECT id, path FROM groups", [], |row| row.try_into())?;
        self.groups = groups.into_iter().collect();
        Ok(())
    }

    fn read(&mut self, row: &Row<'_>) -> rusqlite::Result<Entry> {
        let text = |at: usize| row.get::<_, Option<String>>(at).map(Option::unwrap_or_default);
        let name: Box<str> = row.get(3)?;
        let hostname = row.get_ref(4)?.as_str_or_null()?.unwrap_or_default();
        // A status that a newer muster wrote is judged anew within a minute.
        let status = row.get_ref(9)?.as_str_or_null()?.and_then(|status| status.parse().ok());
        Ok(Entry {
            number: row.get(0)?,
            device: row.get(1)?,
            group: row.get(2)?,
            hostname: (hostname != &*name).then(|| hostname.into()),
            name,
            system: self.systems.place((text(5)?, text(6)?)),
            agent_version: self.agent_versions.place(text(7)?),
            enrolled_at: row.get(8)?,
            status: status.unwrap_or_default(),
            since: row.get(10)?,
        })
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Place of the device with this number among the entries.
    pub(super) fn place(&self, number: i64) -> Option<usize> {
        let found = self.by_number.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(self.by_number[found].1 as usize)
    }

    /// The same for numbers that rise from one call to the next; `from` keeps the place of the last one. The
    /// next is found in steps that double.
    pub(super) fn place_from(&self, from: &mut usize, number: i64) -> Option<usize> {
        let rest = self.by_number.get(*from..)?;
        let mut near = 1;
        while rest.get(near).is_some_and(|(other, _)| *other <= number) {
            near *= 2;
        }
        *from += rest[..near.min(rest.len())].partition_point(|(other, _)| *other < number);
        let (found, place) = self.by_number.get(*from)?;
        (*found == number).then_some(*place as usize)
    }

    pub(super) fn entry(&self, number: i64) -> Option<&Entry> {
        self.entries.get(self.place(number)?)
    }

    /// Path of a group.
    pub(super) fn path(&self, group: i64) -> &str {
        self.groups.get(&group).map_or("/", String::as_str)
    }

    /// Id and name of its system.
    pub(super) fn os(&self, entry: &Entry) -> (&str, &str) {
        let system = self.systems.texts.get(entry.system as usize);
        system.map_or(("", ""), |(id, name)| (id, name))
    }

    pub(super) fn agent_version(&self, entry: &Entry) -> &str {
        self.agent_versions.texts.get(entry.agent_version as usize).map_or("", String::as_str)
    }

    /// The device as it is listed.
    pub(super) fn row(&self, connection: &Connection, entry: &Entry) -> Result<DeviceRow, StoreError> {
        let reasons = match entry.status {
            Status::Ok => Vec::new(),
            Status::Warning | Status::Critical => reasons_of(connection, entry.number)?,
        };
        Ok(DeviceRow {
            device: entry.device,
            name: entry.name.to_string(),
            group: self.path(entry.group).to_owned(),
            enrolled_at: entry.enrolled_at,
            device_status: DeviceStatus { status: entry.status, since: entry.since, reasons },
        })
    }
}
