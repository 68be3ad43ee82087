//! Which devices a task is for, and whether they would do it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, named_params};
use serde_json::Value;

use super::{Step, bad, end};
use crate::fleet::schema::Schema;
use crate::store::devices::MEMBERS;
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::store::{devices, inventory};
use crate::wire::api::{TaskDefinition, TaskState, TaskTargets};
use crate::wire::artifact::ArtifactUse;
use crate::wire::id::DeviceId;
use crate::wire::settings::Declaration;
use crate::wire::time::WallTime;

/// Enters the devices that a task is for and that are not among its targets yet. Returns their number.
pub(super) fn enter(connection: &Connection, task: i64, targets: &TaskTargets) -> Result<usize, StoreError> {
    let into = "INSERT OR IGNORE INTO task_targets (task, device)";
    Ok(match targets {
        TaskTargets::All => {
            let sql = format!(
                "{into} SELECT ?1, number FROM devices WHERE removed_at IS NULL AND waiting_since IS NULL"
            );
            connection.run(&sql, [task])?
        }
        TaskTargets::Group(path) => {
            let (from, to) = devices::range_below(path);
            let sql = format!("{into} SELECT :task, number FROM ({MEMBERS})");
            let values = named_params! { ":task": task, ":path": path, ":from": from, ":to": to };
            connection.run(&sql, values)?
        }
        TaskTargets::Devices(devices) => {
            let ids: Vec<DeviceId> = devices.iter().filter_map(|device| device.parse().ok()).collect();
            enter_devices(connection, task, &ids)?
        }
        // They were entered when it was made.
        TaskTargets::Filter(_) => 0,
    })
}

/// Enters these devices, but for those that are gone. Returns their number.
pub(super) fn enter_devices(
    connection: &Connection,
    task: i64,
    devices: &[DeviceId],
) -> Result<usize, StoreError> {
    let sql = "INSERT OR IGNORE INTO task_targets (task, device)
        SELECT ?1, number FROM devices WHERE id = ?2 AND removed_at IS NULL";
    devices.iter().map(|device| connection.run(sql, (task, *device))).sum()
}

/// Brings the devices of a task into line with what its group is now: those that left are none any more.
pub(super) fn renew(connection: &Connection, task: i64, targets: &TaskTargets) -> Result<(), StoreError> {
    if let TaskTargets::Group(path) = targets {
        let (from, to) = devices::range_below(path);
        let sql = format!("DELETE FROM task_targets WHERE task = :task AND device NOT IN ({MEMBERS})");
        let values = named_params! { ":task": task, ":path": path, ":from": from, ":to": to };
        connection.run(&sql, values)?;
    }
    enter(connection, task, targets).map(drop)
}

fn groups_of_tasks(connection: &Connection) -> Result<Vec<(i64, String, TaskDefinition)>, StoreError> {
    let sql = "SELECT number, definition FROM tasks WHERE state = 'active'";
    let active: Vec<(i64, TaskDefinition)> = connection.all(sql, [], |row| row.try_into())?;
    let of_group = |(task, definition): (i64, TaskDefinition)| {
        let TaskTargets::Group(path) = &definition.targets else { return None };
        Some((task, path.clone(), definition))
    };
    Ok(active.into_iter().filter_map(of_group).collect())
}

/// A group was moved: tasks for it, and for those below it, follow.
pub(in crate::store) fn group_moved(connection: &Connection, from: &str, to: &str) -> Result<(), StoreError> {
    for (task, path, mut definition) in groups_of_tasks(connection)? {
        let Some(below) = path.strip_prefix(from).filter(|_| devices::is_within(&path, from)) else {
            continue;
        };
        definition.targets = TaskTargets::Group(format!("{to}{below}"));
        let text = serde_json::to_string(&definition).map_err(|error| bad(error.to_string()))?;
        let sql = "UPDATE tasks SET definition = ?2 WHERE number = ?1";
        connection.run(sql, (task, text))?;
    }
    Ok(())
}

/// A group was removed, with those below it: nobody will come there any more, so tasks that wait for
/// newcomers end. Those for a snapshot go on with the devices that they are for.
pub(in crate::store) fn group_removed(
    connection: &Connection,
    removed: &str,
    now: WallTime,
) -> Result<(), StoreError> {
    for (task, path, definition) in groups_of_tasks(connection)? {
        if definition.continuous && devices::is_within(&path, removed) {
            let why = format!("its group {path} was removed at {now}");
            end::end_task(connection, task, TaskState::Cancelled, &why, now)?;
        }
    }
    Ok(())
}

