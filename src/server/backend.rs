//! The rest of the server as a reactor sees it: the device table, the journal, the workers. Nothing here waits for a disk.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam_channel::Sender;

use super::members::Members;
use crate::fleet::pacing;
use crate::journal::{AppendError, Journal, NoRoom, Record};
use crate::lane::permits::Permits;
use crate::machine::command::{CallStep, Job};
use crate::machine::hot::{HotRecord, LinkRef};
use crate::machine::record;
use crate::machine::session::{LATER_SECONDS, SyncPolicy};
use crate::reactor::channel::{Membership as _, Standing};
use crate::reactor::{AppendRefusal, Backend};
use crate::store::Store;
use crate::wire::id::{CertificateHash, DeviceId, Epoch};
use crate::wire::time::Now;

/// Permits that uploads which have begun may still use when no new ones are let in, in jobs.
const PERMITS_RESERVED: usize = 32;

/// Work on its way to a worker.
pub(super) type Assignment = (LinkRef, Job);

thread_local! {
    /// One event's payload, put together for the journal. One for each reactor, for its life.
    static PAYLOAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What reactors are given.
pub(super) struct LiveBackend {
    pub(super) store: Store,
    pub(super) journal: Journal,
    pub(super) jobs: Sender<Assignment>,
    pub(super) permits: Permits,
    pub(super) members: Members,
    server_epoch: Arc<AtomicU64>,
    keep_seconds: AtomicU32,
}

impl LiveBackend {
    pub(super) fn new(
        store: Store,
        journal: Journal,
        jobs: Sender<Assignment>,
        permits: Permits,
        server_epoch: Epoch,
        keep_seconds: u32,
    ) -> Self {
        let members = Members::new(store.table().clone());
        Self {
            store,
            journal,
            jobs,
            permits,
            members,
            server_epoch: Arc::new(AtomicU64::new(server_epoch.0)),
            keep_seconds: AtomicU32::new(keep_seconds),
        }
    }

    /// The ping interval of kept links, in seconds, from the next sync of each.
    pub(super) fn set_keep_seconds(&self, seconds: u32) {
        self.keep_seconds.store(seconds, Ordering::Relaxed);
    }

    /// The server's history.
    pub(super) fn server_epoch(&self) -> Epoch {
        Epoch(self.server_epoch.load(Ordering::Relaxed))
    }
}

impl Backend for LiveBackend {
    fn standing(&self, certificate: &CertificateHash) -> Standing {
        self.members.standing(certificate)
    }

    fn with_record<R>(&self, device: DeviceId, look: impl FnOnce(&mut HotRecord) -> R) -> Option<R> {
        self.store.table().with(device, look)
    }

    fn policy(&self, record: Option<&HotRecord>, now: &Now) -> SyncPolicy {
        let interval_seconds =
            record.map_or(pacing::INTERVAL_SECONDS_DEFAULT, |record| record.interval_seconds);
        SyncPolicy {
            server_epoch: self.server_epoch(),
            next_seconds: record.map_or(interval_seconds, |record| {
                pacing::next_seconds(record.device, interval_seconds, now.wall)
            }),
            interval_seconds,
            keep_seconds: record
                .filter(|record| record.keep_connected)
                .map(|_| self.keep_seconds.load(Ordering::Relaxed)),
            has_room: self.permits.free() > PERMITS_RESERVED,
            // Any bits that differ from device to device and from time to time will do.
            later_seconds: pacing::later_seconds(
                LATER_SECONDS,
                now.moment.0 ^ record.map_or(0, |record| record.device.0),
            ),
            peer: None,
            notice_port: None,
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

    fn flush(&self) {
        self.journal.ring();
    }

    fn durable(&self) -> u64 {
        self.journal.durable().0
    }

    fn submit(&self, link: LinkRef, job: Job) -> bool {
        // The channel holds as many as there are permits, so it is never full for the holder of one.
        self.jobs.try_send((link, job)).is_ok()
    }

    fn called(&self, _device: DeviceId, _step: CallStep) {}

    fn refused_at(&self, _peer: IpAddr) {}

    fn probe(&self, _device: DeviceId, _address: SocketAddr, _counter: u32) {}

    fn settle(&self, _now: &Now, _record: &mut HotRecord) -> bool {
        false
    }

    fn server_restored(&self) {
        let epoch = self.server_epoch.clone();
        self.store.renew_server_epoch(move |renewed| match renewed {
            Ok(renewed) => {
                log::warn!(
                    "a device knows more of this server than the server itself: its state was restored from a copy. \
                     The server's epoch is {renewed} now; sections are brought over whole where they differ"
                );
                epoch.store(renewed.0, Ordering::Relaxed);
            }
            Err(error) => log::error!("the server's epoch could not be renewed: {error}"),
        });
    }
}
