//! Connections held: what an idle link costs the server in memory of its own, as the slope between two
//! counts.

use std::time::Duration;

use serde::Serialize;

use crate::failure::Failure;
use crate::process::Process;
use crate::protocol::{Packing, Peer};
use crate::swarm::Swarm;

/// Time of the server to settle before its memory is read.
const SETTLE: Duration = Duration::from_millis(1_500);

/// Cost of held connections.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Held {
    pub(crate) fewer: usize,
    pub(crate) more: usize,
    pub(crate) private_bytes_before: u64,
    pub(crate) private_bytes_fewer: u64,
    /// With the others known, and not connected yet.
    pub(crate) private_bytes_known: u64,
    pub(crate) private_bytes_more: u64,
    pub(crate) bytes_each: f64,
    /// The part of it that is not the link, but that the server knows the client.
    pub(crate) bytes_known_each: f64,
    /// A while after all of them had left.
    pub(crate) private_bytes_after: u64,
}

/// Holds `fewer` and then `more` connections. The server is made ready for each of them in between, so that
/// what it knows of a client is part of the cost.
#[expect(clippy::cast_precision_loss, reason = "memory below 2^52 bytes")]
pub(crate) fn measure(
    peer: &dyn Peer,
    server: &Process,
    fewer: usize,
    more: usize,
    after: Duration,
) -> Result<Held, Failure> {
    let private_bytes_before = server.private_bytes()?;
    peer.prepare(fewer)?;
    let mut swarm = Swarm::new(peer)?;
    swarm.connect(0, fewer, Packing::Each)?;
    settle(&mut swarm)?;
    let private_bytes_fewer = server.private_bytes()?;
    peer.prepare(more)?;
    settle(&mut swarm)?;
    let private_bytes_known = server.private_bytes()?;
    swarm.connect(fewer, more - fewer, Packing::Each)?;
    settle(&mut swarm)?;
    let private_bytes_more = server.private_bytes()?;
    swarm.close_all();
    std::thread::sleep(after);
    let each = |bytes: u64| (bytes as f64 - private_bytes_fewer as f64) / (more - fewer) as f64;
    Ok(Held {
        fewer,
        more,
        private_bytes_before,
        private_bytes_fewer,
        private_bytes_known,
        private_bytes_more,
        bytes_each: each(private_bytes_more),
        bytes_known_each: each(private_bytes_known),
        private_bytes_after: server.private_bytes()?,
    })
}

/// Lets time pass, answers what the server asks, and sees that every link is still there.
fn settle(swarm: &mut Swarm<'_>) -> Result<(), Failure> {
    let begun = std::time::Instant::now();
    while begun.elapsed() < SETTLE {
        swarm.wait(Duration::from_millis(50))?;
        for index in 0..swarm.ready.len() {
            swarm.pump_or_fail(swarm.ready[index])?;
        }
    }
    Ok(())
}
