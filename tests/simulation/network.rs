//! Messages between the two ends, and the server's handling of them.

use muster::journal::Preallocated;
use muster::machine::close::CloseReason;
use muster::machine::command::{
    DesiredStateOutcome, ForkOutcome, Job, JobOutcome, RenewalOutcome, RunsOutcome, StatisticsOutcome,
};
use muster::machine::device_state::LinkRef;
use muster::machine::endpoint::{Close, Notice, Taken};
use muster::machine::permits::Permit;
use muster::machine::rate;
use muster::machine::session::Session;
use muster::wire::datagram::{Wake, WakeReason};
use muster::wire::frame;
use muster::wire::id::DeviceId;
use muster::wire::message::{ToAgent, ToServer};
use muster::wire::time::Moment;

use crate::bug::Bug;
use crate::endpoint::End;
use crate::world::{Step, World};

/// When a link is tried again whose work had no room.
const RETRY_MICROSECONDS: u64 = 50_000;

/// Until when a link has ended that another one took over from: it may be another endpoint's.
const SUPERSEDED_MICROSECONDS: u64 = 10_000;

/// Interval at which a server that stops looks whether its links have ended.
const DRAIN_MICROSECONDS: u64 = 100_000;

impl World {
    /// Both ends know of the link: the newest of a device wins.
    pub(crate) fn connected(&mut self, number: usize, link: u32) -> Result<(), String> {
        let is_wanted = self.devices[number].link == Some(link) && !self.devices[number].is_asleep;
        let peer = self.links.get(&link).map(|link| link.peer);
        let Some(peer) = peer.filter(|_| is_wanted && self.server.is_serving()) else {
            return self.agent_hears_end(number, link, "the server is gone");
        };
        let id = self.devices[number].id;
        self.open(link, id, peer);
        if self.bug == Bug::NoDuplicateCheck
            && let Some(record) = self.server.records.get_mut(&id)
        {
            record.last_sequence = 0;
        }
        let now = self.agent_now(number);
        if let Some(machine) = &mut self.devices[number].machine {
            machine.connected(&now);
        }
        self.pump(number)
    }

    /// Bytes have come on a link of an honest device.
    pub(crate) fn server_hears(&mut self, link: u32, bytes: Vec<u8>) -> Result<(), String> {
        if self.device_of(link).is_none() {
            return Ok(());
        }
        let Some(end) = self.end_of(link) else { return Ok(()) };
        end.inbox.push_back(bytes);
        if end.is_blocked { Ok(()) } else { self.read(link) }
    }

    /// There may be room again for what an honest device has said.
    pub(crate) fn retry(&mut self, name: LinkRef) -> Result<(), String> {
        let Some(link) = self.link_of(name) else { return Ok(()) };
        if let Some(end) = self.end_of(link) {
            end.is_blocked = false;
        }
        self.read(link)
    }

    /// Acts on what has come on a link, as far as there is room.
    fn read(&mut self, link: u32) -> Result<(), String> {
        let (Some((number, id)), Some(name)) = (self.device_of(link), self.name_of(link)) else {
            return Ok(());
        };
        while let Some(bytes) = self.end_of(link).and_then(|end| end.inbox.pop_front()) {
            let (body, _) = frame::split(&bytes).map_err(|e| e.to_string())?.ok_or("half a frame")?;
            let message = ToServer::from_body(body).map_err(|error| error.to_string())?;
            if let ToServer::Goodbye(goodbye) = &message {
                self.counts.goodbyes += 1;
                self.devices[number].was_heard(goodbye.counter);
            }
            match self.hear(link, id, &bytes)? {
                Taken::Done => self.note_word(id, link),
                Taken::Closed => {
                    // It may have been the device's link for as long as its last message took.
                    self.server.links.remove(&id);
                    return Ok(());
                }
                Taken::Held(_) => return Err(format!("{id} has used up its allowance, and is honest")),
                Taken::NoRoom => {
                    self.counts.waits_for_room += 1;
                    if let Some(end) = self.end_of(link) {
                        end.inbox.push_front(bytes);
                        end.is_blocked = true;
                    }
                    self.after(RETRY_MICROSECONDS, Step::Retry(name));
                    return Ok(());
                }
            }
        }
        match self.end_of(link) {
            Some(end) if end.is_left => self.close(link, CloseReason::PeerClosed),
            _ => Ok(()),
        }
    }

