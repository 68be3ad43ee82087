//! Session tickets (RFC 8446 section 4.6.1) that outlive the process: their keys are handed in, so that their
//! keeper decides for how long.
//!
//! A ticket is sealed with AES-256-GCM:
//!
//! ```text
//! name of the key (16) │ nonce (12) │ state of the session, sealed │ tag (16)
//! ```
//!
//! The name is authenticated with the state. A nonce is drawn for each ticket, so that two processes that
//! have the same key, as after a restore from a copy, need not know of each other: with 2^28 tickets of one
//! key, 6,000 a second for its twelve hours, two of them have the same nonce with a probability of 2^-41. A
//! ticket that does not open is no error: the handshake is a full one.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use parking_lot::RwLock;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use crate::fleet::rotation::TICKET_SECONDS;

/// Length of a key's name (as in RFC 5077 section 4).
pub const TICKET_KEY_NAME_BYTES: usize = 16;

/// Length of a key: AES-256.
pub const TICKET_KEY_BYTES: usize = 32;

/// Largest ticket that is looked at: several times what one with a device's certificate has.
const TICKET_BYTES_MAX: usize = 8 * 1024;

/// A key of tickets. Wiped when it is dropped.
pub struct TicketKey {
    /// First bytes of its tickets. No secret.
    pub name: [u8; TICKET_KEY_NAME_BYTES],
    /// The key itself.
    pub key: Zeroizing<[u8; TICKET_KEY_BYTES]>,
}

impl TicketKey {
    /// Made for each use, so that no expanded copy of the key stays behind in memory that nobody wipes.
    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &*self.key).ok().map(LessSafeKey::new)
    }

    fn seal(&self, state: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut ticket =
            Vec::with_capacity(TICKET_KEY_NAME_BYTES + NONCE_LEN + state.len() + AES_256_GCM.tag_len());
        ticket.extend_from_slice(&self.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(state);
        let sealed = &mut ticket[TICKET_KEY_NAME_BYTES + NONCE_LEN..];
        let tag = self
            .cipher()?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(self.name), sealed)
            .ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn open(&self, nonce: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut state = sealed.to_vec();
        let length = self.cipher()?.open_in_place(nonce, Aad::from(self.name), &mut state).ok()?.len();
        state.truncate(length);
        Some(state)
    }
}

/// The keys of a server's tickets, which all of its reactors share. Cheap to clone. Until
/// [`TicketKeys::replace`] there is none: nobody is given a ticket, and none is accepted.
#[derive(Clone, Default)]
pub struct TicketKeys {
    ring: Arc<RwLock<Vec<TicketKey>>>,
}

impl TicketKeys {
    /// These keys are in force from now on: the last one seals, all of them open. Those that were are wiped.
    pub fn replace(&self, keys: Vec<TicketKey>) {
        *self.ring.write() = keys;
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TICKET_SECONDS
    }

    /// A ticket that holds this state. `None` without a key.
    fn encrypt(&self, state: &[u8]) -> Option<Vec<u8>> {
        self.ring.read().last()?.seal(state)
    }

    /// The state that a ticket holds; `None` when it is none, or its key is not there any more.
    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_at_checked(TICKET_KEY_NAME_BYTES)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        // A name is public, so that the time which a comparison takes gives nothing away.
        self.ring.read().iter().find(|key| key.name == name)?.open(nonce, sealed)
    }
}

impl fmt::Debug for TicketKeys {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").field("keys", &self.ring.read().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> TicketKey {
        TicketKey {
            name: [number; TICKET_KEY_NAME_BYTES],
            key: Zeroizing::new([number ^ 0x5a; TICKET_KEY_BYTES]),
        }
    }

    fn keys(numbers: &[u8]) -> TicketKeys {
        let keys = TicketKeys::default();
        keys.replace(numbers.iter().copied().map(key).collect());
        keys
    }

    #[test]
    fn a_ticket_opens_as_long_as_its_key_is_there_and_in_another_process_too() {
        let ticket = keys(&[1, 2]).encrypt(b"a session").unwrap();
        assert_eq!(&ticket[..TICKET_KEY_NAME_BYTES], [2; TICKET_KEY_NAME_BYTES], "the newest seals");
        for held in [&[2][..], &[2, 3], &[1, 2, 3]] {
            assert_eq!(keys(held).decrypt(&ticket).unwrap(), b"a session");
        }
        assert!(keys(&[3, 4]).decrypt(&ticket).is_none());
        let another = TicketKey { name: [2; TICKET_KEY_NAME_BYTES], ..key(9) };
        let liar = TicketKeys::default();
        liar.replace(vec![another]);
        assert!(liar.decrypt(&ticket).is_none(), "the name alone opens nothing");
    }

    #[test]
    fn without_a_key_nothing_is_sealed() {
        assert!(TicketKeys::default().encrypt(b"a session").is_none());
        assert!(TicketKeys::default().decrypt(&[0; 100]).is_none());
    }

    #[test]
    fn no_two_tickets_are_alike() {
        let keys = keys(&[1]);
        assert_ne!(keys.encrypt(b"a session"), keys.encrypt(b"a session"));
    }

    proptest! {
        #[test]
        fn what_was_tampered_with_does_not_open(
            state in proptest::collection::vec(any::<u8>(), 0..700), at: proptest::sample::Index, flip in 1u8..,
        ) {
            let keys = keys(&[1, 2]);
            let mut ticket = keys.encrypt(&state).unwrap();
            prop_assert_eq!(keys.decrypt(&ticket), Some(state));
            let at = at.index(ticket.len());
            prop_assert!(keys.decrypt(&ticket[..at]).is_none());
            ticket[at] ^= flip;
            prop_assert!(keys.decrypt(&ticket).is_none());
        }

        #[test]
        fn anything_may_come(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut named = vec![1; TICKET_KEY_NAME_BYTES];
            named.extend_from_slice(&bytes);
            prop_assert!(keys(&[1]).decrypt(&bytes).is_none());
            prop_assert!(keys(&[1]).decrypt(&named).is_none());
        }
    }
}
