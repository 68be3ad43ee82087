//! Devices: enrolment, names, groups, tokens, and what is known of each from moment to moment.
//!
//! Every change waits until it is durable, unless it has a completion; the device table is told by the
//! writer's thread, in the order in which changes were stored.

pub(super) mod certificates;
mod clones;
mod group;
mod indexed;
pub(super) mod list;
mod membership;
mod persistent_links;
mod rows;
mod states;
mod status;
pub mod table;
mod token;
mod trust;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rusqlite::Connection;

pub use certificates::DeviceCertificate;
pub use group::{GROUP_DEPTH_MAX, GroupChange, GroupOutcome, normal_path};
pub(super) use group::{MEMBERS, find as find_group, is_within, members, range_below};
pub use membership::{Former, UNKNOWN_MAX, UnknownDevice, WAITING_MAX, WAITING_MILLISECONDS};
pub use persistent_links::PersistentLinkChanges;
pub use rows::{DeviceChange, DeviceSettings, EnrolledDevice, Enrolment};
pub(super) use rows::{id_of, number_of};
pub(super) use states::{set_desired_digest, set_section};
pub use status::{DeviceStatus, Judged, Slice, Verdict};
pub(super) use status::{reasons_of, worst_reasons};
pub use token::{CreatedToken, EnrolledBefore, Invited, NewToken, TokenRefusal};
pub use trust::TrustCounts;

use super::DEFAULT_INTERVAL_SECONDS;
use super::database::Database;
use super::desired_state::DesiredChange;
use super::error::StoreError;
use super::inventory::Orphans;
use super::policies::{self, SettingsChange};
use super::selection::Changes;
use super::writer::Origin;
use crate::machine::device_state::DeviceState;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::time::WallTime;
use persistent_links::{PersistentLinks, Reservation};
use table::DeviceTable;

/// The devices, their groups and the join tokens.
pub struct Devices {
    database: Database,
    memory: Arc<InMemory>,
    /// Told of what removed devices leave behind in the dictionary.
    orphans: Orphans,
}

/// Facts about devices that are known without the disk.
pub(super) struct InMemory {
    pub(super) table: Arc<DeviceTable>,
    /// News for lists of devices.
    pub(super) listed: Changes,
    persistent_links: Arc<PersistentLinks>,
    /// The interval of devices whose groups name none.
    default_interval_seconds: AtomicU32,
    /// Counts changes after which other devices may belong to a group: what continuous tasks are for.
    memberships: AtomicU64,
    /// Until when some join token lets a device in, in milliseconds since 1970; 0: none does. As it is on
    /// disk.
    enrolment_open_until: AtomicU64,
}

/// Fills the memory from the file.
pub(super) fn load(connection: &Connection) -> Result<Arc<InMemory>, StoreError> {
    let table = Arc::new(DeviceTable::default());
    states::load(connection, &table, DEFAULT_INTERVAL_SECONDS)?;
    certificates::load(connection, &table)?;
    Ok(Arc::new(InMemory {
        persistent_links: PersistentLinks::new(Arc::clone(&table)),
        table,
        listed: Changes::default(),
        default_interval_seconds: AtomicU32::new(DEFAULT_INTERVAL_SECONDS),
        memberships: AtomicU64::new(1),
        enrolment_open_until: AtomicU64::new(token::open_until(connection)?.0),
    }))
}

impl InMemory {
    /// Number of changes so far after which other devices may belong to a group.
    pub(super) fn memberships(&self) -> u64 {
        self.memberships.load(Ordering::Acquire)
    }

    /// Devices have another desired state. Called after the commit, by the writer's thread.
    pub(super) fn tell(&self, changes: &[DesiredChange]) {
        for change in changes {
            self.table.with(change.device, |record| record.desired_digest = change.digest);
            self.table.mark(change.device);
        }
    }