    /// A device has spoken on a link: on the first word the one before is to end.
    fn note_word(&mut self, id: DeviceId, link: u32) {
        let Some(name) = self.name_of(link) else { return };
        let is_first = |end: &mut End| !std::mem::replace(&mut end.has_spoken, true) && !end.is_left;
        if !self.end_of(link).is_some_and(is_first) {
            return;
        }
        if let Some(before) = self.server.links.insert(id, name).filter(|before| *before != name) {
            self.server.superseded.push((before, self.now));
        }
    }

    /// Once a second: each device has one link, and its record knows it.
    pub(crate) fn check_links(&mut self) -> Result<(), String> {
        for (name, since) in std::mem::take(&mut self.server.superseded) {
            if self.now < since + SUPERSEDED_MICROSECONDS {
                self.server.superseded.push((name, since));
            } else if self.link_of(name).is_some() {
                return Err(format!("{name:?} is there, though its device has another link"));
            }
        }
        for (id, name) in self.server.links.clone() {
            let known = self.server.records.get(&id).and_then(|record| record.link);
            if self.link_of(name).is_some() && known != Some(name) {
                return Err(format!("{id} has {name:?}, and its record says {known:?}"));
            }
        }
        Ok(())
    }

    /// A message has come, as a reactor takes it.
    pub(crate) fn hear(&mut self, link: u32, id: DeviceId, bytes: &[u8]) -> Result<Taken, String> {
        let (body, _) = frame::split(bytes).map_err(|e| e.to_string())?.ok_or("half a frame")?;
        let Some(name) = self.name_of(link) else { return Ok(Taken::Closed) };
        let cost_microseconds = rate::cost_microseconds(ToServer::from_body(body).ok().as_ref(), body.len());
        let notice_counter = self.server.records.get(&id).map_or(0, |record| record.notice_counter);
        let number = usize::from(name.reactor());
        let (taken, said) = self.with_endpoint(number, |endpoint, now, services| {
            endpoint.handle_frame(now, name, body, true, services)
        })?;
        let taken = taken.unwrap_or(Taken::Closed);
        if matches!(taken, Taken::Done | Taken::Closed) {
            self.server.spend(self.now, id, cost_microseconds);
        }
        if self.bug == Bug::NoticeOutlivesSync
            && let Some(record) = self.server.records.get_mut(&id)
            && matches!(ToServer::from_body(body), Ok(ToServer::Sync(_)))
        {
            record.notice_counter = notice_counter;
        }
        self.carry_out(number, said, Some(link))?;
        self.release(number)?;
        Ok(taken)
    }

    /// Jobs, what concerns other links, and ends.
    pub(crate) fn carry_out_rest(&mut self, number: usize) -> Result<(), String> {
        loop {
            let Some(endpoint) = self.server.endpoints.get_mut(number) else { return Ok(()) };
            if let Some((name, job, permit)) = endpoint.poll_job() {
                self.begin(name, *job, permit)?;
            } else if let Some(notice) = endpoint.poll_notice() {
                if let Notice::Superseded(name) = notice {
                    self.counts.superseded_elsewhere += 1;
                    let delay = self.random.up_to(2_000);
                    self.after(delay, Step::Superseded(name));
                }
            } else if let Some(close) = endpoint.poll_close() {
                self.finish_close(&close)?;
            } else {
                return Ok(());
            }
        }
    }

    fn begin(&mut self, name: LinkRef, job: Job, permit: Permit) -> Result<(), String> {
        let Some(link) = self.link_of(name) else { return Ok(()) };
        let Some(id) = self.id_of(link) else { return Ok(()) };
        self.begin_job(link, id, &job)?;
        let is_failed = self.has_faults && self.chance(30);
        let outcome = if is_failed { job.failure() } else { self.work(job)? };
        // Now and then the disk is slow.
        let slowest = if self.chance(100) { 3_000_000 } else { 50_000 };
        let delay = self.random.up_to(slowest);
        self.after(delay, Step::JobDone(self.server.life, name, link, Box::new(outcome), permit));
        Ok(())
    }

    pub(crate) fn job_done(
        &mut self,
        life: u32,
        name: LinkRef,
        link: u32,
        outcome: JobOutcome,
    ) -> Result<(), String> {
        if life != self.server.life {
            return Ok(());
        }
        self.server.job_has_ended(link);
        self.tell_endpoint(usize::from(name.reactor()), |endpoint, now, services| {
            endpoint.handle_outcome(now, name, outcome, services);
        })
    }

    pub(crate) fn superseded(&mut self, name: LinkRef) -> Result<(), String> {
        self.tell_endpoint(usize::from(name.reactor()), |endpoint, now, services| {
            endpoint.supersede(now, name, services);
        })
    }

