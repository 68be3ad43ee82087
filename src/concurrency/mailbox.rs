//! A bounded queue with a notifier.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use parking_lot::Mutex;

type Wake = Box<dyn Fn() + Send + Sync>;

struct Shared<T> {
    messages: Mutex<VecDeque<T>>,
    capacity: usize,
    is_notified: AtomicBool,
    /// The owner waits for something that shows elsewhere.
    waits: AtomicBool,
    wake: Wake,
}

/// A bounded queue with a notifier. Cheap to clone; every clone is the same mailbox. Any thread sends, one
/// empties it.
pub struct Mailbox<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Mailbox<T> {
    /// A mailbox for at most `capacity` messages; `wake` wakes its owner, and is called once for all that is
    /// sent until the owner looks.
    #[must_use]
    pub fn new(capacity: usize, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let shared = Shared {
            messages: Mutex::new(VecDeque::new()),
            capacity,
            is_notified: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            wake: Box::new(wake),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sends a message and wakes the owner.
    ///
    /// # Errors
    /// Gives the message back when the mailbox is full.
    pub fn send(&self, message: T) -> Result<(), T> {
        {
            let mut messages = self.shared.messages.lock();
            if messages.len() >= self.shared.capacity {
                return Err(message);
            }
            messages.push_back(message);
        }
        self.notify();
        Ok(())
    }

    /// Wakes the owner without a message: there is something to see elsewhere.
    pub fn notify(&self) {
        if !self.shared.is_notified.swap(true, Ordering::AcqRel) {
            (self.shared.wake)();
        }
    }

    /// Says that the owner waits for something that shows elsewhere: the next [`Mailbox::notify_if_waiting`]
    /// wakes it. The owner looks once more before it sleeps, as what it waits for may have come just before.
    pub fn wait_elsewhere(&self) {
        self.shared.waits.store(true, Ordering::Relaxed);
        // With the one below: either the notifier sees that somebody waits, or the owner's look sees what the
        // notifier has done.
        fence(Ordering::SeqCst);
    }

    /// Wakes the owner if it waits for something elsewhere, after that was done. One who does not is left
    /// asleep.
    pub fn notify_if_waiting(&self) {
        fence(Ordering::SeqCst);
        if self.shared.waits.load(Ordering::Relaxed) && self.shared.waits.swap(false, Ordering::Relaxed) {
            self.notify();
        }
    }

    /// Moves every message to `into`, the oldest first. For the owner only.
    pub fn take_all(&self, into: &mut Vec<T>) {
        // The notifier is cleared before the messages are taken: the other order loses wake-ups.
        self.shared.is_notified.store(false, Ordering::Release);
        into.extend(self.shared.messages.lock().drain(..));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn many_messages_notify_once_until_somebody_looks() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let mailbox = Mailbox::new(2, {
            let wakes = Arc::clone(&wakes);
            move || {
                wakes.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!((mailbox.send(1), mailbox.send(2), mailbox.send(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        let mut messages = Vec::new();
        mailbox.take_all(&mut messages);
        assert_eq!(messages, [1, 2]);
        mailbox.notify();
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn who_waits_for_nothing_is_left_asleep_and_who_waits_is_never_left() {
        let (sender, woken) = std::sync::mpsc::channel();
        let mailbox: Mailbox<()> = Mailbox::new(1, move || {
            let _ = sender.send(());
        });
        mailbox.notify_if_waiting();
        assert!(woken.try_recv().is_err(), "nobody waits");
        let position = Arc::new(AtomicUsize::new(0));
        let (notifier, seen) = (mailbox.clone(), Arc::clone(&position));
        const LAST: usize = 20_000;
        let flusher = std::thread::spawn(move || {
            for next in 1..=LAST {
                seen.store(next, Ordering::Release);
                notifier.notify_if_waiting();
            }
        });
        let mut last = 0;
        while last < LAST {
            mailbox.wait_elsewhere();
            if position.load(Ordering::Acquire) == last {
                woken.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
                mailbox.take_all(&mut Vec::new());
            }
            last = position.load(Ordering::Acquire);
        }
        flusher.join().unwrap();
    }

    #[test]
    fn no_message_is_overlooked_by_an_owner_that_only_looks_when_notified() {
        let (sender, woken) = std::sync::mpsc::channel();
        let mailbox = Mailbox::new(usize::MAX, move || {
            let _ = sender.send(());
        });
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let mailbox = mailbox.clone();
                std::thread::spawn(move || {
                    (0..500).for_each(|message| mailbox.send((thread, message)).unwrap());
                })
            })
            .collect();
        let mut messages = Vec::new();
        while messages.len() < 2_000 {
            woken.recv().unwrap();
            mailbox.take_all(&mut messages);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
