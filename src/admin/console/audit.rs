//! The audit: each change that was made or refused, and who asked for it.

use super::api::Api;
use super::form::{Fields, Form};
use super::page::{Answer, Cell, Link, Page, Part, Table};
use super::text::count;
use crate::wire::api::url::with_query;
use crate::wire::api::{AuditCheck, AuditQuery, AuditRecord, Page as ListPage};

pub(super) async fn show(api: Api, fields: Fields) -> Answer {
    let since = fields.parsed("since").map(|since| since.map(crate::wire::api::Timestamp));
    let (query, wrong) = match since {
        Ok(since) => (AuditQuery { since, limit: None, cursor: fields.some("cursor") }, None),
        Err(error) => (AuditQuery::default(), Some(error)),
    };
    let list: ListPage<AuditRecord> = api.get(&with_query("/v1/audit", &query)).await?;
    let next = list
        .next_cursor
        .map(|cursor| with_query("/audit", &AuditQuery { cursor: Some(cursor), ..query.clone() }));
    let rows = list.items.into_iter().map(|row| {
        let kind = if row.outcome == "done" { "good" } else { "bad" };
        let json =
            |value: Option<serde_json::Value>| value.map_or_else(String::new, |value| value.to_string());
        [
            Cell::when(row.at),
            Cell::text(format!("{} ({})", row.actor, row.origin)),
            Cell::text(row.action),
            Cell::text(row.target),
            Cell::State(kind, row.outcome),
            Cell::Code(json(row.before)),
            Cell::Code(json(row.after)),
        ]
    });
    let heads = ["When", "Who", "What", "Target", "Outcome", "Before", "Asked"];
    let check = match fields.some("verify") {
        None => None,
        Some(_) => Some(verified(&api.get::<AuditCheck>("/v1/audit/verify").await?)),
    };
    Page::new("/audit", "Audit")
        .command(if check.is_some() { "musterctl audit verify" } else { "musterctl audit list" })
        .with(
            Form::get("/audit", "")
                .line(
                    "since",
                    "Since",
                    fields.get("since"),
                    "such as 2026-11-24T10:00:00Z; empty: from the newest on",
                )
                .button("", "Show"),
        )
        .with_all(check)
        .with(Table::new("Audit", heads, "Nothing was changed yet.").rows(rows).next(next))
        .with(Part::Links(vec![Link::new("/audit?verify=1", "Check the chain of rows")]))
        .wrong(wrong)
        .into()
}

fn verified(check: &AuditCheck) -> Part {
    match &check.fault {
        Some(fault) => Part::Notice(format!("The chain is broken: {fault}")),
        None => Part::text(format!(
            "The chain is whole: {} rows, up to number {}, {}.",
            count(check.rows),
            check.head,
            check.head_sha256
        )),
    }
}
