//! Ten years of a fleet: the days pass, devices come and go, and at the end all of them are in sync.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use muster::agent::identity::{Candidate, Identity, KeyType};
use muster::machine::command::EnrolmentOutcome;
use muster::machine::device_state::CertificateStatus;
use muster::machine::random::Random;
use muster::server::identity::Identity as ServerIdentity;
use muster::wire::id::DeviceId;
use muster::wire::message::{Enrol, SyncReason};
use muster::wire::time::{Moment, Now, WallTime};

use super::device::Device;
use super::server::{Backup, Server};
use super::{Counts, Fault};

pub(super) const DAY_SECONDS: u64 = 86_400;

/// The day on which it begins: 2026-11-24.
const BEGINNING: WallTime = WallTime(1_795_514_400_000);

const DECADE_DAYS: u64 = 3_650;

/// Lines that are kept of what happened.
const STORY_LINES: usize = 60;

/// A copy of what a device was before another machine took its record over.
pub(super) struct Ghost {
    pub(super) device: DeviceId,
    pub(super) certificate: Vec<u8>,
}

/// A device whose disk was copied.
pub(super) struct Copied {
    pub(super) first: usize,
    pub(super) copy: usize,
    /// Number of the first one's boots at that time.
    pub(super) boots: u32,
    pub(super) has_server_started: bool,
}

/// Somebody who has the server's files of a day.
pub(super) struct Thief {
    pub(super) _files: tempfile::TempDir,
    pub(super) identity: ServerIdentity,
    /// Whatever a device can have been told until then.
    pub(super) labels: BTreeSet<u64>,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) fault: Fault,
    /// The administrator has the recovery key at hand, and prepares each rotation with it.
    pub(super) is_careful: bool,
    pub(super) seconds: u64,
    /// Since the last round.
    pub(super) step_days: u64,
    pub(super) server: Server,
    pub(super) devices: Vec<Device>,
    pub(super) ghosts: Vec<Ghost>,
    pub(super) removed: BTreeMap<DeviceId, Vec<u8>>,
    pub(super) waiting: BTreeSet<DeviceId>,
    pub(super) backups: Vec<Backup>,
    pub(super) restored_on: u64,
    pub(super) recovery_key: String,
    /// The recovery key was on a machine that is connected: another one is due.
    pub(super) is_recovery_key_used: bool,
    /// The highest number that a voucher had.
    pub(super) highest_voucher: u32,
    pub(super) key_type: KeyType,
    pub(super) thief: Option<Thief>,
    pub(super) stranger: Thief,
    pub(super) labels: BTreeSet<u64>,
    pub(super) machines: u64,
    /// There are two of one device now.
    pub(super) copied: Option<Copied>,
    pub(super) counts: Counts,
    pub(super) is_shown: bool,
    story: RefCell<VecDeque<String>>,
    // Dropped last.
    pub(super) scratch: tempfile::TempDir,
}

