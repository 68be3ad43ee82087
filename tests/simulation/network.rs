//! What passes between the two ends, and what the server does with it.

use muster::journal::Preallocated;
use muster::machine::command::{Command, Job, JobOutcome};
use muster::machine::device_state::LinkRef;
use muster::machine::rate;
use muster::machine::session::{Session, SyncPolicy};
use muster::wire::datagram::{Wake, WakeReason};
use muster::wire::frame;
use muster::wire::id::DeviceId;
use muster::wire::message::{MessageError, ToAgent, ToServer};
use muster::wire::time::Moment;

use crate::bug::Bug;
use crate::world::{Step, World};

pub(crate) fn link_ref(link: u32) -> LinkRef {
    LinkRef::new(0, link, 1).unwrap()
}

impl World {
    /// Both ends know of the link: the newest of a device wins.
    pub(crate) fn connected(&mut self, number: usize, link: u32) -> Result<(), String> {
        let is_wanted = self.devices[number].link == Some(link) && !self.devices[number].is_asleep;
        if !is_wanted || self.server.opened.is_none() {
            return self.agent_hears_end(number, link, "the server is gone");
        }
        let (id, now) = (self.devices[number].id, self.server_now());
        let session = Session::new(&now, Some(id));
        self.at(session.deadline().0, Step::SessionTimeout(link));
        self.server.sessions.insert(link, session);
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

    /// A device speaks on a link for the first time: from now on it is the device's, and the one before ends.
    fn adopt(&mut self, link: u32, id: DeviceId) -> Result<(), String> {
        if !self.server.spoken.insert(link) {
            return Ok(());
        }
        let is_swapped = self.bug == Bug::LinkOfAnotherEnds && self.device_of(link).is_none();
        let id = if is_swapped { self.devices[0].id } else { id };
        let Some(record) = self.server.records.get_mut(&id) else { return Ok(()) };
        let Some(old) = record.link.replace(link_ref(link)).map(LinkRef::slot) else { return Ok(()) };
        let mut commands = Vec::new();
        if let Some(session) = self.server.sessions.get_mut(&old) {
            session.superseded(&mut commands);
        }
        self.execute(old, commands)
    }

    fn policy(&mut self, link: u32) -> SyncPolicy {
        let has_room = !(self.has_faults && self.chance(50));
        // Of the hostile ones some are kept as well.
        let persistent = match self.device_of(link) {
            Some((number, _)) => self.devices[number].persistent,
            None => self.id_of(link).is_some_and(|id| id.0.is_multiple_of(2)),
        };
        SyncPolicy {
            server_epoch: self.server.server_epoch,
            next_seconds: 60 + u32::try_from(self.random.up_to(60)).unwrap_or(0),
            interval_seconds: 120,
            keep_seconds: persistent.then_some(20),
            has_room,
            reconnect_seconds: u32::try_from(self.random.up_to(30)).unwrap_or(0),
            later_seconds: muster::machine::session::LATER_SECONDS,
            peer: self.links.get(&link).map(|link| link.peer),
            notice_port: None,
            event_rate: self.event_rate,
        }
    }

    pub(crate) fn server_hears(&mut self, link: u32, bytes: &[u8]) -> Result<(), String> {
        let Some((number, id)) = self.device_of(link) else { return Ok(()) };
        let (body, _) = frame::split(bytes).map_err(|e| e.to_string())?.ok_or("half a frame")?;
        let message = ToServer::from_body(body).map_err(|error| error.to_string())?;
        if let (ToServer::Goodbye(goodbye), true) = (&message, self.server.sessions.contains_key(&link)) {
            self.counts.goodbyes += 1;
            self.devices[number].was_heard(goodbye.counter);
        }
        match self.hear(link, id, Ok(message), body.len())? {
            None => Ok(()),
            Some(_) => Err(format!("{id} has used up its allowance, and is honest")),
        }
    }

    /// A message has come, as a reactor takes it. Until when it waits where it is, when its device has used
    /// up its allowance.
    pub(crate) fn hear(
        &mut self,
        link: u32,
        id: DeviceId,
        message: Result<ToServer<'_>, MessageError>,
        bytes: usize,
    ) -> Result<Option<Moment>, String> {
        let (now, policy) = (self.server_now(), self.policy(link));
        let cost_microseconds = rate::cost_microseconds(message.as_ref().ok(), bytes);
        let Some(mut session) = self.server.sessions.remove(&link) else { return Ok(None) };
        if let Some(record) = self.server.records.get_mut(&id).filter(|_| self.bug != Bug::NoAllowance)
            && let Err(until) = session.admit(&now, record, cost_microseconds)
        {
            self.server.sessions.insert(link, session);
            return Ok(Some(until));
        }
        self.server.spend(self.now, id, cost_microseconds);
        let mut commands = Vec::new();
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                session.handle_undecodable(&error, &mut commands);
                self.server.sessions.insert(link, session);
                self.execute(link, commands)?;
                return Ok(None);
            }
        };
        // Somebody on the device who looks whether everything works is not the agent.
        if !matches!(message, ToServer::Probe(_)) {
            self.adopt(link, id)?;
        }
        let reach = match &message {
            ToServer::Sync(sync) => sync.reach,
            _ => None,
        };
        let record = self.server.records.get_mut(&id);
        let notice_counter = record.as_ref().map_or(0, |record| record.notice_counter);
        session.handle(&now, message, record, &policy, &mut commands);
        self.server.sessions.insert(link, session);
        let is_refused = matches!(commands.first(), Some(Command::Send(ToAgent::Error(_))));
        if let Some(reach) = reach.filter(|_| !is_refused) {
            let over = self.server.over_through.entry(id).or_default();
            *over = (*over).max(reach.notice_counter);
            if let Some(record) = self.server.records.get_mut(&id)
                && self.bug == Bug::NoticeOutlivesSync
            {
                record.notice_counter = notice_counter;
            }
        }
        self.execute(link, commands)?;
        Ok(None)
    }

    /// Does what a session wants done, in order, as a reactor does.
    pub(crate) fn execute(&mut self, link: u32, commands: Vec<Command<'_>>) -> Result<(), String> {
        let Some(id) = self.id_of(link) else { return Ok(()) };
        let is_honest = self.device_of(link).is_some();
        let mut is_refused = false;
        for command in commands {
            match command {
                Command::Send(message) => self.send(link, &message)?,
                Command::Append { spool_epoch, sequence, body, crc } if !is_refused => {
                    // As the watch shows it: what nobody has looked at yet is in no stamp.
                    let wall = self.server.clock.wall(Moment(self.now));
                    let is_swapped = self.bug == Bug::EventForAnother && !is_honest;
                    let id = if is_swapped { self.devices[0].id } else { id };
                    match self.server.append((id, spool_epoch, sequence), body, crc, wall)? {
                        Some(position) => {
                            let (now, rate) = (self.server_now(), self.event_rate);
                            if let Some(record) = self.server.records.get_mut(&id) {
                                record.note_appended(spool_epoch, sequence, crc, position);
                                if let Some(session) = self.server.sessions.get_mut(&link) {
                                    session.note_appended(&now, record, rate, 1, body.len() as u64);
                                }
                            }
                            self.notify();
                        }
                        None => {
                            is_refused = true;
                            self.counts.no_room += 1;
                            self.notify();
                            let mut refused = Vec::new();
                            let is_told = self.bug != Bug::NoCloseWithoutRoom;
                            if let Some(session) = self.server.sessions.get_mut(&link).filter(|_| is_told) {
                                session.append_refused(5, &mut refused);
                            }
                            self.execute(link, refused)?;
                        }
                    }
                }
                Command::AckWhenDurable if !is_refused => {
                    let Some(record) = self.server.records.get(&id) else { continue };
                    let position = if self.bug == Bug::AckBeforeDurable { 0 } else { record.last_position() };
                    self.server.acks.push(position, link, record.spool_epoch, record.last_sequence);
                    self.notify();
                    if self.bug == Bug::AckBeforeDurable {
                        self.release()?;
                    }
                }
                Command::EventsHeld { .. } => {
                    self.counts.events_held += 1;
                    if self.bug == Bug::TakesBehindHeld
                        && let Some(session) = self.server.sessions.get_mut(&link)
                    {
                        session.look_again();
                    }
                }
                Command::Append { .. } | Command::AckWhenDurable => {}
                Command::ServerRestored => self.server_restored(id)?,
                Command::Called(step) => {
                    self.server.wake_scheduler.step(Moment(self.now), id, step);
                    self.drain_wake_scheduler()?;
                }
                Command::Probe { address, counter } => {
                    self.server.spend(self.now, id, rate::WAKE_MICROSECONDS);
                    self.send_wake(Wake { device: id, reason: WakeReason::Probe, counter }, address);
                }
                Command::Job(job) => {
                    self.begin_job(link, id, &job)?;
                    let is_failed = self.has_faults && self.chance(30);
                    let outcome = if is_failed { job.failure() } else { self.work(*job)? };
                    let delay = self.random.up_to(50_000);
                    self.after(delay, Step::JobDone(self.server.life, link, Box::new(outcome)));
                }
                Command::Synced => self.counts.syncs += 1,
                Command::Close(reason) => {
                    self.check_close(link, reason)?;
                    self.server_closes(link);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, link: u32, message: &ToAgent) -> Result<(), String> {
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

    /// What a worker and the store make of a job.
    fn work(&mut self, job: Job) -> Result<JobOutcome, String> {
        Ok(match job {
            Job::Section(update) => self.server.apply(update),
            Job::DesiredState(device) => {
                let reported = self.server.store.get(&device).and_then(|stored| stored.report());
                JobOutcome::DesiredState(Box::new(self.server.book.desired_state(
                    device,
                    reported,
                    self.book_now(),
                )))
            }
            Job::Runs(device, updates) => {
                let (now, since, heard) = (self.book_now(), self.server.serving_since, self.now);
                let stored = self.server.book.take(device, &updates, now, since, heard);
                self.desired_state_changed(device);
                JobOutcome::RunsStored(stored)
            }
            Job::Statistics(..) => JobOutcome::Noted,
            Job::Enrol(_) | Job::MoreDesiredState(..) => {
                return Err("an enrolment, or a part of a small desired state".into());
            }
        })
    }

    pub(crate) fn server_closes(&mut self, link: u32) {
        self.drop_session(link);
        self.towards_agent(link, Step::AgentHearsEnd(link));
    }

    pub(crate) fn drop_session(&mut self, link: u32) {
        if self.server.sessions.remove(&link).is_some() {
            self.server.links_gone += 1;
        }
        self.server.spoken.remove(&link);
        if let Some(id) = self.id_of(link)
            && let Some(record) = self.server.records.get_mut(&id)
            && (record.link == Some(link_ref(link)) || self.bug == Bug::OldEndClearsNewLink)
        {
            record.link = None;
        }
        if self.device_of(link).is_none() {
            self.links.remove(&link);
        }
    }

    pub(crate) fn session_timeout(&mut self, link: u32) -> Result<(), String> {
        let now = self.server_now();
        let Some(session) = self.server.sessions.get_mut(&link) else { return Ok(()) };
        let mut commands = Vec::new();
        session.handle_timeout(&now, &mut commands);
        let deadline = session.deadline().0;
        if commands.is_empty() {
            self.at(deadline.max(self.now + 1), Step::SessionTimeout(link));
        }
        self.execute(link, commands)
    }

    fn notify(&mut self) {
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
        self.release()?;
        // One write goes to the end of a segment at most: what lies behind it is for the next.
        if !self.server.acks.is_empty() && !std::mem::replace(&mut self.server.is_flush_due, true) {
            self.after(100_000, Step::Flush);
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), String> {
        let durable = self.server.durable();
        for (link, ack) in self.server.acks.release(durable) {
            if self.server.sessions.contains_key(&link) {
                self.send(link, &ToAgent::Ack(ack))?;
            }
        }
        if self.server.acks.is_empty() {
            self.server.links_gone = 0;
        }
        Ok(())
    }

    pub(crate) fn job_done(&mut self, life: u32, link: u32, outcome: JobOutcome) -> Result<(), String> {
        if life != self.server.life {
            return Ok(());
        }
        self.server.job_has_ended(link);
        let (now, policy) = (self.server_now(), self.policy(link));
        let Some(id) = self.id_of(link) else { return Ok(()) };
        let Some(session) = self.server.sessions.get_mut(&link) else { return Ok(()) };
        let mut commands = Vec::new();
        session.job_done(&now, outcome, self.server.records.get_mut(&id), &policy, &mut commands);
        self.execute(link, commands)
    }
}
