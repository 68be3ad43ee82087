//! History of policies: what each was set to, and by whom. Owns the table `policy_versions`.

use rusqlite::{Connection, Row, params};

use super::NewSettings;
use super::rows::{drift_from, drift_name, json};
use crate::store::error::StoreError;
use crate::store::page::{Page, PageRequest};
use crate::store::sql::{Columns as _, Sql as _};
use crate::wire::api::PolicyVersion;
use crate::wire::time::WallTime;

/// Most versions that are kept of one policy, the present one included: the oldest go first.
pub const POLICY_VERSIONS_MAX: u32 = 50;

/// Most bytes of settings and locks that are kept of one policy, all versions together; the newest one stays
/// whatever it has. Eight of the largest settings.
const HISTORY_BYTES_MAX: u32 = 256 * 1024;

/// A change of a policy: by whom, as the audit names them, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Their name.
    pub name: String,
    /// The moment.
    pub at: WallTime,
}

/// Keeps what a policy is since this revision; `None`: it was removed. The oldest go when there are too many.
pub(super) fn note(
    connection: &Connection,
    (group, application): (i64, &str),
    set: Option<&NewSettings>,
    revision: u64,
    author: &Author,
) -> Result<(), StoreError> {
    let locks = set.map(|set| set.locks.iter().map(ToString::to_string).collect::<Vec<_>>());
    let sql = "INSERT INTO policy_versions (group_id, application, revision, changed_at, changed_by, settings, locks, drift)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let row = params![
        group,
        application,
        revision.cast_signed(),
        author.at,
        author.name,
        set.map(|set| json(&set.settings)),
        json(&locks.unwrap_or_default()),
        set.and_then(|set| set.drift).map(drift_name),
    ];
    connection.run(sql, row)?;
    let sql = "DELETE FROM policy_versions WHERE group_id = ?1 AND application = ?2 AND revision IN (
        SELECT revision FROM (
            SELECT revision, row_number() OVER newest AS number,
                sum(octet_length(coalesce(settings, '')) + octet_length(locks)) OVER newest AS bytes
            FROM policy_versions WHERE group_id = ?1 AND application = ?2
            WINDOW newest AS (ORDER BY revision DESC))
        WHERE number > 1 AND (number > ?3 OR bytes > ?4))";
    connection.run(sql, (group, application, POLICY_VERSIONS_MAX, HISTORY_BYTES_MAX)).map(drop)
}

/// Versions of a policy, the newest first.
pub(super) fn list(
    connection: &Connection,
    (group, application): (i64, &str),
    page: &PageRequest,
) -> Result<Page<PolicyVersion>, StoreError> {
    let before = page.after('h')?.map(|[revision]| revision.parse::<i64>()).transpose();
    let before = before.map_err(|_| page.bad_cursor())?;
    let sql = "SELECT revision, changed_at, changed_by, settings, locks, drift FROM policy_versions
        WHERE group_id = ?1 AND application = ?2 AND (?3 IS NULL OR revision < ?3)
        ORDER BY revision DESC LIMIT ?4";
    let found = connection.all(sql, params![group, application, before, page.limit()], from_row)?;
    Ok(page.page('h', found, |version| [version.revision.to_string()]))
}

/// A row that was broken by hand is empty.
fn from_row(row: &Row<'_>) -> rusqlite::Result<PolicyVersion> {
    let settings: Option<String> = row.get(3)?;
    Ok(PolicyVersion {
        revision: row.number(0)?,
        changed_at: row.get::<_, WallTime>(1)?.into(),
        changed_by: row.get(2)?,
        settings: settings.map(|text| serde_json::from_str(&text).unwrap_or_default()),
        locks: serde_json::from_str(&row.get::<_, String>(4)?).unwrap_or_default(),
        drift: drift_from(row.get::<_, Option<String>>(5)?.as_deref()),
    })
}
