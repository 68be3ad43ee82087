//! A bounded queue with a notifier.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sync::{AtomicBool, Mutex, fence};

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
        // Cleared before the messages are taken: the other order loses wake-ups. By an exchange, so
        // that the owner sees all that was done elsewhere before the notification that it clears.
        self.shared.is_notified.swap(false, Ordering::AcqRel);
        into.extend(self.shared.messages.lock().drain(..));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn counted(capacity: usize) -> (Mailbox<u8>, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let wake = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        (Mailbox::new(capacity, wake), wakes)
    }

    #[test]
    fn many_messages_notify_once_until_somebody_looks() {
        let (mailbox, wakes) = counted(2);
        assert_eq!((mailbox.send(1), mailbox.send(2), mailbox.send(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        let mut messages = Vec::new();
        mailbox.take_all(&mut messages);
        assert_eq!(messages, [1, 2]);
        mailbox.notify();
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn an_owner_that_waits_for_nothing_is_left_asleep() {
        let (mailbox, wakes) = counted(1);
        mailbox.notify_if_waiting();
        assert_eq!(wakes.load(Ordering::Relaxed), 0);
        mailbox.wait_elsewhere();
        mailbox.notify_if_waiting();
        mailbox.notify_if_waiting();
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
    }
}

/// Every order of threads and every value that memory may show: a wake-up that is lost is a deadlock.
#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Notify;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;

    fn mailbox() -> (Mailbox<u8>, Arc<Notify>) {
        let woken = Arc::new(Notify::new());
        let wake = Arc::clone(&woken);
        (Mailbox::new(usize::MAX, move || wake.notify()), woken)
    }

    #[test]
    fn no_message_is_overlooked_by_an_owner_that_only_looks_when_notified() {
        loom::model(|| {
            let (mailbox, woken) = mailbox();
            let senders = [1, 2].map(|message| {
                let mailbox = mailbox.clone();
                thread::spawn(move || mailbox.send(message).unwrap())
            });
            let mut messages = Vec::new();
            while messages.len() < 2 {
                woken.wait();
                mailbox.take_all(&mut messages);
            }
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        });
    }

    #[test]
    fn what_is_done_elsewhere_before_a_notification_is_seen_behind_it() {
        loom::model(|| {
            let (mailbox, woken) = mailbox();
            let is_done = Arc::new(AtomicBool::new(false));
            let (notifier, done) = (mailbox.clone(), Arc::clone(&is_done));
            let thread = thread::spawn(move || {
                notifier.notify();
                done.store(true, Ordering::Relaxed);
                notifier.notify();
            });
            while !is_done.load(Ordering::Relaxed) {
                woken.wait();
                mailbox.take_all(&mut Vec::new());
            }
            thread.join().unwrap();
        });
    }

    #[test]
    fn an_owner_that_waits_elsewhere_is_never_left_asleep() {
        loom::model(|| {
            let (mailbox, woken) = mailbox();
            let position = Arc::new(AtomicUsize::new(0));
            let (notifier, moved) = (mailbox.clone(), Arc::clone(&position));
            let flusher = thread::spawn(move || {
                for next in 1..=2 {
                    moved.store(next, Ordering::Relaxed);
                    notifier.notify_if_waiting();
                }
            });
            let mut last = 0;
            while last < 2 {
                mailbox.wait_elsewhere();
                if position.load(Ordering::Relaxed) == last {
                    woken.wait();
                    mailbox.take_all(&mut Vec::new());
                }
                last = position.load(Ordering::Relaxed);
            }
            flusher.join().unwrap();
        });
    }
}
