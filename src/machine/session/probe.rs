//! The answer to a device that looks whether everything works.

use std::net::SocketAddr;

use super::SyncPolicy;
use crate::machine::command::Command;
use crate::machine::device_state::DeviceState;
use crate::machine::rate::WAKE_MICROSECONDS;
use crate::wire::message::{ErrorCode, ErrorReport, Probe, Probed, ToAgent};
use crate::wire::time::Now;

/// The answer to a device that looks whether everything works; the wake that it asked for goes ahead of it.
pub(super) fn probed(
    record: &mut DeviceState,
    probe: Probe,
    policy: &SyncPolicy,
    now: &Now,
    out: &mut Vec<Command<'_>>,
) -> ToAgent {
    let address =
        policy.peer.filter(|_| probe.udp_port != 0).map(|peer| SocketAddr::new(peer, probe.udp_port));
    let mut wake_counter = None;
    if let Some(address) = address {
        if let Err(seconds) = record.allowance.take_wake(now.moment) {
            let message = format!(
                "a device may have {} wakes a minute sent to it for a check: try again in {seconds} s",
                60_000_000 / WAKE_MICROSECONDS
            );
            return ToAgent::Error(ErrorReport { code: ErrorCode::Unexpected, message });
        }
        let counter = record.next_wake_counter(now.wall);
        out.push(Command::Probe { address, counter });
        wake_counter = Some(counter);
    }
    ToAgent::Probed(Probed {
        clock: now.wall,
        notice_counter: record.notice_counter,
        wake_counter,
        address: policy.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        notice_port: policy.notice_port,
    })
}
