//! The settings that each device should have: worked out from policies and its own whenever either, its place
//! or what it declares changes, and kept as a digest and a revision for each application.

use std::collections::HashMap;
use std::rc::Rc;

use rusqlite::{Connection, Row};

use super::rows::{self, OWN_APPLICATION, SetSettings};
use crate::fleet::settings::{Merged, explain, merge};
use crate::fleet::status::UntoldSettings;
use crate::store::desired_state::{self, DesiredChange, Room};
use crate::store::error::StoreError;
use crate::store::sql::{Columns as _, Sql as _};
use crate::store::{devices, inventory};
use crate::wire::api::ExplainedKey;
use crate::wire::digest::Digest;
use crate::wire::id::DeviceId;
use crate::wire::limits::SETTINGS_BYTES_MAX;
use crate::wire::settings::{Drift, SettingsOrder, digest_of as digest_of_settings};

/// The digest of all settings that the device should have.
pub(in crate::store) fn digest_of(connection: &Connection, number: i64) -> Result<Digest, StoreError> {
    let sql = "SELECT digest FROM desired_settings WHERE device = ?1";
    let digests = connection.all(sql, [number], |row| row.get(0))?;
    Ok(digests.into_iter().fold(Digest::EMPTY, Digest::with))
}

/// Sources of a device's settings, as far as they are not its own.
struct Place {
    group: String,
    declarations: Option<i64>,
    /// Applications for which it has settings of its own.
    own: Vec<String>,
}

fn place(connection: &Connection, number: i64) -> Result<Place, StoreError> {
    let sql = "SELECT g.path, h.declarations FROM devices d JOIN groups g ON g.id = d.group_id
        LEFT JOIN host_facts h ON h.device = d.number WHERE d.number = ?1";
    let (group, declarations) = connection.one(sql, [number], |row| row.try_into())?;
    let sql = "SELECT application FROM own_settings WHERE device = ?1";
    Ok(Place { group, declarations, own: connection.all(sql, [number], |row| row.get(0))? })
}

/// Merges, and remembers what many devices share.
#[derive(Default)]
struct Merger {
    policies: HashMap<String, Rc<[SetSettings]>>,
    declared: HashMap<i64, Rc<[String]>>,
    /// By group and application.
    digests: HashMap<(String, String), Option<Digest>>,
}

impl Merger {
    fn policies(
        &mut self,
        connection: &Connection,
        application: &str,
    ) -> Result<Rc<[SetSettings]>, StoreError> {
        if let Some(known) = self.policies.get(application) {
            return Ok(Rc::clone(known));
        }
        let found: Rc<[_]> = rows::list(connection, Some(application))?.into();
        self.policies.insert(application.to_owned(), Rc::clone(&found));
        Ok(found)
    }

    /// The applications for which a device takes settings.
    fn declared(&mut self, connection: &Connection, id: Option<i64>) -> Result<Rc<[String]>, StoreError> {
        let Some(id) = id else { return Ok(Rc::new([])) };
        if let Some(known) = self.declared.get(&id) {
            return Ok(Rc::clone(known));
        }
        let all = inventory::declarations(connection, id)?;
        let names = all.into_iter().filter(inventory::may_take_settings).map(|one| one.application);
        let names: Rc<[_]> = names.collect();
        self.declared.insert(id, Rc::clone(&names));
        Ok(names)
    }

    /// The levels that count for a group, and then for a device with settings of its own.
    fn levels(
        &mut self,
        connection: &Connection,
        group: &str,
        application: &str,
        own: Option<SetSettings>,
    ) -> Result<Vec<SetSettings>, StoreError> {
        let policies = self.policies(connection, application)?;
        // By path: those above come first.
        let above = policies.iter().filter(|policy| devices::is_within(group, &policy.from)).cloned();
        Ok(above.chain(own).collect())
    }

    fn digest(
        &mut self,
        connection: &Connection,
        number: i64,
        place: &Place,
        application: &str,
    ) -> Result<Option<Digest>, StoreError> {
        if place.own.iter().any(|own| own == application) {
            let own = rows::own(connection, number, application)?;
            let levels = self.levels(connection, &place.group, application, own)?;
            return digest_of_levels(application, &levels);
        }
        let key = (place.group.clone(), application.to_owned());
        if let Some(known) = self.digests.get(&key) {
            return Ok(*known);
        }
        let levels = self.levels(connection, &place.group, application, None)?;
        let digest = digest_of_levels(application, &levels)?;
        self.digests.insert(key, digest);
        Ok(digest)
    }

