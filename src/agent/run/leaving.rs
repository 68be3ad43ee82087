//! Shutdown notices: what the agent does before it ends, and before the device sleeps.
//!
//! The events in the spool are delivered first, as far as there is time; then the shutdown notice is sent on
//! the link if there is one, and in three copies of a datagram. Nobody answers it, so nothing is waited for.
//! All of it together takes less than two seconds, with the server away too: a machine that shuts down must
//! not wait for us.

use super::{Agent, Now, RunError, refusal};
use crate::agent::local::server::ClientKey;
use crate::agent::shutdown::QUESTION_TIMEOUT;
use crate::agent::shutdown::bus::ShutdownWatch;
use crate::wire::datagram::{DATAGRAM_BYTES, NoticeKind};
use crate::wire::time::Moment;

/// Time of the delivery of events.
const DELIVERY_MILLISECONDS: u64 = 1_200;

/// Time of the service manager to say what is coming: all that the notice leaves of two seconds. It is
/// busiest when a shutdown begins.
const KIND_MILLISECONDS: u64 = 1_700;

/// Time of the resolver to say where the server is when that is not known yet.
const RESOLVER_MILLISECONDS: u64 = 500;

/// When the copies of the datagram leave, after the first.
const COPIES_MILLISECONDS: [u64; 3] = [0, 70, 150];

/// Distance that the wall clock may get beyond the other one before the device counts as having slept.
const SLEPT_SECONDS: u64 = 20;

/// Time that the device may be about to sleep before the agent goes on: it does not sleep after all.
const AWAKE_SECONDS: u64 = 60;

const _: () = assert!(RESOLVER_MILLISECONDS <= DELIVERY_MILLISECONDS);
const _: () = assert!(DELIVERY_MILLISECONDS <= KIND_MILLISECONDS);
const _: () = assert!(QUESTION_TIMEOUT.as_millis() < KIND_MILLISECONDS as u128);
const _: () = assert!(KIND_MILLISECONDS + COPIES_MILLISECONDS[2] < 2_000);
const _: () = assert!(COPIES_MILLISECONDS[2] <= 200);

/// The state behind the shutdown notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    /// The agent ends.
    End,
    /// The device sleeps.
    Sleep,
    /// Nothing: the device does not sleep after all.
    Stay,
}

/// A shutdown notice that is being said.
#[derive(Debug)]
pub(super) struct Leaving {
    then: Then,
    /// `None`: the service manager is being asked.
    kind: Option<NoticeKind>,
    since: Moment,
    copies: Option<Copies>,
    /// Local programs that wait to hear that the device may sleep.
    sleepers: Vec<ClientKey>,
}

#[derive(Debug)]
struct Copies {
    bytes: [u8; DATAGRAM_BYTES],
    sent: usize,
    since: Moment,
}

/// The device is about to sleep, or sleeps, or has just woken up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asleep {
    since: Now,
}

impl Agent {
    /// The agent is to end; `why` when that is known. Whether it was asked before: then at once.
    pub(super) fn begin_end(&mut self, now: &Now, why: Option<NoticeKind>) -> bool {
        if self.mode.leaving().is_some_and(|leaving| leaving.then == Then::End) {
            return true;
        }
        self.surroundings.stopping();
        if self.mode.is_leaving()
            && let Some(sleep) = self.mode.resume()
        {
            self.answer_sleepers(&sleep.sleepers, &refusal(&"the agent is ending"));
            if sleep.copies.is_some() {
                // Its link was closed for the shutdown notice.
                self.machine.disconnected(now, "the device goes to sleep");
            }
        }
        let announced = self.shutdown_watch.as_ref().and_then(ShutdownWatch::announced);
        let kind = why.or(announced).or_else(|| {
            let asked = self.helpers.ask_why(&self.settings.collect.root);
            asked.err().map(|error| {
                log::warn!("no thread to ask whether the system shuts down: {error}");
                NoticeKind::AgentStopped
            })
        });
        self.begin_leaving(now, Then::End, kind);
        false
    }

