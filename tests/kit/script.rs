//! Stand-ins for what the administration API is asked about: events in memory, devices that do as a script
//! says, numbers that never change.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use muster::admin::{
    Backups, BackupsBusy, Calls, CallsBusy, CertificateError, Certificates, Deleted, DeviceNotifier,
    EventLog, Gauges, Links, LogRecord, OutcomeSink, Visit,
};
use muster::concurrency::counters::Counters;
use muster::journal::ReadError;
use muster::machine::device_state::LinkRef;
use muster::machine::record;
use muster::wire::api::{
    BackupStatus, CallOutcome, CallVia, CertificateChange, CertificateStage, CertificateStatus, CloseCount,
    DatagramTotals, EventTotals, JournalCondition, JournalDamage, JournalStatus, Limit, LinkTotals,
    RecoveryKey, WarningsStatus,
};
use muster::wire::datagram::WakeReason;
use muster::wire::event::{Event, Severity};
use muster::wire::id::{CertificateHash, DeviceId, Epoch};
use muster::wire::time::WallTime;

use super::{event, now};

/// A stored event: position, the next one's position, when, who, its number, its payload.
type Stored = (u64, u64, WallTime, DeviceId, u64, Vec<u8>);

/// Events in memory, every record 100 bytes long.
#[derive(Default)]
pub(crate) struct Log {
    records: Mutex<Vec<Stored>>,
}

impl Log {
    pub(crate) fn push(&self, device: DeviceId, severity: Severity, message: &str) -> u64 {
        let fields = vec![("disk".into(), "sdb".into())];
        let (application, kind) = ("backup".into(), "backup.done".into());
        let event = Event { application, kind, occurred_at: now(), fields, ..event(severity, message) };
        self.append(device, Epoch(9), None, &event)
    }

    /// An event of the server's own: that a device was idle and is lost.
    pub(crate) fn push_lost(&self, device: DeviceId) -> u64 {
        let fields = vec![("from".into(), "idle".into()), ("to".into(), "lost".into())];
        let (application, kind) = ("muster".into(), "presence".into());
        let of_device = event(Severity::Warning, "lost (was idle)");
        let event = Event { application, kind, occurred_at: now(), fields, ..of_device };
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

fn to_record(stored: &Stored) -> LogRecord<'_> {
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
            if visit(to_record(stored)) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn backward(&self, before: u64, _: WallTime, visit: Visit<'_>) -> Result<(), ReadError> {
        let records = self.records.lock().unwrap().clone();
        for stored in records.iter().rev().filter(|stored| stored.1 <= before) {
            if visit(to_record(stored)) == ControlFlow::Break(()) {
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
pub(crate) struct NoBackups;

impl Backups for NoBackups {
    fn send_to(&self, _sink: tokio::sync::mpsc::Sender<hyper::body::Bytes>) -> Result<(), BackupsBusy> {
        Err(BackupsBusy)
    }

    fn status(&self) -> BackupStatus {
        BackupStatus::default()
    }
}

/// A server whose certificate stays as it is.
pub(crate) struct OneCertificate;

impl Certificates for OneCertificate {
    fn hash(&self) -> CertificateHash {
        CertificateHash([0xab; 32])
    }

    fn key_pins(&self) -> Vec<[u8; 32]> {
        vec![[0xcd; 32]]
    }

    fn stage(&self) -> CertificateStage {
        CertificateStage::Current
    }

    fn tls_files_until(&self) -> Option<WallTime> {
        Some(WallTime(1_795_514_400_000))
    }

    fn status(&self) -> Result<CertificateStatus, CertificateError> {
        Err(CertificateError::Failed("this server has none".to_owned()))
    }

    fn change(&self, change: &CertificateChange) -> Result<CertificateStatus, CertificateError> {
        Err(CertificateError::Refused(format!("no {} here", change.step)))
    }

    fn create_recovery_key(&self) -> Result<RecoveryKey, CertificateError> {
        Err(CertificateError::Refused("no recovery key here".to_owned()))
    }
}

pub(crate) struct Numbers(pub(crate) Arc<Counters>);

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
            warnings: WarningsStatus::default(),
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

    fn counters(&self) -> &Counters {
        &self.0
    }
}
