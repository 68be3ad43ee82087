//! The server's half of all links of one reactor: who they are, what is said on them, how they end.
//!
//! An [`Endpoint`] is told what its owner hears ([`handle_frame`](Endpoint::handle_frame),
//! [`handle_outcome`](Endpoint::handle_outcome), [`handle_durable`](Endpoint::handle_durable),
//! [`handle_timeout`](Endpoint::handle_timeout)), and asked afterwards what to do
//! ([`poll_transmit`](Endpoint::poll_transmit), [`poll_job`](Endpoint::poll_job),
//! [`poll_notice`](Endpoint::poll_notice), [`poll_close`](Endpoint::poll_close), in this order). It owns the
//! sessions, the acknowledgements that wait for the disk, which link is a device's, the permits of jobs and
//! the order in which links end when the server stops; its owner moves bytes, and keeps with each link what
//! that takes (`C`).
//!
//! The rest of the server is behind [`Services`]. The simulation drives the same object.

mod drain;
mod execute;
mod frame;
mod links;
mod services;
#[cfg(any(test, feature = "internals"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::drain::Drain;
use self::links::{Entry, Links, Stage};
use super::acks::AckQueue;
use super::close::CloseReason;
use super::command::{Job, JobOutcome};
use super::device_state::LinkRef;
use super::permits::{Permit, Permits};
use super::random::Random;
use super::session::{LATER_SECONDS, Session, SyncPolicy};
use super::turns::Turns;
use crate::wire::id::DeviceId;
use crate::wire::message::ToAgent;
use crate::wire::time::Now;

pub use frame::Taken;
pub use links::entry_bytes;
pub use services::{AppendRefusal, Connection, Kept, Notice, Rule, Rules, Services};

/// Links of one segment of the table unless its owner says otherwise.
const SEGMENT_LINKS_DEFAULT: usize = 64;

/// Counts since they were last asked for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Messages that were acted on.
    pub messages: u64,
    /// Events that were appended to the journal.
    pub events_appended: u64,
    /// Events that were in the journal already.
    pub events_repeated: u64,
    /// Messages with an event that the journal had no room for.
    pub events_refused: u64,
    /// Times that a device was told to keep its events.
    pub events_held: u64,
    /// Messages whose events are to be acknowledged.
    pub acks_queued: u32,
    /// Acknowledgements that were sent.
    pub acks_sent: u32,
    /// Syncs that have ended well.
    pub syncs: u64,
    /// Devices that were told to come again later.
    pub sent_away: u64,
    /// By how many more links count among those that are to stay.
    pub persistent: i64,
    /// Something was appended to the journal.
    pub has_appended: bool,
}

/// The end of a link, as its owner carries it out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    /// The link.
    pub link: LinkRef,
    /// Why.
    pub reason: CloseReason,
    /// Whose it was.
    pub device: Option<DeviceId>,
    /// Its handshake had not ended.
    pub was_arriving: bool,
}

/// The server's half of all links of one reactor. `C` is what its owner keeps with each link, `SEGMENT` the
/// number of links by which its table grows.
pub struct Endpoint<C, R = Kept, const SEGMENT: usize = SEGMENT_LINKS_DEFAULT> {
    links: Links<C, SEGMENT>,
    acks: AckQueue<LinkRef>,
    permits: Permits,
    /// Of devices that were sent away.
    turns: Turns,
    /// Spreads what devices are told to do later.
    jitter: Random,
    drain: Drain,
    /// Whether links hold little enough for parts of artifacts.
    has_fetch_room: bool,
    rules: R,
    tally: Tally,
    transmits: VecDeque<(LinkRef, ToAgent)>,
    jobs: VecDeque<(LinkRef, Box<Job>, Permit)>,
    notices: VecDeque<Notice>,
    closes: VecDeque<Close>,
}

impl<C: Connection, R: Rules, const SEGMENT: usize> Endpoint<C, R, SEGMENT> {
    /// An endpoint without links: that of this reactor. `seed` is for what is spread in time.
    pub fn new(reactor: u8, permits: Permits, acks: AckQueue<LinkRef>, seed: u64, rules: R) -> Self {
        Self {
            links: Links::new(reactor),
            acks,
            permits,
            turns: Turns::default(),
            jitter: Random::new(seed),
            drain: Drain::default(),
            has_fetch_room: true,
            rules,
            tally: Tally::default(),
            transmits: VecDeque::new(),
            jobs: VecDeque::new(),
            notices: VecDeque::new(),
            closes: VecDeque::new(),
        }
    }

