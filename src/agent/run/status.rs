//! The answer to `muster-agent status`.

use super::{Agent, Now, wall_of};
use crate::agent::local::protocol::Status;
use crate::agent::spool::SpoolError;
use crate::wire::section::Section;

impl Agent {
    /// State of the agent.
    pub(super) fn status(&mut self, now: &Now) -> Result<Status, SpoolError> {
        let machine = self.machine.status(now);
        let next = match (machine.next_sync_at, machine.waits_until) {
            (Some(sync), Some(until)) => Some(sync.max(until)),
            (sync, until) => until.or(sync),
        };
        let state = if machine.is_connected {
            "connected"
        } else if self.connection.is_down() {
            "waiting"
        } else {
            "connecting"
        };
        let mut problems = self.sections.problems.clone();
        problems.extend(self.context.problem.clone());
        problems.extend(self.spool.damages());
        problems.extend(self.sections.statistics_problem.clone());
        problems.extend(self.datagrams.problem().cloned());
        problems.extend(machine.events_held_until.map(|until| {
            format!(
                "this device sends more events than the server takes of one: the next are sent at {}",
                wall_of(until, now)
            )
        }));
        Ok(Status {
            running: true,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            device: Some(self.identity.device),
            name: Some(self.identity.name.clone()),
            server: Some(self.connection.server().to_string()),
            state: state.to_owned(),
            connected_since: self.connected_since,
            last_sync: self.last_sync,
            next_sync: next.map(|moment| wall_of(moment, now)),
            last_error_at: machine.last_error.as_ref().and(self.last_error_at),
            last_error: machine.last_error,
            spool: Some(self.spool.status()?),
            datagrams: Some(self.datagrams.status()),
            applications: self.conditions(),
            runs: self.run_statuses(),
            problems,
        })
    }
}

/// `, sent: inventory, host`
pub(super) fn list_of(sections: &[Section]) -> String {
    if sections.is_empty() {
        return String::new();
    }
    let names: Vec<String> = sections.iter().map(Section::to_string).collect();
    format!(", sent: {}", names.join(", "))
}