    /// Somebody waits for the device: it is asked to sync on its link.
    pub(crate) fn sync_on(&mut self, name: LinkRef, is_fresh: bool) -> Result<(), String> {
        self.tell_endpoint(usize::from(name.reactor()), |endpoint, now, services| {
            endpoint.sync_now(now, name, is_fresh, services);
        })
    }

    pub(crate) fn probe(&mut self, device: DeviceId, address: std::net::SocketAddr, counter: u32) {
        self.server.spend(self.now, device, rate::WAKE_MICROSECONDS);
        self.send_wake(Wake { device, reason: WakeReason::Probe, counter }, address);
    }

    pub(crate) fn send(&mut self, link: u32, message: &ToAgent) -> Result<(), String> {
        if let (ToAgent::Ack(ack), Some(id)) = (message, self.id_of(link)) {
            let key = (id, ack.spool_epoch, ack.through);
            let position = self.server.appended.get(&key).map(|(at, _)| *at);
            // It may have been there, and gone for its age.
            let is_durable =
                position.map_or(self.server.damaged.contains(&key), |at| at <= self.server.durable());
            if !is_durable && self.bug == Bug::None {
                return Err(format!("{id} {ack:?} was sent before it was durable"));
            }
        }
        let mut bytes = Vec::new();
        message.write_to(&mut bytes);
        if self.device_of(link).is_none() {
            return self.hostile_is_told(link, message, bytes.len());
        }
        self.towards_agent(link, Step::ToAgent(link, bytes));
        Ok(())
    }

    /// A worker's and the store's outcome of a job.
    fn work(&mut self, job: Job) -> Result<JobOutcome, String> {
        Ok(match job {
            Job::Section(update) => JobOutcome::Section(update.section, self.server.apply(update)),
            Job::DesiredState(device) => {
                let reported = self.server.store.get(&device).and_then(|stored| stored.report());
                let desired = self.server.book.desired_state(device, reported, self.book_now());
                JobOutcome::DesiredState(DesiredStateOutcome::All(Box::new(desired)))
            }
            Job::Runs(device, updates) => {
                let (now, since, heard) = (self.book_now(), self.server.clock.serving_since, self.now);
                let stored = self.server.book.take(device, &updates, now, since, heard);
                self.desired_state_changed(device);
                JobOutcome::Runs(RunsOutcome::Stored(stored))
            }
            // No certificate is ever due.
            Job::Renew(..) => JobOutcome::Renewal(RenewalOutcome::Failed),
            // No run has an artifact.
            fetch @ Job::Fetch(..) => fetch.failure(),
            Job::Statistics(..) => JobOutcome::Statistics(StatisticsOutcome::Stored),
            Job::Fork(_) => JobOutcome::Fork(ForkOutcome::Failed),
            // Devices name nothing here that they trust.
            Job::Enrol(_) | Job::MoreDesiredState(..) | Job::Trust(_) | Job::NoteTrust(..) => {
                return Err("an enrolment, a part of a small desired state, or certificates".into());
            }
        })
    }

    /// The server ends a link for a reason of its owner's.
    pub(crate) fn close(&mut self, link: u32, reason: CloseReason) -> Result<(), String> {
        let Some(name) = self.name_of(link) else { return Ok(()) };
        self.tell_endpoint(usize::from(name.reactor()), |endpoint, now, services| {
            endpoint.close(now, name, reason, services);
        })
    }

    /// An endpoint has closed a link.
    fn finish_close(&mut self, close: &Close) -> Result<(), String> {
        let Close { link: name, reason, .. } = *close;
        let Some(link) = self.link_of(name) else { return Ok(()) };
        let is_left = self.end_of(link).is_some_and(|end| end.is_left);
        if !is_left {
            self.check_close(link, reason)?;
            self.towards_agent(link, Step::AgentHearsEnd(link));
        }
        self.forget_link(link);
        Ok(())
    }

    fn forget_link(&mut self, link: u32) {
        let Some(name) = self.server.names.remove(&link) else { return };
        if let Some(endpoint) = self.server.endpoints.get_mut(usize::from(name.reactor())) {
            endpoint.remove(name);
        }
        self.server.links_gone += 1;
        if self.device_of(link).is_none() {
            self.links.remove(&link);
        }
    }

    /// The peer of a link is gone: what it has said before is still taken, as far as there is room.
    pub(crate) fn server_hears_end(&mut self, link: u32) -> Result<(), String> {
        let Some(name) = self.name_of(link) else {
            return Ok(());
        };
        if let Some(endpoint) = self.server.endpoints.get_mut(usize::from(name.reactor())) {
            endpoint.note_left(name);
        }
        let Some(end) = self.end_of(link) else { return Ok(()) };
        end.is_left = true;
        if end.inbox.is_empty() { self.close(link, CloseReason::PeerClosed) } else { Ok(()) }
    }

