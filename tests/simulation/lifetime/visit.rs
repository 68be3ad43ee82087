//! A device that is on: its agent connects, syncs, renews, stores, and may be cut off at each step.

use std::collections::VecDeque;

use muster::agent::identity::{Candidate, Identity};
use muster::agent::moving::{commit, stage};
use muster::agent::talk::expected_of;
use muster::machine::agent::{Action, AgentMachine, SyncResult};
use muster::machine::command::EnrolmentOutcome;
use muster::machine::credentials::Credential;
use muster::machine::device_state::CertificateStatus;
use muster::wire::frame;
use muster::wire::id::CertificateHash;
use muster::wire::message::{Enrol, ErrorCode, ErrorReport, Fork, ToAgent, Trust};
use muster::wire::time::Now;

use super::Fault;
use super::device::PowerCut;
use super::server::Connection;
use super::world::World;

/// Time that a device is looked at in one round: an attempt later than that is one of the next.
const VISIT_SECONDS: u64 = 7_200;

/// Steps of one visit: more are a loop without an end.
const STEPS_MAX: usize = 2_000;

/// The device's half of a link.
struct Link {
    connection: Connection,
    inbox: VecDeque<ToAgent>,
    /// The server has closed it behind these.
    is_closed: bool,
    shown: CertificateHash,
}

/// A visit that is under way.
#[derive(Default)]
struct Visit {
    is_calm: bool,
    elapsed_seconds: u64,
    link: Option<Link>,
    is_synced: bool,
    /// Nothing more comes of it.
    is_over: bool,
}

impl World {
    /// Has a device do what it wants to. Returns whether it came in sync.
    pub(super) fn visit(&mut self, number: usize, is_calm: bool) -> Result<bool, String> {
        let mut visit = Visit { is_calm, ..Visit::default() };
        let key_type = self.key_type;
        if self.devices[number].machine.is_none() {
            let seed = self.random.next_u64();
            self.devices[number].start(seed, key_type);
        }
        if let Some(trust) = self.devices[number].unwritten.take() {
            let identity = self.devices[number].stored().trusting(&trust);
            let _ = self.devices[number].write(&identity, None);
        }
        let outdated = self.devices[number].identity.key_type() != key_type;
        self.devices[number].machine.iter_mut().for_each(|machine| machine.set_key_outdated(outdated));
        for _ in 0..STEPS_MAX {
            if visit.is_over {
                return Ok(visit.is_synced);
            }
            let now = self.device_now(number, visit.elapsed_seconds);
            let Some(machine) = &mut self.devices[number].machine else { return Ok(visit.is_synced) };
            if let Some(action) = machine.poll(&now) {
                if !is_calm && self.one_in(200) {
                    self.counts.ends += 1;
                    self.devices[number].stop(true);
                    return Ok(visit.is_synced);
                }
                let was_cut = self.act(number, &mut visit, action, &now)?.is_err();
                self.devices[number].judge_disk()?;
                if was_cut {
                    self.counts.torn_writes += 1;
                    return Ok(visit.is_synced);
                }
                continue;
            }
            match &mut visit.link {
                Some(link) if !link.inbox.is_empty() => {
                    let message = link.inbox.pop_front();
                    message.into_iter().for_each(|message| machine.message(&now, message));
                    continue;
                }
                Some(link) if link.is_closed => {
                    visit.link = None;
                    machine.disconnected(&now, "the server has closed the link");
                    continue;
                }
                _ => {}
            }
            let elapsed = |next| next / 1_000_000 - self.seconds.min(next / 1_000_000) + 1;
            match machine.next_timeout().map(|next| elapsed(next.0)) {
                Some(next) if next <= VISIT_SECONDS => {
                    visit.elapsed_seconds = next.max(visit.elapsed_seconds + 1);
                }
                _ => return Ok(visit.is_synced),
            }
        }
        Err(format!("device {number} never rests"))
    }

