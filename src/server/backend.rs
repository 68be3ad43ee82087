//! The rest of the server as a reactor sees it: the device table, the journal, the workers. Nothing here
//! waits for a disk but a flush that is a matter of a moment.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::members::Issued;
use super::presence::Announcer;
use super::workers::JobSender;
use crate::concurrency::calls::ToWakeScheduler;
use crate::concurrency::counters::Counters;
use crate::concurrency::mailbox::Mailbox;
use crate::fleet::pacing;
use crate::journal::{self, AppendError, Journal, NoRoom, Record};
use crate::machine::command::{CallStep, Job};
use crate::machine::device_state::{DeviceState, LinkRef};
use crate::machine::endpoint::{AppendRefusal, Services};
use crate::machine::permits::{Permit, Permits};
use crate::machine::rate::{BURST_BYTES_DEFAULT, BYTES_PER_SECOND_DEFAULT, EventRate};
use crate::machine::reach::UdpReach;
use crate::machine::record;
use crate::machine::restored::{Claim, RestoreWatch, WITNESSES};
use crate::machine::session::{LATER_SECONDS, SyncPolicy};
use crate::reactor::channel::{CertificateStatus, Membership as _};
use crate::reactor::{Backend, Flushed};
use crate::store::Store;
use crate::store::table::RecordGuard;
use crate::wire::id::{CertificateHash, DeviceId, Epoch};
use crate::wire::limits::{RECONNECT_SECONDS_MAX, RECONNECT_SECONDS_MIN};
use crate::wire::message::Sync;
use crate::wire::time::{Now, WallTime};

/// Permits that uploads which have begun may still use when no new ones are let in, in jobs.
const PERMITS_RESERVED: usize = 32;