/// Devices that became targets of continuous tasks since: they get a run of those that are due once, and take
/// part in the others from the next time on.
pub(super) fn find_newcomers(step: &mut Step<'_>) -> Result<(), StoreError> {
    let sql = "SELECT number, definition FROM tasks
        WHERE state = 'active' AND continuous <> 0 AND next_at IS NULL AND due_at > 0";
    let continuous: Vec<(i64, TaskDefinition)> = step.connection.all(sql, [], |row| row.try_into())?;
    for (task, definition) in continuous {
        if enter(step.connection, task, &definition.targets)? > 0 {
            let sql = "UPDATE tasks SET is_making = 1 WHERE number = ?1";
            step.connection.run(sql, [task])?;
        }
    }
    Ok(())
}

/// A task, as devices are asked about it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) application: &'a str,
    pub(super) kind: &'a str,
    pub(super) settings: &'a Value,
    /// Whether the artifact has a signature; `None`: there is no artifact.
    pub(super) artifact: Option<bool>,
}

/// A device's answer to a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// It offers it, and takes the settings.
    Offered,
    /// It does not offer it, and why.
    NotOffered(String),
    /// It does not take the settings, or comes with another artifact or none, and why.
    WrongSettings(String),
    /// It has said nothing of what it offers yet.
    Unknown,
}

/// Answers of devices, each set of declarations read once.
#[derive(Default)]
pub(super) struct Offers {
    declared: HashMap<i64, Vec<Declaration>>,
    answers: HashMap<(i64, i64), Answer>,
}

impl Offers {
    /// A device's answer to a task. `task` stands for all that is asked about.
    pub(super) fn of(
        &mut self,
        connection: &Connection,
        device: i64,
        task: i64,
        asked: Asked<'_>,
    ) -> Result<Answer, StoreError> {
        let Some(id) = inventory::declarations_of(connection, device)? else { return Ok(Answer::Unknown) };
        if let Some(answer) = self.answers.get(&(task, id)) {
            return Ok(answer.clone());
        }
        let answer = answer(self.declared(connection, id)?, asked);
        self.answers.insert((task, id), answer.clone());
        Ok(answer)
    }

    fn declared(&mut self, connection: &Connection, id: i64) -> Result<&[Declaration], StoreError> {
        Ok(match self.declared.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(inventory::declarations(connection, id)?),
        })
    }

    /// The kinds of task that the devices offer that were asked, as `application kind`.
    pub(super) fn kinds(&self) -> Vec<String> {
        let of = |one: &Declaration| {
            let names = one.kinds.iter().map(|kind| format!("{} {}", one.application, kind.kind));
            names.collect::<Vec<_>>()
        };
        let mut kinds: Vec<String> = self.declared.values().flatten().flat_map(of).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

/// The answer to a task of a device that declares this.
fn answer(declared: &[Declaration], asked: Asked<'_>) -> Answer {
    let Asked { application, kind, settings, artifact } = asked;
    let Some(declared) = declared.iter().find(|declared| declared.application == application) else {
        return Answer::NotOffered(format!("the device has no application '{application}'"));
    };
    let Some(offered) = declared.kinds.iter().find(|offered| offered.kind == kind) else {
        return Answer::NotOffered(format!("the device offers no task '{kind}' for '{application}'"));
    };
    let wrong = match (offered.artifact, artifact) {
        (ArtifactUse::None, Some(_)) => "takes no artifact",
        (ArtifactUse::Any | ArtifactUse::Signed, None) => "needs an artifact, and none was named",
        (ArtifactUse::Signed, Some(false)) => {
            "needs an artifact with a signature, and this one has none: add it again with its .minisig file"
        }
        _ => "",
    };
    if !wrong.is_empty() {
        return Answer::WrongSettings(format!("'{kind}' {wrong}"));
    }
    if offered.schema.is_empty() {
        return Answer::Offered;
    }
    match Schema::parse(&offered.schema) {
        Err(error) => Answer::NotOffered(format!("the device's schema for '{kind}' is none: {error}")),
        Ok(schema) => match schema.check(settings) {
            Ok(()) => Answer::Offered,
            Err(violation) => Answer::WrongSettings(format!("settings of '{kind}': {violation}")),
        },
    }
}
