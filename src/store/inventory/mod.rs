//! Inventory: what devices report of themselves. Installed applications, content-addressed; host facts with
//! declarations; conditions; statistics.
//!
//! A dictionary names each application once ([`dictionary`]); a device's set is a small difference from a
//! base that it shares with devices like it ([`base`]). "Which devices have X" is answered from the bases
//! that contain X and from the differences that name it, without reading any set.
//!
//! The heavy part, resolving a change and choosing a base, is done on the caller's thread; the writer checks
//! that nothing it rests on has changed, and does it again itself when something has ([`set`]).

pub(super) mod applications;
mod base;
mod dictionary;
mod ids;
mod reports;
mod set;
mod statistics;

use std::sync::Arc;

use rusqlite::Connection;

pub(super) use dictionary::{Collector, Orphans};
pub(super) use reports::{
    all_declarations, bad_conditions, conditions, declarations, declarations_of, host, may_take_settings,
};
pub use statistics::{ApplicationStatistics, RINGS_BYTES_MAX};
pub(super) use statistics::{latest, of as statistics};

use super::desired_state::DesiredChange;
use super::devices::{self, Devices};
use super::error::StoreError;
use super::policies;
use super::sql::Sql as _;
use super::writer::Origin;
use crate::machine::command::{SectionChange, SectionOutcome, SectionUpdate};
use crate::wire::section::{ApplicationCondition, HostFacts, Section, SectionState};
use set::Prepared;

/// Reports of devices about themselves.
pub struct Inventory {
    devices: Devices,
    orphans: Orphans,
}

/// A change, as far as it could be worked on without the writer.
enum Work {
    Inventory(Prepared),
    Host(HostFacts),
    Conditions(Vec<ApplicationCondition>),
}

impl Inventory {
    pub(super) fn new(devices: Devices, orphans: Orphans) -> Self {
        Self { devices, orphans }
    }

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
        let (memory, orphans) = (Arc::clone(self.devices.memory()), self.orphans.clone());
        let (device, section) = (update.device, update.section);
        let (agent_epoch, state) =
            (update.agent_epoch, SectionState { digest: update.digest, revision: update.revision });
        self.devices.database().writer.submit(
            Origin::Device,
            bytes,
            move |connection| write(connection, number, &update, work, &orphans),
            move |result| {
                if let Ok((SectionOutcome::Stored(_), _)) = &result {
                    memory.table.with(device, |record| {
                        if record.agent_epoch != agent_epoch {
                            record.begin_epoch(agent_epoch);
                        }
                        record.set_section(section, state);
                    });
                    match section {
                        Section::Conditions => memory.table.mark(device),
                        Section::Host => memory.listed.note(device),
                        Section::Inventory => {}
                    }
                }
                if let Ok((_, Some(change))) = &result {
                    memory.tell(&[*change]);
                }
                done(outcome_of(section, result.map(|(outcome, _)| outcome)));
            },
        );
    }

    fn prepare(&self, update: &SectionUpdate, change: SectionChange) -> Result<(i64, Work), StoreError> {
        let reader = self.devices.database().reader()?;
        let number = devices::number_of(&reader, update.device)?;
        let work = match change {
            SectionChange::Inventory(change) => {
                Work::Inventory(set::prepare(&reader, number, update, change)?)
            }
            SectionChange::Host(facts) => Work::Host(facts),
            SectionChange::Conditions(conditions) => Work::Conditions(conditions),
        };
        Ok((number, work))
    }
}

fn outcome_of(section: Section, result: Result<SectionOutcome, StoreError>) -> SectionOutcome {
    match result {
        Ok(outcome) => outcome,
        Err(StoreError::DeviceRemoved(_) | StoreError::NoDevice(_)) => SectionOutcome::DeviceRemoved,
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
) -> Result<(SectionOutcome, Option<DesiredChange>), StoreError> {
    // It may have been removed since.
    devices::number_of(connection, update.device)?;
    let stored = SectionOutcome::Stored(SectionState { digest: update.digest, revision: update.revision });
    let outcome = match work {
        Work::Inventory(prepared) => set::store(connection, number, update, prepared, orphans)?,
        // Host facts and conditions carry their digest unproved: a newer agent may know more keys than are
        // kept here, and could never be in sync if the digest had to be that of what is kept.
        Work::Host(facts) => reports::write_host(connection, number, &facts).map(|()| stored)?,
        Work::Conditions(conditions) => {
            reports::write_conditions(connection, number, &conditions).map(|()| stored)?
        }
    };
    let mut change = None;
    if matches!(outcome, SectionOutcome::Stored(_)) {
        devices::set_section(connection, number, update)?;
        if update.section == Section::Host {
            // Its offer may be other applications now.
            change = policies::declared_anew(connection, number)?;
        }
    }
    Ok((outcome, change))
}

pub(super) fn forget_device(
    connection: &Connection,
    number: i64,
    orphans: &Orphans,
) -> Result<(), StoreError> {
    set::forget(connection, number, orphans)?;
    for table in ["host_facts", "conditions", "statistics"] {
        connection.run(&format!("DELETE FROM {table} WHERE device = ?1"), [number])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
