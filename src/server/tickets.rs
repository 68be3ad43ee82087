//! The keys of session tickets: drawn now and then, kept in the store, and in force once they are durable.
//!
//! The store has half of a key. The other half is the secret in `identity/`, so that a copy of the database
//! makes nobody a ticket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use zeroize::Zeroizing;

use super::identity::Identity;
use crate::fleet::rotation;
use crate::reactor::channel::{TICKET_KEY_NAME_BYTES, TicketKey, TicketKeys};
use crate::store::{Store, StoreError, TICKET_NAME_BYTES, TICKET_SEED_BYTES, TicketSeed};
use crate::wire::time::WallTime;

const _: () = assert!(TICKET_KEY_NAME_BYTES == TICKET_NAME_BYTES);

/// Draws the keys and lets them go.
pub(super) struct TicketRounds {
    store: Store,
    identity: Arc<Identity>,
    keys: TicketKeys,
    /// Those that are in force, and perhaps one that is being stored.
    seeds: Vec<TicketSeed>,
    /// Something is being stored.
    is_storing: Arc<AtomicBool>,
    /// The last write failed.
    has_failed: Arc<AtomicBool>,
}

impl TicketRounds {
    /// With the keys of the run before, as far as they are still good, and a new one when it is due. Waits
    /// until that is durable: the first devices are given tickets, too.
    pub(super) fn start(store: Store, identity: Arc<Identity>, now: WallTime) -> Result<Self, StoreError> {
        let seeds = store.ticket_seeds()?;
        let mut rounds = Self {
            store,
            identity,
            keys: TicketKeys::default(),
            seeds,
            is_storing: Arc::default(),
            has_failed: Arc::default(),
        };
        rounds.keys.replace(derive(&rounds.identity, &rounds.seeds, now));
        let (sender, stored) = crossbeam_channel::bounded(1);
        rounds.look_and(now, move || drop(sender));
        // Nothing is ever sent: the sender goes when the key is in force, or when there was nothing to do.
        let _ = stored.recv() as Result<(), _>;
        Ok(rounds)
    }

    /// The keys that reactors seal with and open with.
    pub(super) fn keys(&self) -> TicketKeys {
        self.keys.clone()
    }

    /// Looks whether a key is due or has expired. Does not wait for the disk.
    pub(super) fn look(&mut self, now: WallTime) {
        self.look_and(now, || {});
    }

    /// The same; `done` is called, or dropped, when it is over.
    fn look_and(&mut self, now: WallTime, done: impl FnOnce() + Send + 'static) {
        if self.is_storing.load(Ordering::Acquire) {
            return;
        }
        if self.has_failed.swap(false, Ordering::Acquire) {
            match self.store.ticket_seeds() {
                Ok(seeds) => self.seeds = seeds,
                Err(error) => return log::warn!("the keys of session tickets can't be read: {error}"),
            }
        }
        let before = self.seeds.clone();
        match rotation::rotate(&mut self.seeds, now, |seed| seed.made_at, || draw(now)) {
            Ok(false) => {}
            Ok(true) => self.put_in_force(before, now, done),
            Err(()) => log::warn!("the system gives no random numbers: session tickets keep their keys"),
        }
    }

    /// A key is used once it is durable: a ticket that nobody could open after a restart would be the dearer
    /// way.
    fn put_in_force(&mut self, before: Vec<TicketSeed>, now: WallTime, done: impl FnOnce() + Send + 'static) {
        self.is_storing.store(true, Ordering::Release);
        let (keys, identity, seeds) = (self.keys.clone(), self.identity.clone(), self.seeds.clone());
        let (is_storing, has_failed) = (self.is_storing.clone(), self.has_failed.clone());
        self.store.set_ticket_seeds(self.seeds.clone(), move |stored| {
            match stored {
                Ok(()) => keys.replace(derive(&identity, &seeds, now)),
                Err(error) => {
                    log::warn!(
                        "the new key of session tickets could not be stored, the old ones stay: {error}"
                    );
                    // Expired keys go all the same.
                    keys.replace(derive(&identity, &before, now));
                    has_failed.store(true, Ordering::Release);
                }
            }
            is_storing.store(false, Ordering::Release);
            done();
        });
    }
}

