//! A bounded queue with a doorbell.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use parking_lot::Mutex;

type Ring = Box<dyn Fn() + Send + Sync>;

struct Shared<T> {
    letters: Mutex<VecDeque<T>>,
    capacity: usize,
    rung: AtomicBool,
    /// The owner waits for something that is to be seen elsewhere.
    waits: AtomicBool,
    ring: Ring,
}

/// A bounded queue with a doorbell. Cheap to clone; every clone is the same mailbox. Any thread posts, one empties it.
pub struct Mailbox<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Mailbox<T> {
    /// A mailbox for at most `capacity` letters; `ring` wakes its owner, and is called once for all that is posted until the owner
    /// looks.
    #[must_use]
    pub fn new(capacity: usize, ring: impl Fn() + Send + Sync + 'static) -> Self {
        let shared = Shared {
            letters: Mutex::new(VecDeque::new()),
            capacity,
            rung: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            ring: Box::new(ring),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Posts a letter and rings.
    ///
    /// # Errors
    /// Gives the letter back when the mailbox is full.
    pub fn post(&self, letter: T) -> Result<(), T> {
        {
            let mut letters = self.shared.letters.lock();
            if letters.len() >= self.shared.capacity {
                return Err(letter);
            }
            letters.push_back(letter);
        }
        self.ring();
        Ok(())
    }

    /// Wakes the owner without a letter: there is something to see elsewhere.
    pub fn ring(&self) {
        if !self.shared.rung.swap(true, Ordering::AcqRel) {
            (self.shared.ring)();
        }
    }

    /// Says that the owner waits for something that is to be seen elsewhere: the next [`Mailbox::ring_if_waiting`] rings. The owner looks once
    /// more before it sleeps, as what it waits for may have come just before.
    pub fn wait_elsewhere(&self) {
        self.shared.waits.store(true, Ordering::Relaxed);
        // With the one below: either the ringer sees that somebody waits, or the owner's look sees what the ringer has done.
        fence(Ordering::SeqCst);
    }

    /// Wakes the owner if it waits for something elsewhere, after that was done. One who does not is left asleep.
    pub fn ring_if_waiting(&self) {
        fence(Ordering::SeqCst);
        if self.shared.waits.load(Ordering::Relaxed) && self.shared.waits.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }

    /// Moves every letter to `into`, the oldest first. For the owner only.
    pub fn take_all(&self, into: &mut Vec<T>) {
        // The doorbell is cleared before the letters are taken: the other order loses wake-ups.
        self.shared.rung.store(false, Ordering::Release);
        into.extend(self.shared.letters.lock().drain(..));
    }

    /// How many letters wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.letters.lock().len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn many_letters_ring_once_until_somebody_looks() {
        let rings = Arc::new(AtomicUsize::new(0));
        let mailbox = Mailbox::new(2, {
            let rings = Arc::clone(&rings);
            move || {
                rings.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!((mailbox.post(1), mailbox.post(2), mailbox.post(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!(rings.load(Ordering::Relaxed), 1);
        let mut letters = Vec::new();
        mailbox.take_all(&mut letters);
        assert_eq!(letters, [1, 2]);
        mailbox.ring();
        assert_eq!(rings.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn who_waits_for_nothing_is_left_asleep_and_who_waits_is_never_left() {
        let (sender, bell) = std::sync::mpsc::channel();
        let mailbox: Mailbox<()> = Mailbox::new(1, move || {
            let _ = sender.send(());
        });
        mailbox.ring_if_waiting();
        assert!(bell.try_recv().is_err(), "nobody waits");
        let position = Arc::new(AtomicUsize::new(0));
        let (ringer, seen) = (mailbox.clone(), Arc::clone(&position));
        const LAST: usize = 20_000;
        let flusher = std::thread::spawn(move || {
            for next in 1..=LAST {
                seen.store(next, Ordering::Release);
                ringer.ring_if_waiting();
            }
        });
        let mut last = 0;
        while last < LAST {
            mailbox.wait_elsewhere();
            if position.load(Ordering::Acquire) == last {
                bell.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
                mailbox.take_all(&mut Vec::new());
            }
            last = position.load(Ordering::Acquire);
        }
        flusher.join().unwrap();
    }

    #[test]
    fn no_letter_is_overlooked_by_an_owner_that_only_looks_when_rung() {
        let (sender, bell) = std::sync::mpsc::channel();
        let mailbox = Mailbox::new(usize::MAX, move || {
            let _ = sender.send(());
        });
        let posters: Vec<_> = (0..4)
            .map(|poster| {
                let mailbox = mailbox.clone();
                std::thread::spawn(move || {
                    (0..500).for_each(|letter| mailbox.post((poster, letter)).unwrap());
                })
            })
            .collect();
        let mut letters = Vec::new();
        while letters.len() < 2_000 {
            bell.recv().unwrap();
            mailbox.take_all(&mut letters);
        }
        posters.into_iter().for_each(|poster| poster.join().unwrap());
    }
}
