//! Policies of groups and settings of devices: what was set, and what each device should have for it.
//!
//! Changes wait until they are durable; the table knows then, and the caller lets those devices know that
//! have other settings.

mod history;
mod merger;
mod rows;

use std::sync::Arc;

use rusqlite::Connection;
use serde_json::{Map, Value};

pub use history::{Author, POLICY_VERSIONS_MAX};
pub(super) use merger::{declared_anew, desired_of, digest_of, effective, forget_device, renew, untold};
pub use rows::{NewSettings, OWN_APPLICATION, SetSettings};
pub(super) use rows::{group_removed, is_name, next_revision};

use super::desired_state::DesiredChange;
use super::devices::{self, Devices, PersistentLinkChanges, normal_path};
use super::error::StoreError;
use super::page::{Page, PageRequest};
use super::query;
use crate::fleet::settings::{self, Merged};
use crate::wire::api::{CHANGED_NAMES_MAX, ChangedKey, ExplainedKey, PolicyVersion};
use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;

/// The policies of groups, and the settings of devices.
pub struct Policies {
    devices: Devices,
}

/// Result of a change of settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettingsChange {
    /// The revision that it is.
    pub revision: u64,
    /// Devices that have other settings since.
    pub devices: Vec<DeviceId>,
    /// Whose links are to stay since, or are not any more.
    pub persistent: PersistentLinkChanges,
}

/// Result of a change of settings that was only tried.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Preview {
    /// Devices that would have other settings.
    pub devices: Vec<DeviceId>,
    /// The first [`CHANGED_NAMES_MAX`] of them, by their names, with what would be different.
    pub examples: Vec<(String, Vec<ChangedKey>)>,
}

/// One application of a device: what it should have.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredSettings {
    /// The application.
    pub application: String,
    /// The revision in which it came to be so; 0: the device takes no settings for it.
    pub revision: u64,
    /// The settings.
    pub merged: Merged,
}

impl Policies {
    pub(super) fn new(devices: Devices) -> Self {
        Self { devices }
    }

    /// Sets a group's policy for an application.
    ///
    /// # Errors
    /// When there is no such group, no device takes settings for the application or none would take these, or
    /// they could not be stored.
    pub fn set(
        &self,
        path: &str,
        application: &str,
        new: NewSettings,
        by: Author,
    ) -> Result<SettingsChange, StoreError> {
        self.change(application, setting(path, application, new, by)?)
    }

    /// Devices that would have other settings with this policy. Nothing is changed.
    ///
    /// # Errors
    /// As [`Policies::set`].
    pub fn preview(
        &self,
        path: &str,
        application: &str,
        new: NewSettings,
        by: Author,
    ) -> Result<Preview, StoreError> {
        self.tried(application, setting(path, application, new, by)?)
    }

    /// Removes a group's policy for an application.
    ///
    /// # Errors
    /// When there is none, or it could not be stored.
    pub fn remove(&self, path: &str, application: &str, by: Author) -> Result<SettingsChange, StoreError> {
        self.change(application, removing(path, application, by)?)
    }

    /// Devices that would have other settings without this policy. Nothing is changed.
    ///
    /// # Errors
    /// As [`Policies::remove`].
    pub fn preview_removal(&self, path: &str, application: &str, by: Author) -> Result<Preview, StoreError> {
        self.tried(application, removing(path, application, by)?)
    }

    /// Versions of a group's policy for an application, the newest first.
    ///
    /// # Errors
    /// When there is no such group, the cursor is none, or the file cannot be read.
    pub fn history(
        &self,
        path: &str,
        application: &str,
        page: &PageRequest,
    ) -> Result<Page<PolicyVersion>, StoreError> {
        let reader = self.devices.database().reader()?;
        let group = devices::find_group(&reader, &normal_path(path)?)?;
        history::list(&reader, (group, application), page)
    }

