//! An administration API over a real store and a real Unix socket; events, links and counters are simple
//! stand-ins.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use muster::admin::listen::AdminListener;
use muster::admin::{
    AdminContext, Calls, CallsBusy, Deleted, DeviceNotifier, EventLog, Gauges, Links, LogRecord, OutcomeSink,
    ServerInfo, Visit,
};
use muster::client::{Address, Client};
use muster::journal::ReadError;
use muster::machine::device_state::LinkRef;
use muster::machine::record;
use muster::reactor::Clock;
use muster::store::{Enrolment, NewToken, Store};
use muster::wire::api::{
    CallOutcome, CallVia, CloseCount, DatagramTotals, EventTotals, JournalCondition, JournalDamage,
    JournalStatus, Limit, LinkTotals,
};
use muster::wire::datagram::WakeReason;
use muster::wire::event::{Event, Severity};
use muster::wire::id::{CertificateHash, DeviceId, Epoch};
use muster::wire::time::WallTime;
use tokio::sync::watch;

use super::now;

/// A stored event: position, the next one's position, when, who, its number, its payload.
type Stored = (u64, u64, WallTime, DeviceId, u64, Vec<u8>);

/// Events in memory, every record 100 bytes long.
#[derive(Default)]
pub(crate) struct Log {
    records: Mutex<Vec<Stored>>,
}

impl Log {
    pub(crate) fn push(&self, device: DeviceId, severity: Severity, message: &str) -> u64 {
        let event = Event {
            severity,
            application: "backup".into(),
            kind: "backup.done".into(),
            message: message.into(),
            occurred_at: now(),
            fields: vec![("disk".into(), "sdb".into())],
        };
        self.append(device, Epoch(9), None, &event)
    }

    /// An event of the server's own: that a device was idle and is lost.
    pub(crate) fn push_lost(&self, device: DeviceId) -> u64 {
        let event = Event {
            severity: Severity::Warning,
            application: "muster".into(),
            kind: "presence".into(),
            message: "lost (was idle)".into(),
            occurred_at: now(),
            fields: vec![("from".into(), "idle".into()), ("to".into(), "lost".into())],
        };
        self.append(device, Epoch(0), Some(0), &event)
    }

    fn append(&self, device: DeviceId, epoch: Epoch, sequence: Option<u64>, event: &Event) -> u64 {
        let mut records = self.records.lock().unwrap();
        let position = records.len() as u64 * 100;
        let sequence = sequence.unwrap_or(records.len() as u64 + 1);
        let mut payload = Vec::new();
        record::encode(epoch, &event.to_bytes().unwrap(), &mut payload);
        records.push((position, position + 100, now(), device, sequence, payload));
        position + 100
    }
}

fn shown(stored: &Stored) -> LogRecord<'_> {
    let (position, next_position, received_at, device, sequence, payload) = stored;
    LogRecord {
        position: *position,
        next_position: *next_position,
        received_at: *received_at,
        device: *device,
        sequence: *sequence,
        payload,
    }
}

impl EventLog for Log {
    fn oldest(&self) -> u64 {
        0
    }

    fn durable(&self) -> u64 {
        self.records.lock().unwrap().len() as u64 * 100
    }

    fn deleted(&self) -> Option<Deleted> {
        None
    }

