//! Parts that the tests of programs and sockets share.
//!
//! A server is a [`Fixture`] in the test's process, a [`Musterd`] of its own, or that of a [`Site`] with an
//! agent; an [`admin::AdminServer`] has the administration API alone, and a [`TaskServer`] pretends to be one
//! that orders runs. A [`Device`] speaks the wire by hand, on a [`Connection`]; a
//! [`run_device::RunDevice`] takes runs on it. All wait with [`wait_for`].
#![allow(dead_code, unused_imports, reason = "each test program and bench uses its own part of it")]

pub(crate) mod admin;
pub(crate) mod alone;
mod connection;
mod device;
mod fixture;
mod journal;
pub(crate) mod minisign;
mod musterd;
mod process;
pub(crate) mod provider;
pub(crate) mod run_device;
mod script;
mod site;
pub(crate) mod skip;
mod small_disk;
mod task_server;

use std::time::{Duration, Instant};

use muster::wire::time::WallTime;

pub(crate) use connection::Connection;
pub(crate) use device::{Device, digest_of_inventory, event, part, sync};
pub(crate) use fixture::Fixture;
pub(crate) use journal::{events_in, segments, stored, write_journal};
pub(crate) use musterd::Musterd;
pub(crate) use process::{
    AGENT, MUSTERD, Running, SilentServer, copy_directory, error_of, fail, free_udp_port, musterctl, musterd,
    succeed,
};
pub(crate) use site::{Program, Site};
pub(crate) use skip::skipped;
pub(crate) use small_disk::SmallDisk;
pub(crate) use task_server::{PART_BYTES, Parts, TaskServer};

/// Time of anything before a test gives up. Generous: the machine may be busy.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// Looks again and again until something is found.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

pub(crate) fn now() -> WallTime {
    muster::reactor::Clock::new().now().wall
}
