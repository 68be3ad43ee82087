//! The beginning of tests of the agent's machine.

use super::*;
use crate::wire::frame;
use crate::wire::message::{InSync, ToAgent, ToServer};
use crate::wire::time::WallTime;

/// This long after the agent's start.
pub(super) fn at(seconds: u64) -> Now {
    Now {
        moment: Moment(0).plus_seconds(1_000 + seconds),
        wall: WallTime(1_795_514_400_000 + seconds * 1_000),
    }
}

pub(super) fn actions(machine: &mut AgentMachine, now: &Now) -> Vec<Action> {
    std::iter::from_fn(|| machine.poll(now)).collect()
}

/// The messages in these actions, by kind and number.
pub(super) fn said(actions: &[Action]) -> Vec<String> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send(bytes) => Some(bytes),
        _ => None,
    });
    sent.map(|bytes| {
        let (body, _) = frame::split(bytes).unwrap().unwrap();
        match ToServer::from_body(body).unwrap() {
            ToServer::Sync(sync) => match sync.identity {
                Some(identity) => format!("sync {:?}, trusts {}", sync.reason, identity.trust_label),
                None => format!("sync {:?}", sync.reason),
            },
            ToServer::Part(part) => {
                format!("{} +{} -{}", part.section, part.content.added.len(), part.content.removed.len())
            }
            ToServer::Events(events) => {
                let numbers: Vec<_> = events.items.iter().map(|item| item.sequence).collect();
                let again = if events.begins_again { " again" } else { "" };
                format!("events {numbers:?} of {:?}{again}", events.spool_epoch.0)
            }
            ToServer::Ping(ping) => format!("ping {:?}", ping.next_seconds),
            ToServer::Goodbye(_) => "goodbye".into(),
            ToServer::Probe(_) => "probe".into(),
            ToServer::Enrol(_) => "enrol".into(),
            ToServer::Runs(updates) => {
                let said: Vec<_> =
                    updates.updates.iter().map(|update| (update.run.0, update.serial)).collect();
                format!("runs {said:?}")
            }
            ToServer::Statistics(statistics) => format!("statistics {}", statistics.entries.len()),
            ToServer::Renew(renew) => format!("renew {}", renew.request.len()),
            ToServer::Fetch(fetch) => format!("fetch {} from {}", fetch.hash, fetch.offset),
        }
    })
    .collect()
}

pub(super) fn in_sync(keep_seconds: Option<u32>) -> ToAgent {
    ToAgent::InSync(told(keep_seconds))
}

pub(super) fn told(keep_seconds: Option<u32>) -> InSync {
    InSync {
        server_epoch: Epoch(5),
        next_seconds: 900,
        interval_seconds: 900,
        keep_seconds,
        notice_port: None,
        notice_counter: None,
        reconnect_seconds: None,
    }
}
