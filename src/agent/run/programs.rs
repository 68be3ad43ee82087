//! Local programs: what they ask, and what they are told.

use super::{Agent, Now, RunError, Wait, Waiter, refusal, wall_of};
use crate::agent::local::peer::Peer;
use crate::agent::local::protocol::{CertificateStatus, Request, Status, parse};
use crate::agent::spool::SpoolError;
use crate::wire::section::Section;

impl Agent {
    pub(super) fn hear_programs(&mut self, now: &Now) -> Result<(), RunError> {
        let Some(mut clients) = self.clients.take() else { return Ok(()) };
        let (mut failed, mut has_news) = (None, false);
        let has_more = clients.take_lines(|key, peer, line, output| {
            if let Peer::Other(user) = peer
                && let Err(seconds) = self.allowances.take(user, line.len(), now.moment)
            {
                let why = format!("user {user} has emitted too much: again in {seconds} s");
                output.extend_from_slice(&refusal(&why));
                return true;
            }
            let answer = match parse(line, now.wall, peer) {
                Err(error) => refusal(&error),
                Ok(Request::Status) => match self.status(now) {
                    Ok(status) => serde_json::to_vec(&status).unwrap_or_default(),
                    Err(error) => refusal(&error),
                },
                Ok(Request::Sync) => {
                    self.waiting.push(Waiter { key, wait: Wait::ToCollect, is_mover: false });
                    self.sections.is_wanted = true;
                    return false;
                }
                Ok(Request::Suspend) => match self.begin_sleep(now, key) {
                    Ok(()) => return false,
                    Err(why) => refusal(&why),
                },
                Ok(Request::Resume) => {
                    self.wake_up_when_due(now, true);
                    b"{\"resumed\":true}".to_vec()
                }
                Ok(Request::Probe) => self.probe(),
                Ok(Request::Restart) => {
                    self.restarts = true;
                    b"{\"restarts\":true}".to_vec()
                }
                Ok(Request::Move) => match self.begin_move(now, key) {
                    Ok(()) => return false,
                    Err(why) => refusal(&why),
                },
                Ok(Request::Emit { severity, body }) => match self.spool.append(severity, &body, now.wall) {
                    Ok(sequence) => {
                        self.is_spool_dirty = true;
                        has_news |= self.sections.note_room(true, now);
                        format!("{{\"sequence\":{sequence}}}").into_bytes()
                    }
                    Err(error) => {
                        let answer = refusal(&error);
                        if !error.is_fatal() {
                            has_news |= self.sections.note_room(false, now);
                        }
                        failed = failed.take().or_else(|| error.is_fatal().then_some(error));
                        answer
                    }
                },
            };
            output.extend_from_slice(&answer);
            true
        });
        self.has_more |= has_more;
        self.clients = Some(clients);
        if has_news {
            self.managed_changed(now);
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

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
            if machine.waits_for_approval { "waiting_for_approval" } else { "waiting" }
        } else {
            "connecting"
        };
        let mut problems = self.sections.problems.clone();
        problems.extend(self.context.problem.clone());
        problems.extend(self.spool.damages());
        problems.extend(self.sections.statistics_problem.clone());
        problems.extend(self.datagrams.port.problem.clone());
        problems.extend(self.renewal_problem());
        problems.extend(machine.events_held_until.map(|until| {
            format!(
                "this device sends more events than the server takes of one: the next are sent at {}",
                wall_of(until, now)
            )
        }));
        Ok(Status {
            running: true,
            release: None,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            device: Some(self.identity.device),
            name: Some(self.identity.name.clone()),
            server: Some(self.connection.server().to_string()),
            certificate: CertificateStatus::of(&self.identity),
            pins: self.identity.pin_hashes().iter().map(ToString::to_string).collect(),
            state: state.to_owned(),
            connected_since: self.connected_since,
            last_sync: self.last_sync,
            next_sync: next.map(|moment| wall_of(moment, now)),
            last_error_at: machine.last_error.as_ref().and(self.last_error_at),
            last_error: machine.last_error,
            copy: machine.copy,
            spool: Some(self.spool.status()?),
            datagrams: Some(self.datagrams.status()),
            applications: self.conditions(),
            runs: self.runs.list(),
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
