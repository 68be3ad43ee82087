//! Administration's changes of settings and of the tree of groups. Every method waits until it is durable;
//! the table knows then, and the caller lets those devices know that have other settings.

use rusqlite::Connection;

use super::changes::InForce;
use super::desired_settings::{self, Merger};
use super::error::StoreError;
use super::group::{self, normal_path};
use super::persistent_links::PersistentLinkChanges;
use super::policy::{self, NewSettings, SetSettings};
use super::{Store, device, query, task};
use crate::fleet::settings::{Explained, Merged};
use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;

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

/// Result of a change of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupOutcome {
    /// It is done.
    Changed(SettingsChange),
    /// It was only tried, and everything is as it was.
    DryRun {
        /// Number of devices that would have other settings.
        devices: u64,
    },
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

impl Store {
    /// Sets a group's policy for an application.
    ///
    /// # Errors
    /// When there is no such group, no device takes settings for the application or none would take these, or
    /// they could not be stored.
    pub fn set_policy(
        &self,
        path: &str,
        application: &str,
        new: NewSettings,
        now: WallTime,
    ) -> Result<SettingsChange, StoreError> {
        let (path, application) = (normal_path(path)?, checked_name(application)?);
        self.change_all(move |connection, revision| {
            let group = group::find(connection, &path)?;
            policy::set(connection, group, &application, &new, revision, now)?;
            let desired_changes = Merger::default().renew_below(connection, &path, revision)?;
            Ok(InForce { desired_changes, ..InForce::default() })
        })
    }

    /// Removes a group's policy for an application.
    ///
    /// # Errors
    /// When there is none, or it could not be stored.
    pub fn remove_policy(&self, path: &str, application: &str) -> Result<SettingsChange, StoreError> {
        let (path, application) = (normal_path(path)?, application.to_owned());
        self.change_all(move |connection, revision| {
            policy::remove(connection, &path, &application)?;
            let desired_changes = Merger::default().renew_below(connection, &path, revision)?;
            Ok(InForce { desired_changes, ..InForce::default() })
        })
    }

    /// Sets a device's own settings for an application.
    ///
    /// # Errors
    /// As [`Store::set_policy`]; and when there is no such device.
    pub fn set_own_settings(
        &self,
        device: DeviceId,
        application: &str,
        new: NewSettings,
        now: WallTime,
    ) -> Result<SettingsChange, StoreError> {
        let application = checked_name(application)?;
        self.change_all(move |connection, revision| {
            let number = device::number_of(connection, device)?;
            policy::set_own(connection, number, &application, &new, revision, now)?;
            let desired_changes = Merger::default().renew(connection, number, revision)?;
            Ok(InForce { desired_changes: desired_changes.into_iter().collect(), ..InForce::default() })
        })
    }

    /// Removes a device's own settings for an application.
    ///
    /// # Errors
    /// When there are none, or it could not be stored.
    pub fn remove_own_settings(
        &self,
        device: DeviceId,
        application: &str,
    ) -> Result<SettingsChange, StoreError> {
        let application = application.to_owned();
        self.change_all(move |connection, revision| {
            let number = device::number_of(connection, device)?;
            let name = query::device(connection, &query::DeviceKey::Id(device))?.row.name;
            policy::remove_own(connection, number, &name, &application)?;
            let desired_changes = Merger::default().renew(connection, number, revision)?;
            Ok(InForce { desired_changes: desired_changes.into_iter().collect(), ..InForce::default() })
        })
    }

    /// Moves a group, with its devices, policies, tasks and the groups below it. `dry_run`: only says
    /// how many devices would have other settings.
    ///
    /// # Errors
    /// When there is no such group, it is the root, the new path is taken or lies within it, or too many
    /// devices would be kept connected.
    pub fn move_group(&self, from: &str, to: &str, dry_run: bool) -> Result<GroupOutcome, StoreError> {
        let (from, to) = (normal_path(from)?, normal_path(to)?);
        self.change_groups(dry_run, move |connection, revision| {
            group::rename(connection, &from, &to)?;
            task::group_moved(connection, &from, &to)?;
            let desired_changes = Merger::default().renew_below(connection, &to, revision)?;
            Ok(InForce { settings: device::settings_below(connection, &to)?, desired_changes })
        })
    }

