//! Sign-ins that have begun and wait for their browser to come back from the provider.

use std::collections::HashMap;
use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use crate::wire::time::Moment;

/// Time that somebody has at the provider: 10 minutes.
pub(super) const PENDING_SECONDS_MAX: u64 = 600;

/// Most sign-ins that wait, some 400 bytes each.
const PENDING_MAX: usize = 1_024;

/// Those of one address; a further one takes the place of the oldest.
const PENDING_OF_ADDRESS_MAX: usize = 16;

/// A sign-in.
pub(super) struct Pending {
    /// SHA-256 of what the cookie of the browser has.
    pub(super) browser: [u8; 32],
    pub(super) nonce: String,
    /// The secret of PKCE (RFC 7636 section 4.1).
    pub(super) verifier: String,
    /// Page that was wanted.
    pub(super) next: String,
    pub(super) address: Option<IpAddr>,
    pub(super) begun: Moment,
}

/// All of them, by the SHA-256 of their states: the time that it takes to find one tells nothing of another.
#[derive(Default)]
pub(super) struct AllPending(HashMap<[u8; 32], Pending>);

pub(super) fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

impl AllPending {
    /// Adds one; false: there are as many as may be.
    pub(super) fn add(&mut self, state: &str, pending: Pending) -> bool {
        let now = pending.begun;
        if self.0.len() >= PENDING_MAX {
            self.0.retain(|_, one| is_in_time(one, now));
        }
        let of_address = self.0.iter().filter(|(_, one)| one.address == pending.address);
        let oldest = of_address.clone().min_by_key(|(_, one)| one.begun).map(|(state, _)| *state);
        if of_address.count() >= PENDING_OF_ADDRESS_MAX
            && let Some(oldest) = oldest
        {
            self.0.remove(&oldest);
        }
        let has_room = self.0.len() < PENDING_MAX;
        if has_room {
            self.0.insert(hash(state), pending);
        }
        has_room
    }

    /// The page that one with this state wants.
    pub(super) fn next(&self, state: &str) -> Option<&str> {
        self.0.get(&hash(state)).map(|pending| pending.next.as_str())
    }

    /// Takes the one with this state out, whether this browser has begun it or not: a state is good once.
    pub(super) fn take(&mut self, state: &str, browser: &str, now: Moment) -> Option<Pending> {
        let pending = self.0.remove(&hash(state))?;
        let is_of_browser = verify_slices_are_equal(&pending.browser, &hash(browser)).is_ok();
        (is_of_browser && is_in_time(&pending, now)).then_some(pending)
    }
}

fn is_in_time(pending: &Pending, now: Moment) -> bool {
    now.microseconds_since(pending.begun) < PENDING_SECONDS_MAX * 1_000_000
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn pending(address: u32, begun: u64) -> Pending {
        Pending {
            browser: hash("cookie"),
            nonce: String::new(),
            verifier: String::new(),
            next: "/".to_owned(),
            address: Some(Ipv4Addr::from_bits(address).into()),
            begun: Moment(begun),
        }
    }

    #[test]
    fn a_state_is_good_once_for_its_browser_and_for_its_time() {
        let mut all = AllPending::default();
        for state in ["good", "stolen", "late"] {
            assert!(all.add(state, pending(1, 1)));
        }
        let late = Moment(1 + PENDING_SECONDS_MAX * 1_000_000);
        assert!(all.take("unknown", "cookie", Moment(2)).is_none());
        assert!(all.take("stolen", "another", Moment(2)).is_none());
        assert!(all.take("stolen", "cookie", Moment(2)).is_none(), "it was used");
        assert!(all.take("late", "cookie", late).is_none());
        assert_eq!(all.next("good"), Some("/"));
        assert!(all.take("good", "cookie", Moment(2)).is_some());
        assert!(all.take("good", "cookie", Moment(2)).is_none(), "it was used");
    }

    #[test]
    fn a_flood_is_bounded_and_passes() {
        let mut all = AllPending::default();
        assert!(all.add("first", pending(0, 1)));
        for number in 0..100 {
            assert!(all.add(&number.to_string(), pending(1, number)));
        }
        assert_eq!(all.0.len(), 1 + PENDING_OF_ADDRESS_MAX, "one address takes its own places alone");
        assert!(all.take("99", "cookie", Moment(100)).is_some());
        assert!(all.take("83", "cookie", Moment(100)).is_none(), "the oldest went");
        let added = (0..2_000u32).filter(|one| all.add(&format!("f{one}"), pending(*one, 100))).count();
        assert_eq!(all.0.len(), PENDING_MAX);
        assert!(added < PENDING_MAX && all.take("first", "cookie", Moment(101)).is_some());
        let later = 101 + PENDING_SECONDS_MAX * 1_000_000;
        assert!(all.add("x", pending(20_000, later)) && all.add("y", pending(20_001, later)));
        assert!(all.0.len() <= 2 + 1, "{}", all.0.len());
    }
}
