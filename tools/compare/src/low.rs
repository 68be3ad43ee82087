//! Low load: one message at a time on one link, and between two of them a durable write to the same disk, so
//! that both see the disk as it is at the time.

use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::path::Path;
use std::time::Duration;

use rustix::io::ReadWriteFlags;
use serde::Serialize;

use crate::failure::Failure;
use crate::link::Records;
use crate::measure::{Latencies, Stopwatch, Summary};
use crate::swarm::Swarm;

/// Size of one durable write: a page.
const WRITE_BYTES: usize = 4096;

/// Size of the file that is written over and over: allocated and synced before, so that a write changes no
/// metadata.
const FILE_BYTES: usize = 1 << 20;

/// Longest time of one acknowledgement.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// Result at low load.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct LowLoad {
    pub(crate) ack: Summary,
    pub(crate) durable_write: Summary,
    /// Median of the one over median of the other.
    pub(crate) ratio: f64,
    pub(crate) sent: u64,
}

/// Runs `rounds` of a message and a write, on the swarm's first link.
pub(crate) fn run(swarm: &mut Swarm<'_>, rounds: u64, directory: &Path) -> Result<LowLoad, Failure> {
    let path = directory.join("durable-write");
    let failed = || Failure::when(format!("write {} durably", path.display()));
    let mut file = File::create(&path).map_err(failed())?;
    file.write_all(&vec![0; FILE_BYTES]).and_then(|()| file.sync_all()).map_err(failed())?;
    let page = vec![0x5a; WRITE_BYTES];
    let (mut ack, mut write) = (Latencies::new()?, Latencies::new()?);
    for round in 0..rounds {
        let clock = Stopwatch::start();
        swarm.send(0, 1, Records::Few)?;
        let mut acks = 0;
        while acks == 0 {
            swarm.wait(ACK_TIMEOUT)?;
            if swarm.ready.is_empty() {
                return Err(Failure(format!("a message was not acknowledged within {ACK_TIMEOUT:?}")));
            }
            for index in 0..swarm.ready.len() {
                acks += swarm.pump_or_fail(swarm.ready[index])?.acks;
            }
        }
        ack.record(clock.nanoseconds(), 1);
        let offset = round * WRITE_BYTES as u64 % FILE_BYTES as u64;
        let clock = Stopwatch::start();
        let written = rustix::io::pwritev2(&file, &[IoSlice::new(&page)], offset, ReadWriteFlags::DSYNC)
            .map_err(std::io::Error::from)
            .map_err(failed())?;
        write.record(clock.nanoseconds(), 1);
        if written != WRITE_BYTES {
            return Err(Failure(format!("only {written} of {WRITE_BYTES} bytes were written")));
        }
    }
    let (ack, durable_write) = (ack.summary(), write.summary());
    Ok(LowLoad {
        ack,
        durable_write,
        ratio: ack.p50_microseconds / durable_write.p50_microseconds,
        sent: rounds,
    })
}
