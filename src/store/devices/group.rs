//! Groups: a tree, named by paths such as `/berlin/kiosks`. The root is `/`.

use rusqlite::{Connection, named_params};

use super::{Devices, InForce, PersistentLinkChanges, rows};
pub(in crate::store) use crate::fleet::access::is_within;
use crate::store::error::StoreError;
use crate::store::policies::{self, SettingsChange};
use crate::store::sql::Sql as _;
use crate::store::tasks;
use crate::store::{api_tokens, users};
use crate::wire::api::GroupInForce;
use crate::wire::printable::is_name;
use crate::wire::time::WallTime;

/// Deepest group, in names. Deeper trees are a mistake, and effective settings are looked up along the path.
pub const GROUP_DEPTH_MAX: usize = 16;

/// An administrator's change of a group. `None` leaves things as they are, `Some(None)` makes them those of
/// the group above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupChange {
    /// The sync interval of its devices.
    pub interval_seconds: Option<Option<u32>>,
    /// Whether the links of its devices stay open between syncs.
    pub keep_connected: Option<Option<bool>>,
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

impl Devices {
    /// Makes a group, with every group above it, or changes it. Waits until it is durable; the table knows
    /// then. Whose links are to stay since.
    ///
    /// # Errors
    /// When the path is none, too many devices would be kept connected, or it could not be stored. Then
    /// nothing is changed.
    pub fn set_group(&self, path: &str, change: GroupChange) -> Result<PersistentLinkChanges, StoreError> {
        let path = normal_path(path)?;
        let (_, changes, ()) = self.put(false, move |connection| {
            set(connection, &path, change)?;
            let is_changed = change != GroupChange::default();
            let settings = if is_changed { rows::settings_below(connection, &path)? } else { Vec::new() };
            Ok((InForce { settings, desired_changes: Vec::new() }, ()))
        })?;
        Ok(changes)
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
            rename(connection, &from, &to)?;
            tasks::group_moved(connection, &from, &to)?;
            let desired_changes = policies::renew(connection, members(connection, &to)?, revision)?;
            Ok(InForce { settings: rows::settings_below(connection, &to)?, desired_changes })
        })
    }

    /// Removes a group with its policies. One that has devices or groups is refused, unless `is_recursive`:
    /// then its groups go as well, and all their devices and tokens belong to the group above it, and tasks
    /// that took their newcomers along are cancelled.
    ///
    /// # Errors
    /// As [`Devices::move_group`].
    pub fn remove_group(
        &self,
        path: &str,
        is_recursive: bool,
        dry_run: bool,
        now: WallTime,
    ) -> Result<GroupOutcome, StoreError> {
        let path = normal_path(path)?;
        self.change_groups(dry_run, move |connection, revision| {
            let moved = remove(connection, &path, is_recursive)?;
            tasks::group_removed(connection, &path, now)?;
            let desired_changes = policies::renew(connection, moved.iter().copied(), revision)?;
            let settings = moved.iter().map(|number| rows::settings(connection, *number));
            Ok(InForce { settings: settings.collect::<Result<_, _>>()?, desired_changes })
        })
    }

    fn change_groups(
        &self,
        dry_run: bool,
        change: impl FnOnce(&Connection, u64) -> Result<InForce, StoreError> + Send + 'static,
    ) -> Result<GroupOutcome, StoreError> {
        let change = move |connection: &Connection| {
            let revision = policies::next_revision(connection)?;
            Ok((change(connection, revision)?, revision))
        };
        if dry_run {
            let (in_force, _) = self.database.call(move |connection| {
                connection.execute_batch("SAVEPOINT dry_run")?;
                let result = change(connection);
                connection.execute_batch("ROLLBACK TO dry_run; RELEASE dry_run")?;
                result
            })?;
            return Ok(GroupOutcome::DryRun { devices: in_force.desired_changes.len() as u64 });
        }
        let (in_force, persistent, revision) = self.put(false, change)?;
        self.memory.listed.note_all();
        let devices = in_force.desired_changes.into_iter().map(|change| change.device).collect();
        Ok(GroupOutcome::Changed(SettingsChange { revision, devices, persistent }))
    }
}

/// Brings a path into its one form: `/` or `/a/b`. A leading slash may be left out, a trailing one is
/// dropped.
///
/// # Errors
/// When a name is empty, `.` or `..`, longer than 255 bytes, has a control or invisible character, or the
/// tree is too deep.
pub fn normal_path(path: &str) -> Result<String, StoreError> {
    let bad = || StoreError::BadGroup(path.to_owned());
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return if path == "/" { Ok("/".to_owned()) } else { Err(bad()) };
    }
    let is_part = |name: &str| !matches!(name, "." | "..") && is_name(name);
    if inner.split('/').count() > GROUP_DEPTH_MAX || !inner.split('/').all(is_part) {
        return Err(bad());
    }
    Ok(format!("/{inner}"))
}