fn scratch() -> tempfile::TempDir {
    // In memory where that is there: what the medium keeps is decided here.
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

impl World {
    pub(super) fn new(seed: u64, fault: Fault, devices: usize, is_shown: bool) -> Self {
        let scratch = scratch();
        let mut random = Random::new(seed);
        let now = Now { moment: Moment(0), wall: BEGINNING };
        let life =
            Duration::from_secs(DAY_SECONDS * [365, 90, 30][usize::try_from(random.up_to(2)).unwrap()]);
        let server = Server::new(scratch.path(), now, life, random.next_u64());
        let recovery_key = server.identity.create_recovery_key(now.wall).unwrap().to_string();
        server.begin();
        let stranger = Server::new(scratch.path(), now, life, random.next_u64());
        stranger.identity.create_recovery_key(now.wall).unwrap();
        let (files, identity) = stranger.thief();
        let mut world = Self {
            random,
            fault,
            is_careful: !seed.is_multiple_of(4),
            seconds: 0,
            step_days: 0,
            server,
            devices: Vec::new(),
            ghosts: Vec::new(),
            removed: BTreeMap::new(),
            waiting: BTreeSet::new(),
            backups: Vec::new(),
            restored_on: 0,
            recovery_key,
            is_recovery_key_used: false,
            highest_voucher: 0,
            key_type: KeyType::Ed25519,
            thief: None,
            stranger: Thief { _files: files, identity, labels: BTreeSet::new() },
            labels: BTreeSet::new(),
            machines: 0,
            copied: None,
            counts: Counts::default(),
            is_shown,
            story: RefCell::default(),
            scratch,
        };
        for _ in 0..devices {
            let device = world.enrolled(None);
            world.devices.push(device);
        }
        world
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.random.up_to(count - 1) == 0
    }

    /// Whether something happens in this round that happens so often in ten years.
    pub(super) fn happens(&mut self, times_a_decade: u64) -> bool {
        self.random.up_to(DECADE_DAYS - 1) < times_a_decade * self.step_days
    }

    /// The last of it is told when the run fails.
    pub(super) fn say(&self, what: impl FnOnce() -> String) {
        let line = format!("day {:>4}: {}", self.day(), what());
        if self.is_shown {
            println!("{line}");
        }
        let mut story = self.story.borrow_mut();
        if story.len() >= STORY_LINES {
            story.pop_front();
        }
        story.push_back(line);
    }

    /// The last things that happened.
    pub(super) fn story(&self) -> String {
        self.story.borrow().iter().map(|line| format!("  {line}\n")).collect()
    }

    pub(super) fn day(&self) -> u64 {
        self.seconds / DAY_SECONDS
    }

    fn now(&self, offset: i64, elapsed_seconds: u64) -> Now {
        let seconds = self.seconds + elapsed_seconds;
        let wall = BEGINNING.0 + seconds * 1_000;
        Now { moment: Moment(seconds * 1_000_000), wall: WallTime(wall.saturating_add_signed(offset)) }
    }

    /// The time that it is.
    pub(super) fn truth(&self) -> Now {
        self.now(0, 0)
    }

    pub(super) fn server_now(&self, elapsed_seconds: u64) -> Now {
        self.now(self.server.clock_offset, elapsed_seconds)
    }

    pub(super) fn device_now(&self, number: usize, elapsed_seconds: u64) -> Now {
        self.now(self.devices[number].clock_offset, elapsed_seconds)
    }

    /// Distance to 1970, to 2100, or some years off.
    pub(super) fn odd_clock(&mut self) -> i64 {
        const YEAR: i64 = 365 * 86_400_000;
        match self.random.up_to(3) {
            0 => -BEGINNING.0.cast_signed(),
            1 => 73 * YEAR,
            _ => (self.random.up_to(20).cast_signed() - 10) * YEAR,
        }
    }

    /// A machine that has just enrolled: as a new device, or as this one.
    pub(super) fn enrolled(&mut self, device: Option<DeviceId>) -> Device {
        let now = self.server_now(0);
        let token = self.server.token(device, &now);
        let name = format!("device-{}", self.machines);
        let candidate = Candidate::new(self.key_type, &name).unwrap();
        let request = Enrol {
            token: token.token.id,
            secret: token.secret,
            request: candidate.request.clone(),
            name: device.map_or(name, |device| device.to_string()),
        };
        let EnrolmentOutcome::Enrolled(enrolled) = self.server.enrol(request, &now) else {
            panic!("it is let in with a token that was just made")
        };
        let identity: Identity = candidate.into_identity(*enrolled, "server:13000".into(), now.wall);
        self.machines += 1;
        Device::new(self.scratch.path(), identity, self.machines << 48 | 1)
    }

    pub(super) fn live(&mut self) -> Result<(), String> {
        // A crowd says enough in fewer steps.
        let longest = if self.devices.len() > 50 { 40 } else { 10 };
        while self.day() < DECADE_DAYS {
            let days = 1 + self.random.up_to(longest - 1);
            self.pass(days);
            self.administer()?;
            for number in 0..self.devices.len() {
                if !self.lives(number)? {
                    continue;
                }
                self.visit(number, false)?;
            }
            if self.happens(4) {
                self.copy_disk()?;
            }
            self.judge_dead()?;
        }
        self.come_to_rest()
    }

    pub(super) fn pass(&mut self, days: u64) {
        self.step_days = days;
        self.seconds += days * DAY_SECONDS;
        let facts = self.server.identity.trust_facts();
        self.labels.insert(facts.label);
        self.highest_voucher = self.highest_voucher.max(facts.voucher_floor);
        self.server.observe(self.server_now(0));
        for device in std::mem::take(&mut self.waiting) {
            if !self.removed.contains_key(&device) {
                self.say(|| format!("{device} is approved"));
                self.counts.approved += 1;
                self.server.approve(device);
            }
        }
    }

    /// Fate of a device by itself. `false`: it is switched off.
    fn lives(&mut self, number: usize) -> Result<bool, String> {
        if self.devices[number].away_until > self.day() {
            return Ok(false);
        }
        if self.happens(15) {
            let days = if self.one_in(3) { self.random.up_to(800) } else { self.random.up_to(60) };
            self.devices[number].away_until = self.day() + days;
            self.devices[number].stop(true);
            return Ok(false);
        }
        if self.happens(20) {
            self.devices[number].clock_offset = if self.one_in(2) { 0 } else { self.odd_clock() };
        }
        if self.happens(40) {
            let image = self.devices[number].image();
            self.devices[number].images.push(image);
        }
        if self.happens(10) && !self.devices[number].images.is_empty() {
            let images = self.devices[number].images.len() as u64;
            let image = usize::try_from(self.random.up_to(images - 1)).unwrap();
            self.set_back(number, image)?;
        }
        Ok(true)
    }

    /// A disk is copied, and both machines are on: the copy becomes a device of its own.
    pub(super) fn copy_disk(&mut self) -> Result<(), String> {
        let number = usize::try_from(self.random.up_to(self.devices.len() as u64 - 1)).unwrap();
        if self.devices[number].away_until > self.day() {
            return Ok(());
        }
        let now = self.device_now(number, 0);
        let agent = &mut self.devices[number].machine;
        agent.iter_mut().for_each(|agent| agent.called(&now, SyncReason::Asked));
        if !self.visit(number, true)? {
            return Ok(());
        }
        let id = self.devices[number].identity.device;
        if self.server.identity.issued(&self.devices[number].identity.certificate).is_none() {
            // Of an authority of before: when the first one renews, its copy is nobody.
            return Ok(());
        }
        self.machines += 1;
        // Virtual machines may have the same machine id.
        let is_alike = self.one_in(4);
        let machine_id = if is_alike { self.devices[number].machine_id } else { self.machines << 48 | 1 };
        let copy = self.devices.len();
        self.devices.push(self.devices[number].copy(self.scratch.path(), machine_id));
        let boots = self.devices[number].boots;
        self.copied = Some(Copied { first: number, copy, boots, has_server_started: false });
        self.say(|| format!("device {number} is copied"));
        for hour in 0..48 {
            self.seconds += 3_600;
            if self.one_in(10) {
                self.server.restart(self.server_now(0));
                self.copied.iter_mut().for_each(|copied| copied.has_server_started = true);
            }
            for machine in [number, copy] {
                let now = self.device_now(machine, 0);
                let agent = &mut self.devices[machine].machine;
                agent.iter_mut().for_each(|agent| agent.called(&now, SyncReason::Asked));
                self.visit(machine, hour > 24)?;
            }
            if [number, copy].iter().any(|machine| self.devices[*machine].identity.device != id) {
                self.copied = None;
                return self.judge_keys();
            }
        }
        Err(format!("device {copy} has been a copy of device {number} for two days"))
    }

    /// Calm days: every device is on, and no clock is wrong.
    fn come_to_rest(&mut self) -> Result<(), String> {
        self.say(|| "calm days".into());
        (self.server.clock_offset, self.thief) = (0, None);
        for _ in 0..20 {
            self.pass(3);
            for number in 0..self.devices.len() {
                (self.devices[number].away_until, self.devices[number].clock_offset) = (0, 0);
                self.visit(number, true)?;
            }
        }
        for number in 0..self.devices.len() {
            self.judge_at_rest(number).map_err(|what| format!("device {number} at the end: {what}"))?;
        }
        self.judge_keys()?;
        self.judge_dead()
    }

    /// No two devices have one private key.
    pub(super) fn judge_keys(&self) -> Result<(), String> {
        let mut keys = BTreeSet::new();
        for (number, device) in self.devices.iter().enumerate() {
            if device.keys().into_iter().any(|key| !keys.insert(key)) {
                return Err(format!("device {number} has a private key that another device has"));
            }
        }
        Ok(())
    }

    fn judge_at_rest(&mut self, number: usize) -> Result<(), String> {
        let (now, device) = (self.server_now(0), &self.devices[number]);
        let stored = device.stored();
        let id = stored.device;
        if device.synced_on != Some(self.day()) {
            let error = device.machine.as_ref().map(|machine| machine.status(&now).last_error);
            let on = device.synced_on;
            let status = self.server.greet(&stored.certificate, &now);
            return Err(format!("not in sync since day {on:?}: {status:?}, {error:?}"));
        }
        let problems = [
            ("two certificates are stored", stored.previous.is_some()),
            ("it trusts other certificates", !self.trusts_all(&stored)),
            ("the server does not know what it trusts", {
                self.server.store.table().get(id).is_none_or(|record| !record.has_trust())
            }),
            ("its key is of another kind than wanted", stored.key_type() != self.key_type),
        ];
        problems.iter().find(|(_, is_so)| *is_so).map_or(Ok(()), |(what, _)| Err((*what).into()))
    }

    /// Certificates that are dead stay dead: those of devices that were removed, and of machines whose record
    /// another one has, once the server has seen that.
    fn judge_dead(&mut self) -> Result<(), String> {
        let now = self.server_now(0);
        for ghost in &self.ghosts {
            let successor = self.devices.iter().find(|device| device.identity.device == ghost.device);
            let is_seen =
                successor.and_then(|device| device.synced_on).is_some_and(|on| on > self.restored_on);
            if is_seen
                && let status @ CertificateStatus::Known(_) = self.server.greet(&ghost.certificate, &now)
            {
                return Err(format!("a machine whose record was taken over is let in: {status:?}"));
            }
        }
        for certificate in self.removed.values() {
            if let status @ CertificateStatus::Known(_) = self.server.greet(certificate, &now) {
                return Err(format!("a device that was removed is let in: {status:?}"));
            }
        }
        Ok(())
    }
}