    /// The name of the link that [`Endpoint::insert`] puts in next; `None` when there are as many as can be
    /// named.
    #[must_use]
    pub fn vacancy(&self) -> Option<LinkRef> {
        self.links.vacancy()
    }

    /// A link whose handshake begins. It has the name that [`Endpoint::vacancy`] has just said.
    pub fn insert(&mut self, connection: C) {
        self.links.insert(connection);
    }

    /// A link's handshake has ended: from now on it has messages. `device` is who the certificate says it is;
    /// `None` when there was none.
    pub fn open(&mut self, now: &Now, link: LinkRef, device: Option<DeviceId>) {
        if let Some(entry) = self.links.get(link) {
            entry.stage = Stage::Live(Session::new(now, device));
        }
    }

    /// The peer has closed a link, or something is wrong with it. Messages that it has sent before may still
    /// come.
    pub fn note_left(&mut self, link: LinkRef) {
        if let Some(entry) = self.links.get(link) {
            entry.is_left = true;
        }
    }

    /// Whether the peer of the link in a slot has left ([`Endpoint::note_left`]).
    #[must_use]
    pub fn is_left(&self, slot: usize) -> bool {
        self.links.at(slot).is_some_and(|entry| entry.is_left)
    }

    /// The owner has ended with a link.
    pub fn remove(&mut self, link: LinkRef) -> Option<C> {
        self.links.remove(link).map(|entry| entry.connection)
    }

    /// Whether links hold little enough for parts of artifacts from now on: what slow devices have not taken
    /// yet is memory.
    pub fn set_fetch_room(&mut self, has_room: bool) {
        self.has_fetch_room = has_room;
    }

    /// A message for the peer behind a link.
    pub fn poll_transmit(&mut self) -> Option<(LinkRef, ToAgent)> {
        self.transmits.pop_front()
    }

    /// A job for a worker, with its permit. Its outcome goes to [`Endpoint::handle_outcome`], and the permit
    /// ends with it.
    pub fn poll_job(&mut self) -> Option<(LinkRef, Box<Job>, Permit)> {
        self.jobs.pop_front()
    }

    /// Returns the next news for others than the link.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// A link that was closed: what was to be sent on it came before.
    pub fn poll_close(&mut self) -> Option<Close> {
        self.closes.pop_front()
    }

    /// Returns the counts since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Returns the owner's part of a link.
    pub fn connection(&mut self, link: LinkRef) -> Option<&mut C> {
        self.links.get(link).map(|entry| &mut entry.connection)
    }

    /// Returns the owner's part of the link in a slot.
    pub fn connection_at(&mut self, slot: usize) -> Option<&mut C> {
        self.links.at_mut(slot).map(|entry| &mut entry.connection)
    }

    /// The same, to be looked at.
    #[must_use]
    pub fn look_at(&self, slot: usize) -> Option<&C> {
        self.links.at(slot).map(|entry| &entry.connection)
    }

    /// The name of the link in a slot.
    #[must_use]
    pub fn name(&self, slot: usize) -> Option<LinkRef> {
        self.links.name(slot)
    }

    /// The slot of a link that is still there.
    #[must_use]
    pub fn slot_of(&self, link: LinkRef) -> Option<usize> {
        self.links.slot_of(link)
    }

    /// Whether messages are exchanged on the link in a slot.
    #[must_use]
    pub fn is_live(&self, slot: usize) -> bool {
        self.session_at(slot).is_some()
    }

    /// Whether the link in a slot was closed.
    #[must_use]
    pub fn is_closed(&self, slot: usize) -> bool {
        self.links.at(slot).is_none_or(|entry| matches!(entry.stage, Stage::Closed(_)))
    }

    /// Whose the link in a slot is.
    #[must_use]
    pub fn device_at(&self, slot: usize) -> Option<DeviceId> {
        self.links.at(slot).and_then(Entry::device)
    }

    /// The session of the link in a slot, while messages are exchanged.
    #[must_use]
    pub fn session_at(&self, slot: usize) -> Option<&Session> {
        match &self.links.at(slot)?.stage {
            Stage::Live(session) => Some(session),
            Stage::Arriving | Stage::Closed(_) => None,
        }
    }

    /// Number of links.
    #[must_use]
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The acknowledgements that wait for the disk.
    #[must_use]
    pub fn acks(&self) -> &AckQueue<LinkRef> {
        &self.acks
    }