    fn act(
        &mut self,
        number: usize,
        visit: &mut Visit,
        action: Action,
        now: &Now,
    ) -> Result<Result<(), PowerCut>, String> {
        match action {
            Action::Connect => self.connect(number, visit, now)?,
            Action::Send(bytes) => self.send(number, visit, &bytes, now)?,
            Action::CloseLink(_) => visit.link = None,
            Action::SaveState(state) => self.devices[number].state = Some(state.to_bytes()),
            Action::MakeRequest => {
                let (device, wanted) = (&mut self.devices[number], self.key_type);
                // One in five keeps its key for as long as it may.
                let is_kept =
                    (device.machine_id >> 48).is_multiple_of(5) && device.identity.key_type() == wanted;
                let candidate = match is_kept {
                    true => Candidate::again(&device.stored().private_key, &device.identity.name),
                    false => Candidate::new(wanted, &device.identity.name),
                };
                let candidate = candidate.unwrap();
                let request = candidate.request.clone();
                device.candidate = Some(candidate);
                device.machine.iter_mut().for_each(|machine| machine.request_made(now, request.clone()));
            }
            Action::StoreCertificate(certificate) => {
                let renewed = self.devices[number].renewed(certificate, self.fault);
                let Some(renewed) = renewed else { return Err("nobody asked for this certificate".into()) };
                return Ok(self.write(number, visit, &renewed).map(|()| {
                    self.counts.renewals += 1;
                    self.devices[number].identity = renewed;
                    self.devices[number].machine.iter_mut().for_each(AgentMachine::certificate_stored);
                }));
            }
            Action::Show(shown) => {
                let stored = self.devices[number].stored().showing(shown);
                self.devices[number].identity = stored.ok_or("the certificate to show is not on the disk")?;
            }
            Action::Forget(forgotten) => {
                let kept = self.devices[number].stored().without(forgotten);
                let kept = kept.ok_or("the certificate to keep is not on the disk")?;
                return Ok(self.write(number, visit, &kept).map(|()| self.devices[number].identity = kept));
            }
            Action::TakeTrust(trust) => return Ok(self.take_trust(number, visit, &trust)),
            Action::Fork(_) if !self.may_be_copy(number) => {
                return Err(format!("device {number} is taken for a copy"));
            }
            Action::Fork(fork) => self.fork(number, visit, &fork, now),
            Action::SyncFinished(SyncResult::InSync { .. }) => self.synced(number, visit),
            _ => {}
        }
        Ok(Ok(()))
    }

    /// Nobody can tell two that have one machine id when the first, or the server, was started since.
    fn may_be_copy(&self, number: usize) -> bool {
        self.copied.as_ref().is_some_and(|copied| {
            let [first, copy] = [copied.first, copied.copy].map(|number| &self.devices[number]);
            let is_started = copied.has_server_started || first.boots != copied.boots;
            let are_alike = first.machine_id == copy.machine_id && is_started;
            number == copied.copy || (number == copied.first && are_alike)
        })
    }

    fn write(&mut self, number: usize, visit: &Visit, identity: &Identity) -> Result<(), PowerCut> {
        let is_cut = !visit.is_calm && self.one_in(12);
        self.devices[number].write(identity, is_cut.then_some(&mut self.random))
    }

    fn connect(&mut self, number: usize, visit: &mut Visit, now: &Now) -> Result<(), String> {
        if !visit.is_calm && self.one_in(20) {
            self.meet_impostors(number)?;
        }
        if !visit.is_calm && self.one_in(20) {
            self.devices[number].machine.iter_mut().for_each(|machine| machine.disconnected(now, "no route"));
            return Ok(());
        }
        let chain = self.server.identity.chain();
        let behind: Vec<&[u8]> = chain[1..].iter().map(Vec::as_slice).collect();
        let server_now = self.server_now(visit.elapsed_seconds);
        let device = &mut self.devices[number];
        let Some(machine) = &mut device.machine else { return Ok(()) };
        if let Err(error) = expected_of(&device.identity).check(&chain[0], &behind) {
            machine.disconnected(now, &error.to_string());
            return Ok(());
        }
        self.counts.by_voucher += u64::from(!device.identity.pins.contains(&chain[0]));
        let id = device.identity.device;
        let status = self.server.greet(&device.identity.certificate, &server_now);
        let code = match status {
            CertificateStatus::Known(known) if known == id => {
                machine.connected(now);
                visit.link = Some(Link {
                    connection: self.server.connect(id, &server_now),
                    inbox: VecDeque::new(),
                    is_closed: false,
                    shown: CertificateHash::of(&device.identity.certificate),
                });
                return Ok(());
            }
            CertificateStatus::Known(other) => return Err(format!("{id} is taken for {other}")),
            CertificateStatus::Waiting(device) => {
                self.waiting.insert(device);
                visit.is_over = true;
                ErrorCode::WaitingForApproval
            }
            CertificateStatus::Removed(_) => ErrorCode::DeviceRemoved,
            CertificateStatus::Superseded(_) => ErrorCode::CertificateSuperseded,
            CertificateStatus::Unknown => {
                machine.certificate_refused(now, "the server does not know this certificate");
                return Ok(());
            }
        };
        machine.connected(now);
        machine.message(now, ToAgent::Error(ErrorReport { code, message: String::new() }));
        Ok(())
    }

