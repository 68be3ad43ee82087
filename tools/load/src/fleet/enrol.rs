//! Enrolment over the wire, as a device does it, many at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use muster::agent::address::ServerAddress;
use muster::agent::enroll::{EnrollError, enroll};
use muster::agent::identity::{Identity, KeyType};
use muster::reactor::Clock;
use muster::wire::token::JoinToken;

use crate::failure::Failure;
use crate::interrupt;

/// Enrolments that are under way at a time. The server's store takes what waits in one transaction, so that
/// many cost little more than one.
const AT_A_TIME: usize = 64;

/// Attempts for one device: a server that is busy says so.
const ATTEMPTS_MAX: u32 = 10;

/// Enrols devices with these numbers. Fewer when it is interrupted.
pub(crate) fn enrol(
    server: &ServerAddress,
    token: &JoinToken,
    devices: std::ops::Range<usize>,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Identity>, Failure> {
    let (next, done) = (AtomicUsize::new(devices.start), AtomicUsize::new(0));
    let found = Mutex::new(Vec::with_capacity(devices.len()));
    let failure = Mutex::new(None);
    let has_failed = || failure.lock().is_ok_and(|failure| failure.is_some());
    let work = || {
        while !interrupt::requested() && !has_failed() {
            let device = next.fetch_add(1, Ordering::Relaxed);
            if device >= devices.end {
                return;
            }
            match enrol_one(server, token, device) {
                Ok(identity) => {
                    if let Ok(mut found) = found.lock() {
                        found.push((device, identity));
                    }
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1);
                }
                Err(error) => {
                    if let Ok(mut failure) = failure.lock() {
                        failure.get_or_insert(error);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(devices.len()) {
            scope.spawn(work);
        }
    });
    if let Some(error) = failure.into_inner().ok().flatten() {
        return Err(Failure::refused(format!("a simulated device could not enrol: {error}")));
    }
    let mut found = found.into_inner().unwrap_or_default();
    found.sort_by_key(|(device, _)| *device);
    Ok(found.into_iter().map(|(_, identity)| identity).collect())
}

fn enrol_one(server: &ServerAddress, token: &JoinToken, device: usize) -> Result<Identity, EnrollError> {
    let mut attempt = 1;
    loop {
        let now = Clock::new().now().wall;
        let outcome =
            enroll(server, token, &super::name(device), KeyType::Ed25519, None, now).map(|new| new.identity);
        let wait = match &outcome {
            Err(EnrollError::Later(seconds)) => u64::from(*seconds),
            Err(EnrollError::Unreachable { .. } | EnrollError::Link { .. }) => 1,
            _ => return outcome,
        };
        if attempt == ATTEMPTS_MAX || !interrupt::sleep(Duration::from_secs(wait)) {
            return outcome;
        }
        attempt += 1;
    }
}
