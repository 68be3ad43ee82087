//! What a reactor needs of the rest of the server.

use std::net::{IpAddr, SocketAddr};

use crate::machine::command::{CallStep, Job};
use crate::machine::device_state::{DeviceState, LinkRef};
use crate::machine::session::SyncPolicy;
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::message;
use crate::wire::time::{Now, WallTime};

use super::channel::CertificateStatus;
use crate::wire::id::CertificateHash;

/// Why the journal did not take an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendRefusal {
    /// In a moment there is room again: the link is not read until then.
    Behind,
    /// The disk is full: the device is told to come later, and keeps the event.
    Full,
    /// It can never be taken.
    TooLarge,
    /// The journal has failed, and the process is about to end.
    Failed,
}

/// What became of the request to make something durable while one waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flushed {
    /// It is durable.
    Done,
    /// Others are at it. They wake whoever waits for something elsewhere when they are done.
    ByOthers,
    /// It is not a matter of a moment.
    NotHere,
}

/// The rest of the server, as a reactor sees it. Nothing here waits for a disk but [`Backend::flush_here`].
pub trait Backend: Send + Sync + 'static {
    /// What a certificate means.
    fn certificate_status(&self, certificate: &CertificateHash) -> CertificateStatus;

    /// Whether this server has issued a certificate (DER) that it does not know any more; an administrator is
    /// told.
    fn has_issued(&self, certificate: &[u8]) -> bool;

    /// Whether any join token lets a device in at this time, which is one of
    /// [`Clock::ages`](super::Clock::ages).
    fn is_enrolment_open(&self, wall: WallTime) -> bool;

    /// Shows the device's record; `None` when there is no such device.
    fn with_record<R>(&self, device: DeviceId, look: impl FnOnce(&mut DeviceState) -> R) -> Option<R>;

    /// The device syncs; `record` is what was known of it before.
    fn syncs(&self, now: &Now, record: &DeviceState, sync: &message::Sync, peer: Option<IpAddr>);

    /// A link of the device was taken over by another one.
    fn taken_over(&self, now: &Now, device: DeviceId, peer: Option<IpAddr>);

    /// What a sync of the device is answered with; `record` is `None` for a peer that is no device.
    fn policy(&self, record: Option<&DeviceState>, now: &Now) -> SyncPolicy;

    /// Appends an event to the journal. The position at which it is durable.
    ///
    /// # Errors
    /// When it was not taken; nothing of it was.
    fn append(
        &self,
        now: &Now,
        device: DeviceId,
        spool_epoch: Epoch,
        sequence: u64,
        body: &[u8],
    ) -> Result<u64, AppendRefusal>;

    /// The device was told to keep its events for so many seconds, as it had more than its rate.
    fn events_held(&self, now: &Now, device: DeviceId, seconds: u32);

    /// Wakes the flusher: called once a turn, when something was appended.
    fn flush(&self);

    /// Makes durable what was appended while the caller waits, if that is a matter of a moment.
    fn flush_here(&self) -> Flushed;

    /// Whether somebody makes something durable now.
    fn is_flushing(&self) -> bool;

    /// Everything before this position is durable.
    fn durable(&self) -> u64;

    /// Hands a job to a worker. The caller holds a permit for it, which comes back with the outcome, in a message to the link's
    /// reactor. `false`: no worker is there any more, and the permit is still the caller's.
    #[must_use]
    fn submit(&self, link: LinkRef, job: Job) -> bool;

    /// The device says that it knows more of the server than is stored.
    fn server_restored(&self, device: DeviceId);

    /// Something has become of a device that somebody waits for ([`DeviceState::is_called`]).
    fn called(&self, device: DeviceId, step: CallStep);

    /// Somebody at this address has refused our certificate.
    fn refused_at(&self, peer: IpAddr);

    /// How many devices' links are to stay: so much room is theirs.
    fn persistent_devices(&self) -> u64;

    /// How many devices one reactor can take in a second, full handshakes and resumed ones as they were so far.
    fn devices_per_second(&self) -> u64;

    /// Over how many seconds devices are to spread when they lose the server; 0: they may come at once.
    fn reconnect_seconds(&self) -> u32;

    /// Sends a wake of the kind probe; it may be lost.
    fn probe(&self, device: DeviceId, address: SocketAddr, counter: u32);

    /// The record has changed: when the device is elsewhere now, that is put into the log of events. `true`: something was appended.
    fn settle(&self, now: &Now, record: &mut DeviceState) -> bool;
}