    pub(crate) fn session_timeout(&mut self, name: LinkRef) -> Result<(), String> {
        self.tell_endpoint(usize::from(name.reactor()), |endpoint, now, services| {
            endpoint.handle_timeout(now, name, services);
        })?;
        if let Some(link) = self.link_of(name) {
            self.watch_session(link);
        }
        Ok(())
    }

    /// A link's session gets a look when its deadline comes.
    pub(crate) fn watch_session(&mut self, link: u32) {
        let Some(name) = self.name_of(link) else { return };
        let endpoint = self.server.endpoints.get(usize::from(name.reactor()));
        let session = endpoint.and_then(|endpoint| endpoint.session_at(name.slot() as usize));
        let deadline = session.map(Session::deadline);
        if let Some(Moment(deadline)) = deadline {
            self.at(deadline.max(self.now + 1), Step::SessionTimeout(name));
        }
    }

    pub(crate) fn flush_soon(&mut self) {
        if !std::mem::replace(&mut self.server.is_flush_due, true) {
            let delay = 100 + self.random.up_to(20_000);
            self.after(delay, Step::Flush);
        }
    }

    /// Later, while the disk hangs.
    pub(crate) fn flush_when_it_goes(&mut self) -> Result<(), String> {
        if self.now < self.hangs_until {
            self.at(self.hangs_until, Step::Flush);
            return Ok(());
        }
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> Result<(), String> {
        self.server.is_flush_due = false;
        let Some(opened) = &mut self.server.opened else { return Ok(()) };
        if opened.flusher.flush_once().is_err() {
            return self.crash_server();
        }
        if matches!(opened.preallocator.preallocate_once(0), Preallocated::NoRoom(_)) {
            self.after(1_000_000, Step::Flush);
        }
        for number in 0..self.server.endpoints.len() {
            self.release(number)?;
        }
        if self.server.acks() == 0 {
            self.server.links_gone = 0;
        }
        // One write goes to the end of a segment at most: what lies behind it is for the next.
        if self.server.acks() > 0 && !std::mem::replace(&mut self.server.is_flush_due, true) {
            self.after(100_000, Step::Flush);
        }
        Ok(())
    }

    /// Once a turn: acknowledges what is durable by now.
    fn release(&mut self, number: usize) -> Result<(), String> {
        let durable = self.server.durable();
        self.tell_endpoint(number, |endpoint, now, services| {
            endpoint.handle_durable(now, durable, services);
        })
    }

    /// An administrator stops the server: every link is told, nothing is lost, and it starts again after a
    /// while.
    pub(crate) fn stop_server(&mut self) -> Result<(), String> {
        if !self.server.is_serving() {
            return Ok(());
        }
        self.counts.server_stops += 1;
        self.server.is_draining = true;
        let now = self.server_now();
        self.server.endpoints.iter_mut().for_each(|endpoint| endpoint.begin_drain(&now));
        self.flush_soon();
        self.drain(self.server.life)
    }

    /// Goes on stopping; only in the life in which it was begun.
    pub(crate) fn drain(&mut self, life: u32) -> Result<(), String> {
        if life != self.server.life || !self.server.is_draining {
            return Ok(());
        }
        let names = self.server.names.clone();
        for number in 0..self.server.endpoints.len() {
            // As its session counts: one that has begun another sync meanwhile does not wait for the jobs of
            // the one before.
            let endpoint = &self.server.endpoints[number];
            let has_job = |name: LinkRef| {
                let session = endpoint.session_at(name.slot() as usize);
                usize::from(name.reactor()) == number && session.is_some_and(Session::has_job)
            };
            let busy = names.iter().filter(|(_, name)| has_job(**name)).map(|(link, _)| *link);
            self.server.busy = busy.collect();
            self.tell_endpoint(number, |endpoint, now, services| endpoint.drain(now, services))?;
            self.server.busy.clear();
        }
        let now = self.server_now();
        if !self.server.endpoints.iter().all(|endpoint| endpoint.is_drained(&now)) {
            self.after(DRAIN_MICROSECONDS, Step::Drain(life));
            return Ok(());
        }
        self.flush()?;
        if self.server.opened.is_some() && self.server.is_draining {
            let now = self.server_now();
            self.server.write_back(now);
            self.server.stop();
            self.server.disk.kill();
            self.after_stop();
        }
        Ok(())
    }
}