thread_local! {
    /// One event's payload, put together for the journal. One for each reactor, for its life.
    static PAYLOAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The server behind the reactors.
pub(super) struct LiveBackend {
    pub(super) store: Store,
    pub(super) journal: Journal,
    pub(super) jobs: JobSender,
    pub(super) permits: Permits,
    pub(super) members: Arc<Issued>,
    pub(super) announcer: Announcer,
    wake_scheduler: Mailbox<ToWakeScheduler>,
    pub(super) counters: Arc<Counters>,
    /// The UDP port of notices, when it is not that of TCP.
    notice_port: Option<u16>,
    server_epoch: Arc<AtomicU64>,
    restored: Arc<Mutex<RestoreWatch>>,
    keep_seconds: AtomicU32,
    pub(super) keep_unreachable: Arc<AtomicBool>,
    persistent_max: AtomicU64,
    /// Cores that reactors run on.
    cores: u64,
    reactors: u64,
    /// Of each device's events: bytes in a second, and at once.
    event_bytes: (AtomicU64, AtomicU64),
    /// Most handshakes in a second, as an administrator says; `u64::MAX`: nobody does.
    handshakes_per_second: AtomicU64,
}

/// The parts of a backend.
pub(super) struct BackendParts {
    pub(super) store: Store,
    pub(super) journal: Journal,
    pub(super) jobs: JobSender,
    pub(super) permits: Permits,
    pub(super) members: Arc<Issued>,
    pub(super) announcer: Announcer,
    pub(super) wake_scheduler: Mailbox<ToWakeScheduler>,
    pub(super) counters: Arc<Counters>,
    pub(super) notice_port: Option<u16>,
    pub(super) server_epoch: Epoch,
    pub(super) reactors: usize,
}

impl LiveBackend {
    /// Nobody's link stays until [`LiveBackend::set_keeping`] says more.
    pub(super) fn new(parts: BackendParts) -> Self {
        let BackendParts {
            store,
            journal,
            jobs,
            permits,
            members,
            announcer,
            wake_scheduler,
            counters,
            notice_port,
            server_epoch,
            reactors,
        } = parts;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            store,
            journal,
            jobs,
            permits,
            members,
            announcer,
            wake_scheduler,
            counters,
            notice_port,
            server_epoch: Arc::new(AtomicU64::new(server_epoch.0)),
            restored: Arc::default(),
            keep_seconds: AtomicU32::default(),
            keep_unreachable: Arc::default(),
            persistent_max: AtomicU64::default(),
            cores: cores.min(reactors) as u64,
            reactors: reactors.max(1) as u64,
            event_bytes: (AtomicU64::new(BYTES_PER_SECOND_DEFAULT), AtomicU64::new(BURST_BYTES_DEFAULT)),
            handshakes_per_second: AtomicU64::new(u64::MAX),
        }
    }

    /// No more handshakes than this begin in a second; `None`: as many as there is time for.
    pub(super) fn set_handshakes(&self, per_second: Option<usize>) {
        let per_second = per_second.map_or(u64::MAX, |rate| rate as u64);
        self.handshakes_per_second.store(per_second, Ordering::Relaxed);
    }

    /// Sets the share of the log that the events of each device may take from now on.
    pub(super) fn set_event_rate(&self, rate: EventRate) {
        self.event_bytes.0.store(rate.bytes_per_second, Ordering::Relaxed);
        self.event_bytes.1.store(rate.burst_bytes, Ordering::Relaxed);
    }

    fn event_rate(&self) -> EventRate {
        EventRate {
            bytes_per_second: self.event_bytes.0.load(Ordering::Relaxed),
            burst_bytes: self.event_bytes.1.load(Ordering::Relaxed),
        }
    }

    /// Devices that all reactors together can take in a second.
    fn capacity(&self) -> u64 {
        let (connections, microseconds) =
            (self.counters.links_accepted.get(), self.counters.handshake_microseconds.get());
        let measured = pacing::devices_per_second(connections, microseconds, self.cores);
        measured.min(self.handshakes_per_second.load(Ordering::Relaxed))
    }

    /// Whose links stay and how they show that they are alive, from the next sync of each device.
    pub(super) fn set_keeping(&self, keep_seconds: u32, keep_unreachable: bool, persistent_max: u64) {
        self.keep_seconds.store(keep_seconds, Ordering::Relaxed);
        self.keep_unreachable.store(keep_unreachable, Ordering::Relaxed);
        self.persistent_max.store(persistent_max, Ordering::Relaxed);
    }

    /// Whether the device's link is to stay: an administrator says so, or wakes do not reach it and there is
    /// room.
    fn is_to_stay(&self, record: &DeviceState) -> bool {
        let is_unreached =
            record.udp_reach == UdpReach::Unreached && self.keep_unreachable.load(Ordering::Relaxed);
        let has_room = || self.counters.links_of_devices.get() < self.persistent_max.load(Ordering::Relaxed);
        record.keep_connected || (is_unreached && has_room())
    }

    fn tell_wake_scheduler(&self, message: ToWakeScheduler) {
        if self.wake_scheduler.send(message).is_err() {
            log::debug!("the UDP port has too much to do: a call will end by its deadline");
        }
    }

    /// The server's history.
    pub(super) fn server_epoch(&self) -> Epoch {
        Epoch(self.server_epoch.load(Ordering::Relaxed))
    }
}

impl Services for LiveBackend {
    type Record<'a> = RecordGuard<'a>;

