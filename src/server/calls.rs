//! Calls of devices and their shutdown notices: what the UDP port's thread does with datagrams and messages.
//!
//! The rules are [`WakeScheduler`]'s and the record's ([`machine::reach`](crate::machine::reach)); here they
//! meet keys, table, links and those who wait.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::ServerError;
use super::identity::{DatagramPurpose, Identity};
use super::panic_guard::{Failures, PanicGuard, ServerFailure};
use super::presence::Announcer;
use crate::admin::{Calls, CallsBusy};
use crate::concurrency::calls::ToWakeScheduler;
use crate::concurrency::counters::Counters;
use crate::concurrency::mailbox::Mailbox;
use crate::concurrency::reactors::{ReactorMailboxes, ToReactor};
use crate::fleet::presence::presence;
use crate::machine::reach::UdpReach;
use crate::machine::wake_scheduler::{
    Ask, DeviceLocation, NO_OPERATION, QUESTIONS_MAX, WakeAction, WakeScheduler,
};
use crate::reactor::Clock;
use crate::reactor::port::{Outgoing, Port, PortOwner};
use crate::store::table::{DeviceTable, signs_of};
use crate::wire::api::CallOutcome;
use crate::wire::datagram::{DropReason, Notice, NoticeKind, Wake, WakeReason};
use crate::wire::id::DeviceId;
use crate::wire::time::{Moment, Now, WallTime};

/// Probes that may wait to be sent, in datagrams: the port sends 256 in a turn of a few milliseconds. One
/// that finds no room counts as lost.
const PROBES_MAX: usize = 4_096;

/// The receivers of outcomes.
#[derive(Default)]
struct Waiting {
    sinks: HashMap<u64, (UnboundedSender<(DeviceId, CallOutcome)>, usize)>,
}

/// The way to call devices, as administration has it.
pub(super) struct CallHandle {
    mailbox: Mailbox<ToWakeScheduler>,
    waiting: Arc<Mutex<Waiting>>,
    next_operation: AtomicU64,
    load: Arc<Load>,
}

/// The load of calls, so that a call that would be too much is refused before it is sent.
#[derive(Default)]
struct Load {
    /// Devices in messages that were not read yet.
    sent: AtomicU64,
    /// Devices whose turn has not come, or whose outcome has not been told yet.
    taken: AtomicU64,
}

impl Load {
    /// Counts these as sent. `false`: they would be too many.
    fn admit(&self, count: u64) -> bool {
        let room = (QUESTIONS_MAX as u64).saturating_sub(self.taken.load(Ordering::Relaxed));
        let with_these = |sent: u64| sent.checked_add(count).filter(|sum| *sum <= room);
        self.sent.fetch_update(Ordering::AcqRel, Ordering::Relaxed, with_these).is_ok()
    }

    /// They were read, or could not be sent.
    fn was_read(&self, count: u64) {
        self.sent.fetch_sub(count, Ordering::AcqRel);
    }
}

impl Calls for CallHandle {
    fn call(
        &self,
        devices: &[DeviceId],
        reason: WakeReason,
        sink: Option<UnboundedSender<(DeviceId, CallOutcome)>>,
    ) -> Result<u64, CallsBusy> {
        let count = devices.len() as u64;
        if !self.load.admit(count) {
            return Err(CallsBusy);
        }
        let operation = match sink {
            None => NO_OPERATION,
            Some(sink) => {
                let operation = self.next_operation.fetch_add(1, Ordering::Relaxed);
                self.waiting.lock().sinks.insert(operation, (sink, devices.len()));
                operation
            }
        };
        let message = ToWakeScheduler::Call { operation, devices: devices.to_vec(), reason };
        self.mailbox.send(message).map_err(|_| {
            self.waiting.lock().sinks.remove(&operation);
            self.load.was_read(count);
            CallsBusy
        })?;
        Ok(operation)
    }

    fn cancel(&self, operation: u64) {
        self.waiting.lock().sinks.remove(&operation);
        if self.mailbox.send(ToWakeScheduler::Cancel(operation)).is_err() {
            log::debug!("operation {operation} could not be cancelled: its calls end by themselves");
        }
    }
}

/// Owner of the UDP port: drives the wake scheduler on the port's thread.
pub(super) struct CallDriver {
    wake_scheduler: WakeScheduler,
    tools: CallTools,
    waiting: Arc<Mutex<Waiting>>,
    load: Arc<Load>,
    /// Wakes that devices asked for, the oldest first: at most [`PROBES_MAX`].
    probes: VecDeque<Outgoing>,
    /// Wakes by the former secret's keys, each behind the one that it repeats: at most [`PROBES_MAX`].
    former: VecDeque<Outgoing>,
}

