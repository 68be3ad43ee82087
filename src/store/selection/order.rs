//! Orders of lists of devices: by a column, then by name.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

use super::index::{Entry, compare_names};
use super::matching::{Candidate, Question};
use crate::fleet::filter::Subject as _;
use crate::fleet::status::Reason;
use crate::store::devices::worst_reasons;
use crate::store::error::StoreError;
use crate::wire::api::{DeviceColumn, DeviceSort};
use crate::wire::time::WallTime;

/// A fact by which devices are ordered.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Key<'i> {
    Number(u64),
    Text(Cow<'i, str>),
}

/// A device's place in an order.
pub(super) struct Place<'i> {
    key: Key<'i>,
    pub(super) entry: &'i Entry,
}

/// The place that a cursor names.
pub(super) struct Cursor {
    key: Key<'static>,
    name: String,
}

impl Cursor {
    /// Reads what [`Place::cursor`] wrote for this order; `None`: it is another one's.
    pub(super) fn read(sort: DeviceSort, [by, key, name]: [String; 3]) -> Option<Self> {
        let key = match sort.column {
            DeviceColumn::Name | DeviceColumn::Group | DeviceColumn::Why => Key::Text(key.into()),
            _ => Key::Number(key.parse().ok()?),
        };
        (by == sort.to_string()).then_some(Self { key, name })
    }

    /// Whether the place lies behind it.
    pub(super) fn is_before(&self, sort: DeviceSort, place: &Place<'_>) -> bool {
        compare(sort, (&self.key, &self.name), (&place.key, &place.entry.name)).is_lt()
    }
}

impl<'i> Place<'i> {
    fn new(candidate: &Candidate<'i>, column: DeviceColumn, reasons: &HashMap<i64, Reason>) -> Self {
        let key = match column {
            DeviceColumn::Name => Key::Text((&*candidate.entry.name).into()),
            DeviceColumn::Group => Key::Text(candidate.group().into()),
            DeviceColumn::Presence => Key::Number(candidate.presence() as u64),
            DeviceColumn::Status => Key::Number(candidate.entry.status as u64),
            DeviceColumn::LastSeen => Key::Number(candidate.last_seen().0),
            DeviceColumn::LastSync => Key::Number(candidate.last_sync().0),
            DeviceColumn::Interval => Key::Number(candidate.record().interval_seconds().into()),
            DeviceColumn::Id => Key::Number(candidate.entry.device.0),
            DeviceColumn::Why => {
                // As if no time had passed: two pages with a minute between them have one order.
                let text = reasons.get(&candidate.entry.number).map(|reason| reason.text(WallTime(0)));
                Key::Text(text.unwrap_or_default().into())
            }
        };
        Self { key, entry: candidate.entry }
    }

    pub(super) fn cursor(&self, sort: DeviceSort) -> [String; 3] {
        let key = match &self.key {
            Key::Number(number) => number.to_string(),
            Key::Text(text) => text.clone().into_owned(),
        };
        [sort.to_string(), key, self.entry.name.to_string()]
    }
}

/// The first `most` devices that are found behind the cursor, in order.
pub(super) fn first<'q>(
    question: &'q Question<'q>,
    sort: DeviceSort,
    after: Option<&Cursor>,
    most: usize,
) -> Result<Vec<Place<'q>>, StoreError> {
    let reasons = match sort.column {
        DeviceColumn::Why => worst_reasons(question.scope.connection)?,
        _ => HashMap::new(),
    };
    let place = |candidate: Candidate<'q>| Place::new(&candidate, sort.column, &reasons);
    if sort == DeviceSort::default() {
        let entries = question.scope.index.entries();
        let is_over =
            |after: &Cursor| entries.partition_point(|entry| compare_names(&entry.name, &after.name).is_le());
        let found = question.found_from(after.map_or(0, is_over));
        return Ok(found.map(place).take(most).collect());
    }
    let places = question.found().map(place);
    let mut places: Vec<_> =
        places.filter(|place| after.is_none_or(|after| after.is_before(sort, place))).collect();
    let order =
        |a: &Place<'_>, b: &Place<'_>| compare(sort, (&a.key, &a.entry.name), (&b.key, &b.entry.name));
    if most < places.len() {
        // Without an order of those that are not wanted.
        places.select_nth_unstable_by(most, order);
        places.truncate(most);
    }
    places.sort_unstable_by(order);
    Ok(places)
}

fn compare(sort: DeviceSort, a: (&Key<'_>, &str), b: (&Key<'_>, &str)) -> Ordering {
    let by_key = match (a.0, b.0) {
        (Key::Number(a), Key::Number(b)) => a.cmp(b),
        (Key::Text(a), Key::Text(b)) => compare_names(a, b),
        // One column has keys of one kind.
        (Key::Number(_), Key::Text(_)) => Ordering::Less,
        (Key::Text(_), Key::Number(_)) => Ordering::Greater,
    };
    let order = by_key.then_with(|| compare_names(a.1, b.1));
    if sort.is_descending { order.reverse() } else { order }
}
