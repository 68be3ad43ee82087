//! The list of devices: a filter, values to narrow it down by, a page of the table, changes of all of it.

use super::api::Api;
use super::form::{Fields, Form};
use super::page::{Answer, Cell, Column, Link, Page, Part, Table};
use super::selection;
use super::text::count;
use crate::fleet::filter::quoted;
use crate::fleet::why::shell_word;
use crate::wire::api::device_table::{duration, why, words};
use crate::wire::api::url::{path, with_query};
use crate::wire::api::{
    Device, DeviceColumn, DeviceQuery, DeviceSort, ErrorDetail, FacetValue, Facets, Page as ListPage,
    Presence, View,
};
use crate::wire::status::Status;

/// Most values of a facet that are offered.
const VALUES_MAX: usize = 12;

/// Heads of the table, each with the column that it is sorted by.
const HEADS: [(&str, DeviceColumn); 7] = [
    ("Name", DeviceColumn::Name),
    ("Presence", DeviceColumn::Presence),
    ("Status", DeviceColumn::Status),
    ("Group", DeviceColumn::Group),
    ("Last sync", DeviceColumn::LastSync),
    ("Interval", DeviceColumn::Interval),
    ("Why", DeviceColumn::Why),
];

pub(super) async fn show(api: Api, fields: Fields) -> Answer {
    page(&api, &fields, None).await
}

/// The page, with what went wrong with a change.
pub(super) async fn page(api: &Api, fields: &Fields, wrong: Option<ErrorDetail>) -> Answer {
    let filter = fields.get("where").trim().to_owned();
    let query = match fields.parsed("sort") {
        Ok(sort) => {
            DeviceQuery { filter: fields.some("where"), sort, cursor: fields.some("cursor"), limit: None }
        }
        Err(error) => return failed(&filter, error).into(),
    };
    let facets = with_query("/v1/facets", &serde_json::json!({ "where": query.filter }));
    let list = with_query("/v1/devices", &query);
    let (found, facets, views) = tokio::join!(
        api.get::<ListPage<Device>>(&list),
        api.get::<Facets>(&facets),
        api.get::<Vec<View>>("/v1/views"),
    );
    let (found, facets) = match (found, facets) {
        (Ok(found), Ok(facets)) => (found, facets),
        (Err(error), _) | (_, Err(error)) => return failed(&filter, error).into(),
    };
    let sort = query.sort.unwrap_or_default();
    let next = found
        .next_cursor
        .map(|cursor| with_query("/devices", &DeviceQuery { cursor: Some(cursor), ..query.clone() }));
    let csv = DeviceQuery { cursor: None, ..query.clone() };
    let task = with_query("/tasks/new", &serde_json::json!({ "where": query.filter }));
    let file = Link { is_file: true, ..Link::new(with_query("/v1/devices.csv", &csv), "CSV of this list") };
    let mut command = with_filter("musterctl device list", &filter);
    if query.sort.is_some() {
        command = format!("{command} --sort {}", shell_word(&sort.to_string()));
    }
    Page::new("/devices", format!("Devices ({})", count(facets.devices)))
        .command(command)
        .said(fields)
        .with(search(&filter, query.sort, None))
        .with(Part::Choices(choices(&filter, query.sort, &facets, views?)))
        .with(table("Devices", found.items, Some((&query, sort)), next))
        .with(Part::Links(vec![file, Link::new(task, "Make a task for these")]))
        .with_all(selection::forms(&filter, facets.devices, fields))
        .wrong(wrong)
        .into()
}

/// The page without a list: the filter is not understood, say.
fn failed(filter: &str, error: ErrorDetail) -> Page {
    Page::new("/devices", "Devices")
        .command(with_filter("musterctl device list", filter))
        .with(search(filter, None, Some(&error)))
        .wrong(Some(error))
}

fn search(filter: &str, sort: Option<DeviceSort>, wrong: Option<&ErrorDetail>) -> Form {
    let form = Form::get("/devices", "").filter("Filter", filter, wrong);
    match sort {
        Some(sort) => form.hidden("sort", &sort.to_string()),
        None => form,
    }
    .button("", "Show")
}

/// A command with a filter.
pub(super) fn with_filter(command: &str, filter: &str) -> String {
    if filter.is_empty() { command.to_owned() } else { format!("{command} --where {}", shell_word(filter)) }
}

/// Address of the list with a filter.
pub(super) fn url(filter: &str) -> String {
    let filter = Some(filter.to_owned()).filter(|filter| !filter.is_empty());
    with_query("/devices", &DeviceQuery { filter, ..DeviceQuery::default() })
}

/// Address of a device: by its id, as a name may be `..`, which browsers take for another place.
pub(super) fn device_url(device: impl std::fmt::Display) -> String {
    path("/devices", &device.to_string())
}

