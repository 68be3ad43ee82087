//! Administration's changes: of devices, of groups, and of the settings in force for them then. Every method
//! waits until it is durable; the device table is told by the writer's thread, in the order in which changes
//! were stored.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::Connection;

use super::desired_settings::Merger;
use super::desired_state::{self, DesiredChange};
use super::device::{self, DeviceChange, DeviceSettings, EnrolledDevice, Enrolment};
use super::error::StoreError;
use super::group::{self, GroupChange, normal_path};
use super::persistent_links::{PersistentLinkChanges, Reservation};
use super::writer::Origin;
use super::{Store, policy, query};
use crate::machine::device_state::DeviceState;
use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;

/// Settings in force after a change.
#[derive(Debug, Default)]
pub(super) struct InForce {
    /// For devices whose links or intervals it may concern.
    pub(super) settings: Vec<DeviceSettings>,
    /// Devices that have another desired state.
    pub(super) desired_changes: Vec<DesiredChange>,
}

/// A device that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceChanged {
    /// An administrator's settings for it now.
    pub settings: DeviceSettings,
    /// Whose links are to stay since, or are not any more.
    pub persistent: PersistentLinkChanges,
    /// Whether its applications have other settings now, as its group is another.
    pub has_other_desired_state: bool,
}

impl Store {
    /// Another interval for devices for which nobody set one, in seconds. The table knows when this returns.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn set_default_interval(&self, seconds: u32) -> Result<(), StoreError> {
        self.inner.default_interval_seconds.store(seconds, Ordering::Relaxed);
        for settings in device::settings_below(&*self.reader()?, "/")? {
            let interval = settings.interval_seconds.unwrap_or(seconds);
            self.table().with(settings.device, |record| record.set_interval_seconds(interval));
        }
        Ok(())
    }

    /// Most devices that may be kept connected at a time; without a limit until this is called. When there
    /// are more, those that enrolled first stay kept and the others wait for room; when there is room, those
    /// who wait are let in. The table knows when this returns.
    ///
    /// # Errors
    /// When the file cannot be read; the limit is the old one then.
    pub fn set_persistent_max(&self, devices: u64) -> Result<PersistentLinkChanges, StoreError> {
        self.inner.persistent_links.set_max(devices, || query::devices_by_age(&*self.reader()?))
    }

    /// Most devices that may be kept connected; how many are says
    /// [`DeviceTable::persistent`](super::table::DeviceTable::persistent).
    #[must_use]
    pub fn persistent_max(&self) -> u64 {
        self.inner.persistent_links.max()
    }

    /// Whether the device should be kept connected and is not, because there was no room.
    #[must_use]
    pub fn waits_for_room(&self, device: DeviceId) -> bool {
        self.inner.persistent_links.is_waiting(device)
    }

    /// Uses the token and enters the device, all or nothing. `done` is called when it is durable. A device
    /// whose group keeps its devices connected enrols whether there is room for that or not.
    pub fn enrol(
        &self,
        enrolment: Enrolment,
        done: impl FnOnce(Result<EnrolledDevice, StoreError>) + Send + 'static,
    ) {
        let certificate = enrolment.certificate;
        let (table, persistent) = (Arc::clone(&self.inner.table), Arc::clone(&self.inner.persistent_links));
        let default = self.inner.default_interval_seconds.load(Ordering::Relaxed);
        let memberships = Arc::clone(&self.inner.memberships);
        self.submit_of_tokens(
            Origin::Device,
            move |connection| device::enrol(connection, &enrolment),
            move |result| {
                if let Ok(enrolled) = &result {
                    memberships.fetch_add(1, Ordering::Release);
                    let interval = enrolled.interval_seconds.unwrap_or(default);
                    let mut record = DeviceState::new(enrolled.device, interval);
                    if enrolled.keep_connected {
                        persistent.admit(enrolled.device, |has_room| {
                            record.keep_connected = has_room;
                            table.insert(record, &certificate);
                        });
                    } else {
                        table.insert(record, &certificate);
                    }
                }
                done(result);
            },
        );
    }

    /// Changes a device; waits until that is durable. An administrator's settings for it then, and the
    /// devices whose links are to stay since.
    ///
    /// # Errors
    /// When there is no such device, the name is taken or none, the group's path is none, too many devices
    /// would be kept connected, or it could not be stored. Then nothing is changed.
    pub fn change_device(&self, device: DeviceId, change: DeviceChange) -> Result<DeviceChanged, StoreError> {
        let is_asked_by_name = change.keep_connected == Some(Some(true));
        let moves = change.group.is_some();
        let (in_force, persistent, desired_changes) =
            self.change_settings(is_asked_by_name, move |connection| {
                let settings = vec![device::change(connection, device, &change)?];
                let mut desired_changes = Vec::new();
                if moves {
                    let number = device::number_of(connection, device)?;
                    let revision = policy::next_revision(connection)?;
                    desired_changes.extend(Merger::default().renew(connection, number, revision)?);
                }
                let has_other_desired_state = !desired_changes.is_empty();
                Ok((InForce { settings, desired_changes }, has_other_desired_state))
            })?;
        let settings =
            in_force.settings.first().copied().ok_or_else(|| StoreError::NoDevice(device.to_string()))?;
        Ok(DeviceChanged { settings, persistent, has_other_desired_state: desired_changes })
    }

    /// Makes a group, with every group above it, or changes it. Waits until it is durable; the table knows
    /// then. Whose links are to stay since.
    ///
    /// # Errors
    /// When the path is none, too many devices would be kept connected, or it could not be stored. Then
    /// nothing is changed.
    pub fn set_group(&self, path: &str, change: GroupChange) -> Result<PersistentLinkChanges, StoreError> {
        let path = normal_path(path)?;
        let (_, changes, ()) = self.change_settings(false, move |connection| {
            group::set(connection, &path, change)?;
            if change == GroupChange::default() {
                return Ok((InForce::default(), ()));
            }
            Ok((
                InForce { settings: device::settings_below(connection, &path)?, desired_changes: Vec::new() },
                (),
            ))
        })?;
        Ok(changes)
    }

    /// Removes a device; waits until that is durable. Its name is free, its certificate is refused from then
    /// on. The last record says which link to close.
    ///
    /// # Errors
    /// When there is no such device, or it could not be stored.
    pub fn remove_device(&self, device: DeviceId, now: WallTime) -> Result<Option<DeviceState>, StoreError> {
        let orphans = self.inner.orphans.clone();
        self.call(move |connection| device::remove(connection, device, now, &orphans))?;
        let record = self.inner.table.remove(device);
        self.inner.persistent_links.removed(device);
        Ok(record)
    }

    /// Stores a change of settings, unless it would keep too many devices connected, and brings the settings
    /// that come of it into force. Room is looked for inside the transaction, on the writer's thread: no two
    /// changes can take the same.
    pub(super) fn change_settings<T: Send + 'static>(
        &self,
        lets_waiting_in: bool,
        change: impl FnOnce(&Connection) -> Result<(InForce, T), StoreError> + Send + 'static,
    ) -> Result<(InForce, PersistentLinkChanges, T), StoreError> {
        let (table, persistent) = (Arc::clone(&self.inner.table), Arc::clone(&self.inner.persistent_links));
        let home = Arc::clone(&persistent);
        let default = self.inner.default_interval_seconds.load(Ordering::Relaxed);
        let action = move |connection: &Connection| -> Result<(InForce, Reservation, T), StoreError> {
            let (in_force, more) = change(connection)?;
            let reservation = home.reserve(&in_force.settings, lets_waiting_in)?;
            Ok((in_force, reservation, more))
        };
        let memberships = Arc::clone(&self.inner.memberships);
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.submit(action, move |result| {
            let applied = result.map(|(in_force, reservation, more)| {
                memberships.fetch_add(1, Ordering::Release);
                for settings in &in_force.settings {
                    let interval = settings.interval_seconds.unwrap_or(default);
                    table.with(settings.device, |record| record.set_interval_seconds(interval));
                }
                desired_state::tell(&table, &in_force.desired_changes);
                let changes = persistent.apply(&in_force.settings, reservation);
                (in_force, changes, more)
            });
            // The receiver waits below.
            let _ = sender.send(applied);
        });
        receiver.recv().unwrap_or(Err(StoreError::Stopped))
    }
}
