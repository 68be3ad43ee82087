//! Groups: a tree, named by paths such as `/berlin/kiosks`. The root is `/`.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::StoreError;
use crate::wire::printable::is_name;

/// Deepest group, in names. Deeper trees are a mistake, and effective settings are looked up along the path.
pub const GROUP_DEPTH_MAX: usize = 16;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its path.
    pub path: String,
    /// The sync interval set for it; `None`: that of the group above it, or of the server.
    pub interval_seconds: Option<u32>,
    /// Whether the links of its devices stay open between syncs; `None`: as the group above it says, off at
    /// the root.
    pub keep_connected: Option<bool>,
    /// Devices in it, without those of the groups below it.
    pub devices: u64,
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

/// Whether a group is another one, or lies below it.
pub(super) fn is_within(path: &str, above: &str) -> bool {
    path == above || above == "/" || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// The least text that is greater than every path below `path`: paths below it lie in
/// `below(path)..end_of(path)`.
pub(super) fn range_below(path: &str) -> (String, String) {
    let stem = if path == "/" { "" } else { path };
    // '0' follows '/' in ASCII.
    (format!("{stem}/"), format!("{stem}0"))
}

pub(super) fn find(connection: &Connection, path: &str) -> Result<i64, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id FROM groups WHERE path = ?1")?;
    let id = statement.query_row([path], |row| row.get(0)).optional()?;
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
        connection.prepare_cached("INSERT INTO groups (path) VALUES (?1)")?.execute([path])?;
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

/// Settings that a group gives its devices.
pub(super) fn inherited(connection: &Connection, group: i64) -> Result<Inherited, StoreError> {
    let mut statement = connection.prepare_cached("SELECT path FROM groups WHERE id = ?1")?;
    let path: String = statement.query_row([group], |row| row.get(0))?;
    let mut statement =
        connection.prepare_cached("SELECT interval_seconds, keep_connected FROM groups WHERE path = ?1")?;
    let mut found = Inherited::default();
    let mut at = Some(path.as_str());
    while let Some(path) = at {
        let row = statement.query_row([path], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let (interval_seconds, keep_connected) = row.unwrap_or_default();
        found.interval_seconds = found.interval_seconds.or(interval_seconds);
        found.keep_connected = found.keep_connected.or(keep_connected);
        if found.interval_seconds.is_some() && found.keep_connected.is_some() {
            break;
        }
        at = parent(path);
    }
    Ok(found)
}

/// An administrator's change of a group. `None` leaves things as they are, `Some(None)` makes them those of
/// the group above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupChange {
    /// The sync interval of its devices.
    pub interval_seconds: Option<Option<u32>>,
    /// Whether the links of its devices stay open between syncs.
    pub keep_connected: Option<Option<bool>>,
}

/// Creates a group when it isn't there, and changes what `change` names.
pub(super) fn set(connection: &Connection, path: &str, change: GroupChange) -> Result<i64, StoreError> {
    let id = find_or_create(connection, path)?;
    if let Some(interval) = change.interval_seconds {
        let mut statement =
            connection.prepare_cached("UPDATE groups SET interval_seconds = ?2 WHERE id = ?1")?;
        statement.execute(params![id, interval])?;
    }
    if let Some(keep) = change.keep_connected {
        let mut statement =
            connection.prepare_cached("UPDATE groups SET keep_connected = ?2 WHERE id = ?1")?;
        statement.execute(params![id, keep])?;
    }
    Ok(id)
}

/// Gives a group, and those below it, another path. The groups above the new one are made when they aren't
/// there.
pub(super) fn rename(connection: &Connection, from: &str, to: &str) -> Result<(), StoreError> {
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
    let mut statement =
        connection.prepare_cached("SELECT path FROM groups WHERE path >= ?1 AND path < ?2")?;
    let below: Vec<String> =
        statement.query_map([&first, &end], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut statement = connection.prepare_cached("UPDATE groups SET path = ?2 WHERE path = ?1")?;
    for path in std::iter::once(from).chain(below.iter().map(String::as_str)) {
        let moved = format!("{to}{}", &path[from.len()..]);
        // The tree may be too deep there.
        statement.execute([path, &normal_path(&moved)?])?;
    }
    Ok(())
}

/// Removes a group with its policies; the numbers of the devices that belong to the group above it since.
pub(super) fn remove(
    connection: &Connection,
    path: &str,
    is_recursive: bool,
) -> Result<Vec<i64>, StoreError> {
    let Some(above) = parent(path) else {
        return Err(StoreError::GroupRefused("the root can't be removed".to_owned()));
    };
    find(connection, path)?;
    let above = find(connection, above)?;
    let (first, end) = range_below(path);
    let sql = "SELECT id FROM groups WHERE path = ?1 OR (path >= ?2 AND path < ?3) ORDER BY path DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let groups: Vec<i64> =
        statement.query_map([path, &first, &end], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut devices = Vec::new();
    let sql = "SELECT number FROM devices WHERE group_id = ?1 AND removed_at IS NULL";
    let mut statement = connection.prepare_cached(sql)?;
    for id in &groups {
        devices
            .extend(statement.query_map([id], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?);
    }
    if !is_recursive && (groups.len() > 1 || !devices.is_empty()) {
        let (groups, devices) = (groups.len() - 1, devices.len());
        return Err(StoreError::GroupRefused(format!(
            "{path} has {} and {} below it: move them first, or say --recursive, and its \
             devices belong to the group above it",
            counted(devices, "device"),
            counted(groups, "group"),
        )));
    }
    for id in groups {
        // Removed devices and old tokens name their group, too.
        for table in ["devices", "tokens"] {
            let sql = format!("UPDATE {table} SET group_id = ?2 WHERE group_id = ?1");
            connection.prepare_cached(&sql)?.execute([id, above])?;
        }
        connection.prepare_cached("DELETE FROM policies WHERE group_id = ?1")?.execute([id])?;
        connection.prepare_cached("DELETE FROM groups WHERE id = ?1")?.execute([id])?;
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
