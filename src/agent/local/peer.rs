//! The user at the other end of the socket, and the share that they may use.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use crate::machine::bucket::Bucket;
use crate::wire::time::Moment;

/// Burst that a user may emit, in bytes of lines: some thousand events.
const BURST_BYTES: u64 = 256 * 1024;

/// Rate at which it may emit all the time, in bytes a second: a spool of the default size then holds a
/// severity for a quarter of an hour, however loud one user is.
const REFILL_BYTES_PER_SECOND: u64 = 4 * 1024;

/// Least cost of a line: a record of the spool and its handling.
const LINE_BYTES_MIN: u64 = 256;

/// Most users that are remembered: a user is forgotten once its whole burst is there again, a minute after
/// its last line.
const USERS_MAX: usize = 256;

/// A program's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Root, or the agent's own user: may ask for everything.
    Owner,
    /// The user of this number: may emit events and nothing else.
    Other(u32),
}

impl Peer {
    /// The user that connected, as the kernel says (`SO_PEERCRED`, unix(7)).
    ///
    /// # Errors
    /// When the kernel does not say.
    #[cfg(target_os = "linux")]
    pub fn of(stream: &impl AsFd) -> io::Result<Self> {
        let user = rustix::net::sockopt::socket_peercred(stream)?.uid;
        let is_owner = user.is_root() || user == rustix::process::geteuid();
        Ok(if is_owner { Self::Owner } else { Self::Other(user.as_raw()) })
    }

    /// Elsewhere the socket's mode is all there is.
    ///
    /// # Errors
    /// Never.
    #[cfg(not(target_os = "linux"))]
    pub fn of(_: &impl AsFd) -> io::Result<Self> {
        Ok(Self::Owner)
    }
}

/// Time in which a user's whole burst comes back.
const BURST_MICROSECONDS: u64 = microseconds(BURST_BYTES);

/// Time in which as many bytes come back.
const fn microseconds(bytes: u64) -> u64 {
    bytes.saturating_mul(1_000_000) / REFILL_BYTES_PER_SECOND
}

/// Allowances of users.
#[derive(Debug, Default)]
pub struct Allowances(BTreeMap<u32, Allowance>);

#[derive(Debug, Default)]
struct Allowance {
    bucket: Bucket,
    is_told: bool,
}

impl Allowances {
    /// Takes a line of `bytes` bytes.
    ///
    /// # Errors
    /// When that is more than the user may have now: in how many seconds it may.
    pub fn take(&mut self, user: u32, bytes: usize, now: Moment) -> Result<(), u64> {
        self.0.retain(|_, allowance| allowance.bucket.0 > now);
        if self.0.len() >= USERS_MAX && !self.0.contains_key(&user) {
            return Err(BURST_BYTES / REFILL_BYTES_PER_SECOND);
        }
        let allowance = self.0.entry(user).or_default();
        let cost = microseconds((bytes as u64).clamp(LINE_BYTES_MIN, BURST_BYTES));
        let opens_at = allowance.bucket.opens_at(BURST_MICROSECONDS - cost);
        if opens_at <= now {
            allowance.bucket.take(now, cost);
            return Ok(());
        }
        if !std::mem::replace(&mut allowance.is_told, true) {
            log::warn!("user {user} emits more than one user may: some of its events are refused");
        }
        Err(opens_at.microseconds_since(now).div_ceil(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_burst_and_then_a_rate() {
        let mut allowances = Allowances::default();
        let burst = BURST_BYTES / LINE_BYTES_MIN;
        for _ in 0..burst {
            assert_eq!(allowances.take(7, 10, Moment(0)), Ok(()));
        }
        assert_eq!(allowances.take(7, 10, Moment(0)), Err(1));
        assert_eq!(allowances.take(7, 8_192, Moment(0)), Err(2));
        assert_eq!(allowances.take(8, 10, Moment(0)), Ok(()), "another user");
        // Asked for much oftener than it refills, it refills all the same.
        let taken = (1..=1_000).filter(|step| allowances.take(7, 10, Moment(step * 1_000)).is_ok()).count();
        assert_eq!(taken as u64, REFILL_BYTES_PER_SECOND / LINE_BYTES_MIN);
        let later = Moment(0).plus_seconds(3_600);
        assert_eq!(allowances.take(9, 10, later), Ok(()));
        assert_eq!(allowances.0.len(), 1, "who has been quiet is forgotten");
    }

    #[test]
    fn many_users_take_no_more_room() {
        let mut allowances = Allowances::default();
        let accepted = (0..10_000).filter(|user| allowances.take(*user, 10, Moment(0)).is_ok()).count();
        assert_eq!((accepted, allowances.0.len()), (USERS_MAX, USERS_MAX));
    }
}