    /// Enters a device that has enrolled.
    fn enter(&self, enrolled: &EnrolledDevice, certificate: &CertificateHash) {
        self.listed.note(enrolled.device);
        if let Some(former) = &enrolled.former {
            return self.table.replace_certificates(enrolled.device, former, certificate);
        }
        self.memberships.fetch_add(1, Ordering::Release);
        let default = self.default_interval_seconds.load(Ordering::Relaxed);
        let mut record = DeviceState::new(enrolled.device, enrolled.interval_seconds.unwrap_or(default));
        record.set_waiting(enrolled.is_waiting);
        if enrolled.is_waiting {
            self.table.mark(enrolled.device);
        }
        if enrolled.keep_connected && !enrolled.is_waiting {
            self.persistent_links.admit(enrolled.device, |has_room| {
                record.keep_connected = has_room;
                self.table.insert(record, certificate);
            });
        } else {
            self.table.insert(record, certificate);
        }
    }

    /// Settings are stored: they are in force from now on.
    fn put_in_force(&self, in_force: &InForce, reservation: Reservation) -> PersistentLinkChanges {
        self.memberships.fetch_add(1, Ordering::Release);
        let default = self.default_interval_seconds.load(Ordering::Relaxed);
        for settings in &in_force.settings {
            let interval = settings.interval_seconds.unwrap_or(default);
            self.table.with(settings.device, |record| record.set_interval_seconds(interval));
        }
        self.tell(&in_force.desired_changes);
        self.persistent_links.apply(&in_force.settings, reservation)
    }
}

/// Settings in force after a change.
#[derive(Debug, Default)]
struct InForce {
    /// For devices whose links or intervals it may concern.
    settings: Vec<DeviceSettings>,
    /// Devices that have another desired state.
    desired_changes: Vec<DesiredChange>,
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

impl Devices {
    pub(super) fn new(database: Database, memory: Arc<InMemory>, orphans: Orphans) -> Self {
        Self { database, memory, orphans }
    }