/// The path of the group above; `None` for the root.
fn parent(path: &str) -> Option<&str> {
    match path.rfind('/') {
        Some(0) if path.len() > 1 => Some("/"),
        Some(at) if at > 0 => Some(&path[..at]),
        _ => None,
    }
}

/// The least text that is greater than every path below `path`: paths below it lie in
/// `below(path)..end_of(path)`.
pub(in crate::store) fn range_below(path: &str) -> (String, String) {
    let stem = if path == "/" { "" } else { path };
    // '0' follows '/' in ASCII.
    (format!("{stem}/"), format!("{stem}0"))
}

/// The numbers of the devices of a group and the groups below it, between the bounds of [`range_below`];
/// without those that wait for approval.
pub(in crate::store) const MEMBERS: &str = "SELECT d.number FROM groups g JOIN devices d ON d.group_id = g.id
    WHERE (g.path = :path OR (g.path >= :from AND g.path < :to))
        AND d.removed_at IS NULL AND d.waiting_since IS NULL";

/// The numbers of the devices of a group and the groups below it; without those that wait for approval.
pub(in crate::store) fn members(connection: &Connection, path: &str) -> Result<Vec<i64>, StoreError> {
    let (from, to) = range_below(path);
    let values = named_params! { ":path": path, ":from": from, ":to": to };
    connection.all(MEMBERS, values, |row| row.get(0))
}

pub(in crate::store) fn find(connection: &Connection, path: &str) -> Result<i64, StoreError> {
    let id = connection.perhaps("SELECT id FROM groups WHERE path = ?1", [path], |row| row.get(0))?;
    id.ok_or_else(|| StoreError::NoGroup(path.to_owned()))
}

/// The group with this path; made, with every group above it, when it isn't there.
pub(super) fn find_or_create(connection: &Connection, path: &str) -> Result<i64, StoreError> {
    let path = normal_path(path)?;
    let mut missing = Vec::new();
    let mut at = Some(path.as_str());
    while let Some(path) = at {
        match find(connection, path) {
            Err(StoreError::NoGroup(_)) => missing.push(path),
            other => {
                other?;
                break;
            }
        }
        at = parent(path);
    }
    for path in missing.into_iter().rev() {
        connection.run("INSERT INTO groups (path) VALUES (?1)", [path])?;
    }
    find(connection, &path)
}

/// Settings that a group gives its devices: its own, or those of the nearest group above it that has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Inherited {
    /// The sync interval; `None`: that of the server.
    pub(super) interval_seconds: Option<u32>,
    /// Whether links stay open between syncs; `None`: nobody said so, so they don't.
    pub(super) keep_connected: Option<bool>,
}

pub(super) fn path_of(connection: &Connection, group: i64) -> Result<String, StoreError> {
    connection.one("SELECT path FROM groups WHERE id = ?1", [group], |row| row.get(0))
}

/// Settings that a group gives its devices.
pub(super) fn inherited(connection: &Connection, group: i64) -> Result<Inherited, StoreError> {
    let found = in_force(connection, &path_of(connection, group)?)?;
    let keep_connected = found.keep_connected_from.is_some().then_some(found.keep_connected);
    Ok(Inherited { interval_seconds: found.interval_seconds, keep_connected })
}

/// The same, with the groups that say so.
pub(super) fn in_force(connection: &Connection, path: &str) -> Result<GroupInForce, StoreError> {
    let sql = "SELECT interval_seconds, keep_connected FROM groups WHERE path = ?1";
    let mut found = GroupInForce::default();
    let mut at = Some(path);
    while let Some(path) = at {
        let row = connection.perhaps(sql, [path], |row| row.try_into())?;
        let (interval_seconds, keep_connected): (Option<u32>, Option<bool>) = row.unwrap_or_default();
        if found.interval_from.is_none() && interval_seconds.is_some() {
            (found.interval_seconds, found.interval_from) = (interval_seconds, Some(path.to_owned()));
        }
        if let (None, Some(keeps)) = (&found.keep_connected_from, keep_connected) {
            (found.keep_connected, found.keep_connected_from) = (keeps, Some(path.to_owned()));
        }
        if found.interval_from.is_some() && found.keep_connected_from.is_some() {
            break;
        }
        at = parent(path);
    }
    Ok(found)
}

/// Creates a group when it isn't there, and changes what `change` names.
fn set(connection: &Connection, path: &str, change: GroupChange) -> Result<(), StoreError> {
    let id = find_or_create(connection, path)?;
    if let Some(interval) = change.interval_seconds {
        connection.run("UPDATE groups SET interval_seconds = ?2 WHERE id = ?1", (id, interval))?;
    }
    if let Some(keep) = change.keep_connected {
        connection.run("UPDATE groups SET keep_connected = ?2 WHERE id = ?1", (id, keep))?;
    }
    Ok(())
}

