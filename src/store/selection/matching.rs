//! Asks each device whether a filter lets it through.

use std::cell::OnceCell;
use std::collections::HashSet;

use rusqlite::Connection;

use super::Moment;
use super::index::{Entry, Index};
use super::labels::{self, StoredTag};
use crate::fleet::filter::{Filter, Lookup, Subject};
use crate::fleet::presence::presence;
use crate::machine::device_state::DeviceState;
use crate::store::DEFAULT_INTERVAL_SECONDS;
use crate::store::devices::table::{DeviceTable, signs_of};
use crate::store::devices::{find_group, normal_path, range_below};
use crate::store::error::StoreError;
use crate::store::inventory::applications::{ApplicationFilter, each_with};
use crate::store::sql::Sql as _;
use crate::wire::id::DeviceId;
use crate::wire::pattern::fits;
use crate::wire::presence::Presence;
use crate::wire::status::Status;
use crate::wire::time::WallTime;

/// Sources of answers.
#[derive(Clone, Copy)]
pub(super) struct Scope<'i> {
    pub(super) index: &'i Index,
    pub(super) connection: &'i Connection,
    pub(super) table: &'i DeviceTable,
    pub(super) moment: Moment,
}

impl Scope<'_> {
    /// State of a device in memory.
    pub(super) fn record(&self, device: DeviceId) -> DeviceState {
        // Removed this very moment: still in the file, not in memory.
        self.table.get(device).unwrap_or_else(|| DeviceState::new(device, DEFAULT_INTERVAL_SECONDS))
    }

    /// Presence of a device with this state.
    pub(super) fn presence_of(&self, record: &DeviceState) -> Presence {
        presence(&signs_of(record, self.moment.present_since), self.moment.now)
    }
}

/// A filter at a moment, with all that had to be looked up for it.
pub(super) struct Question<'i> {
    pub(super) scope: Scope<'i>,
    filter: &'i Filter,
    found: Vec<Found>,
}

/// A bit for each place in the index.
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn new(index: &Index) -> Self {
        Self(vec![0; index.entries().len().div_ceil(64)])
    }

    pub(super) fn set(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    pub(super) fn has(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }

    /// Number of places that are set.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|bits| u64::from(bits.count_ones())).sum()
    }

    /// Number of places that are set here and there.
    pub(super) fn count_in(&self, others: &Self) -> u64 {
        self.0.iter().zip(&others.0).map(|(a, b)| u64::from((a & b).count_ones())).sum()
    }
}

/// Result of a lookup.
enum Found {
    Groups(HashSet<i64>),
    Devices(Bits),
}

impl Found {
    fn look_up(scope: Scope<'_>, lookup: &Lookup) -> Result<Self, StoreError> {
        let Scope { index, connection, .. } = scope;
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
                let mut bits = Bits::new(index);
                each_with(connection, &wanted, |number| {
                    if let Some(place) = index.place(number) {
                        bits.set(place);
                    }
                })?;
                Ok(Self::Devices(bits))
            }
            Lookup::Tag(pattern) => {
                let mut bits = Bits::new(index);
                let meant = labels::tags(connection)?.into_iter().filter(|tag| fits(pattern, &tag.name));
                let meant: Vec<_> = meant.collect();
                if meant.is_empty() {
                    return Err(StoreError::NoLabel { kind: "tag", name: pattern.clone() });
                }
                meant.iter().try_for_each(|tag| with_tag(scope, tag, &mut bits))?;
                Ok(Self::Devices(bits))
            }
            Lookup::View(name) => {
                let mut bits = Bits::new(index);
                with_filter(scope, &labels::view(connection, name)?, &mut bits)?;
                Ok(Self::Devices(bits))
            }
        }
    }
}

/// The devices that have a tag: that were given it, or by its rule.
pub(super) fn with_tag(scope: Scope<'_>, tag: &StoredTag, bits: &mut Bits) -> Result<(), StoreError> {
    let Scope { index, connection, .. } = scope;
    let mut from = 0;
    connection.each("SELECT device FROM device_tags WHERE tag = ?1 ORDER BY device", [tag.id], |row| {
        if let Some(place) = index.place_from(&mut from, row.get(0)?) {
            bits.set(place);
        }
        Ok(())
    })?;
    tag.rule.as_deref().map_or(Ok(()), |rule| with_filter(scope, &labels::stored(rule)?, bits))
}

fn with_filter(scope: Scope<'_>, filter: &Filter, bits: &mut Bits) -> Result<(), StoreError> {
    Question::new(scope, filter)?.found().for_each(|candidate| bits.set(candidate.place));
    Ok(())
}

impl<'i> Question<'i> {
    pub(super) fn new(scope: Scope<'i>, filter: &'i Filter) -> Result<Self, StoreError> {
        let found = filter.lookups().iter().map(|lookup| Found::look_up(scope, lookup));
        Ok(Self { scope, filter, found: found.collect::<Result<_, _>>()? })
    }

    /// The devices that the filter lets through, by name.
    pub(super) fn found<'q>(&'q self) -> impl Iterator<Item = Candidate<'q>> + use<'q, 'i> {
        self.found_from(0)
    }

    /// The same from a place in the index on.
    pub(super) fn found_from<'q>(
        &'q self,
        first: usize,
    ) -> impl Iterator<Item = Candidate<'q>> + use<'q, 'i> {
        let candidates = self.scope.index.entries().iter().enumerate().skip(first);
        let candidates = candidates.map(|(place, entry)| self.candidate(place, entry));
        candidates.filter(|candidate| self.filter.matches(candidate, self.scope.moment.now))
    }

    /// Whether the filter lets the device at this place through.
    pub(super) fn lets_through(&self, place: usize) -> bool {
        let entry = self.scope.index.entries().get(place);
        entry.is_some_and(|entry| self.filter.matches(&self.candidate(place, entry), self.scope.moment.now))
    }

    fn candidate<'q>(&'q self, place: usize, entry: &'q Entry) -> Candidate<'q> {
        Candidate { question: self, entry, place, record: OnceCell::new() }
    }
}

/// A device that is being asked.
pub(super) struct Candidate<'q> {
    question: &'q Question<'q>,
    pub(super) entry: &'q Entry,
    pub(super) place: usize,
    record: OnceCell<DeviceState>,
}

impl<'q> Candidate<'q> {
    /// Its state in memory.
    pub(super) fn record(&self) -> &DeviceState {
        self.record.get_or_init(|| self.question.scope.record(self.entry.device))
    }

    /// Path of its group.
    pub(super) fn group(&self) -> &'q str {
        self.question.scope.index.path(self.entry.group)
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
        self.question.scope.index.os(self.entry)
    }

    fn agent_version(&self) -> &str {
        self.question.scope.index.agent_version(self.entry)
    }

    fn status(&self) -> Status {
        self.entry.status
    }

    fn presence(&self) -> Presence {
        self.question.scope.presence_of(self.record())
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
            Some(Found::Devices(bits)) => bits.has(self.place),
            None => false,
        }
    }
}