    /// Works out anew what a device should have. Changed settings are of this revision. Returns the table's
    /// change, when there is one.
    fn renew(
        &mut self,
        connection: &Connection,
        number: i64,
        revision: u64,
    ) -> Result<Option<DesiredChange>, StoreError> {
        let place = place(connection, number)?;
        let sql = "SELECT application, digest FROM desired_settings WHERE device = ?1";
        let before: Vec<(String, Digest)> = connection.all(sql, [number], |row| row.try_into())?;
        let mut before = HashMap::<_, _>::from_iter(before);
        let mut has_changed = false;
        for application in &*self.declared(connection, place.declarations)? {
            let Some(digest) = self.digest(connection, number, &place, application)? else { continue };
            if before.remove(application) != Some(digest) {
                has_changed = true;
                let sql = "INSERT OR REPLACE INTO desired_settings (device, application, digest, revision)
                    VALUES (?1, ?2, ?3, ?4)";
                connection.run(sql, (number, application, digest, revision.cast_signed()))?;
            }
        }
        for application in before.keys() {
            has_changed = true;
            let sql = "DELETE FROM desired_settings WHERE device = ?1 AND application = ?2";
            connection.run(sql, (number, application))?;
        }
        if has_changed { desired_state::refresh(connection, number) } else { Ok(None) }
    }
}

/// The digest of the rules by which each device is judged: settings of the server's own application.
pub(super) fn rules_of_all(connection: &Connection) -> Result<Vec<(DeviceId, Option<Digest>)>, StoreError> {
    let mut merger = Merger::default();
    let mut all = Vec::new();
    let sql = "SELECT d.number, d.id, g.path,
            EXISTS (SELECT 1 FROM own_settings o WHERE o.device = d.number AND o.application = ?1)
        FROM devices d JOIN groups g ON g.id = d.group_id WHERE d.removed_at IS NULL ORDER BY d.number";
    connection.each(sql, [OWN_APPLICATION], |row| {
        let own = if row.get(3)? { vec![OWN_APPLICATION.to_owned()] } else { Vec::new() };
        let place = Place { group: row.get(2)?, declarations: None, own };
        let digest = match merger.digest(connection, row.get(0)?, &place, OWN_APPLICATION) {
            // Nobody is told them: they may be as long as they are.
            Err(StoreError::BadSettings { .. }) => None,
            digest => digest?,
        };
        all.push((row.get(1)?, digest));
        Ok(())
    })?;
    Ok(all)
}

/// Works out anew what these devices should have. Changed settings are of this revision. Returns the table's
/// changes.
pub(in crate::store) fn renew(
    connection: &Connection,
    numbers: impl IntoIterator<Item = i64>,
    revision: u64,
) -> Result<Vec<DesiredChange>, StoreError> {
    let mut merger = Merger::default();
    let renewed = numbers.into_iter().map(|number| merger.renew(connection, number, revision));
    renewed.filter_map(Result::transpose).collect()
}

fn merge_levels(levels: &[SetSettings]) -> Option<Merged> {
    let levels: Vec<_> = levels.iter().map(SetSettings::level).collect();
    (!levels.is_empty()).then(|| merge(&levels))
}

fn digest_of_levels(application: &str, levels: &[SetSettings]) -> Result<Option<Digest>, StoreError> {
    let Some(merged) = merge_levels(levels) else { return Ok(None) };
    let text = merged.text();
    if text.len() > SETTINGS_BYTES_MAX {
        let reason = format!(
            "policies and own settings come to {} bytes together, at most {SETTINGS_BYTES_MAX} are allowed",
            text.len()
        );
        return Err(StoreError::BadSettings { application: application.to_owned(), reason });
    }
    Ok(Some(digest_of_settings(application, &text, merged.drift)))
}

/// Works out anew what the device should have, after what it declares changed. Returns the table's change.
pub(in crate::store) fn declared_anew(
    connection: &Connection,
    number: i64,
) -> Result<Option<DesiredChange>, StoreError> {
    // No new revision: nothing was set. News for this device came to be with the newest one at the latest.
    let newest = rows::newest_revision(connection)?;
    match Merger::default().renew(connection, number, newest) {
        // Levels that are too long together could be set while no device took them. The device's report of
        // itself is stored all the same.
        Err(error @ StoreError::BadSettings { .. }) => {
            log::warn!("a device takes settings that can't be ordered: {error}");
            desired_state::refresh(connection, number)
        }
        other => other,
    }
}

fn levels_of(
    connection: &Connection,
    number: i64,
    application: &str,
) -> Result<Vec<SetSettings>, StoreError> {
    let place = place(connection, number)?;
    let own = rows::own(connection, number, application)?;
    Merger::default().levels(connection, &place.group, application, own)
}

