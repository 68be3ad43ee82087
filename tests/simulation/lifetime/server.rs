//! The server: the store, the identity's files and the sessions that ship, a clock that lies, and copies of
//! its disk to which it is set back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use muster::machine::clones::{Change, CloneWatch, Verdict};
use muster::machine::command::{Command, ForkOutcome, Job, JobOutcome};
use muster::machine::device_state::CertificateStatus;
use muster::machine::random::Random;
use muster::machine::rate::EventRate;
use muster::machine::session::{Session, SyncPolicy};
use muster::machine::wall_clock::WallClock;
use muster::server::enrolment::enrol;
use muster::server::identity::{Identity, Recovery, Wanted};
use muster::server::members::{admit, stored};
use muster::server::renewal::{CertificateLife, renew};
use muster::server::sequences::WriteBack;
use muster::store::{
    CreatedToken, DeviceChange, FILE_NAME, NewToken, Store, StoreError, UnknownDevice, begin_anew,
    copy_stopped, seal_copy,
};
use muster::wire::certificate::Issued;
use muster::wire::clone_policy::ClonePolicy;
use muster::wire::id::{CertificateHash, DeviceId};
use muster::wire::message::{Enrol, Fork, ToAgent, ToServer};
use muster::wire::time::{Now, WallTime};

use muster::machine::command::EnrolmentOutcome;

const IDENTITY: &str = "identity";

/// A copy of the server's disk.
pub(super) struct Backup {
    directory: tempfile::TempDir,
    pub(super) label: u64,
}

/// The server's half of a link.
pub(super) struct Connection {
    session: Session,
    device: Option<DeviceId>,
}

pub(super) struct Server {
    scratch: PathBuf,
    directory: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) identity: Arc<Identity>,
    pub(super) life: CertificateLife,
    watch: WallClock,
    /// Draws the devices' ids: the product's source is the system, whose numbers no seed repeats.
    ids: Random,
    pub(super) clones: CloneWatch,
    /// Distance of its clock from the truth, in milliseconds.
    pub(super) clock_offset: i64,
}

/// Waits for the outcome of what the store's writer does.
fn wait<T: Send + 'static>(work: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> T {
    let (sender, receiver) = channel();
    work(Box::new(move |outcome| drop(sender.send(outcome))));
    receiver.recv().unwrap()
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(to, mode).unwrap();
}

impl Server {
    pub(super) fn new(scratch: &Path, now: Now, life: Duration, seed: u64) -> Self {
        let directory = tempfile::tempdir_in(scratch).unwrap();
        let identity = Identity::open_or_create(&directory.path().join(IDENTITY), &[], now.wall).unwrap();
        let store = Store::open(directory.path()).unwrap();
        let server = Self {
            scratch: scratch.to_owned(),
            directory,
            store,
            identity: Arc::new(identity),
            life: CertificateLife::default(),
            watch: WallClock::start(now, 0, None).0,
            ids: Random::new(seed),
            clones: CloneWatch::default(),
            clock_offset: 0,
        };
        server.life.set(life);
        server.begin();
        server
    }

    /// Work of each start, and of each change of the identity.
    pub(super) fn begin(&self) {
        let facts = self.identity.trust_facts();
        self.store.devices().begin_trust(facts.label, facts.prepared_at).unwrap();
    }

    fn identity_directory(&self) -> PathBuf {
        self.directory.path().join(IDENTITY)
    }

    /// Ends and starts again.
    pub(super) fn restart(&mut self, now: Now) {
        let known = Now { wall: self.watch.known(now.moment), ..now };
        self.store.remember_wall_time(known.wall);
        let mut records = WriteBack::new(0, WallTime(0));
        let round = records.begin(self.store.table(), 0, known.wall);
        records.write(&self.store, round);
        let rows = self.clones.take_unstored(&known);
        wait(|done| self.store.devices().set_clone_watch(rows, done)).unwrap();
        self.reopen(now);
    }

    fn reopen(&mut self, now: Now) {
        // One writer at a time.
        let elsewhere = tempfile::tempdir_in(&self.scratch).unwrap();
        drop(std::mem::replace(&mut self.store, Store::open(elsewhere.path()).unwrap()));
        self.store = Store::open(self.directory.path()).unwrap();
        self.identity = Arc::new(Identity::open(&self.identity_directory()).unwrap());
        let (watch, change) = WallClock::start(now, 0, self.store.last_wall_time().unwrap());
        (self.watch, self.clones) = (watch, CloneWatch::default());
        let known = Now { wall: self.watch.known(now.moment), ..now };
        for (device, stored) in self.store.devices().clone_watch().unwrap() {
            self.clones.restore(device, &stored, &known).unwrap();
        }
        if change.is_some() {
            self.clones.store_all();
        }
        self.begin();
    }

