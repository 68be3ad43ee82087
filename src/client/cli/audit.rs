//! `musterctl audit`.

use clap::Subcommand;

use super::Failure;
use super::arguments::since;
use super::output::{Output, time};
use crate::client::Client;
use crate::wire::api::{AuditQuery, PAGE_ITEMS_MAX, Timestamp};
use crate::wire::units::count;

#[derive(Subcommand, Debug)]
pub(super) enum AuditCommand {
    /// Changes that were made or refused, the newest last
    #[command(after_help = "Examples:
  musterctl audit list
  musterctl audit list --since 24h
  musterctl audit list --since 2026-11-24T08:00:00Z --json | jq '.[] | select(.outcome != \"done\")'

With --json, also what was there before and what was asked for.")]
    List {
        /// Only those from then on: a time (RFC 3339) or so long ago, such as 24h
        #[arg(long, value_name = "TIME", value_parser = since)]
        since: Option<Timestamp>,
        /// Most rows to list, the newest ones
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Follow the chain of rows; exit code 1 when one was changed or is missing
    #[command(after_help = "Examples:
  musterctl audit verify
  musterctl audit verify --json | jq -r .head_sha256

The hash of the last row is an event of the server, audit_head, once an hour when it has changed: one that
was taken off the server tells whether the whole chain was written anew.")]
    Verify,
}

pub(super) fn run(client: &mut Client, output: &mut Output, command: &AuditCommand) -> Result<(), Failure> {
    match command {
        &AuditCommand::List { since, limit } => {
            let query = AuditQuery { since, limit: Some(limit.min(PAGE_ITEMS_MAX)), cursor: None };
            let mut rows = client.audit(query).first(usize::try_from(limit).unwrap_or(usize::MAX))?;
            rows.reverse();
            let heads = &["NUMBER", "TIME (UTC)", "WHO", "FROM", "REQUEST", "OUTCOME"];
            output.list(heads, std::iter::once(Ok(rows)), "no changes", |row| {
                let method = row.action.split(' ').next().unwrap_or_default();
                vec![
                    row.number.to_string(),
                    time(row.at),
                    row.actor.clone(),
                    row.origin.clone(),
                    format!("{method} {}", row.target),
                    row.outcome.clone(),
                ]
            })
        }
        AuditCommand::Verify => {
            let check = client.verify_audit()?;
            if output.is_json {
                output.json(&check)?;
            }
            match &check.fault {
                Some(fault) => Err(Failure::NotReached(format!(
                    "the audit is broken: {fault}; {} before it are whole",
                    count(check.rows, "row")
                ))),
                None if output.is_json => Ok(()),
                None => output.line(&format!(
                    "the audit is whole: {} from number {} on; the last is {} with SHA-256 {}",
                    count(check.rows, "row"),
                    check.first,
                    check.head,
                    check.head_sha256
                )),
            }
        }
    }
}
