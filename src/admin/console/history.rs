//! History of a policy: its versions, what differs between two, and the way back to one.

use serde_json::{Map, Value};

use super::api::Api;
use super::form::{Fields, Form, invalid};
use super::page::{Answer, Cell, Link, Page, Part, Table};
use super::policies::{drift_value, edit_url};
use crate::fleet::settings::changed_version;
use crate::fleet::why::shell_word;
use crate::store::POLICY_VERSIONS_MAX;
use crate::wire::api::device_table::time;
use crate::wire::api::url::with_query;
use crate::wire::api::{ChangedKey, ErrorDetail, Page as ListPage, PolicyHistoryQuery, PolicyVersion};

/// Most changes of a version that its row names.
const NAMED_MAX: usize = 3;

pub(super) fn url(group: &str, application: &str, revision: Option<u64>) -> String {
    let query = serde_json::json!({ "group": group, "application": application, "revision": revision });
    with_query("/policies/history", &query)
}

pub(super) async fn show(api: Api, fields: Fields) -> Answer {
    let (group, application) = (fields.get("group"), fields.get("application"));
    let of = format!("--group {} --application {}", shell_word(group), shell_word(application));
    let query = PolicyHistoryQuery {
        group: group.to_owned(),
        application: application.to_owned(),
        cursor: None,
        limit: Some(POLICY_VERSIONS_MAX),
    };
    let list: ListPage<PolicyVersion> = api.get(&with_query("/v1/policies/history", &query)).await?;
    let versions = list.items;
    let chosen = chosen(&fields, &versions);
    let command = match &chosen {
        Ok(Some([from, _])) => format!("musterctl policy revert {of} --revision {} --dry-run", from.revision),
        _ => format!("musterctl policy history {of}"),
    };
    let page = Page::new("/policies", format!("History: {application} on {group}")).command(command);
    let page = match chosen {
        Ok(Some(pair)) => page.with_all(compared(&fields, &versions, pair)),
        Ok(None) => page,
        Err(error) => page.wrong(Some(error)),
    };
    let links = [
        Link::new(edit_url("group", group, application), "Change the policy"),
        Link::new("/policies", "All policies"),
    ];
    page.with(table(group, application, &versions)).with(Part::Links(links.into())).into()
}

/// The two versions that are compared; the second one is the newest unless another is named.
fn chosen<'v>(
    fields: &Fields,
    versions: &'v [PolicyVersion],
) -> Result<Option<[&'v PolicyVersion; 2]>, ErrorDetail> {
    let find = |name: &str| {
        let Some(revision) = fields.parsed::<u64>(name)? else { return Ok(None) };
        let found = versions.iter().find(|version| version.revision == revision);
        found.map(Some).ok_or_else(|| invalid(format!("revision {revision} is not kept")))
    };
    let Some(from) = find("revision")? else { return Ok(None) };
    Ok(find("to")?.or(versions.first()).map(|to| [from, to]))
}

fn table(group: &str, application: &str, versions: &[PolicyVersion]) -> Table {
    let rows = versions.iter().enumerate().map(|(at, version)| {
        // The oldest that is kept need not be the first that there was.
        let changes = match (versions.get(at + 1), &version.settings) {
            (_, None) => "removed".to_owned(),
            (None, _) => "the oldest that is kept".to_owned(),
            (Some(before), _) => summary(&changed_version(Some(before), version)),
        };
        let revision = version.revision.to_string();
        let compare = match at {
            0 => Cell::State("good", "it is so now".into()),
            _ => Cell::link(url(group, application, Some(version.revision)), "compare, go back"),
        };
        [
            Cell::text(revision),
            Cell::when(version.changed_at),
            Cell::text(&version.changed_by),
            Cell::text(changes),
            compare,
        ]
    });
    let heads = ["Revision", "Since", "By", "Changes", "And now"];
    let nothing = "Nothing is known of this policy: none was set, or its group is another one since.";
    Table::new("Versions", heads, nothing).rows(rows)
}

fn summary(changes: &[ChangedKey]) -> String {
    let named: Vec<_> = changes.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    match changes.len().saturating_sub(NAMED_MAX) {
        0 if named.is_empty() => "the same again".to_owned(),
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}

/// Differences between two versions, and the first one with the way back to it.
fn compared(fields: &Fields, versions: &[PolicyVersion], [from, to]: [&PolicyVersion; 2]) -> Vec<Part> {
    let choices = || {
        versions.iter().map(|version| {
            let revision = version.revision.to_string();
            let text = format!("{revision}, {} UTC", time(version.changed_at));
            (revision, text)
        })
    };
    let choose = Form::get("/policies/history", "")
        .hidden("group", fields.get("group"))
        .hidden("application", fields.get("application"))
        .choice("revision", "Revision", &from.revision.to_string(), choices())
        .choice("to", "Compared with", &to.revision.to_string(), choices())
        .button("", "Compare");
    let text = |settings: &Map<String, Value>| serde_json::to_string_pretty(settings).unwrap_or_default();
    let written = from.settings.as_ref().map_or_else(|| "The policy was removed then.".to_owned(), text);
    let back = Form::post("/policies/edit", "")
        .hidden("group", fields.get("group"))
        .hidden("application", fields.get("application"));
    let back = match &from.settings {
        Some(settings) => back
            .hidden("settings", &text(settings))
            .hidden("locks", &from.locks.join(", "))
            .hidden("drift", drift_value(from.drift))
            .button("preview", format!("Go back to revision {}", from.revision)),
        None => back.danger("remove", "Go back: remove it again"),
    };
    let differ = changed_version(Some(from), to);
    let (before, after) = (format!("Revision {}", from.revision), format!("Revision {}", to.revision));
    let is_removed = from.settings.is_none() && versions.first().is_some_and(|now| now.settings.is_none());
    let mut parts = vec![
        Part::Form(choose),
        keys(format!("What differs: {before} and {after}"), ["Key", &before, &after], &differ).into(),
        Part::Folded("The whole text of the revision".into(), vec![Part::Written(written)]),
    ];
    if from.revision != versions.first().map_or(0, |now| now.revision) && !is_removed {
        let note = "The next page says which devices would change, and how; nothing is saved before that.";
        parts.extend([Part::Form(back), Part::text(note)]);
    }
    parts
}

/// A table of keys with their values on two sides.
pub(super) fn keys(caption: String, heads: [&str; 3], changes: &[ChangedKey]) -> Table {
    Table::new(caption, heads, "Nothing differs.").rows(changes.iter().map(row))
}

fn row(change: &ChangedKey) -> [Cell; 3] {
    let value = |value: &Option<Value>| match value {
        Some(value) => Cell::Code(value.to_string()),
        None => Cell::text("nothing"),
    };
    [Cell::Code(change.key.clone()), value(&change.before), value(&change.after)]
}