    /// The socket has taken all that was said on a link so far.
    pub fn handle_sent<S: Services>(&mut self, now: &Now, link: LinkRef, services: &S) {
        self.tell(now, link, services, |session, out| session.sent(now, out));
    }

    /// The peer, which is slow, has taken some of what waited for it.
    pub fn handle_progress(&mut self, now: &Now, link: LinkRef) {
        if let Some(session) = self.links.session(link) {
            session.took_some(now);
        }
    }

    /// The deadline of a link's session may have come.
    pub fn handle_timeout<S: Services>(&mut self, now: &Now, link: LinkRef, services: &S) {
        self.tell(now, link, services, |session, out| session.handle_timeout(now, out));
    }

    /// Somebody waits for the device: it is asked to sync, for which it is to look at itself anew or not.
    pub fn sync_now<S: Services>(&mut self, now: &Now, link: LinkRef, is_fresh: bool, services: &S) {
        self.tell(now, link, services, |session, out| session.sync_now(is_fresh, out));
    }

    /// Another link of the same device took over.
    pub fn supersede<S: Services>(&mut self, now: &Now, link: LinkRef, services: &S) {
        self.tell(now, link, services, Session::superseded);
    }

    /// The device was removed.
    pub fn remove_device<S: Services>(&mut self, now: &Now, link: LinkRef, services: &S) {
        self.tell(now, link, services, Session::removed);
    }

    /// Another machine has taken the record of the link's device over.
    pub fn take_over<S: Services>(&mut self, now: &Now, link: LinkRef, services: &S) {
        self.tell(now, link, services, Session::taken_over);
    }

    /// Everything before this position is durable: sends the acknowledgements that it allows.
    pub fn handle_durable<S: Services>(&mut self, now: &Now, durable: u64, services: &S) {
        let durable = if self.rules.breaks(Rule::AckWhenDurable) { u64::MAX } else { durable };
        if self.acks.is_empty() {
            return;
        }
        for (link, ack) in self.acks.release(durable) {
            if self.links.session(link).is_some() {
                self.tally.acks_sent += 1;
                self.transmit(now, link, ToAgent::Ack(ack), services);
            }
        }
    }

    /// Takes the outcome of a job. The record was told before.
    pub fn handle_outcome<S: Services>(
        &mut self,
        now: &Now,
        link: LinkRef,
        outcome: JobOutcome,
        services: &S,
    ) {
        let later_seconds = self.later_seconds(now);
        let Some(session) = self.links.session(link) else { return };
        let device = session.device();
        let mut commands = Vec::new();
        let mut record = device.and_then(|device| services.record(device));
        let policy = services.policy(record.as_deref(), now);
        let policy = SyncPolicy { later_seconds, ..policy };
        session.job_done(now, outcome, record.as_deref_mut(), &policy, &mut commands);
        drop(record);
        self.execute(now, link, device, commands, None, services);
        self.stop_late(now, link, services);
    }

    /// When the next device that is sent away is to come again, in seconds from now.
    pub fn later_seconds(&mut self, now: &Now) -> u32 {
        self.turns.seconds(now.moment, LATER_SECONDS, self.jitter.next_u64())
    }

    /// Sends a message to the peer behind a link, whatever is known of it.
    pub fn transmit<S: Services>(&mut self, now: &Now, link: LinkRef, message: ToAgent, services: &S) {
        if matches!(&message, ToAgent::Later(later) if !later.only_events) {
            self.tally.sent_away += 1;
            self.turns.take(now.moment, services.devices_per_second());
        }
        self.transmits.push_back((link, message));
    }

    /// Closes a link for a reason, behind what was said on it.
    pub fn close<S: Services>(&mut self, now: &Now, link: LinkRef, reason: CloseReason, services: &S) {
        let Some(entry) = self.links.get(link) else { return };
        if matches!(entry.stage, Stage::Closed(_)) {
            return;
        }
        let (device, was_arriving) = (entry.device(), matches!(entry.stage, Stage::Arriving));
        entry.stage = Stage::Closed(device);
        self.tally.persistent -= i64::from(std::mem::take(&mut entry.is_persistent));
        if let Some(mut record) = device.and_then(|device| services.record(device))
            // The late end of an old link says nothing of the device.
            && (record.link == Some(link) || self.rules.breaks(Rule::OnlyItsOwnEnd))
        {
            record.link = None;
            self.tally.has_appended |= services.settle(now, &mut record);
        }
        self.closes.push_back(Close { link, reason, device, was_arriving });
    }
}