/// The parts of the server that a [`CallDriver`] works with.
pub(super) struct CallTools {
    pub(super) table: Arc<DeviceTable>,
    pub(super) identity: Arc<Identity>,
    pub(super) announcer: Announcer,
    pub(super) mailboxes: ReactorMailboxes,
    pub(super) counters: Arc<Counters>,
    pub(super) clock: Clock,
}

/// The port's thread, running.
pub(super) struct CallThread {
    mailbox: Mailbox<ToWakeScheduler>,
    thread: JoinHandle<()>,
}

impl CallThread {
    /// Starts the thread. The handle is administration's way to it.
    pub(super) fn start(
        port: Port,
        tools: CallTools,
        seed: u64,
        failures: Failures,
    ) -> Result<(Self, CallHandle), ServerError> {
        let mailbox = port.mailbox_of_administration();
        let (waiting, load) = (Arc::<Mutex<Waiting>>::default(), Arc::<Load>::default());
        let handle = CallHandle {
            mailbox: mailbox.clone(),
            waiting: waiting.clone(),
            next_operation: AtomicU64::new(NO_OPERATION + 1),
            load: load.clone(),
        };
        let (wake_scheduler, probes, former) = (WakeScheduler::new(seed), VecDeque::new(), VecDeque::new());
        let owner = CallDriver { wake_scheduler, tools, waiting, load, probes, former };
        let thread = Builder::new()
            .name("datagrams".into())
            .spawn(move || {
                let _guard = PanicGuard::new("the UDP port", failures.clone());
                if let Err(error) = port.run(owner) {
                    failures.tell(ServerFailure::UdpPort(error.to_string()));
                }
            })
            .map_err(ServerError::when("start the UDP port's thread"))?;
        Ok((Self { mailbox, thread }, handle))
    }

    /// Ends the thread; who waits for outcomes hears nothing more.
    pub(super) fn stop(self) {
        if self.mailbox.send(ToWakeScheduler::Stop).is_err() {
            // It has all of administration's messages to read before, and ends with the process.
            return log::warn!("the UDP port has too much to do to be told that the server stops");
        }
        if self.thread.join().is_err() {
            log::error!("the UDP port's thread panicked");
        }
    }
}

impl CallDriver {
    /// Takes a notice.
    fn notice(&self, now: &Now, bytes: &[u8]) -> Result<(DeviceId, NoticeKind), DropReason> {
        let device = Notice::claimed(bytes)?;
        // An invented id costs one look into the table, and no key is worked out for it.
        self.tools.table.with(device, |_| ()).ok_or(DropReason::OtherDevice)?;
        let identity = &self.tools.identity;
        let key = identity.datagram_key(DatagramPurpose::Notice, device);
        let notice = Notice::open(bytes, &key).or_else(|reason| {
            // A device that has not stored the new keys yet is still heard.
            let former = identity.former_datagram_key(DatagramPurpose::Notice, device).ok_or(reason)?;
            Notice::open(bytes, &former)
        })?;
        let taken = self.tools.table.with(device, |record| {
            let is_new = notice.counter > record.notice_counter;
            if is_new && !record.allowance.take_notice(now.moment) {
                return Err(DropReason::Limited);
            }
            record.note_notice(notice.kind, notice.counter, notice.boot, now.wall)?;
            Ok(self.tools.announcer.settle(now.wall, record))
        });
        if taken.ok_or(DropReason::OtherDevice)?? {
            self.tools.announcer.flush();
        }
        Ok((device, notice.kind))
    }

    fn look(&self, now: &Now, device: DeviceId) -> Option<DeviceLocation> {
        self.tools.table.with(device, |record| {
            record.set_called(true);
            let signs = signs_of(record, self.tools.clock.present_since());
            let slot = WallTime(record.last_sync.0.saturating_add(u64::from(record.due_seconds()) * 1_000));
            DeviceLocation {
                link: record.link,
                address: record.wake_address(),
                is_unreached: record.udp_reach == UdpReach::Unreached,
                presence: presence(&signs, now.wall),
                next_slot_at: (slot > now.wall).then_some(slot),
            }
        })
    }

