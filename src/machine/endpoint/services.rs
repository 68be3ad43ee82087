//! An endpoint's view of the rest of the server, and of the connection under each link.

use std::net::{IpAddr, SocketAddr};
use std::ops::DerefMut;

use crate::machine::clones::Verdict;
use crate::machine::command::CallStep;
use crate::machine::device_state::{DeviceState, LinkRef};
use crate::machine::session::SyncPolicy;
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::message;
use crate::wire::time::Now;

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

/// The rest of the server, as an endpoint sees it. Nothing here waits for a disk.
pub trait Services {
    /// A device's record, for as long as it is held: nobody else changes it meanwhile.
    type Record<'a>: DerefMut<Target = DeviceState>
    where
        Self: 'a;

    /// The device's record; `None` when there is no such device.
    fn record(&self, device: DeviceId) -> Option<Self::Record<'_>>;

    /// The device syncs; `record` is what was known of it before. Whether it is served.
    fn syncs(&self, now: &Now, record: &DeviceState, sync: &message::Sync, peer: Option<IpAddr>) -> Verdict;

    /// A link of the device was taken over by another one.
    fn taken_over(&self, now: &Now, device: DeviceId, peer: Option<IpAddr>);

    /// Returns the answer to a sync of the device; `record` is `None` for a peer that is no device.
    fn policy(&self, record: Option<&DeviceState>, now: &Now) -> SyncPolicy;

    /// Appends an event to the journal. The position at which it is durable. The device's record is held
    /// meanwhile.
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

    /// The device was told to keep its events for `seconds` seconds, as it had more than its rate.
    fn events_held(&self, now: &Now, device: DeviceId, seconds: u32);

    /// The record has changed: when the device is elsewhere now, that is put into the log of events. `true`:
    /// something was appended.
    fn settle(&self, now: &Now, record: &mut DeviceState) -> bool;

    /// The device says that it knows more of the server than is stored.
    fn server_restored(&self, device: DeviceId);

    /// Something has become of a device that somebody waits for ([`DeviceState::is_called`]).
    fn called(&self, device: DeviceId, step: CallStep);

    /// Sends a wake of the kind probe; it may be lost.
    fn probe(&self, device: DeviceId, address: SocketAddr, counter: u32);

    /// Devices that one endpoint can take in a second.
    fn devices_per_second(&self) -> u64;

    /// Over how many seconds devices are to spread when they lose the server; 0: they may come at once.
    fn reconnect_seconds(&self) -> u32;
}

/// An endpoint's view of the connection under a link.
pub trait Connection {
    /// Returns its address, as far as that is still known.
    fn peer(&self) -> Option<IpAddr>;
}

/// A rule of the endpoint that a test can break, to show that somebody would notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The end of a link clears the device's link only when it is that link.
    OnlyItsOwnEnd,
    /// The first word makes a link that of its own device, and of no other.
    AdoptedByItsDevice,
    /// The link that a device had ends when another one takes over.
    EarlierLinkEnds,
    /// An acknowledgement waits until its event is durable.
    AckWhenDurable,
    /// A device hears it when the journal had no room for its event.
    RefusalIsTold,
    /// Behind an event that was put off, no other of the link is taken.
    NothingBehindHeld,
    /// A device's request is taken from its allowance.
    AllowanceIsAsked,
    /// A job has a permit, which is free again when its outcome is there.
    PermitComesBack,
    /// A link that has a job when the server stops is told so with the job's outcome.
    DrainWaitsForJobs,
}

/// Says which rules are broken. Everywhere but in tests it is [`Kept`].
pub trait Rules {
    /// Whether the endpoint is not to keep this rule.
    fn breaks(&self, rule: Rule) -> bool;

    /// The device whose link it becomes when [`Rule::AdoptedByItsDevice`] is broken.
    fn instead_of(&self, device: DeviceId) -> DeviceId {
        device
    }
}

/// All rules are kept.
#[derive(Clone, Copy, Default, Debug)]
pub struct Kept;

impl Rules for Kept {
    #[inline]
    fn breaks(&self, _: Rule) -> bool {
        false
    }
}

/// News of an endpoint for its owner beside messages, jobs and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The link has become the device's own.
    Adopted(LinkRef, DeviceId),
    /// The link, which is another endpoint's, was superseded and has to be told.
    Superseded(LinkRef),
    /// The enrolment of a stranger begins.
    Enrols(LinkRef),
}
