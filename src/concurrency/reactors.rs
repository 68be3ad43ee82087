//! Messages to reactors, and the table of their mailboxes.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::mailbox::Mailbox;
use crate::machine::close::CloseReason;
use crate::machine::command::JobOutcome;
use crate::machine::device_state::LinkRef;
use crate::machine::extra_links::ExtraLinks;
use crate::machine::permits::Permit;
use crate::wire::id::DeviceId;

/// Pause before a reactor is told again that had too much to do.
const RETRY: Duration = Duration::from_millis(10);

/// An administrator's decisions about links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkSettings {
    /// Most links of devices of the whole server.
    pub links_max: u64,
    /// Links of the whole server that may be open beyond those: handshakes and strangers.
    pub links_beyond_max: u64,
    /// Most memory that the links of one reactor may hold beside what each takes idle
    /// ([`Holdings`](crate::machine::holdings::Holdings)).
    pub held_bytes_max: u64,
    /// Places for strangers in one reactor, in links
    /// ([`places`](crate::machine::admission::strangers::places)).
    pub stranger_places: u64,
    /// Microseconds between two handshakes of one reactor, on average; zero: as they come.
    pub handshake_interval_microseconds: u64,
    /// Time that a handshake may take in all, however its bytes trickle in.
    pub handshake_deadline: Duration,
    /// Time that a link that is not persistent may be silent.
    pub idle_deadline: Duration,
    /// Time that a peer may leave unread what is ready for it.
    pub write_deadline: Duration,
}

/// A message to a reactor.
#[derive(Debug)]
pub enum ToReactor {
    /// A job of this link's session has come back. Its permit comes with it.
    JobDone(LinkRef, JobOutcome, Permit),
    /// Somebody waits for the device: its session is to ask it for a sync, for which it is to look at itself
    /// anew or not.
    SyncNow(LinkRef, bool),
    /// Another link of the same device is there.
    Superseded(LinkRef),
    /// The device was removed.
    Removed(LinkRef),
    /// Another machine has taken the record of the link's device over.
    TakenOver(LinkRef),
    /// Close the link for this reason at once, without a word.
    Close(LinkRef, CloseReason),
    /// Other limits are in force for links.
    Settings(LinkSettings),
    /// Accept no more links, let those that are there finish, and end.
    Drain,
    /// Say that this was read.
    Answer(mpsc::Sender<()>),
}

/// The mailboxes of all reactors, and what they share. Cheap to clone.
#[derive(Clone)]
pub struct ReactorMailboxes {
    mailboxes: Arc<[Mailbox<ToReactor>]>,
    extra_links: Arc<Mutex<ExtraLinks<LinkRef>>>,
}

impl ReactorMailboxes {
    /// The table, by reactor number.
    #[must_use]
    pub fn new(mailboxes: Vec<Mailbox<ToReactor>>) -> Self {
        Self { mailboxes: mailboxes.into(), extra_links: Arc::default() }
    }

    /// The device has this link beside its own. Returns the one to close for it, if any
    /// ([`ExtraLinks::enter`]).
    #[must_use]
    pub fn enter_extra(&self, device: DeviceId, link: LinkRef) -> Option<LinkRef> {
        self.extra_links.lock().enter(device, link)
    }

    /// The link has ended, or has become the device's own.
    pub fn leave_extra(&self, device: DeviceId, link: LinkRef) {
        self.extra_links.lock().leave(device, link);
    }

    /// The mailbox of the reactor that has the link.
    #[must_use]
    pub fn of(&self, link: LinkRef) -> Option<&Mailbox<ToReactor>> {
        self.mailboxes.get(usize::from(link.reactor()))
    }

    /// Tells the device behind a link that it was removed, and closes the link. `false`: the reactor has too
    /// much to do; the device is refused with its next message all the same.
    #[must_use]
    pub fn close_removed(&self, link: LinkRef) -> bool {
        self.send(link, ToReactor::Removed(link))
    }

    /// Another machine has taken the device's record over: ends every link that the device had before. `own`
    /// says which was its own. To be called when no new one can have the old certificate any more.
    pub fn end_taken_over(&self, device: DeviceId, own: impl FnOnce() -> Option<LinkRef>) {
        // In this order: a link becomes the device's own before it ceases to be an extra one.
        let extra = self.extra_links.lock().of(device);
        for link in extra.into_iter().chain(own()) {
            if self.send(link, ToReactor::TakenOver(link)) {
                continue;
            }
            // The reactor has too much to do, and the link must end all the same.
            let mailboxes = self.clone();
            let retries = std::thread::Builder::new().name("end-link".to_owned()).spawn(move || {
                while mailboxes
                    .of(link)
                    .is_some_and(|mailbox| mailbox.send(ToReactor::TakenOver(link)).is_err())
                {
                    std::thread::sleep(RETRY);
                }
            });
            if let Err(error) = retries {
                log::error!(
                    "a link of device {device}, whose record was taken over, could not be ended: {error}"
                );
            }
        }
    }

    /// Sends a message to the reactor that has the link.
    #[must_use]
    pub fn send(&self, link: LinkRef, message: ToReactor) -> bool {
        self.of(link).is_some_and(|mailbox| mailbox.send(message).is_ok())
    }

    /// Whether each reactor turns within this time. One that has too much to do to be asked does not.
    #[must_use]
    pub fn all_turn_within(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let (answer, answers) = mpsc::channel();
        let is_asked = |mailbox: &Mailbox<_>| mailbox.send(ToReactor::Answer(answer.clone())).is_ok();
        self.mailboxes.iter().all(is_asked)
            && self
                .mailboxes
                .iter()
                .all(|_| answers.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok())
    }

    /// Notifies those that wait for it: the durable position has moved.
    pub fn notify_waiting(&self) {
        self.mailboxes.iter().for_each(Mailbox::notify_if_waiting);
    }

    /// Notifies all of them.
    pub fn notify_all(&self) {
        self.mailboxes.iter().for_each(Mailbox::notify);
    }

    /// Sends a message to every reactor. `false` when one of them could not be told.
    #[must_use]
    pub fn tell_all(&self, message: impl Fn() -> ToReactor) -> bool {
        // All of them are told, whatever became of the first.
        self.mailboxes.iter().filter(|mailbox| mailbox.send(message()).is_err()).count() == 0
    }

    /// Tells all of them to drain. `false` when one of them could not be told.
    #[must_use]
    pub fn drain_all(&self) -> bool {
        self.tell_all(|| ToReactor::Drain)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_reactor_that_does_not_read_its_mailbox_does_not_turn() {
        let (turning, stuck) = (Mailbox::new(1, || {}), Mailbox::new(1, || {}));
        let reader = turning.clone();
        let thread = std::thread::spawn(move || {
            let mut messages = Vec::new();
            for _ in 0..2 {
                while messages.is_empty() {
                    reader.take_all(&mut messages);
                }
                for message in messages.drain(..) {
                    let ToReactor::Answer(answer) = message else { panic!("{message:?}") };
                    answer.send(()).unwrap_or_default();
                }
            }
        });
        assert!(ReactorMailboxes::new(vec![turning.clone()]).all_turn_within(Duration::from_secs(60)));
        let both = ReactorMailboxes::new(vec![turning, stuck]);
        assert!(!both.all_turn_within(Duration::from_millis(1)));
        thread.join().unwrap();
        assert!(!both.all_turn_within(Duration::from_secs(60)), "its mailbox is full");
    }
}