    /// A wake. For a device that may not have stored the key of another secret yet the same with its former
    /// key waits behind it; the device takes one of the two.
    fn sealed(&mut self, device: DeviceId, to: SocketAddr, reason: WakeReason, counter: u32) -> Outgoing {
        let identity = &self.tools.identity;
        let wake = Wake { device, reason, counter };
        let seal = |key| Outgoing { to, bytes: wake.seal(&key).to_vec() };
        if let Some(former) = identity.former_datagram_key(DatagramPurpose::Wake, device)
            && self.tools.table.with(device, |record| !record.has_trust()).unwrap_or(false)
            && self.former.len() < PROBES_MAX
        {
            self.former.push_back(seal(former));
        }
        seal(identity.datagram_key(DatagramPurpose::Wake, device))
    }

    fn report(&self, operation: u64, device: DeviceId, outcome: CallOutcome) {
        let mut waiting = self.waiting.lock();
        let Some((sink, left)) = waiting.sinks.get_mut(&operation) else { return };
        // The receiver may have gone.
        let _ = sink.send((device, outcome));
        *left = left.saturating_sub(1);
        if *left == 0 {
            waiting.sinks.remove(&operation);
        }
    }

    fn note_load(&self) {
        let (under_way, queued) = self.wake_scheduler.load();
        self.load.taken.store((under_way + queued) as u64, Ordering::Relaxed);
    }
}

impl PortOwner for CallDriver {
    fn hear(&mut self, now: &Now, bytes: &[u8], from: SocketAddr) {
        match self.notice(now, bytes) {
            Ok((device, kind)) => {
                self.tools.counters.notices.add_one();
                log::info!("device {device}: {kind}");
            }
            Err(reason) => {
                self.tools.counters.dropped(reason);
                log::debug!("{from}: datagram dropped: {reason}");
            }
        }
    }

    fn read(&mut self, now: &Now, message: ToWakeScheduler) -> bool {
        match message {
            ToWakeScheduler::Call { operation, devices, reason } => {
                let count = devices.len() as u64;
                for device in devices {
                    self.tools.counters.calls.add_one();
                    if !self.wake_scheduler.ask(now.moment, Ask { operation, device, reason }) {
                        self.report(operation, device, CallOutcome::TimedOut);
                    }
                }
                self.note_load();
                self.load.was_read(count);
            }
            ToWakeScheduler::Cancel(operation) => self.wake_scheduler.cancel(operation),
            ToWakeScheduler::Step(device, step) => self.wake_scheduler.step(now.moment, device, step),
            ToWakeScheduler::RefusedAt(address) => self.wake_scheduler.refused_at(now.moment, address),
            ToWakeScheduler::Probe(device, to, counter) => {
                if self.probes.len() < PROBES_MAX {
                    let probe = self.sealed(device, to, WakeReason::Probe, counter);
                    self.probes.push_back(probe);
                } else {
                    log::debug!("device {device}: a probe counts as lost, as too many are to be sent");
                }
            }
            ToWakeScheduler::Stop => return false,
        }
        true
    }

    fn poll(&mut self, now: &Now) -> Option<Outgoing> {
        if let Some(wake) = self.former.pop_front() {
            return Some(wake);
        }
        // Calls come first: their number in a second is limited.
        while let Some(action) = self.wake_scheduler.poll(now.moment) {
            match action {
                WakeAction::Look(device) => {
                    let place = self.look(now, device);
                    self.wake_scheduler.found(now.moment, device, place);
                }
                WakeAction::OnLink { link, is_fresh } => {
                    if !self.tools.mailboxes.send(link, ToReactor::SyncNow(link, is_fresh)) {
                        log::debug!("{link:?} could not be asked now: the device is woken instead");
                    }
                }
                WakeAction::Wake { device, address, reason, counter } => {
                    self.note_load();
                    let draw = || self.tools.table.with(device, |record| record.next_wake_counter(now.wall));
                    // A device that was removed meanwhile takes no wake.
                    let Some(counter) = counter.or_else(draw) else { continue };
                    self.wake_scheduler.drawn(device, counter);
                    return Some(self.sealed(device, address, reason, counter));
                }
                WakeAction::Learned { device, address, has_come } => {
                    self.tools.table.with(device, |record| record.note_called(address, has_come));
                }
                WakeAction::Report { operation, device, outcome } => {
                    self.report(operation, device, outcome);
                }
                WakeAction::Ended(device) => {
                    self.tools.table.with(device, |record| record.set_called(false));
                }
            }
        }
        self.note_load();
        self.probes.pop_front()
    }

    fn next_timeout(&self) -> Option<Moment> {
        self.wake_scheduler.next_timeout()
    }

    fn judge_from(&mut self, moment: Moment) {
        self.wake_scheduler.judge_from(moment);
    }
}