/// The settings that are in force for a device and an application; `None` when nobody has set any.
pub(in crate::store) fn effective(
    connection: &Connection,
    number: i64,
    application: &str,
) -> Result<Option<Merged>, StoreError> {
    Ok(merge_levels(&levels_of(connection, number, application)?))
}

/// Origin of each of those settings.
pub(super) fn explained(
    connection: &Connection,
    number: i64,
    application: &str,
) -> Result<Vec<ExplainedKey>, StoreError> {
    let levels = levels_of(connection, number, application)?;
    Ok(explain(&levels.iter().map(SetSettings::level).collect::<Vec<_>>()))
}

/// The settings that the device should have and, by its own report, was not given yet; and those that it was
/// given and should not have any more. In the order of their applications, behind `after`, as far as there is
/// room.
pub(in crate::store) fn desired_of(
    connection: &Connection,
    number: i64,
    after: Option<&str>,
    room: &mut Room,
) -> Result<Vec<SettingsOrder>, StoreError> {
    let sql = "SELECT s.application, s.revision, 1 FROM desired_settings s
        LEFT JOIN conditions c ON c.device = s.device AND c.application = s.application
        WHERE s.device = ?1 AND s.application > ?2
        AND (c.settings_state IS NULL OR c.settings_digest <> s.digest)
        UNION ALL SELECT application, settings_revision, 0 FROM conditions c
        WHERE device = ?1 AND application > ?2 AND settings_state IS NOT NULL AND settings_digest <> 0
        AND NOT EXISTS (SELECT 1 FROM desired_settings s WHERE s.device = c.device AND s.application = c.application)
        ORDER BY 1";
    let missing: Vec<(String, i64, bool)> =
        connection.all(sql, (number, after.unwrap_or_default()), |row| row.try_into())?;
    let mut desired_state = Vec::new();
    for (application, revision, is_wanted) in missing {
        if room.is_used_up() {
            break;
        }
        let (mut settings, mut drift) = (None, Drift::default());
        if is_wanted {
            let Some(merged) = effective(connection, number, &application)? else { continue };
            (settings, drift) = (Some(merged.text()), merged.drift);
        }
        room.take(application.len() + settings.as_ref().map_or(0, String::len));
        let revision = revision.cast_unsigned();
        desired_state.push(SettingsOrder { application, revision, settings, drift });
    }
    Ok(desired_state)
}

/// Applications of a device, each with the revision in which its settings came to be what they should be:
/// those that it takes settings for, and, with 0, those for which anything was set.
pub(super) fn revisions(connection: &Connection, number: i64) -> Result<Vec<(String, u64)>, StoreError> {
    let sql = "SELECT application, revision FROM desired_settings WHERE device = ?1
        UNION ALL SELECT application, 0 FROM own_settings o WHERE device = ?1 AND NOT EXISTS
            (SELECT 1 FROM desired_settings s WHERE s.device = o.device AND s.application = o.application)
        ORDER BY application";
    connection.all(sql, [number], |row| Ok((row.get(0)?, row.number(1)?)))
}

/// Settings that devices should have, and of which they have said nothing yet: others than the reported ones.
/// Of the devices whose numbers lie between these two, each with the device's number.
pub(in crate::store) fn untold(
    connection: &Connection,
    bounds: [i64; 2],
) -> Result<Vec<(i64, UntoldSettings)>, StoreError> {
    // Without a time it is not known whether they are new: not held against the device.
    let sql = "SELECT * FROM (SELECT w.device, w.application,
            coalesce((SELECT max(changed_at) FROM policies p WHERE p.application = w.application AND p.revision = w.revision),
                (SELECT changed_at FROM own_settings o
                 WHERE o.device = w.device AND o.application = w.application AND o.revision = w.revision)) since
        FROM desired_settings w LEFT JOIN conditions c ON c.device = w.device AND c.application = w.application
        WHERE w.device BETWEEN ?1 AND ?2 AND w.digest <> coalesce(c.settings_digest, 0)) WHERE since IS NOT NULL";
    let read =
        |row: &Row<'_>| Ok((row.get(0)?, UntoldSettings { application: row.get(1)?, since: row.get(2)? }));
    connection.all(sql, bounds, read)
}

pub(in crate::store) fn forget_device(connection: &Connection, number: i64) -> Result<(), StoreError> {
    connection.run("DELETE FROM own_settings WHERE device = ?1", [number])?;
    connection.run("DELETE FROM desired_settings WHERE device = ?1", [number]).map(drop)
}