    /// Removes a group with its policies. One that has devices or groups is refused, unless `is_recursive`:
    /// then its groups go as well, and all their devices and tokens belong to the group above it, and tasks
    /// that took their newcomers along are cancelled.
    ///
    /// # Errors
    /// As [`Store::move_group`].
    pub fn remove_group(
        &self,
        path: &str,
        is_recursive: bool,
        dry_run: bool,
        now: WallTime,
    ) -> Result<GroupOutcome, StoreError> {
        let path = normal_path(path)?;
        self.change_groups(dry_run, move |connection, revision| {
            let moved = group::remove(connection, &path, is_recursive)?;
            task::group_removed(connection, &path, now)?;
            let mut merger = Merger::default();
            let (mut desired_changes, mut settings) = (Vec::new(), Vec::new());
            for number in moved {
                desired_changes.extend(merger.renew(connection, number, revision)?);
                settings.push(device::settings(connection, number)?);
            }
            Ok(InForce { settings, desired_changes })
        })
    }

    fn change_groups(
        &self,
        dry_run: bool,
        change: impl FnOnce(&Connection, u64) -> Result<InForce, StoreError> + Send + 'static,
    ) -> Result<GroupOutcome, StoreError> {
        if !dry_run {
            return self.change_all(change).map(GroupOutcome::Changed);
        }
        let in_force = self.call(move |connection| {
            connection.execute_batch("SAVEPOINT dry_run")?;
            let result = policy::next_revision(connection).and_then(|revision| change(connection, revision));
            connection.execute_batch("ROLLBACK TO dry_run; RELEASE dry_run")?;
            result
        })?;
        Ok(GroupOutcome::DryRun { devices: in_force.desired_changes.len() as u64 })
    }

    fn change_all(
        &self,
        change: impl FnOnce(&Connection, u64) -> Result<InForce, StoreError> + Send + 'static,
    ) -> Result<SettingsChange, StoreError> {
        let (in_force, persistent, revision) = self.change_settings(false, move |connection| {
            let revision = policy::next_revision(connection)?;
            Ok((change(connection, revision)?, revision))
        })?;
        let devices = in_force.desired_changes.into_iter().map(|change| change.device).collect();
        Ok(SettingsChange { revision, devices, persistent })
    }

    /// All policies, or those of one application, by group and application.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn policies(&self, application: Option<&str>) -> Result<Vec<SetSettings>, StoreError> {
        policy::list(&*self.reader()?, application)
    }

    /// Origin of each key of a device's effective settings.
    ///
    /// # Errors
    /// When there is no such device, or the file cannot be read.
    pub fn explain_settings(
        &self,
        device: DeviceId,
        application: &str,
    ) -> Result<Vec<Explained>, StoreError> {
        let reader = self.reader()?;
        let number = device::number_of(&reader, device)?;
        desired_settings::explained(&reader, number, application)
    }

    /// Settings that a device should have, by application: those that it takes settings for, and those for
    /// which anything was set.
    ///
    /// # Errors
    /// When there is no such device, or the file cannot be read.
    pub fn desired_settings(&self, device: DeviceId) -> Result<Vec<DesiredSettings>, StoreError> {
        let reader = self.reader()?;
        let number = device::number_of(&reader, device)?;
        let sql = "SELECT application, revision FROM desired_settings WHERE device = ?1
            UNION ALL SELECT application, 0 FROM own_settings o WHERE device = ?1 AND NOT EXISTS
                (SELECT 1 FROM desired_settings s WHERE s.device = o.device AND s.application = o.application)
            ORDER BY application";
        let mut all = Vec::new();
        for (application, revision) in desired_settings::revisions(&reader, sql, number)? {
            if let Some(merged) = desired_settings::effective(&reader, number, &application)? {
                all.push(DesiredSettings { application, revision, merged });
            }
        }
        Ok(all)
    }
}

fn checked_name(application: &str) -> Result<String, StoreError> {
    if policy::is_name(application) {
        return Ok(application.to_owned());
    }
    let reason =
        "the name of an application has 1 to 255 bytes, and no control or invisible characters".to_owned();
    Err(StoreError::BadSettings { application: application.to_owned(), reason })
}
