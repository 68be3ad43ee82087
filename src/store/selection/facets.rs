//! Counts of a selection.

use std::collections::HashMap;

use super::labels;
use super::matching::{Bits, Question, Scope, with_tag};
use super::{Moment, Selection};
use crate::fleet::filter::{Filter, Subject as _};
use crate::store::error::StoreError;
use crate::store::sql::{Columns as _, Sql as _};
use crate::wire::api::{FACET_VALUES_MAX, FacetValue, Facets, Presence};
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
            for candidate in question.found() {
                found.set(candidate.place);
                presence[candidate.presence() as usize] += 1;
                status[candidate.entry.status as usize] += 1;
                *groups.entry(candidate.entry.group).or_default() += 1;
                *systems.entry(index.os(candidate.entry).1).or_default() += 1;
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

/// Tags of these devices. Of those without a rule the rows are counted, once for all of them.
fn tags(scope: Scope<'_>, found: &Bits) -> Result<Vec<FacetValue>, StoreError> {
    let Scope { index, connection, .. } = scope;
    let mut counts = HashMap::<i64, u64>::new();
    if found.count() == index.entries().len() as u64 {
        let sql = "SELECT tag, count(*) FROM device_tags GROUP BY tag";
        counts.extend(connection.all(sql, [], |row| Ok((row.get(0)?, row.number(1)?)))?);
    } else {
        connection.each("SELECT tag, device FROM device_tags", [], |row| {
            if index.place(row.get(1)?).is_some_and(|place| found.has(place)) {
                *counts.entry(row.get(0)?).or_default() += 1;
            }
            Ok(())
        })?;
    }
    let mut tags = Vec::new();
    for tag in labels::tags(connection)? {
        let count = match &tag.rule {
            None => counts.get(&tag.id).copied().unwrap_or_default(),
            Some(_) => {
                let mut having = Bits::new(index);
                with_tag(scope, &tag, &mut having)?;
                having.count_in(found)
            }
        };
        tags.push((tag.name, count));
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
