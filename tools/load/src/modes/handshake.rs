//! Cost of a handshake: devices that are known come back, and nothing has changed.

use super::interval::Interval;
use super::stage::{Stage, Waited};
use crate::engine::commands::EngineCommand;
use crate::failure::Failure;

/// Devices that shake hands again, in devices.
const RECONNECTS_MAX: usize = 1_000;

/// Cost of one, in microseconds of processor time, to a live session: the first sync, in which nothing has
/// changed, is part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandshakeCost {
    pub(crate) server: f64,
    pub(crate) client: f64,
}

/// Lets the last devices of a fleet that is up go and come again. Nothing when it can't be measured.
pub(crate) fn measure(
    stage: &mut Stage,
    devices: usize,
    at_a_time: usize,
    is_full: bool,
) -> Result<Option<HandshakeCost>, Failure> {
    let count = RECONNECTS_MAX.min(devices);
    stage.run(devices - count, at_a_time)?;
    if is_full {
        stage.workers.order(EngineCommand::ForgetTickets)?;
    }
    stage.watch.rest();
    let interval = Interval::begin(stage);
    if stage.bring_up(devices, at_a_time)? != Waited::Done {
        return Ok(None);
    }
    // Not a moment later: while one waits for quiet, the pings of thousands of others and the looks at the
    // server's memory add up.
    let spent = interval.end(stage);
    let done = if is_full { spent.counts.full } else { spent.counts.resumed };
    // The others' pings are in it, a few.
    let cost = spent.server_each(done).zip(spent.client_each(done));
    Ok(cost.map(|(server, client)| HandshakeCost { server, client }))
}

/// Adds what both kinds cost to the report.
pub(crate) fn report(stage: &mut Stage, full: Option<HandshakeCost>, resumed: Option<HandshakeCost>) {
    for (kind, cost) in [("full", full), ("resumed", resumed)] {
        let Some(cost) = cost else { continue };
        stage.noted_figure(
            &format!("server_cpu_microseconds_per_{kind}_handshake"),
            &format!("processor time: server, {kind} handshake"),
            cost.server,
            "to a live session: with the first sync, in which nothing has changed",
        );
        stage.figure(
            &format!("client_cpu_microseconds_per_{kind}_handshake"),
            &format!("processor time: device, {kind} handshake"),
            cost.client,
        );
    }
}
