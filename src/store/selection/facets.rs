//! Counts of a selection.

use std::collections::HashMap;

use super::labels;
use super::matching::{Bits, Question, Scope, with_tag};
use super::{Moment, Selection};
use crate::fleet::filter::Filter;
use crate::store::devices::table::{DeviceTable, SHARDS};
use crate::store::error::StoreError;
use crate::wire::api::{FACET_VALUES_MAX, FacetValue, Facets, Presence};
use crate::wire::id::DeviceId;
use crate::wire::status::Status;

impl Selection {
    /// Counts the devices that the filter lets through, by what they are.
    ///
    /// # Errors
    /// As [`Selection::page`].
    pub fn facets(&self, filter: &Filter, moment: Moment) -> Result<Facets, StoreError> {
        self.ask(|index, connection| {
            let scope = self.scope(index, connection, moment);
            let question = Question::new(scope, filter)?;
            let mut found = Bits::new(index);
            let (mut presence, mut status) = ([0; Presence::ALL.len()], [0; Status::ALL.len()]);
            let (mut groups, mut systems) = (HashMap::<i64, u64>::new(), HashMap::<&str, u64>::new());
            let mut by_shard: [Vec<DeviceId>; SHARDS] = std::array::from_fn(|_| Vec::new());
            for candidate in question.found() {
                found.set(candidate.place);
                by_shard[DeviceTable::shard_of(candidate.entry.device.0)].push(candidate.entry.device);
                status[candidate.entry.status as usize] += 1;
                *groups.entry(candidate.entry.group).or_default() += 1;
                *systems.entry(index.os(candidate.entry).1).or_default() += 1;
            }
            // Shard by shard: in the order of names each record would come from another end of the memory.
            for device in by_shard.into_iter().flatten() {
                presence[scope.presence_of(&scope.record(device)) as usize] += 1;
            }
            let named = |names: &[&'static str], counts: &[u64]| {
                values(names.iter().map(|name| (*name).to_owned()).zip(counts.iter().copied()))
            };
            Ok(Facets {
                devices: found.count(),
                presence: named(&Presence::ALL.map(Presence::name), &presence),
                status: named(&Status::ALL.map(Status::name), &status),
                os: values(
                    systems
                        .into_iter()
                        .filter(|(name, _)| !name.is_empty())
                        .map(|(name, count)| (name.to_owned(), count)),
                ),
                group: values(groups.into_iter().map(|(group, count)| (index.path(group).to_owned(), count))),
                tag: tags(scope, &found)?,
            })
        })
    }
}

/// Tags of these devices.
fn tags(scope: Scope<'_>, found: &Bits) -> Result<Vec<FacetValue>, StoreError> {
    let mut tags = Vec::new();
    for tag in labels::tags(scope.connection)? {
        let mut having = Bits::new(scope.index);
        with_tag(scope, &tag, &mut having)?;
        tags.push((tag.name, having.count_in(found)));
    }
    Ok(values(tags))
}

/// The most frequent ones.
fn values(counts: impl IntoIterator<Item = (String, u64)>) -> Vec<FacetValue> {
    let counts = counts.into_iter().filter(|(_, devices)| *devices > 0);
    let mut values: Vec<_> = counts.map(|(value, devices)| FacetValue { value, devices }).collect();
    values.sort_by(|a, b| b.devices.cmp(&a.devices).then_with(|| a.value.cmp(&b.value)));
    values.truncate(FACET_VALUES_MAX);
    values
}
