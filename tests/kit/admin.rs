//! The administration API alone, over a real store and a real Unix socket.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use muster::admin::listen::AdminListener;
use muster::admin::{AdminContext, Calls, DeviceNotifier, EventLog, Links, ServerInfo};
use muster::client::{Address, Client};
use muster::concurrency::counters::Counters;
use muster::machine::command::{SectionChange, SectionOutcome, SectionUpdate};
use muster::reactor::Clock;
use muster::store::{ARTIFACTS_BYTES_DEFAULT, Artifacts, DeviceCertificate, Enrolment, NewToken, Store};
use muster::wire::api::CallOutcome;
use muster::wire::datagram::WakeReason;
use muster::wire::digest::Digest;
use muster::wire::event::Severity;
use muster::wire::id::{CertificateHash, DeviceId, Epoch};
use muster::wire::section::{HostFacts, Section};
use muster::wire::settings::Declaration;
use muster::wire::time::WallTime;
use serde_json::Value;
use tokio::sync::watch;

pub(crate) use super::script::SYNCED;
use super::script::{ClosedLinks, Log, NoBackups, Notifications, Numbers, OneCertificate, Script};
use super::{musterctl, now};

/// A running administration API.
pub(crate) struct AdminServer {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) log: Arc<Log>,
    pub(crate) links: Arc<ClosedLinks>,
    pub(crate) calls: Arc<Script>,
    pub(crate) notifications: Arc<Notifications>,
    pub(crate) durable: watch::Sender<u64>,
    /// Whether devices that wakes do not reach are kept.
    pub(crate) keeps_unreachable: bool,
    /// Most bytes of all artifacts.
    pub(crate) artifacts_bytes_max: u64,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl AdminServer {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (durable, _) = watch::channel(0);
        let mut server = Self {
            directory,
            store,
            log: Arc::default(),
            links: Arc::default(),
            calls: Arc::default(),
            notifications: Arc::default(),
            durable,
            keeps_unreachable: true,
            artifacts_bytes_max: ARTIFACTS_BYTES_DEFAULT,
            running: None,
        };
        server.resume();
        server
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(Address::Socket(self.socket())).unwrap()
    }

    /// Serves (again).
    pub(crate) fn resume(&mut self) {
        let context = AdminContext {
            store: self.store.clone(),
            artifacts: Artifacts::open(
                self.store.clone(),
                self.directory.path().join("artifacts"),
                self.artifacts_bytes_max,
            )
            .unwrap(),
            links: Arc::clone(&self.links) as Arc<dyn Links>,
            calls: Arc::clone(&self.calls) as Arc<dyn Calls>,
            device_notifier: Arc::clone(&self.notifications) as Arc<dyn DeviceNotifier>,
            log: Arc::clone(&self.log) as Arc<dyn EventLog>,
            gauges: Arc::new(Numbers(Counters::new())),
            backups: Arc::new(NoBackups),
            certificates: Arc::new(OneCertificate),
            network: None,
            openid: None,
            info: ServerInfo {
                version: "0.0.0-test",
                addresses: vec!["127.0.0.1:13000".into()],
                interval_seconds: 900,
                device_port: 13_000,
                host_name: None,
                agents: self.directory.path().join("agents"),
            },
            durable: self.durable.subscribe(),
            keep_unreachable: Arc::new(self.keeps_unreachable.into()),
            clock: Clock::new(),
        };
        let (stop, stopping) = watch::channel(false);
        let (listening, is_listening) = mpsc::channel();
        let socket = self.socket();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = AdminListener::open(&socket).await.unwrap();
                listening.send(()).unwrap();
                muster::admin::serve(listener, context, stopping).await.unwrap();
            });
        });
        is_listening.recv().unwrap();
        self.running = Some((stop, thread));
    }

    pub(crate) fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.send(true).unwrap();
            thread.join().unwrap();
        }
    }

    /// Enrols a device of that name.
    pub(crate) fn enrol(&self, name: &str) -> DeviceId {
        self.enrol_many(&[name.to_owned()])[0]
    }

    /// Enrols devices of these names, as many in a batch as the store takes.
    pub(crate) fn enrol_many(&self, names: &[String]) -> Vec<DeviceId> {
        names.chunks(2_000).flat_map(|names| self.enrol_batch(names, false)).collect()
    }

    /// The same of devices that wait for approval.
    pub(crate) fn enrol_waiting(&self, names: &[String]) -> Vec<DeviceId> {
        self.enrol_batch(names, true)
    }

    fn enrol_batch(&self, names: &[String], approval: bool) -> Vec<DeviceId> {
        let new = NewToken {
            approval,
            group: "/".into(),
            created_at: now(),
            expires_at: WallTime(now().0 + 60_000),
            uses_max: u32::try_from(names.len()).unwrap(),
            ..NewToken::default()
        };
        let token = self.store.devices().create_token(new).unwrap();
        let first = 0x1000 + self.store.table().len() as u64;
        let (done, is_done) = mpsc::channel();
        for (device, name) in (first..).map(DeviceId).zip(names) {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&device.0.to_be_bytes());
            let enrolment = Enrolment {
                token: token.token.id,
                secret: token.secret,
                device,
                name: name.clone(),
                certificate: DeviceCertificate::first(CertificateHash(hash)),
                now: now(),
            };
            let done = done.clone();
            self.store.devices().enrol(enrolment, move |result| done.send(result).unwrap());
        }
        let mut enrolled: Vec<_> = names.iter().map(|_| is_done.recv().unwrap().unwrap()).collect();
        // In the order of their names, whatever order they became durable in.
        enrolled.sort_by_key(|enrolled| enrolled.device);
        enrolled.into_iter().map(|enrolled| enrolled.device).collect()
    }

    /// Stores an event, and says that it is durable.
    pub(crate) fn event(&self, device: DeviceId, severity: Severity, message: &str) {
        let durable = self.log.push(device, severity, message);
        self.durable.send_replace(durable);
    }

    /// The log's events are durable up to here.
    pub(crate) fn durable_to(&self, position: u64) {
        self.durable.send_replace(position);
    }

    /// Devices that were called since this was asked last, and the reason.
    pub(crate) fn calls(&self) -> Vec<(Vec<DeviceId>, WakeReason)> {
        std::mem::take(&mut *self.calls.called.lock().unwrap())
    }

    /// Outcome of a device that is called; `None`: nothing is heard of it.
    pub(crate) fn script(&self, device: DeviceId, outcome: Option<CallOutcome>) {
        self.calls.outcomes.lock().unwrap().insert(device, outcome);
    }

    /// Stores what a device says of a section.
    pub(crate) fn apply(&self, device: DeviceId, section: Section, digest: Digest, change: SectionChange) {
        let (agent_epoch, revision, base) = (Epoch(3), 1, None);
        let update = SectionUpdate { device, section, agent_epoch, revision, digest, base, change };
        let (done, is_done) = mpsc::channel();
        self.store.inventory().apply(update, move |outcome| done.send(outcome).unwrap());
        assert!(matches!(is_done.recv().unwrap(), SectionOutcome::Stored(_)));
    }

    /// The device says what it offers.
    pub(crate) fn declare(&self, device: DeviceId, declaration: Declaration) {
        let facts = HostFacts { declarations: vec![declaration], ..HostFacts::default() };
        self.apply(device, Section::Host, Digest(device.0), SectionChange::Host(facts));
    }

    /// Writes a file for a command; its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// A command of `musterctl` with this server's socket.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        musterctl(self.directory.path(), arguments)
    }

    /// Runs one.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// Runs one that must succeed and say nothing but its answer as JSON.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.ctl(&[arguments, &["--json"]].concat()).json()
    }

    /// Runs one that must succeed; what it printed.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let ran = self.ctl(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
        ran.out
    }

    /// Runs one that must be refused with this code and print nothing; what it said.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.ctl(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{arguments:?}: {}", ran.err);
        ran.err
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Result of a command.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Standard output as JSON; the command must have succeeded and said nothing else.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        serde_json::from_str(&self.out).unwrap()
    }
}

/// `musterctl` with this address of a server.
pub(crate) fn ctl(server: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_musterctl"));
    Ran::of(command.env("MUSTER_SERVER", server).args(arguments).output().unwrap())
}