    /// The same devices, for another owner. Not for callers: the store waits until all of them are gone.
    pub(super) fn handle(&self) -> Self {
        Self::new(self.database.clone(), Arc::clone(&self.memory), self.orphans.clone())
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    pub(super) fn memory(&self) -> &Arc<InMemory> {
        &self.memory
    }

    pub(super) fn table(&self) -> &Arc<DeviceTable> {
        &self.memory.table
    }

    /// Another interval for devices for which nobody set one, in seconds. The table knows when this returns.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn set_default_interval(&self, seconds: u32) -> Result<(), StoreError> {
        self.memory.default_interval_seconds.store(seconds, Ordering::Relaxed);
        for settings in rows::settings_below(&*self.database.reader()?, "/")? {
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
        let by_age = || list::device_ids(&*self.database.reader()?);
        self.memory.persistent_links.set_max(devices, by_age)
    }

    /// Whether the device should be kept connected and is not, because there was no room.
    #[must_use]
    pub fn waits_for_room(&self, device: DeviceId) -> bool {
        self.memory.persistent_links.is_waiting(device)
    }

    /// Uses the token and enters the device, all or nothing. `done` is called when it is durable. A device
    /// whose group keeps its devices connected enrols whether there is room for that or not.
    pub fn enrol(
        &self,
        enrolment: Enrolment,
        done: impl FnOnce(Result<EnrolledDevice, StoreError>) + Send + 'static,
    ) {
        let (memory, certificate) = (Arc::clone(&self.memory), enrolment.certificate.hash);
        let action =
            move |connection: &Connection| token::with_open_until(connection, |c| rows::enrol(c, &enrolment));
        self.database.writer.submit(Origin::Device, 0, action, move |result| {
            let result = result.map(|changed| memory.tokens_changed(changed));
            if let Ok(enrolled) = &result {
                memory.enter(enrolled, &certificate);
            }
            done(result);
        });
    }

    /// Changes a device; waits until that is durable. An administrator's settings for it then, and the
    /// devices whose links are to stay since.
    ///
    /// # Errors
    /// When there is no such device, the name is taken or none, the group's path is none, too many devices
    /// would be kept connected, or it could not be stored. Then nothing is changed.
    pub fn change(&self, device: DeviceId, change: DeviceChange) -> Result<DeviceChanged, StoreError> {
        let is_asked_by_name = change.keep_connected == Some(Some(true));
        let (in_force, persistent, settings) = self.put(is_asked_by_name, move |connection| {
            let settings = rows::change(connection, device, &change)?;
            if rows::is_waiting(connection, number_of(connection, device)?)? {
                return Ok((InForce::default(), settings));
            }
            let mut desired_changes = Vec::new();
            if change.group.is_some() {
                let number = number_of(connection, device)?;
                let revision = policies::next_revision(connection)?;
                desired_changes.extend(policies::renew(connection, [number], revision)?);
            }
            Ok((InForce { settings: vec![settings], desired_changes }, settings))
        })?;
        self.memory.listed.note(device);
        let has_other_desired_state = !in_force.desired_changes.is_empty();
        Ok(DeviceChanged { settings, persistent, has_other_desired_state })
    }

    /// Changes all of these devices, all or none; waits until that is durable. Those that are gone are passed
    /// over. Devices that have other settings since, and those whose links are to stay, or are not any more.
    ///
    /// # Errors
    /// As [`Devices::change`].
    pub fn change_all(
        &self,
        devices: Vec<DeviceId>,
        change: DeviceChange,
    ) -> Result<SettingsChange, StoreError> {
        let lets_waiting_in = change.keep_connected == Some(Some(true));
        let (in_force, persistent, revision) = self.put(lets_waiting_in, move |connection| {
            let (mut settings, mut moved) = (Vec::new(), Vec::new());
            for device in devices {
                match rows::change(connection, device, &change) {
                    Ok(one) => settings.push(one),
                    Err(StoreError::NoDevice(_) | StoreError::DeviceRemoved(_)) => continue,
                    Err(error) => return Err(error),
                }
                if change.group.is_some() {
                    moved.push(number_of(connection, device)?);
                }
            }
            let revision = policies::next_revision(connection)?;
            let desired_changes = policies::renew(connection, moved, revision)?;
            Ok((InForce { settings, desired_changes }, revision))
        })?;
        self.memory.listed.note_all();
        let devices = in_force.desired_changes.into_iter().map(|change| change.device).collect();
        Ok(SettingsChange { revision, devices, persistent })
    }

    /// Removes a device; waits until that is durable. Its name is free, its certificate is refused from then
    /// on. The last record says which link to close.
    ///
    /// # Errors
    /// When there is no such device, or it could not be stored.
    pub fn remove(&self, device: DeviceId, now: WallTime) -> Result<Option<DeviceState>, StoreError> {
        let orphans = self.orphans.clone();
        // With it go the tokens that let another machine take its record over.
        self.change_tokens(move |connection| rows::remove(connection, device, now, &orphans))?;
        Ok(self.forget(device))
    }

    /// Removes all of these devices, all or none; waits until that is durable. Those that are gone are passed
    /// over. The last records of those that were removed.
    ///
    /// # Errors
    /// When it could not be stored.
    pub fn remove_all(&self, devices: Vec<DeviceId>, now: WallTime) -> Result<Vec<DeviceState>, StoreError> {
        let orphans = self.orphans.clone();
        let removed = self.change_tokens(move |connection| {
            let mut removed = Vec::new();
            for device in devices {
                match rows::remove(connection, device, now, &orphans) {
                    Ok(()) => removed.push(device),
                    Err(StoreError::NoDevice(_) | StoreError::DeviceRemoved(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(removed)
        })?;
        Ok(removed.into_iter().filter_map(|device| self.forget(device)).collect())
    }

    fn forget(&self, device: DeviceId) -> Option<DeviceState> {
        self.memory.listed.note(device);
        let record = self.table().remove(device);
        self.memory.persistent_links.removed(device);
        record
    }

    /// Stores a change of settings, unless it would keep too many devices connected, and brings the settings
    /// that come of it into force. Room is looked for inside the transaction, on the writer's thread: no two
    /// changes can take the same.
    fn put<T: Send + 'static>(
        &self,
        lets_waiting_in: bool,
        change: impl FnOnce(&Connection) -> Result<(InForce, T), StoreError> + Send + 'static,
    ) -> Result<(InForce, PersistentLinkChanges, T), StoreError> {
        let links = Arc::clone(&self.memory.persistent_links);
        let memory = Arc::clone(&self.memory);
        let action = move |connection: &Connection| {
            let (in_force, more) = change(connection)?;
            let reservation = links.reserve(&in_force.settings, lets_waiting_in)?;
            Ok((in_force, reservation, more))
        };
        self.database.call_then(action, move |(in_force, reservation, more)| {
            let changes = memory.put_in_force(&in_force, reservation);
            (in_force, changes, more)
        })
    }
}