    fn record(&self, device: DeviceId) -> Option<RecordGuard<'_>> {
        self.store.table().lock(device)
    }

    fn syncs(&self, now: &Now, record: &DeviceState, sync: &Sync, peer: Option<IpAddr>) {
        self.announcer.note_sync(now.wall, record, sync, peer);
    }

    fn taken_over(&self, now: &Now, device: DeviceId, peer: Option<IpAddr>) {
        self.announcer.note_taken_over(now.wall, device, peer);
    }

    fn policy(&self, record: Option<&DeviceState>, now: &Now) -> SyncPolicy {
        let interval_seconds = record.map_or(pacing::INTERVAL_SECONDS_DEFAULT, DeviceState::interval_seconds);
        SyncPolicy {
            server_epoch: self.server_epoch(),
            next_seconds: record.map_or(interval_seconds, |record| {
                pacing::next_seconds(record.device, interval_seconds, now.wall)
            }),
            interval_seconds,
            keep_seconds: record
                .filter(|record| self.is_to_stay(record))
                .map(|_| self.keep_seconds.load(Ordering::Relaxed)),
            reconnect_seconds: record.map_or(0, |record| {
                // No longer than a device takes that finds nobody: after that it counts as lost.
                let longest =
                    u64::from(record.interval_seconds()).clamp(RECONNECT_SECONDS_MIN, RECONNECT_SECONDS_MAX);
                self.reconnect_seconds().min(u32::try_from(longest).unwrap_or(u32::MAX))
            }),
            has_room: self.permits.free() > PERMITS_RESERVED,
            // The reactor knows how many others it has sent away.
            later_seconds: LATER_SECONDS,
            peer: None,
            notice_port: self.notice_port,
            event_rate: self.event_rate(),
        }
    }

    fn append(
        &self,
        now: &Now,
        device: DeviceId,
        spool_epoch: Epoch,
        sequence: u64,
        body: &[u8],
    ) -> Result<u64, AppendRefusal> {
        PAYLOAD.with_borrow_mut(|payload| {
            payload.clear();
            record::encode(spool_epoch, body, payload);
            let record = Record { wall_ms: now.wall.0, device: device.0, sequence, payload };
            match self.journal.append(&record) {
                Ok(end) => Ok(end.0),
                Err(AppendError::NoRoom(NoRoom::Full)) => Err(AppendRefusal::Full),
                Err(AppendError::NoRoom(NoRoom::FlushBehind | NoRoom::NotReady)) => {
                    Err(AppendRefusal::Behind)
                }
                Err(AppendError::TooLarge { .. }) => Err(AppendRefusal::TooLarge),
                Err(AppendError::Failed) => Err(AppendRefusal::Failed),
            }
        })
    }

    fn events_held(&self, now: &Now, device: DeviceId, seconds: u32) {
        self.announcer.note_held(now, device, seconds, self.event_rate());
    }

    fn settle(&self, now: &Now, record: &mut DeviceState) -> bool {
        self.announcer.settle(now.wall, record)
    }

    fn server_restored(&self, device: DeviceId) {
        match self.restored.lock().claimed(device) {
            Claim::Known => return,
            Claim::New => {
                return log::warn!(
                    "device {device} knows more of this server than the server itself: it is brought over \
                     whole. When {WITNESSES} devices say so, the server's state was restored from a copy"
                );
            }
            Claim::Enough => {}
        }
        let (epoch, restored) = (self.server_epoch.clone(), self.restored.clone());
        self.store.renew_server_epoch(move |renewed| match renewed {
            Ok(renewed) => {
                log::warn!(
                    "{WITNESSES} devices know more of this server than the server itself, last {device}: its state \
                     was restored from a copy. The server's epoch is {renewed} now; sections are brought over \
                     whole where they differ"
                );
                epoch.store(renewed.0, Ordering::Relaxed);
            }
            Err(error) => {
                log::error!("the server's epoch could not be renewed: {error}");
                restored.lock().failed();
            }
        });
    }

    fn called(&self, device: DeviceId, step: CallStep) {
        self.tell_wake_scheduler(ToWakeScheduler::Step(device, step));
    }

    fn probe(&self, device: DeviceId, address: SocketAddr, counter: u32) {
        self.tell_wake_scheduler(ToWakeScheduler::Probe(device, address, counter));
    }

    fn devices_per_second(&self) -> u64 {
        self.capacity() / self.reactors
    }

    fn reconnect_seconds(&self) -> u32 {
        // Those whose links are to stay come back, and so do those who are here, for whatever reason.
        let devices = self.store.table().persistent().max(self.counters.links_of_devices.get());
        pacing::reconnect_seconds(devices, self.capacity())
    }
}

impl Backend for LiveBackend {
    fn certificate_status(&self, certificate: &CertificateHash) -> CertificateStatus {
        self.members.certificate_status(certificate)
    }

    fn has_issued(&self, certificate: &[u8]) -> bool {
        self.members.has_issued(certificate)
    }

    fn is_enrolment_open(&self, wall: WallTime) -> bool {
        self.store.devices().is_enrolment_open(wall)
    }

    fn flush_here(&self) -> Flushed {
        match self.journal.flush_here() {
            journal::Flushed::Done => Flushed::Done,
            journal::Flushed::ByOthers => Flushed::ByOthers,
            journal::Flushed::NotHere => Flushed::NotHere,
        }
    }

    fn is_flushing(&self) -> bool {
        self.journal.is_flushing()
    }

    fn flush(&self) {
        self.journal.notify();
    }

    fn durable(&self) -> u64 {
        self.journal.durable().0
    }

    fn submit(&self, link: LinkRef, job: Job, permit: Permit) -> bool {
        self.jobs.send(link, job, permit)
    }

    fn refused_at(&self, peer: IpAddr) {
        self.tell_wake_scheduler(ToWakeScheduler::RefusedAt(peer));
    }

    fn persistent_devices(&self) -> u64 {
        self.store.table().persistent()
    }
}