    /// Sets a device's own settings for an application.
    ///
    /// # Errors
    /// As [`Policies::set`]; and when there is no such device.
    pub fn set_own(
        &self,
        device: DeviceId,
        application: &str,
        new: NewSettings,
        now: WallTime,
    ) -> Result<SettingsChange, StoreError> {
        self.change(application, setting_own(device, application, new, now)?)
    }

    /// The device, if it would have other settings with these. Nothing is changed.
    ///
    /// # Errors
    /// As [`Policies::set_own`].
    pub fn preview_own(
        &self,
        device: DeviceId,
        application: &str,
        new: NewSettings,
        now: WallTime,
    ) -> Result<Preview, StoreError> {
        self.tried(application, setting_own(device, application, new, now)?)
    }

    /// Removes a device's own settings for an application.
    ///
    /// # Errors
    /// When there are none, or it could not be stored.
    pub fn remove_own(&self, device: DeviceId, application: &str) -> Result<SettingsChange, StoreError> {
        self.change(application, removing_own(device, application))
    }

    /// The device, if it would have other settings without its own. Nothing is changed.
    ///
    /// # Errors
    /// As [`Policies::remove_own`].
    pub fn preview_removal_own(&self, device: DeviceId, application: &str) -> Result<Preview, StoreError> {
        self.tried(application, removing_own(device, application))
    }

    /// The devices that a change would give other settings, and how.
    fn tried(&self, application: &str, change: impl Change) -> Result<Preview, StoreError> {
        let application = application.to_owned();
        self.devices.database().call(move |connection| {
            connection.execute_batch("SAVEPOINT dry_run")?;
            let tried = next_revision(connection).and_then(|revision| {
                let (_, devices) = changed(connection, revision, &application, change)?;
                let after = settings_of(connection, &devices, &application)?;
                Ok((devices, after))
            });
            connection.execute_batch("ROLLBACK TO dry_run; RELEASE dry_run")?;
            let (devices, after) = tried?;
            let before = settings_of(connection, &devices, &application)?;
            let names = devices.iter().map(|device| query::name_of(connection, *device));
            let mut examples = Vec::new();
            for ((name, before), after) in names.zip(before).zip(after) {
                examples.push((name?.unwrap_or_default(), settings::changes(&before, &after)));
            }
            Ok(Preview { devices, examples })
        })
    }

    fn change(&self, application: &str, change: impl Change) -> Result<SettingsChange, StoreError> {
        let (memory, application) = (Arc::clone(self.devices.memory()), application.to_owned());
        let action = move |connection: &Connection| {
            let revision = next_revision(connection)?;
            Ok((revision, changed(connection, revision, &application, change)?))
        };
        self.devices.database().call_then(action, move |(revision, (changes, devices))| {
            memory.tell(&changes);
            SettingsChange { revision, devices, persistent: PersistentLinkChanges::default() }
        })
    }

    /// All policies, or those of one application, by group and application.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self, application: Option<&str>) -> Result<Vec<SetSettings>, StoreError> {
        rows::list(&*self.devices.database().reader()?, application)
    }

    /// A device's own settings for an application; `None`: there are none.
    ///
    /// # Errors
    /// When there is no such device, or the file cannot be read.
    pub fn own(&self, device: DeviceId, application: &str) -> Result<Option<SetSettings>, StoreError> {
        let reader = self.devices.database().reader()?;
        rows::own(&reader, devices::number_of(&reader, device)?, application)
    }

    /// Origin of each key of a device's effective settings.
    ///
    /// # Errors
    /// When there is no such device, or the file cannot be read.
    pub fn explain(&self, device: DeviceId, application: &str) -> Result<Vec<ExplainedKey>, StoreError> {
        let reader = self.devices.database().reader()?;
        merger::explained(&reader, devices::number_of(&reader, device)?, application)
    }

    /// Settings that a device should have, by application: those that it takes settings for, and those for
    /// which anything was set.
    ///
    /// # Errors
    /// When there is no such device, or the file cannot be read.
    pub fn desired(&self, device: DeviceId) -> Result<Vec<DesiredSettings>, StoreError> {
        let reader = self.devices.database().reader()?;
        let number = devices::number_of(&reader, device)?;
        let mut all = Vec::new();
        for (application, revision) in merger::revisions(&reader, number)? {
            if let Some(merged) = effective(&reader, number, &application)? {
                all.push(DesiredSettings { application, revision, merged });
            }
        }
        Ok(all)
    }
}