    /// Others than the server answer: one that has nothing of its, and one that has its files of a day.
    pub(super) fn meet_impostors(&mut self, number: usize) -> Result<(), String> {
        let identity = &self.devices[number].identity;
        let accepts = |chain: Vec<Vec<u8>>| {
            let behind: Vec<&[u8]> = chain[1..].iter().map(Vec::as_slice).collect();
            expected_of(identity).check(&chain[0], &behind).is_ok()
        };
        if accepts(self.stranger.identity.chain()) {
            return Err(format!("device {number} trusts anybody"));
        }
        let Some(thief) = &self.thief else { return Ok(()) };
        let (is_accepted, was_told) =
            (accepts(thief.identity.chain()), !thief.labels.contains(&identity.trust_label));
        self.counts.thieves_refused += u64::from(!is_accepted);
        if is_accepted && was_told {
            return Err(format!("device {number} was told of the theft, and trusts the thief"));
        }
        Ok(())
    }

    fn send(&mut self, number: usize, visit: &mut Visit, bytes: &[u8], now: &Now) -> Result<(), String> {
        let is_lost = !visit.is_calm && self.one_in(40);
        let are_answers_lost = !visit.is_calm && self.one_in(30);
        let server_now = self.server_now(visit.elapsed_seconds);
        let Some(link) = &mut visit.link else { return Ok(()) };
        let mut rest = bytes;
        while !is_lost && let Some((body, length)) = frame::split(rest).map_err(|error| error.to_string())? {
            let (answers, is_open) = self.server.hear(&mut link.connection, body, &server_now);
            link.inbox.extend(answers);
            link.is_closed |= !is_open;
            rest = &rest[length..];
        }
        if is_lost || are_answers_lost {
            visit.link = None;
            self.devices[number].machine.iter_mut().for_each(|machine| machine.disconnected(now, "reset"));
        }
        Ok(())
    }

    fn take_trust(&mut self, number: usize, visit: &Visit, trust: &Trust) -> Result<(), PowerCut> {
        let stored = self.devices[number].stored();
        let is_newest = stored.certificate == self.devices[number].identity.certificate;
        let mut trusting = stored.trusting(trust);
        match self.fault {
            Fault::NamesBeforeStored => self.devices[number].unwritten = Some(Box::new(trust.clone())),
            Fault::NoVoucherFloor => {
                trusting.voucher_floor = 0;
                self.write(number, visit, &trusting)?;
            }
            _ => self.write(number, visit, &trusting)?,
        }
        let shown = if is_newest { Credential::Newest } else { Credential::Previous };
        self.devices[number].identity = trusting.clone().showing(shown).unwrap_or(trusting);
        self.devices[number].machine.iter_mut().for_each(|machine| machine.set_trust(trust.label));
        Ok(())
    }

    fn synced(&mut self, number: usize, visit: &mut Visit) {
        visit.is_synced = true;
        let (day, label) = (self.day(), self.server.identity.trust_facts().label);
        let device = &mut self.devices[number];
        device.synced_on = Some(day);
        device.proved = visit.link.as_ref().map(|link| link.shown).or(device.proved);
        device.is_set_back &= device.stored().trust_label != label;
    }

    /// The machine is a copy, and enrols as a device of its own.
    fn fork(&mut self, number: usize, visit: &mut Visit, fork: &Fork, now: &Now) {
        visit.is_over = true;
        let device = &self.devices[number];
        let name = device.identity.name.clone();
        let candidate = match self.fault {
            Fault::ForkKeepsKey => Candidate::again(&device.stored().private_key, &name),
            _ => Candidate::new(self.key_type, &name),
        };
        let candidate = candidate.unwrap();
        let request =
            Enrol { token: fork.token, secret: fork.secret, request: candidate.request.clone(), name };
        let server_now = self.server_now(visit.elapsed_seconds);
        let outcome = self.server.enrol(request, &server_now);
        let EnrolmentOutcome::Enrolled(enrolled) = outcome else { return };
        if !visit.is_calm && self.one_in(4) {
            // The answer is lost: the next sync asks for it again.
            return self.devices[number].stop(true);
        }
        let identity = candidate.into_identity(*enrolled, "server:13000".into(), now.wall);
        stage(self.devices[number].directory(), &identity).unwrap();
        commit(self.devices[number].directory(), &identity).unwrap();
        self.say(|| format!("device {number} becomes a device of its own"));
        self.counts.forks += 1;
        let device = &mut self.devices[number];
        (device.state, device.proved, device.synced_on, device.identity) = (None, None, None, identity);
        (device.is_set_back, device.images) = (false, Vec::new());
        device.stop(false);
    }
}
