//! Runs of tasks: nobody can make one yet, so there are none, and devices need not say any more of those that they know.

use rusqlite::Connection;

use super::error::StoreError;
use crate::machine::command::JobOutcome;
use crate::wire::digest::Digest;
use crate::wire::id::RunId;
use crate::wire::task::{RunAck, RunUpdate, RunUpdates, RunsStored, digest_of as digest_of_run};

/// The digest of all runs that the device is to have.
pub(super) fn digest_of(connection: &Connection, number: i64) -> Result<Digest, StoreError> {
    let sql = "SELECT id FROM runs WHERE device = ?1 AND state IN ('pending', 'delivered', 'running')";
    let mut statement = connection.prepare_cached(sql)?;
    let mut sum = Digest::EMPTY;
    for id in statement.query_map([number], |row| row.get::<_, i64>(0))? {
        sum = sum.with(digest_of_run(RunId(id?.cast_unsigned())));
    }
    Ok(sum)
}

/// What is answered to a device that says something of runs that are not known here: it need not be said again.
#[must_use]
pub fn unknown(updates: &RunUpdates) -> JobOutcome {
    let ack = |update: &RunUpdate| RunAck { run: update.run, serial: update.serial };
    JobOutcome::RunsStored(RunsStored { acks: updates.updates.iter().map(ack).collect() })
}