    pub(super) fn observe(&mut self, now: Now) {
        if self.watch.observe(now, 0).is_some() {
            self.clones.store_all();
        }
    }

    /// The time by which ages are judged.
    pub(super) fn ages(&self, now: &Now) -> WallTime {
        self.watch.ages(now.moment).wall
    }

    pub(super) fn back_up(&mut self, now: Now) -> Backup {
        self.restart(now);
        let directory = tempfile::tempdir_in(&self.scratch).unwrap();
        let target = directory.path().join(FILE_NAME);
        copy_stopped(self.directory.path(), &target).unwrap();
        seal_copy(&target).unwrap();
        copy_files(&self.identity_directory(), &directory.path().join(IDENTITY));
        Backup { directory, label: self.identity.trust_facts().label }
    }

    /// Takes the place of what it was; with `has_identity`, of its keys, too.
    pub(super) fn restore(&mut self, backup: &Backup, has_identity: bool, now: Now) {
        let directory = tempfile::tempdir_in(&self.scratch).unwrap();
        std::fs::copy(backup.directory.path().join(FILE_NAME), directory.path().join(FILE_NAME)).unwrap();
        begin_anew(directory.path()).unwrap();
        let from =
            if has_identity { backup.directory.path().join(IDENTITY) } else { self.identity_directory() };
        copy_files(&from, &directory.path().join(IDENTITY));
        let former = std::mem::replace(&mut self.directory, directory);
        self.reopen(now);
        drop(former);
    }

    /// Keys for another that has the files.
    pub(super) fn thief(&self) -> (tempfile::TempDir, Identity) {
        let directory = tempfile::tempdir_in(&self.scratch).unwrap();
        let files = directory.path().join(IDENTITY);
        copy_files(&self.identity_directory(), &files);
        let identity = Identity::open(&files).unwrap();
        (directory, identity)
    }

    /// The keys are lost, or somebody else has them: the recovery key alone is left.
    pub(super) fn recover(&mut self, key: &str, recovery: Recovery, loses_files: bool, now: Now) {
        let directory = self.identity_directory();
        if loses_files {
            std::fs::remove_dir_all(&directory).unwrap();
        }
        Identity::recover(&directory, key, recovery, now.wall).unwrap();
        self.reopen(now);
    }

    pub(super) fn token(&self, device: Option<DeviceId>, now: &Now) -> CreatedToken {
        let new = NewToken {
            group: "/".into(),
            created_at: now.wall,
            expires_at: WallTime(now.wall.0 + 3_600_000),
            uses_max: 1,
            device,
            ..NewToken::default()
        };
        self.store.devices().create_token(new).unwrap()
    }

    pub(super) fn enrol(&mut self, request: Enrol, now: &Now) -> EnrolmentOutcome {
        let wanted = Wanted {
            device: DeviceId(self.ids.next_u64() | 1),
            counter: 1,
            life_milliseconds: self.life.milliseconds(),
        };
        let (sender, taken_over) = channel();
        let ages = self.ages(now);
        let taken = move |device| sender.send(device).unwrap_or_default();
        let outcome = wait(|done| enrol(&self.store, &self.identity, request, wanted, ages, taken, done));
        taken_over.try_iter().for_each(|device| self.clones.forget(device));
        outcome
    }

    /// A device has shaken hands: who it is.
    pub(super) fn greet(&mut self, certificate: &[u8], now: &Now) -> CertificateStatus {
        let (devices, hash) = (self.store.devices(), CertificateHash::of(certificate));
        let (sender, shown) = channel();
        let status = match (self.store.table().by_certificate(&hash), self.identity.issued(certificate)) {
            (CertificateStatus::Unknown, Some(Issued { device, counter })) => {
                let (noted, certificate) = (sender.clone(), stored(certificate, counter));
                let noted = move |in_use| noted.send((in_use, counter)).unwrap_or_default();
                let taken_over = || self.clones.forget(device);
                let status = admit(&self.store, device, certificate, taken_over, noted);
                // Or a seed does not repeat what follows.
                self.settle();
                match status {
                    CertificateStatus::Unknown => {
                        let unknown = UnknownDevice { device, certificate, now: now.wall };
                        wait(|done| devices.offer(unknown, done)).unwrap();
                        CertificateStatus::Waiting(device)
                    }
                    status => status,
                }
            }
            (status, _) => status,
        };
        if let CertificateStatus::Known(device) = status {
            devices
                .certificate_shown(device, hash, move |number| sender.send((0, number)).unwrap_or_default());
            self.settle();
            for (in_use, number) in shown.try_iter() {
                self.clones.certificate_shown(device, in_use, number, None, now);
            }
        }
        status
    }