/// A change of settings, which says which devices have others in this revision.
trait Change: FnOnce(&Connection, u64) -> Result<Vec<DesiredChange>, StoreError> + Send + 'static {}

impl<T: FnOnce(&Connection, u64) -> Result<Vec<DesiredChange>, StoreError> + Send + 'static> Change for T {}

/// Makes a change. The devices that have other settings for the application since: those that are told so,
/// and, as nobody is told the rules of the server, those that are judged by others.
fn changed(
    connection: &Connection,
    revision: u64,
    application: &str,
    change: impl Change,
) -> Result<(Vec<DesiredChange>, Vec<DeviceId>), StoreError> {
    let rules = || match application {
        OWN_APPLICATION => merger::rules_of_all(connection),
        _ => Ok(Vec::new()),
    };
    let before = rules()?;
    let changes = change(connection, revision)?;
    let judged_by_others = rules()?.into_iter().zip(before).filter(|(after, before)| after != before);
    let devices = changes.iter().map(|change| change.device);
    let devices = devices.chain(judged_by_others.map(|((device, _), _)| device)).collect();
    Ok((changes, devices))
}

/// Effective settings of the first devices, as many as a preview shows.
fn settings_of(
    connection: &Connection,
    devices: &[DeviceId],
    application: &str,
) -> Result<Vec<Map<String, Value>>, StoreError> {
    let of_device = |device: &DeviceId| {
        let number = devices::number_of(connection, *device)?;
        Ok(effective(connection, number, application)?.map(|merged| merged.settings).unwrap_or_default())
    };
    devices.iter().take(CHANGED_NAMES_MAX).map(of_device).collect()
}

fn setting(path: &str, application: &str, new: NewSettings, by: Author) -> Result<impl Change, StoreError> {
    let (path, application) = (normal_path(path)?, checked_name(application)?);
    Ok(move |connection: &Connection, revision: u64| {
        let group = devices::find_group(connection, &path)?;
        rows::set(connection, rows::Holder::Group(group), &application, &new, revision, by.at)?;
        history::note(connection, (group, &application), Some(&new), revision, &by)?;
        renew(connection, devices::members(connection, &path)?, revision)
    })
}

fn removing(path: &str, application: &str, by: Author) -> Result<impl Change, StoreError> {
    let (path, application) = (normal_path(path)?, application.to_owned());
    Ok(move |connection: &Connection, revision: u64| {
        let group = devices::find_group(connection, &path)?;
        rows::remove(connection, group, &path, &application)?;
        history::note(connection, (group, &application), None, revision, &by)?;
        renew(connection, devices::members(connection, &path)?, revision)
    })
}

fn removing_own(device: DeviceId, application: &str) -> impl Change {
    let application = application.to_owned();
    move |connection: &Connection, revision: u64| {
        let number = devices::number_of(connection, device)?;
        let name = query::name_of(connection, device)?.unwrap_or_default();
        rows::remove_own(connection, number, &name, &application)?;
        renew(connection, [number], revision)
    }
}

fn setting_own(
    device: DeviceId,
    application: &str,
    new: NewSettings,
    now: WallTime,
) -> Result<impl Change, StoreError> {
    let application = checked_name(application)?;
    Ok(move |connection: &Connection, revision: u64| {
        let number = devices::number_of(connection, device)?;
        rows::set(connection, rows::Holder::Device(number), &application, &new, revision, now)?;
        renew(connection, [number], revision)
    })
}

fn checked_name(application: &str) -> Result<String, StoreError> {
    if is_name(application) {
        return Ok(application.to_owned());
    }
    let reason =
        "the name of an application has 1 to 255 bytes, and no control or invisible characters".to_owned();
    Err(StoreError::BadSettings { application: application.to_owned(), reason })
}
