//! Reports of devices about their hosts and managed applications: host facts with declarations, conditions.
//! Declarations are kept once for all devices that declare the same.

use rusqlite::{Connection, Row, params};

use crate::store::error::StoreError;
use crate::store::sql::{Columns as _, Sql as _};
use crate::wire::digest::Digest;
use crate::wire::event::{SERVER_NAME, looks_like};
use crate::wire::section::{ApplicationCondition, Condition, HostFacts};
use crate::wire::settings::{Declaration, SettingsReport, SettingsState};
use crate::wire::time::WallTime;

pub(super) fn write_host(connection: &Connection, number: i64, facts: &HostFacts) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO host_facts (device, os_id, os_name, os_version, kernel, architecture,
        hostname, addresses, boot_id, agent_version, declarations)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let declarations = keep(connection, &facts.declarations)?;
    let addresses = serde_json::to_string(&facts.addresses).unwrap_or_else(|_| "[]".to_owned());
    let values = params![
        number,
        facts.os_id,
        facts.os_name,
        facts.os_version,
        facts.kernel,
        facts.architecture,
        facts.hostname,
        addresses,
        facts.boot_id,
        facts.agent_version,
        declarations,
    ];
    connection.run(sql, values).map(drop)
}

/// The facts of a device's host; `None`: it has not said.
pub(in crate::store) fn host(connection: &Connection, number: i64) -> Result<Option<HostFacts>, StoreError> {
    let sql =
        "SELECT os_id, os_name, os_version, kernel, architecture, hostname, addresses, boot_id, agent_version,
            declarations.content
        FROM host_facts LEFT JOIN declarations ON declarations.id = host_facts.declarations WHERE device = ?1";
    let read = |row: &Row<'_>| {
        let addresses: String = row.get(6)?;
        Ok(HostFacts {
            os_id: row.get(0)?,
            os_name: row.get(1)?,
            os_version: row.get(2)?,
            kernel: row.get(3)?,
            architecture: row.get(4)?,
            hostname: row.get(5)?,
            // Only this store writes it; after an edit by hand it shows no addresses until the next change.
            addresses: serde_json::from_str(&addresses).unwrap_or_default(),
            boot_id: row.get(7)?,
            agent_version: row.get(8)?,
            declarations: row.get::<_, Option<String>>(9)?.map(|text| parse(&text)).unwrap_or_default(),
        })
    };
    connection.perhaps(sql, [number], read)
}

/// The conditions of a device's managed applications, by name.
pub(in crate::store) fn conditions(
    connection: &Connection,
    number: i64,
) -> Result<Vec<ApplicationCondition>, StoreError> {
    let found = conditions_in(connection, [number, number], false)?;
    Ok(found.into_iter().map(|(_, condition)| condition).collect())
}

/// The conditions in which something is wrong, of the devices whose numbers lie between these two, each with
/// the device's number.
pub(in crate::store) fn bad_conditions(
    connection: &Connection,
    bounds: [i64; 2],
) -> Result<Vec<(i64, ApplicationCondition)>, StoreError> {
    conditions_in(connection, bounds, true)
}

fn conditions_in(
    connection: &Connection,
    [first, last]: [i64; 2],
    only_bad: bool,
) -> Result<Vec<(i64, ApplicationCondition)>, StoreError> {
    let sql = "SELECT application, condition, since, version, detail, settings_state, settings_revision, settings_digest,
            settings_applied_revision, settings_since, settings_detail, device
        FROM conditions WHERE device BETWEEN ?1 AND ?2
            AND (NOT ?3 OR condition <> 'running' OR coalesce(settings_state, 'applied') <> 'applied')
        ORDER BY device, application";
    connection.all(sql, (first, last, only_bad), |row| {
        let condition = ApplicationCondition {
            application: row.get(0)?,
            condition: condition_from_sql(&row.get::<_, String>(1)?),
            since: row.get(2)?,
            version: row.get(3)?,
            detail: row.get(4)?,
            settings: settings_report(row, 5)?,
        };
        Ok((row.get(11)?, condition))
    })
}

/// The device's report of its settings, in the six columns from `at` on.
fn settings_report(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<SettingsReport>> {
    let Some(state) = row.get::<_, Option<String>>(at)? else { return Ok(None) };
    Ok(Some(SettingsReport {
        state: state.parse().unwrap_or(SettingsState::Pending),
        revision: row.number(at + 1)?,
        digest: row.get(at + 2)?,
        applied_revision: row.number(at + 3)?,
        since: row.get(at + 4)?,
        detail: row.get(at + 5)?,
    }))
}

fn condition_from_sql(text: &str) -> Condition {
    [Condition::Running, Condition::Stopped, Condition::Failed, Condition::NotInstalled]
        .into_iter()
        .find(|condition| condition.to_string() == text)
        .unwrap_or(Condition::Unknown)
}

pub(super) fn write_conditions(
    connection: &Connection,
    number: i64,
    conditions: &[ApplicationCondition],
) -> Result<(), StoreError> {
    connection.run("DELETE FROM conditions WHERE device = ?1", [number])?;
    let sql = "INSERT OR REPLACE INTO conditions (device, application, condition, since, version, detail,
        settings_state, settings_revision, settings_digest, settings_applied_revision, settings_since, settings_detail)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let mut statement = connection.prepare_cached(sql)?;
    for condition in conditions {
        let settings = condition.settings.as_ref();
        statement.execute(params![
            number,
            condition.application,
            condition.condition.to_string(),
            condition.since,
            condition.version,
            condition.detail,
            settings.map(|settings| settings.state.name()),
            settings.map_or(0, |settings| settings.revision.cast_signed()),
            settings.map_or(Digest::EMPTY, |settings| settings.digest),
            settings.map_or(0, |settings| settings.applied_revision.cast_signed()),
            settings.map_or(WallTime(0), |settings| settings.since),
            settings.map_or("", |settings| settings.detail.as_str()),
        ])?;
    }
    Ok(())
}