fn choices(
    filter: &str,
    sort: Option<DeviceSort>,
    facets: &Facets,
    views: Vec<View>,
) -> Vec<(&'static str, Vec<Link>)> {
    let link = |term: String, text: String, note: String| {
        let (filter, is_chosen) = narrowed(filter, &term);
        let filter = Some(filter).filter(|filter| !filter.is_empty());
        let url = with_query("/devices", &DeviceQuery { filter, sort, ..DeviceQuery::default() });
        Link { note, is_chosen, ..Link::new(url, text) }
    };
    let facet = |key: &str, values: &[FacetValue]| -> Vec<Link> {
        let one = |value: &FacetValue| {
            link(term(key, &value.value), value.value.replace('_', " "), count(value.devices))
        };
        values.iter().take(VALUES_MAX).map(one).collect()
    };
    let views = views.into_iter().map(|view| link(term("view", &view.name), view.name, String::new()));
    let groups = [
        ("Views", views.collect()),
        ("Presence", facet("presence", &facets.presence)),
        ("Status", facet("status", &facets.status)),
        ("System", facet("os", &facets.os)),
        ("Group", facet("group", &facets.group)),
        ("Tag", facet("tag", &facets.tag)),
    ];
    groups.into_iter().filter(|(_, links): &(_, Vec<_>)| !links.is_empty()).collect()
}

pub(super) fn term(key: &str, value: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/-_.".contains(letter);
    let is_plain = !value.is_empty() && value.chars().all(is_plain);
    if is_plain { format!("{key}:{value}") } else { format!("{key}:{}", quoted(value)) }
}

/// The filter with one term more, or without it when it is there; and whether it is.
fn narrowed(filter: &str, term: &str) -> (String, bool) {
    let rest = |before: &str, behind: &str| format!("{} {}", before.trim(), behind.trim()).trim().to_owned();
    let is_end = |text: Option<char>| text.is_none_or(char::is_whitespace);
    for (at, _) in filter.match_indices(term) {
        let (before, behind) = (&filter[..at], &filter[at + term.len()..]);
        if is_end(before.chars().next_back()) && is_end(behind.chars().next()) {
            return (rest(before, behind), true);
        }
    }
    let has_or = filter.split_whitespace().any(|word| word.eq_ignore_ascii_case("or"));
    let before = if has_or { format!("({filter})") } else { filter.to_owned() };
    (rest(&before, term), false)
}

/// A table of devices; sorted by a click where it is said how it is asked for.
pub(super) fn table(
    caption: &str,
    devices: Vec<Device>,
    sorted: Option<(&DeviceQuery, DeviceSort)>,
    next: Option<String>,
) -> Table {
    let mut table = Table::new(caption, HEADS.map(|(head, _)| head), "No device is like that.");
    if let Some((query, now)) = sorted {
        for (column, (_, by)) in table.columns.iter_mut().zip(HEADS) {
            let is_by = now.column == by;
            sorted_by(column, query, DeviceSort { column: by, is_descending: is_by && !now.is_descending });
            column.sorted = match (is_by, now.is_descending) {
                (false, _) => "",
                (true, false) => "ascending",
                (true, true) => "descending",
            };
        }
    }
    table.rows(devices.into_iter().map(row)).next(next)
}

fn sorted_by(column: &mut Column, query: &DeviceQuery, sort: DeviceSort) {
    let query = DeviceQuery { sort: Some(sort), cursor: None, ..query.clone() };
    column.sort_url = Some(with_query("/devices", &query));
}

fn row(device: Device) -> [Cell; 7] {
    [
        Cell::link(device_url(device.id), device.name),
        presence(device.presence),
        status(device.status),
        Cell::link(url(&term("group", &device.group)), device.group),
        Cell::when(device.last_sync_at),
        Cell::text(duration(device.interval_seconds.into())),
        Cell::text(why(&device.reasons)),
    ]
}

pub(super) fn presence(presence: Presence) -> Cell {
    let kind = match presence {
        Presence::Connected | Presence::Idle => "good",
        Presence::Lost => "bad",
        Presence::Waiting => "warn",
        _ => "",
    };
    Cell::State(kind, words(presence).to_owned())
}

pub(super) fn status(status: Status) -> Cell {
    let kind = match status {
        Status::Ok => "good",
        Status::Warning => "warn",
        Status::Critical => "bad",
    };
    Cell::State(kind, status.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_adds_a_term_and_another_takes_it_away() {
        for (filter, term, narrower) in [
            ("", "os:debian", "os:debian"),
            ("seen:>2h", "os:debian", "seen:>2h os:debian"),
            ("a or b", "os:debian", "(a or b) os:debian"),
            ("os:debian2", "os:debian", "os:debian2 os:debian"),
            ("-os:debian", "os:debian", "-os:debian os:debian"),
        ] {
            assert_eq!(narrowed(filter, term), (narrower.to_owned(), false), "{filter}");
        }
        assert_eq!(narrowed("a os:debian b", "os:debian"), ("a b".to_owned(), true));
    }

    #[test]
    fn every_value_makes_a_filter_that_is_understood() {
        for value in ["/a b", "Debian \"12\"", "x:y", "a\\", "(x)", "-x", ""] {
            let term = term("os", value);
            assert_eq!(term.parse::<crate::fleet::filter::Filter>().is_ok(), !value.is_empty(), "{term}");
        }
    }
}
