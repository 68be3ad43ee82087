//! Runs of tasks.

use rusqlite::Connection;

use super::Store;
use super::error::StoreError;
use crate::machine::command::JobOutcome;
use crate::wire::digest::Digest;
use crate::wire::id::{DeviceId, RunId};
use crate::wire::task::{RunOrder, RunUpdates, digest_of as digest_of_run};
use crate::wire::time::WallTime;

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

/// Orders for the runs that the device has not accepted yet, and all runs that it is to have.
pub(super) fn orders_of(
    _connection: &Connection,
    _number: i64,
) -> Result<(Vec<RunOrder>, Vec<RunId>), StoreError> {
    Ok((Vec::new(), Vec::new()))
}

impl Store {
    /// Stores what a device says of runs. `done` is called when it is durable.
    pub fn take_runs(
        &self,
        _device: DeviceId,
        _updates: RunUpdates,
        _now: WallTime,
        done: impl FnOnce(JobOutcome) + Send + 'static,
    ) {
        done(JobOutcome::ReportLost);
    }
}