    /// The device is about to sleep; the answer is owed to this local program.
    ///
    /// # Errors
    /// Why it is not told of it.
    pub(super) fn begin_sleep(&mut self, now: &Now, key: ClientKey) -> Result<(), &'static str> {
        match self.mode.leaving_mut() {
            None => self.begin_leaving(now, Then::Sleep, Some(NoticeKind::Suspend)),
            Some(leaving) if leaving.then == Then::End => return Err("the agent is ending"),
            Some(leaving) => leaving.then = Then::Sleep,
        }
        if let Some(leaving) = self.mode.leaving_mut() {
            leaving.sleepers.push(key);
        }
        Ok(())
    }

    fn begin_leaving(&mut self, now: &Now, then: Then, kind: Option<NoticeKind>) {
        self.machine.end(now);
        // An agent that was only just started has not asked yet.
        if self.connection.last_address().is_none()
            && let Err(error) = self.helpers.resolve(self.connection.server())
        {
            log::debug!("no thread to resolve the server's name: {error}");
        }
        let sleepers = Vec::new();
        self.mode.leave(Leaving { then, kind, since: now.moment, copies: None, sleepers });
    }

    fn answer_sleepers(&mut self, sleepers: &[ClientKey], answer: &[u8]) {
        if let Some(clients) = &mut self.clients {
            sleepers.iter().for_each(|key| clients.answer_owed(*key, answer));
        }
    }

    /// The service manager has said what is coming.
    pub(super) fn heard_why(&mut self, why: NoticeKind) {
        if let Some(leaving) = self.mode.leaving_mut() {
            leaving.kind.get_or_insert(why);
        }
    }

    /// systemd may have announced what it begins.
    pub(super) fn hear_of_shutdown(&mut self) {
        let Some(watch) = &mut self.shutdown_watch else { return };
        watch.ready(self.poll.registry());
        if let Some(kind) = watch.announced() {
            self.heard_why(kind);
        }
    }

    /// When the goodbye goes on by itself.
    pub(super) fn leaving_timeout(&self, now: &Now) -> Option<Moment> {
        let leaving = self.mode.leaving()?;
        Some(match &leaving.copies {
            Some(copies) => {
                let next = COPIES_MILLISECONDS.get(copies.sent).copied().unwrap_or_default();
                copies.since.plus_milliseconds(next)
            }
            None => {
                let waited = now.moment.microseconds_since(leaving.since) / 1_000;
                let next = [RESOLVER_MILLISECONDS, DELIVERY_MILLISECONDS, KIND_MILLISECONDS];
                let next = next.into_iter().find(|next| *next > waited).unwrap_or(waited);
                leaving.since.plus_milliseconds(next)
            }
        })
    }

    /// Whether the shutdown notice has been sent, so that nothing may follow it.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.mode.leaving().is_some_and(|leaving| leaving.copies.is_some())
    }

    /// Goes on with the goodbye. Whether the agent is to end now.
    ///
    /// # Errors
    /// When the spool fails.
    pub(super) fn go_on_leaving(&mut self, now: &Now) -> Result<bool, RunError> {
        let Some(leaving) = self.mode.leaving() else { return Ok(false) };
        if leaving.then == Then::Stay {
            self.stay(now);
            return Ok(false);
        }
        if leaving.copies.is_none() {
            let waited = now.moment.microseconds_since(leaving.since) / 1_000;
            let has_delivered = self.machine.has_delivered() || waited >= DELIVERY_MILLISECONDS;
            let has_address = self.connection.last_address().is_some() || waited >= RESOLVER_MILLISECONDS;
            let kind = match leaving.kind {
                None if waited >= KIND_MILLISECONDS => Some(NoticeKind::AgentStopped),
                kind => kind,
            };
            let Some(kind) = kind.filter(|_| has_delivered && has_address) else { return Ok(false) };
            self.say_goodbye(now, kind)?;
        }
        let Some(leaving) = self.mode.leaving_mut() else { return Ok(false) };
        let Some(copies) = &mut leaving.copies else { return Ok(false) };
        let elapsed = now.moment.microseconds_since(copies.since) / 1_000;
        let mut due = Vec::new();
        while COPIES_MILLISECONDS.get(copies.sent).is_some_and(|at| elapsed >= *at) {
            due.push(copies.bytes);
            copies.sent += 1;
        }
        let (is_over, then) = (copies.sent == COPIES_MILLISECONDS.len(), leaving.then);
        for bytes in due {
            self.send_notice(&bytes);
        }
        if is_over && then == Then::Sleep {
            self.machine.disconnected(now, "the device goes to sleep");
            if let Some(leaving) = self.mode.sleep(Asleep { since: *now }) {
                self.answer_sleepers(&leaving.sleepers, b"{\"noticed\":true}");
            }
        }
        Ok(is_over && then == Then::End)
    }

    fn say_goodbye(&mut self, now: &Now, kind: NoticeKind) -> Result<(), RunError> {
        // An acknowledgement that has come must be heeded before: events that it covers need not be sent
        // again.
        self.act(now)?;
        let (goodbye, bytes) = self.next_notice(kind);
        self.part(goodbye);
        self.connected_since = None;
        if let Some(leaving) = self.mode.leaving_mut() {
            leaving.copies = Some(Copies { bytes, sent: 0, since: now.moment });
        }
        log::info!("shutdown notice: {kind}");
        Ok(())
    }

    /// The device does not sleep after all.
    fn stay(&mut self, now: &Now) {
        if let Some(leaving) = self.mode.resume() {
            self.answer_sleepers(&leaving.sleepers, &refusal(&"the device does not sleep after all"));
        }
        self.back(now);
    }

    fn back(&mut self, now: &Now) {
        self.machine.resumed(now);
        self.sections.is_wanted = true;
        self.has_more = true;
    }

    /// Sends a datagram to where the server hears notices, if that is known.
    pub(super) fn send_notice(&self, bytes: &[u8]) {
        let Some(mut server) = self.connection.last_address() else {
            return log::debug!("no notice: the server's address was never found");
        };
        if let Some(port) = self.machine.notice_port() {
            server.set_port(port);
        }
        self.datagrams.send(bytes, server);
    }

    /// When to look whether the device has woken up.
    pub(super) fn sleep_timeout(&self, now: &Now) -> Option<Moment> {
        self.mode.asleep().map(|_| now.moment.plus_seconds(1))
    }

    /// The device has woken up, or does not sleep after all: somebody says so, or the clocks do, of which one
    /// stands still in sleep.
    pub(super) fn wake_up_when_due(&mut self, now: &Now, is_said: bool) {
        let Some(Asleep { since }) = self.mode.asleep() else {
            match self.mode.leaving_mut() {
                // It ends all the same.
                Some(leaving) if leaving.then == Then::End => {}
                Some(leaving) if is_said => leaving.then = Then::Stay,
                None if is_said => self.back(now),
                Some(_) | None => {}
            }
            return;
        };
        let awake_seconds = now.moment.microseconds_since(since.moment) / 1_000_000;
        let passed_seconds = now.wall.0.saturating_sub(since.wall.0) / 1_000;
        let has_slept = passed_seconds > awake_seconds + SLEPT_SECONDS;
        if is_said || has_slept || awake_seconds >= AWAKE_SECONDS {
            log::info!("back: the device was asleep, or was about to be");
            self.mode.resume();
            self.back(now);
        }
    }
}