/// Keeps what is declared; its id, or `None` when nothing is. A declaration that no device makes any more
/// goes.
fn keep(connection: &Connection, declared: &[Declaration]) -> Result<Option<i64>, StoreError> {
    if declared.is_empty() {
        return Ok(None);
    }
    // Texts, numbers and bools can always be written.
    let content = serde_json::to_string(declared).unwrap_or_default();
    let digest = Digest::of_bytes(content.as_bytes());
    // Another content may have the same digest, made so that others get it.
    let sql = "SELECT id FROM declarations WHERE digest = ?1 AND content = ?2";
    let known = connection.perhaps(sql, (digest, &content), |row| row.get(0))?;
    if known.is_some() {
        return Ok(known);
    }
    // The rare moment to clear away: a new one comes when something was installed or changed.
    let sql = "DELETE FROM declarations WHERE id NOT IN
        (SELECT declarations FROM host_facts WHERE declarations IS NOT NULL)";
    connection.run(sql, [])?;
    connection.run("INSERT INTO declarations (digest, content) VALUES (?1, ?2)", (digest, content))?;
    Ok(Some(connection.last_insert_rowid()))
}

/// Whether settings are kept for what is declared: those of the server's own application go to no device,
/// also not to one that claims to be it.
pub(in crate::store) fn may_take_settings(declaration: &Declaration) -> bool {
    declaration.takes_settings && !looks_like(&declaration.application, SERVER_NAME)
}

/// Reads what [`keep`] wrote. After an edit by hand nothing counts as declared until the device declares
/// anew.
fn parse(content: &str) -> Vec<Declaration> {
    serde_json::from_str(content).unwrap_or_default()
}

/// The declarations with this id; none when they are gone.
pub(in crate::store) fn declarations(
    connection: &Connection,
    id: i64,
) -> Result<Vec<Declaration>, StoreError> {
    let sql = "SELECT content FROM declarations WHERE id = ?1";
    let content: Option<String> = connection.perhaps(sql, [id], |row| row.get(0))?;
    Ok(content.map(|content| parse(&content)).unwrap_or_default())
}

/// The id of what a device declares: 0 for nothing; `None`: it has not said.
pub(in crate::store) fn declarations_of(
    connection: &Connection,
    number: i64,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT coalesce(declarations, 0) FROM host_facts WHERE device = ?1";
    connection.perhaps(sql, [number], |row| row.get(0))
}

pub(in crate::store) fn all_declarations(connection: &Connection) -> Result<Vec<Declaration>, StoreError> {
    let sql = "SELECT content FROM declarations c
        WHERE EXISTS (SELECT 1 FROM host_facts h WHERE h.declarations = c.id)";
    let contents = connection.all(sql, [], |row| row.get::<_, String>(0))?;
    Ok(contents.iter().flat_map(|content| parse(content)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{connection, schema};

    #[test]
    fn what_is_declared_is_never_what_another_device_made_with_the_same_digest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(connection::FILE_NAME);
        let mut file = connection::open_writer(&path).unwrap();
        schema::migrate(&mut file, &path).unwrap();
        let declare = |schema: &str| Declaration {
            application: "kiosk".into(),
            takes_settings: true,
            settings_schema: schema.into(),
            kinds: Vec::new(),
        };
        let (bad, good) = ([declare("{}")], [declare("{\"type\":\"object\"}")]);
        let kept = keep(&file, &bad).unwrap().unwrap();
        // Somebody has it: only what nobody has goes.
        file.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        file.execute("INSERT INTO host_facts SELECT 1, '', '', '', '', '', '', '[]', '', '', ?1", [kept])
            .unwrap();
        let digest = Digest::of_bytes(serde_json::to_string(&good).unwrap().as_bytes());
        assert_eq!(file.execute("UPDATE declarations SET digest = ?1", [digest]).unwrap(), 1);
        let own = keep(&file, &good).unwrap().unwrap();
        assert_ne!(own, kept);
        let sql = "SELECT content FROM declarations WHERE id = ?1";
        let content: String = file.query_row(sql, [own], |row| row.get(0)).unwrap();
        assert_eq!(parse(&content), good);
        assert_eq!(keep(&file, &good).unwrap(), Some(own), "and still once for all that declare the same");
    }
}
