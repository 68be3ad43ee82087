//! A device's sections: what came of a sync is stored.

use rusqlite::{Connection, params};

use super::desired_state::{self, DesiredChange};
use super::error::StoreError;
use super::inventory::{self, Orphans, Prepared, Verdict};
use super::values::time_to_sql;
use super::writer::Origin;
use super::{Store, declaration, desired_settings, device};
use crate::machine::command::{SectionChange, SectionOutcome, SectionUpdate};
use crate::wire::section::{ApplicationCondition, HostFacts, Section, SectionState};

/// A change, as far as it could be worked on without the writer.
enum Work {
    Inventory(Prepared),
    Host(HostFacts),
    Conditions(Vec<ApplicationCondition>),
}

impl Store {
    /// Stores a section's new content. Called on a worker's thread, which does the heavy part; `done` is
    /// called when it is durable, by the writer's thread, or at once by this one. The device table is told
    /// before `done` is.
    pub fn apply(&self, mut update: SectionUpdate, done: impl FnOnce(SectionOutcome) + Send + 'static) {
        let change = std::mem::replace(&mut update.change, SectionChange::Conditions(Vec::new()));
        let bytes = change.memory_bytes();
        let (number, work) = match self.prepare(&update, change) {
            Ok(prepared) => prepared,
            Err(error) => return done(outcome_of(update.section, Err(error))),
        };
        let (table, orphans) = (std::sync::Arc::clone(self.table()), self.orphans().clone());
        let (device, section) = (update.device, update.section);
        let (agent_epoch, state) =
            (update.agent_epoch, SectionState { digest: update.digest, revision: update.revision });
        self.queue().submit(
            Origin::Device,
            bytes,
            move |connection| write(connection, number, &update, work, &orphans),
            move |result| {
                if let Ok((Verdict::Stored, _)) = &result {
                    table.with(device, |record| {
                        if record.agent_epoch != agent_epoch {
                            record.begin_epoch(agent_epoch);
                        }
                        record.set_section(section, state);
                    });
                    if section == Section::Conditions {
                        table.mark(device);
                    }
                }
                if let Ok((_, Some(change))) = &result {
                    desired_state::tell(&table, &[*change]);
                }
                done(match result {
                    Ok((Verdict::Stored, _)) => SectionOutcome::Stored(state),
                    other => outcome_of(section, other.map(|(verdict, _)| verdict)),
                });
            },
        );
    }

    fn prepare(&self, update: &SectionUpdate, change: SectionChange) -> Result<(i64, Work), StoreError> {
        let reader = self.reader()?;
        let number = device::number_of(&reader, update.device)?;
        let work = match change {
            SectionChange::Inventory(change) => {
                Work::Inventory(inventory::prepare(&reader, number, update, change)?)
            }
            SectionChange::Host(facts) => Work::Host(facts),
            SectionChange::Conditions(conditions) => Work::Conditions(conditions),
        };
        Ok((number, work))
    }
}

/// An outcome other than [`SectionOutcome::Stored`].
fn outcome_of(section: Section, result: Result<Verdict, StoreError>) -> SectionOutcome {
    match result {
        Ok(Verdict::BaseUnknown) => SectionOutcome::BaseUnknown,
        Ok(Verdict::DigestMismatch) => SectionOutcome::DigestMismatch,
        Err(StoreError::DeviceRemoved(_) | StoreError::NoDevice(_)) => SectionOutcome::DeviceRemoved,
        Ok(Verdict::Stored) => SectionOutcome::Failed,
        Err(error) => {
            log::warn!("{section} was not stored: {error}");
            SectionOutcome::Failed
        }
    }
}

fn write(
    connection: &Connection,
    number: i64,
    update: &SectionUpdate,
    work: Work,
    orphans: &Orphans,
) -> Result<(Verdict, Option<DesiredChange>), StoreError> {
    // It may have been removed since.
    device::number_of(connection, update.device)?;
    let verdict = match work {
        Work::Inventory(prepared) => inventory::store(connection, number, update, prepared, orphans)?,
        // Host facts and conditions carry their digest unproved: a newer agent may know more keys than are
        // kept here, and could never be in sync if the digest had to be that of what is kept.
        Work::Host(facts) => write_host(connection, number, &facts)?,
        Work::Conditions(conditions) => write_conditions(connection, number, &conditions)?,
    };
    let mut change = None;
    if verdict == Verdict::Stored {
        write_state(connection, number, update)?;
        if update.section == Section::Host {
            // Its offer may be other applications now.
            change = desired_settings::renew(connection, number)?;
        }
    }
    Ok((verdict, change))
}

fn write_state(connection: &Connection, number: i64, update: &SectionUpdate) -> Result<(), StoreError> {
    let epoch = update.agent_epoch.0.cast_signed();
    // Revisions of another history mean nothing any more; 1 says that there is content.
    let sql = "UPDATE device_states SET agent_epoch = ?2, inventory_revision = inventory_revision <> 0,
        host_revision = host_revision <> 0, conditions_revision = conditions_revision <> 0
        WHERE device = ?1 AND agent_epoch <> ?2";
    connection.prepare_cached(sql)?.execute([number, epoch])?;
    let sql = match update.section {
        Section::Inventory => {
            "UPDATE device_states SET inventory_digest = ?2, inventory_revision = ?3 WHERE device = ?1"
        }
        Section::Host => "UPDATE device_states SET host_digest = ?2, host_revision = ?3 WHERE device = ?1",
        Section::Conditions => {
            "UPDATE device_states SET conditions_digest = ?2, conditions_revision = ?3 WHERE device = ?1"
        }
    };
    connection.prepare_cached(sql)?.execute([
        number,
        update.digest.0.cast_signed(),
        update.revision.cast_signed(),
    ])?;
    Ok(())
}

fn write_host(connection: &Connection, number: i64, facts: &HostFacts) -> Result<Verdict, StoreError> {
    let sql = "INSERT OR REPLACE INTO host_facts (device, os_id, os_name, os_version, kernel, architecture,
        hostname, addresses, boot_id, agent_version, declarations)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let declarations = declaration::keep(connection, &facts.declarations)?;
    let addresses = serde_json::to_string(&facts.addresses).unwrap_or_else(|_| "[]".to_owned());
    connection.prepare_cached(sql)?.execute(params![
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
    ])?;
    Ok(Verdict::Stored)
}

fn write_conditions(
    connection: &Connection,
    number: i64,
    conditions: &[ApplicationCondition],
) -> Result<Verdict, StoreError> {
    connection.prepare_cached("DELETE FROM conditions WHERE device = ?1")?.execute([number])?;
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
            time_to_sql(condition.since),
            condition.version,
            condition.detail,
            settings.map(|settings| settings.state.name()),
            settings.map_or(0, |settings| settings.revision.cast_signed()),
            settings.map_or(0, |settings| settings.digest.0.cast_signed()),
            settings.map_or(0, |settings| settings.applied_revision.cast_signed()),
            settings.map_or(0, |settings| time_to_sql(settings.since)),
            settings.map_or("", |settings| settings.detail.as_str()),
        ])?;
    }
    Ok(Verdict::Stored)
}
