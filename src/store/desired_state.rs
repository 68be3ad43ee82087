//! Desired state of a device beyond what it says of itself: settings, and runs of tasks.
//!
//! All of it is one digest, in the device's record and in its row, which a sync compares with what the device
//! says it has. Whatever changes what a device is to have calls [`refresh`] in the same transaction, and
//! tells the table after the commit.

use rusqlite::Connection;

use super::error::StoreError;
use super::{Store, devices, policies, tasks};
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
    let digest = policies::digest_of(connection, number)?.with(tasks::digest_of(connection, number)?);
    let device = devices::set_desired_digest(connection, number, digest)?;
    Ok(device.map(|device| DesiredChange { device, digest }))
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
        let number = devices::number_of(&reader, device)?;
        let (mut desired_state, mut room) = (DesiredState::default(), Room(DESIRED_STATE_BYTES_TARGET));
        let after_run = match after {
            Some(DesiredStateAfter::Run { released_at, run }) => Some((released_at, run)),
            None | Some(DesiredStateAfter::Application(_)) => {
                let after = after.and_then(|after| match after {
                    DesiredStateAfter::Application(name) => Some(name),
                    DesiredStateAfter::Run { .. } => None,
                });
                desired_state.settings = policies::desired_of(&reader, number, after.as_deref(), &mut room)?;
                None
            }
        };
        if room.is_used_up() {
            let last = desired_state.settings.last().map(|order| order.application.clone());
            return Ok((desired_state, last.map(DesiredStateAfter::Application)));
        }
        let (runs, last) = tasks::desired_of(&reader, number, after_run, now, &mut room)?;
        desired_state.runs = runs;
        if room.is_used_up() {
            return Ok((
                desired_state,
                last.map(|(released_at, run)| DesiredStateAfter::Run { released_at, run }),
            ));
        }
        desired_state.list = tasks::ids_at(&reader, number)?;
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
