//! Desired state of a device beyond what it says of itself: settings, and runs of tasks.
//!
//! All of it is one digest, in the device's record and in its row, which a sync compares with what the device
//! says it has. Whatever changes what a device is to have calls [`refresh`] in the same transaction, and
//! tells the table after the commit.

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::table::DeviceTable;
use super::{Store, desired_settings, device, task};
use crate::machine::command::{DesiredState, DesiredStateAfter, DesiredStateOutcome};
use crate::wire::digest::Digest;
use crate::wire::id::DeviceId;
use crate::wire::limits::DESIRED_STATE_BYTES_TARGET;
use crate::wire::time::WallTime;

/// A device whose desired state is another now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DesiredChange {
    /// Which device.
    pub device: DeviceId,
    /// The digest of all that it is to have.
    pub digest: Digest,
}

/// Works the digest out anew and writes it into the device's row; returns the table's change when it is
/// another.
pub(super) fn refresh(connection: &Connection, number: i64) -> Result<Option<DesiredChange>, StoreError> {
    let settings = desired_settings::digest_of(connection, number)?;
    let digest = settings.with(task::digest_of(connection, number)?);
    let sql = "UPDATE device_states SET orders_digest = ?2 WHERE device = ?1 AND orders_digest <> ?2";
    let changed = connection.prepare_cached(sql)?.execute(params![number, digest.0.cast_signed()])?;
    if changed == 0 {
        return Ok(None);
    }
    let mut statement = connection.prepare_cached("SELECT id FROM devices WHERE number = ?1")?;
    let device = DeviceId(statement.query_row([number], |row| row.get::<_, i64>(0))?.cast_unsigned());
    Ok(Some(DesiredChange { device, digest }))
}

/// Tells the table. Called after the commit, by the writer's thread.
pub(super) fn tell(table: &DeviceTable, changes: &[DesiredChange]) {
    for change in changes {
        table.with(change.device, |record| record.desired_digest = change.digest);
        table.mark(change.device);
    }
}

impl Store {
    /// The part of the desired state that a device lacks, behind what it was told already: as much as is said
    /// at a time. Called on a worker's thread.
    #[must_use]
    pub fn desired_state(
        &self,
        device: DeviceId,
        after: Option<DesiredStateAfter>,
        now: WallTime,
    ) -> DesiredStateOutcome {
        match self.desired_of(device, after, now) {
            Ok((desired_state, None)) => DesiredStateOutcome::All(Box::new(desired_state)),
            Ok((desired_state, Some(after))) => DesiredStateOutcome::Part(Box::new(desired_state), after),
            Err(StoreError::DeviceRemoved(_) | StoreError::NoDevice(_)) => DesiredStateOutcome::DeviceRemoved,
            Err(error) => {
                log::warn!("device {device}: its desired state could not be read: {error}");
                DesiredStateOutcome::Failed
            }
        }
    }

    fn desired_of(
        &self,
        device: DeviceId,
        after: Option<DesiredStateAfter>,
        now: WallTime,
    ) -> Result<(DesiredState, Option<DesiredStateAfter>), StoreError> {
        let reader = self.reader()?;
        let number = device::number_of(&reader, device)?;
        let (mut desired_state, mut room) = (DesiredState::default(), Room(DESIRED_STATE_BYTES_TARGET));
        let after_run = match after {
            Some(DesiredStateAfter::Run { released_at, run }) => Some((released_at, run)),
            None | Some(DesiredStateAfter::Application(_)) => {
                let after = after.and_then(|after| match after {
                    DesiredStateAfter::Application(name) => Some(name),
                    DesiredStateAfter::Run { .. } => None,
                });
                desired_state.settings =
                    desired_settings::desired_of(&reader, number, after.as_deref(), &mut room)?;
                None
            }
        };
        if room.is_used_up() {
            let last = desired_state.settings.last().map(|order| order.application.clone());
            return Ok((desired_state, last.map(DesiredStateAfter::Application)));
        }
        let (runs, last) = task::desired_of(&reader, number, after_run, now, &mut room)?;
        desired_state.runs = runs;
        if room.is_used_up() {
            return Ok((
                desired_state,
                last.map(|(released_at, run)| DesiredStateAfter::Run { released_at, run }),
            ));
        }
        desired_state.list = task::ids_at(&reader, number)?;
        Ok((desired_state, None))
    }
}

/// Bytes that may still be said at a time.
pub(super) struct Room(usize);

impl Room {
    /// Takes room for one thing, which may be larger than what is left.
    pub(super) fn take(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(bytes);
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.0 == 0
    }
}