    fn forward(&self, from: u64, visit: Visit<'_>) -> Result<(), ReadError> {
        let records = self.records.lock().unwrap().clone();
        for stored in records.iter().filter(|stored| stored.0 >= from) {
            if visit(shown(stored)) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn backward(&self, before: u64, _: WallTime, visit: Visit<'_>) -> Result<(), ReadError> {
        let records = self.records.lock().unwrap().clone();
        for stored in records.iter().rev().filter(|stored| stored.1 <= before) {
            if visit(shown(stored)) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

/// Remembers whose links were to be closed.
#[derive(Default)]
pub(crate) struct ClosedLinks(pub(crate) Mutex<Vec<DeviceId>>);

impl Links for ClosedLinks {
    fn settings_changed(&self, _: DeviceId) {}

    fn device_removed(&self, device: DeviceId, _: LinkRef) {
        self.0.lock().unwrap().push(device);
    }
}

/// Devices that are called: each behaves as the script says of it, the others sync. Remembers who was called
/// and why.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) is_busy: AtomicBool,
    /// Outcome of a device; `None`: nothing is ever heard of it.
    pub(crate) outcomes: Mutex<HashMap<DeviceId, Option<CallOutcome>>>,
    pub(crate) called: Mutex<Vec<(Vec<DeviceId>, WakeReason)>>,
    pub(crate) cancelled: Mutex<Vec<u64>>,
    operations: AtomicU64,
    /// Devices of which nothing is heard: a client that waits for them waits.
    waiting: Mutex<Vec<OutcomeSink>>,
}

pub(crate) const SYNCED: CallOutcome =
    CallOutcome::Synced { by: CallVia::Wake, begun_microseconds: 1_500, synced_microseconds: 4_200 };

/// Devices that were notified of another desired state.
#[derive(Default)]
pub(crate) struct Notifications {
    pub(crate) notified: Mutex<Vec<(DeviceId, Option<WakeReason>)>>,
}

impl DeviceNotifier for Notifications {
    fn tasks_changed(&self) {}

    fn notify(&self, devices: &[DeviceId], wake: Option<WakeReason>) {
        self.notified.lock().unwrap().extend(devices.iter().map(|device| (*device, wake)));
    }
}

impl Calls for Script {
    fn call(
        &self,
        devices: &[DeviceId],
        reason: WakeReason,
        sink: Option<OutcomeSink>,
    ) -> Result<u64, CallsBusy> {
        if self.is_busy.load(Ordering::Relaxed) {
            return Err(CallsBusy);
        }
        let mut called = self.called.lock().unwrap();
        called.push((devices.to_vec(), reason));
        let operation = self.operations.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(sink) = sink {
            let outcomes = self.outcomes.lock().unwrap();
            for device in devices {
                if let Some(outcome) = outcomes.get(device).cloned().unwrap_or(Some(SYNCED)) {
                    // A client that has gone away is told nothing.
                    let _ = sink.send((*device, outcome));
                }
            }
            self.waiting.lock().unwrap().push(sink);
        }
        Ok(operation)
    }

    fn cancel(&self, operation: u64) {
        self.cancelled.lock().unwrap().push(operation);
    }
}

/// A server that is always making another backup.
struct NoBackups;

impl muster::admin::Backups for NoBackups {
    fn send_to(
        &self,
        _sink: tokio::sync::mpsc::Sender<hyper::body::Bytes>,
    ) -> Result<(), muster::admin::BackupsBusy> {
        Err(muster::admin::BackupsBusy)
    }

    fn status(&self) -> muster::wire::api::BackupStatus {
        muster::wire::api::BackupStatus::default()
    }
}

struct Numbers;

impl Gauges for Numbers {
    fn events_stored(&self) -> u64 {
        7
    }

    fn events(&self) -> EventTotals {
        EventTotals { stored: 7, duplicates: 2, stored_per_second: 0.0 }
    }

    fn links(&self) -> LinkTotals {
        let closes = vec![CloseCount { reason: "idle".into(), count: 3 }];
        LinkTotals {
            open: 1,
            accepted: 4,
            handshakes: 4,
            handshakes_resumed: 1,
            closes,
            ..LinkTotals::default()
        }
    }

    fn journal(&self) -> JournalStatus {
        JournalStatus {
            condition: JournalCondition::NoRoom,
            since: Some(WallTime(1_795_514_400_000).into()),
            reason: Some("the disk is full".into()),
            bytes: 64 * 1024 * 1024,
            segments: 1,
            set_aside_segments: 2,
            set_aside_bytes: 128 * 1024 * 1024,
            damages_total: 18,
            damages: vec![JournalDamage { from: 64, to: 128, what: "records are damaged".into() }],
            checked_at: None,
            oldest_at: None,
            newest_at: None,
            durable_position: 700,
            warnings: muster::wire::api::WarningsStatus::default(),
        }
    }

    fn datagrams(&self) -> DatagramTotals {
        let dropped = vec![CloseCount { reason: "forged".into(), count: 3 }];
        DatagramTotals {
            address: "127.0.0.1:13000".into(),
            received: 4,
            notices: 1,
            dropped,
            sent: 2,
            calls: 1,
        }
    }

    fn limits(&self) -> Vec<Limit> {
        vec![Limit { name: "links".into(), value: 1_000, used: Some(1) }]
    }
}

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
            running: None,
        };
        server.resume();
        server
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(Address { socket: self.socket() }).unwrap()
    }

    /// Serves (again).
    pub(crate) fn resume(&mut self) {
        let context = AdminContext {
            store: self.store.clone(),
            links: Arc::clone(&self.links) as Arc<dyn Links>,
            calls: Arc::clone(&self.calls) as Arc<dyn Calls>,
            device_notifier: Arc::clone(&self.notifications) as Arc<dyn DeviceNotifier>,
            log: Arc::clone(&self.log) as Arc<dyn EventLog>,
            gauges: Arc::new(Numbers),
            backups: Arc::new(NoBackups),
            info: ServerInfo {
                version: "0.0.0-test",
                certificate: CertificateHash([0xab; 32]),
                addresses: vec!["127.0.0.1:13000".into()],
                interval_seconds: 900,
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
        names.chunks(2_000).flat_map(|names| self.enrol_batch(names)).collect()
    }

    fn enrol_batch(&self, names: &[String]) -> Vec<DeviceId> {
        let new = NewToken {
            group: "/".into(),
            created_at: now(),
            expires_at: WallTime(now().0 + 60_000),
            uses_max: u32::try_from(names.len()).unwrap(),
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
                certificate: CertificateHash(hash),
                expires_at: None,
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

    /// `musterctl` with this server's socket.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Ran {
        ctl(&format!("unix:{}", self.socket().display()), arguments)
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
    /// Standard output as JSON; the command must have succeeded and said nothing else.
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        serde_json::from_str(&self.out).unwrap()
    }
}

pub(crate) fn ctl(server: &str, arguments: &[&str]) -> Ran {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_musterctl"))
        .env("MUSTER_SERVER", server)
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}
