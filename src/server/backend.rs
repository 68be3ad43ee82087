//! The rest of the server as a reactor sees it: the device table, the journal, the workers. Nothing here
//! waits for a disk but a flush that is a matter of a moment.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::config::Config;
use super::event_log::seconds;
use super::members::Issued;
use super::presence::Announcer;
use super::renewal::CertificateLife;
use super::workers::JobSender;
use crate::concurrency::calls::ToWakeScheduler;
use crate::concurrency::counters::Counters;
use crate::concurrency::mailbox::Mailbox;
use crate::fleet::pacing;
use crate::journal::{AppendError, Flushed, Journal, NoRoom, Record};
use crate::machine::clones::Verdict;
use crate::machine::command::{CallStep, Job};
use crate::machine::device_state::{DeviceState, LinkRef};
use crate::machine::endpoint::{AppendRefusal, Services};
use crate::machine::permits::{Permit, Permits};
use crate::machine::rate::EventRate;
use crate::machine::reach::UdpReach;
use crate::machine::record;
use crate::machine::restored::{Claim, RestoreWatch, WITNESSES};
use crate::machine::session::{LATER_SECONDS, SyncPolicy};
use crate::reactor::Backend;
use crate::reactor::channel::{CertificateStatus, Membership as _};
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
    pub(super) wake_scheduler: Mailbox<ToWakeScheduler>,
    pub(super) counters: Arc<Counters>,
    /// The UDP port of notices, when it is not that of TCP.
    pub(super) notice_port: Option<u16>,
    pub(super) server_epoch: Arc<AtomicU64>,
    pub(super) restored: Arc<Mutex<RestoreWatch>>,
    /// Cores that reactors run on.
    pub(super) cores: usize,
    pub(super) reactors: usize,
    pub(super) settings: Settings,
}

/// Parts that a reload changes. Nothing is allowed before [`LiveBackend::set`] was called.
#[derive(Default)]
pub(super) struct Settings {
    keep_seconds: AtomicU32,
    pub(super) keep_unreachable: Arc<AtomicBool>,
    persistent_max: AtomicU64,
    /// Of each device's events.
    bytes_per_second: AtomicU64,
    burst_bytes: AtomicU64,
    /// Most handshakes in a second, as an administrator says; `u64::MAX`: nobody does.
    handshakes_per_second: AtomicU64,
    pub(super) certificate_life: CertificateLife,
}

impl LiveBackend {
    /// Sets how many handshakes begin in a second, the share of the log that the events of each device may
    /// take, and whose links stay and how they show that they are alive, from the next sync of each device.
    pub(super) fn set(&self, config: &Config, persistent_max: u64) {
        let Config { links, journal, .. } = config;
        let to = &self.settings;
        self.announcer.set_clone_policy(config.identity.clones);
        let handshakes = links.handshakes_per_second.map_or(u64::MAX, |rate| rate as u64);
        to.handshakes_per_second.store(handshakes, Ordering::Relaxed);
        to.bytes_per_second.store(journal.device_rate, Ordering::Relaxed);
        to.burst_bytes.store(journal.device_burst, Ordering::Relaxed);
        to.keep_seconds.store(seconds(links.keep_interval), Ordering::Relaxed);
        to.keep_unreachable.store(links.keep_unreachable, Ordering::Relaxed);
        to.certificate_life.set(config.identity.device_certificate_life);
        to.persistent_max.store(persistent_max, Ordering::Relaxed);
    }

    fn event_rate(&self) -> EventRate {
        EventRate {
            bytes_per_second: self.settings.bytes_per_second.load(Ordering::Relaxed),
            burst_bytes: self.settings.burst_bytes.load(Ordering::Relaxed),
        }
    }

    /// Devices that all reactors together can take in a second.
    fn capacity(&self) -> u64 {
        let (connections, microseconds) =
            (self.counters.links_accepted.get(), self.counters.handshake_microseconds.get());
        let measured = pacing::devices_per_second(connections, microseconds, self.cores as u64);
        measured.min(self.settings.handshakes_per_second.load(Ordering::Relaxed))
    }

    /// Whether the device's link is to stay: an administrator says so, or wakes do not reach it and there is
    /// room.
    fn is_to_stay(&self, record: &DeviceState) -> bool {
        let is_unreached =
            record.udp_reach == UdpReach::Unreached && self.settings.keep_unreachable.load(Ordering::Relaxed);
        let has_room =
            || self.counters.links_of_devices.get() < self.settings.persistent_max.load(Ordering::Relaxed);
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

    fn syncs(&self, now: &Now, record: &DeviceState, sync: &Sync, peer: Option<IpAddr>) -> Verdict {
        self.announcer.note_sync(now, record, sync, peer)
    }

    fn taken_over(&self, now: &Now, device: DeviceId, peer: Option<IpAddr>) {
        self.announcer.note_taken_over(now, device, peer);
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
                .map(|_| self.settings.keep_seconds.load(Ordering::Relaxed)),
            reconnect_seconds: record.map_or(0, |record| {
                // No longer than a device takes that finds nobody: after that it counts as lost.
                let longest =
                    u64::from(record.interval_seconds()).clamp(RECONNECT_SECONDS_MIN, RECONNECT_SECONDS_MAX);
                self.reconnect_seconds().min(u32::try_from(longest).unwrap_or(u32::MAX))
            }),
            has_room: self.permits.free() > PERMITS_RESERVED,
            has_fetch_room: self.permits.free() > self.permits.total() / 2,
            // The reactor knows how many others it has sent away.
            later_seconds: LATER_SECONDS,
            peer: None,
            notice_port: self.notice_port,
            event_rate: self.event_rate(),
            trust_label: self.store.table().trust_label(),
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
        self.capacity() / self.reactors.max(1) as u64
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

    fn status_of_unseen(&self, certificate: &[u8], peer: Option<IpAddr>) -> CertificateStatus {
        self.members.status_of_unseen(certificate, peer)
    }

    fn certificate_shown(&self, device: DeviceId, certificate: CertificateHash, peer: Option<IpAddr>) {
        self.members.certificate_shown(device, certificate, peer);
    }

    fn is_enrolment_open(&self, wall: WallTime) -> bool {
        self.store.devices().is_enrolment_open(wall)
    }

    fn flush_here(&self) -> Flushed {
        self.journal.flush_here()
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