/// Gives a group, and those below it, another path. The groups above the new one are made when they aren't
/// there.
fn rename(connection: &Connection, from: &str, to: &str) -> Result<(), StoreError> {
    find(connection, from)?;
    if from == "/" {
        return Err(StoreError::GroupRefused("the root can't be moved".to_owned()));
    }
    if is_within(to, from) {
        return Err(StoreError::GroupRefused(format!("{to} lies within {from}: it can't be moved there")));
    }
    if find(connection, to).is_ok() {
        return Err(StoreError::GroupRefused(format!("there is a group {to} already: choose another path")));
    }
    if let Some(above) = parent(to) {
        find_or_create(connection, above)?;
    }
    let (first, end) = range_below(from);
    let sql = "SELECT path FROM groups WHERE path >= ?1 AND path < ?2";
    let below: Vec<String> = connection.all(sql, [&first, &end], |row| row.get(0))?;
    for path in std::iter::once(from).chain(below.iter().map(String::as_str)) {
        let moved = format!("{to}{}", &path[from.len()..]);
        // The tree may be too deep there.
        connection.run("UPDATE groups SET path = ?2 WHERE path = ?1", [path, &normal_path(&moved)?])?;
    }
    Ok(())
}

/// Removes a group with its policies; the numbers of the devices that belong to the group above it since.
fn remove(connection: &Connection, path: &str, is_recursive: bool) -> Result<Vec<i64>, StoreError> {
    let Some(above) = parent(path) else {
        return Err(StoreError::GroupRefused("the root can't be removed".to_owned()));
    };
    find(connection, path)?;
    let above = find(connection, above)?;
    let (first, end) = range_below(path);
    let sql = "SELECT id FROM groups WHERE path = ?1 OR (path >= ?2 AND path < ?3) ORDER BY path DESC";
    let groups: Vec<i64> = connection.all(sql, [path, &first, &end], |row| row.get(0))?;
    let of_group = "SELECT count(*) FROM groups g JOIN devices d ON d.group_id = g.id
        WHERE (g.path = ?1 OR (g.path >= ?2 AND g.path < ?3)) AND d.removed_at IS NULL";
    let all: i64 = connection.one(of_group, [path, &first, &end], |row| row.get(0))?;
    let devices = members(connection, path)?;
    if !is_recursive && (groups.len() > 1 || all > 0) {
        let (groups, devices) = (groups.len() - 1, usize::try_from(all).unwrap_or(usize::MAX));
        return Err(StoreError::GroupRefused(format!(
            "{path} has {} and {} below it: move them first, or say --recursive, and its \
             devices belong to the group above it",
            counted(devices, "device"),
            counted(groups, "group"),
        )));
    }
    for id in groups {
        let tokens = api_tokens::leave_group(connection, id)?;
        if tokens > 0 {
            let tokens = counted(usize::try_from(tokens).unwrap_or(usize::MAX), "API token");
            return Err(StoreError::GroupRefused(format!(
                "{tokens} may something on {} and below: revoke first ('musterctl api-token list')",
                path_of(connection, id)?
            )));
        }
        let people = users::count_on_group(connection, id)?;
        if people > 0 {
            let people = counted(usize::try_from(people).unwrap_or(usize::MAX), "user");
            return Err(StoreError::GroupRefused(format!(
                "{people} may something on {} and below: give them another group first ('musterctl user list')",
                path_of(connection, id)?
            )));
        }
        // Removed devices and old tokens name their group, too.
        for table in ["devices", "tokens"] {
            connection.run(&format!("UPDATE {table} SET group_id = ?2 WHERE group_id = ?1"), [id, above])?;
        }
        policies::group_removed(connection, id)?;
        connection.run("DELETE FROM groups WHERE id = ?1", [id])?;
    }
    Ok(devices)
}

/// A number of things, in words.
fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (given, normal) in [
            ("/", "/"),
            ("a", "/a"),
            ("/a/", "/a"),
            ("berlin/kiosks", "/berlin/kiosks"),
            ("/ä ö/b", "/ä ö/b"),
        ] {
            assert_eq!(normal_path(given).unwrap(), normal);
        }
        let deep = "a/".repeat(GROUP_DEPTH_MAX + 1);
        for bad in ["", "//", "a//b", "/a/../b", "/ a", "a\nb", deep.as_str()] {
            assert_eq!(normal_path(bad), Err(StoreError::BadGroup(bad.to_owned())), "{bad:?}");
        }
    }

    #[test]
    fn a_path_knows_what_is_above_and_below_it() {
        assert_eq!(parent("/a/b"), Some("/a"));
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("/"), None);
        let (from, to) = range_below("/a");
        assert!("/a/b" >= from.as_str() && "/a/b" < to.as_str() && "/ab" >= to.as_str());
        let (from, to) = range_below("/");
        assert!("/a" >= from.as_str() && "/a" < to.as_str());
    }
}