    /// Waits until all that was handed in is stored.
    fn settle(&self) {
        wait(|done| self.store.devices().note_trust(DeviceId(0), 0, done)).unwrap();
    }

    pub(super) fn approve(&self, device: DeviceId) {
        match self.store.devices().approve(device, DeviceChange::default()) {
            // A restore has taken it back, or it is let in already.
            Ok(_) | Err(StoreError::NotWaiting(_) | StoreError::NoDevice(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn connect(&self, device: DeviceId, now: &Now) -> Connection {
        Connection { session: Session::new(now, Some(device)), device: Some(device) }
    }

    fn policy(&self) -> SyncPolicy {
        SyncPolicy {
            server_epoch: self.store.server_epoch().unwrap(),
            next_seconds: 40_000,
            interval_seconds: 80_000,
            keep_seconds: None,
            has_room: true,
            has_fetch_room: true,
            reconnect_seconds: 0,
            later_seconds: 5,
            peer: None,
            notice_port: None,
            event_rate: EventRate::default(),
            trust_label: self.identity.trust_facts().label,
        }
    }

    /// Whether a device's certificate is due is looked at all the time.
    fn judge_certificate(&self, device: DeviceId, now: &Now) {
        let newest = self.store.devices().newest_certificate(device).ok().and_then(|(newest, _)| newest);
        let life = newest.and_then(|newest| newest.life);
        let is_due = life.is_some_and(|life| life.is_due(device, self.life.milliseconds(), self.ages(now)));
        self.store.table().with(device, |record| record.set_to_renew(is_due));
    }

    /// A message has come. The answers; `false`: the link is closed behind them.
    pub(super) fn hear(&mut self, link: &mut Connection, body: &[u8], now: &Now) -> (Vec<ToAgent>, bool) {
        let message = ToServer::from_body(body).unwrap();
        let (policy, mut out) = (self.policy(), Vec::new());
        let mut verdict = Verdict::Serve;
        if let (ToServer::Sync(sync), Some(device)) = (&message, link.device) {
            self.judge_certificate(device, now);
            let change = self.store.table().get(device).and_then(|record| Change::of(&record, sync));
            if let Some(change) = change {
                verdict = self.clones.judge(device, &change, ClonePolicy::Fork, None, now).verdict;
            }
        }
        if verdict != Verdict::Serve {
            link.session.turn_away(verdict, &mut out);
        } else if !link.session.is_turned_away() {
            let mut record = link.device.and_then(|device| self.store.table().lock(device));
            link.session.handle(now, message, record.as_deref_mut(), &policy, &mut out);
        }
        let mut heard = (Vec::new(), true);
        let mut more = self.carry_out(link, out, &policy, now, &mut heard);
        while !more.is_empty() || link.session.waits_to_be_sent() {
            if more.is_empty() {
                link.session.sent(now, &mut more);
            }
            more = self.carry_out(link, more, &policy, now, &mut heard);
        }
        heard
    }

    fn carry_out(
        &self,
        link: &mut Connection,
        commands: Vec<Command<'_>>,
        policy: &SyncPolicy,
        now: &Now,
        (answers, is_open): &mut (Vec<ToAgent>, bool),
    ) -> Vec<Command<'static>> {
        let mut more = Vec::new();
        for command in commands {
            match command {
                Command::Send(answer) => answers.push(answer),
                Command::Job(job) => {
                    let outcome = self.work(*job, now);
                    let mut record = link.device.and_then(|device| self.store.table().lock(device));
                    link.session.job_done(now, outcome, record.as_deref_mut(), policy, &mut more);
                }
                Command::Close(_) => *is_open = false,
                _ => {}
            }
        }
        more
    }

    fn work(&self, job: Job, now: &Now) -> JobOutcome {
        let ages = self.ages(now);
        match job {
            Job::Section(update) => {
                let section = update.section;
                JobOutcome::Section(section, wait(|done| self.store.inventory().apply(update, done)))
            }
            Job::DesiredState(device) => {
                JobOutcome::DesiredState(self.store.desired_state(device, None, ages))
            }
            Job::Trust(device) => JobOutcome::Trust(Some(Box::new(self.identity.trust(device)))),
            Job::NoteTrust(device, label) => {
                wait(|done| self.store.devices().note_trust(device, label, done)).unwrap();
                JobOutcome::TrustNoted
            }
            Job::Renew(device, request) => JobOutcome::Renewal(wait(|done| {
                renew(&self.store, &self.identity, device, &request, &self.life, ages, done);
            })),
            Job::Fork(device) => {
                let created =
                    wait(|done| self.store.devices().create_copy_token(device, ages, done)).unwrap();
                let fork = Fork { token: created.token.id, secret: created.secret };
                JobOutcome::Fork(ForkOutcome::Token(fork))
            }
            other => other.failure(),
        }
    }
}