/// The keys of those seeds that are still good.
fn derive(identity: &Identity, seeds: &[TicketSeed], now: WallTime) -> Vec<TicketKey> {
    let good = seeds.iter().filter(|seed| !rotation::has_expired(seed.made_at, now));
    good.map(|seed| TicketKey { name: seed.name, key: identity.ticket_key(&seed.seed) }).collect()
}

fn draw(now: WallTime) -> Result<TicketSeed, ()> {
    let (mut name, mut seed) = ([0; TICKET_NAME_BYTES], Zeroizing::new([0; TICKET_SEED_BYTES]));
    aws_lc_rs::rand::fill(&mut name).and_then(|()| aws_lc_rs::rand::fill(&mut *seed)).map_err(drop)?;
    Ok(TicketSeed { name, seed, made_at: now })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::channel::ProducesTickets as _;

    const START: WallTime = WallTime(1_795_514_400_000);

    fn start(directory: &std::path::Path, now: WallTime) -> TicketRounds {
        let identity = Identity::open_or_create(&directory.join("identity"), &[], START).unwrap();
        let rounds = TicketRounds::start(Store::open(directory).unwrap(), Arc::new(identity), now).unwrap();
        settle(&rounds);
        rounds
    }

    fn settle(rounds: &TicketRounds) {
        while rounds.is_storing.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    fn after_hours(hours: u64) -> WallTime {
        WallTime(START.0 + hours * 3_600_000)
    }

    #[test]
    fn a_ticket_of_the_run_before_opens_and_that_of_another_server_does_not() {
        let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ticket = start(directory.path(), START).keys().encrypt(b"a session").unwrap();
        assert_eq!(start(directory.path(), after_hours(1)).keys().decrypt(&ticket).unwrap(), b"a session");
        assert!(start(other.path(), START).keys().decrypt(&ticket).is_none());
        // The database of the one beside the identity of the other.
        std::fs::remove_file(other.path().join("muster.db")).unwrap();
        std::fs::copy(directory.path().join("muster.db"), other.path().join("muster.db")).unwrap();
        let copied = start(other.path(), START);
        assert_eq!(copied.seeds, start(directory.path(), START).seeds, "the copy is one");
        assert!(copied.keys().decrypt(&ticket).is_none());
    }

    #[test]
    fn keys_come_and_go_while_the_server_runs() {
        let directory = tempfile::tempdir().unwrap();
        let mut rounds = start(directory.path(), START);
        let keys = rounds.keys();
        let first = keys.encrypt(b"a session").unwrap();
        for hours in [12, 24] {
            rounds.look(after_hours(hours));
            settle(&rounds);
            assert!(keys.decrypt(&first).is_some(), "{hours} h");
            assert_ne!(keys.encrypt(b"a session").unwrap()[..16], first[..16]);
        }
        rounds.look(after_hours(36));
        settle(&rounds);
        assert!(keys.decrypt(&first).is_none());
        assert_eq!(rounds.store.ticket_seeds().unwrap().len(), rotation::KEYS_MAX);
    }

    #[test]
    fn what_can_not_be_stored_is_not_used_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut rounds = start(directory.path(), START);
        let first = rounds.keys().encrypt(b"a session").unwrap();
        let broken = rusqlite::Connection::open(directory.path().join("muster.db")).unwrap();
        broken.execute_batch("ALTER TABLE ticket_seeds RENAME TO elsewhere").unwrap();
        rounds.look(after_hours(12));
        settle(&rounds);
        assert_eq!(rounds.keys().encrypt(b"a session").unwrap()[..16], first[..16], "the old key goes on");
        broken.execute_batch("ALTER TABLE elsewhere RENAME TO ticket_seeds").unwrap();
        rounds.look(after_hours(13));
        settle(&rounds);
        assert_ne!(rounds.keys().encrypt(b"a session").unwrap()[..16], first[..16]);
        assert!(rounds.keys().decrypt(&first).is_some());
    }
}
