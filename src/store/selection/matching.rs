//! Asks each device whether a filter lets it through.

use std::cell::OnceCell;
use std::collections::HashSet;

use rusqlite::Connection;

use super::Moment;
use super::index::{Entry, Index};
use crate::fleet::filter::{Filter, Lookup, Subject};
use crate::fleet::presence::presence;
use crate::machine::device_state::DeviceState;
use crate::store::DEFAULT_INTERVAL_SECONDS;
use crate::store::devices::table::{DeviceTable, signs_of};
use crate::store::devices::{find_group, normal_path, range_below};
use crate::store::error::StoreError;
use crate::store::inventory::applications::{ApplicationFilter, each_with};
use crate::store::sql::Sql as _;
use crate::wire::presence::Presence;
use crate::wire::status::Status;
use crate::wire::time::WallTime;

/// A filter at a moment, with all that had to be looked up for it.
pub(super) struct Question<'i> {
    index: &'i Index,
    table: &'i DeviceTable,
    filter: &'i Filter,
    moment: Moment,
    found: Vec<Found>,
}

/// What a lookup has found.
enum Found {
    Groups(HashSet<i64>),
    /// A bit for each place in the index.
    Devices(Vec<u64>),
}

impl Found {
    fn look_up(index: &Index, connection: &Connection, lookup: &Lookup) -> Result<Self, StoreError> {
        match lookup {
            Lookup::Group(path) => {
                let path = normal_path(path)?;
                find_group(connection, &path)?;
                let (from, to) = range_below(&path);
                let sql = "SELECT id FROM groups WHERE path = ?1 OR (path >= ?2 AND path < ?3)";
                let groups: Vec<i64> = connection.all(sql, [path, from, to], |row| row.get(0))?;
                Ok(Self::Groups(groups.into_iter().collect()))
            }
            Lookup::Application { name, version } => {
                let wanted =
                    ApplicationFilter { device: None, name: Some(name.clone()), version: version.clone() };
                let mut bits = vec![0; index.entries().len().div_ceil(64)];
                each_with(connection, &wanted, |number| {
                    if let Some(place) = index.place(number) {
                        bits[place / 64] |= 1 << (place % 64);
                    }
                })?;
                Ok(Self::Devices(bits))
            }
        }
    }
}

impl<'i> Question<'i> {
    pub(super) fn new(
        index: &'i Index,
        connection: &Connection,
        table: &'i DeviceTable,
        filter: &'i Filter,
        moment: Moment,
    ) -> Result<Self, StoreError> {
        let found = filter.lookups().iter().map(|lookup| Found::look_up(index, connection, lookup));
        Ok(Self { index, table, filter, moment, found: found.collect::<Result<_, _>>()? })
    }

    /// The devices that the filter lets through, in order of enrolment.
    pub(super) fn found<'q>(&'q self) -> impl Iterator<Item = Candidate<'q>> + use<'q, 'i> {
        let candidates = self.index.entries().iter().enumerate();
        let candidates = candidates.map(|(place, entry)| Candidate {
            question: self,
            entry,
            place,
            record: OnceCell::new(),
        });
        candidates.filter(|candidate| self.filter.matches(candidate, self.moment.now))
    }
}

/// A device that is being asked.
pub(super) struct Candidate<'q> {
    question: &'q Question<'q>,
    pub(super) entry: &'q Entry,
    place: usize,
    record: OnceCell<DeviceState>,
}

impl<'q> Candidate<'q> {
    /// Its state in memory.
    pub(super) fn record(&self) -> &DeviceState {
        let Self { question, entry, .. } = self;
        // Removed this very moment: still in the file, not in memory.
        self.record.get_or_init(|| {
            let record = question.table.get(entry.device);
            record.unwrap_or_else(|| DeviceState::new(entry.device, DEFAULT_INTERVAL_SECONDS))
        })
    }

    /// Path of its group.
    pub(super) fn group(&self) -> &'q str {
        self.question.index.group(self.entry)
    }
}

impl Subject for Candidate<'_> {
    fn name(&self) -> &str {
        &self.entry.name
    }

    fn hostname(&self) -> &str {
        self.entry.hostname()
    }

    fn os(&self) -> (&str, &str) {
        self.question.index.os(self.entry)
    }

    fn agent_version(&self) -> &str {
        self.question.index.agent_version(self.entry)
    }

    fn status(&self) -> Status {
        self.entry.status
    }

    fn presence(&self) -> Presence {
        let Moment { now, present_since } = self.question.moment;
        presence(&signs_of(self.record(), present_since), now)
    }

    fn last_seen(&self) -> WallTime {
        self.record().last_seen
    }

    fn last_sync(&self) -> WallTime {
        self.record().last_sync
    }

    fn has_pins(&self) -> bool {
        self.record().has_trust()
    }

    fn is_found(&self, lookup: usize) -> bool {
        match self.question.found.get(lookup) {
            Some(Found::Groups(groups)) => groups.contains(&self.entry.group),
            Some(Found::Devices(bits)) => {
                bits.get(self.place / 64).is_some_and(|bits| bits >> (self.place % 64) & 1 == 1)
            }
            None => false,
        }
    }
}
