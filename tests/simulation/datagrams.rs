//! Datagrams: a network that loses, copies, delays and overtakes, and somebody who sees them all and has no
//! key.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use muster::wire::datagram::{DATAGRAM_BYTES, DropReason, Notice, NoticeKind, Wake, WakeReason};
use muster::wire::id::DeviceId;
use muster::wire::time::Moment;

use crate::bug::Bug;
use crate::device::{notice_key, wake_key};
use crate::world::{Step, World};

/// Share of its device's allowance that a notice takes: `machine::rate` has the figure.
const NOTICE_MICROSECONDS: u64 = 1_000_000;

/// Destination of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum To {
    Server,
    Address(SocketAddr),
}

/// All that was ever sent by those who have the keys.
#[derive(Default)]
pub(crate) struct Air {
    captured: Vec<(To, Vec<u8>)>,
    pub(crate) genuine: BTreeSet<Vec<u8>>,
    /// Number of 1,000 notices that are lost when no other fault happens any more.
    pub(crate) notice_loss: u64,
}

impl World {
    fn transmit(&mut self, later: u64, to: To, bytes: &[u8]) {
        self.air.captured.push((to, bytes.to_vec()));
        self.air.genuine.insert(bytes.to_vec());
        let (loss, copy) = match (self.has_faults, to) {
            (true, _) => (self.rates.datagram_loss, self.rates.datagram_copy),
            (false, To::Server) => (self.air.notice_loss, 0),
            (false, To::Address(_)) => (0, 0),
        };
        for _ in 0..=u64::from(self.chance(copy)) {
            if self.chance(loss) || self.now < self.partitioned_until {
                self.counts.datagrams_lost += 1;
                continue;
            }
            let delay = self.delay();
            self.after(later + delay, Step::Datagram(to, bytes.to_vec()));
        }
    }

    pub(crate) fn send_wake(&mut self, wake: Wake, address: SocketAddr) {
        self.counts.wakes_sent += 1;
        let bytes = wake.seal(&wake_key(wake.device));
        self.transmit(0, To::Address(address), &bytes);
    }

    /// Three copies within 200 milliseconds.
    pub(crate) fn send_notice(&mut self, notice: Notice) {
        self.counts.notices_sent += 1;
        let bytes = notice.seal(&notice_key(notice.device));
        for copy in 0..3 {
            self.transmit(copy * 100_000, To::Server, &bytes);
        }
    }

    /// As the agent does: the counter is stored before anything comes of the wake.
    pub(crate) fn device_hears_datagram(&mut self, address: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        let is_there = |device: &crate::device::Device| device.address == address && !device.is_nated;
        let Some(number) = self.devices.iter().position(is_there) else { return Ok(()) };
        let now = self.agent_now(number);
        let device = &mut self.devices[number];
        let (id, stored) = (device.id, device.disk.wake_counter);
        if device.awake().is_none() {
            return Ok(());
        }
        let opened = Wake::open(bytes, id, &wake_key(id)).and_then(|wake| match wake.counter {
            _ if self.bug == Bug::WakeReplayed => Ok(wake),
            counter if counter == stored => Err(DropReason::Repeated),
            counter if counter < stored => Err(DropReason::Stale),
            _ => Ok(wake),
        });
        let wake = match opened {
            Ok(wake) => wake,
            Err(reason) => {
                self.counts.drops.note(reason);
                return Ok(());
            }
        };
        if !self.air.genuine.contains(bytes) {
            return Err(format!("{id} took a wake that nobody sent: {wake:?}"));
        }
        if !device.taken.insert(wake.counter) {
            return Err(format!("{id} took a wake twice: {wake:?}"));
        }
        self.counts.wakes_taken += 1;
        device.disk.wake_counter = wake.counter;
        if self.server.records.get(&id).is_some_and(|record| wake.counter > record.wake_counter) {
            device.ahead_at = Some(self.now);
        }
        device.tell_reach();
        if let Some(machine) = device.awake() {
            machine.woken(&now, wake.reason);
        }
        self.pump(number)
    }

    pub(crate) fn server_hears_datagram(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.server.opened.is_none() {
            return Ok(());
        }
        let wall = self.server_now().wall;
        let mut is_limited = false;
        let taken = Notice::claimed(bytes).and_then(|claimed| {
            let record = self.server.records.get_mut(&claimed).ok_or(DropReason::OtherDevice)?;
            let notice = Notice::open(bytes, &notice_key(claimed))?;
            if let Some(device) = self.devices.iter_mut().find(|device| device.id == notice.device) {
                device.was_heard(notice.counter);
            }
            if notice.counter > record.notice_counter && self.bug != Bug::NoAllowance {
                is_limited = !record.allowance.take_notice(Moment(self.now));
                if is_limited {
                    return Err(DropReason::Limited);
                }
            }
            record.note_notice(notice.kind, notice.counter, notice.boot, wall)?;
            self.server.spend(self.now, claimed, NOTICE_MICROSECONDS);
            Ok(notice)
        });
        if is_limited {
            self.counts.notices_limited += 1;
            if !self.hostiles.iter().any(|hostile| Ok(hostile.id) == Notice::claimed(bytes)) {
                return Err("a notice of an honest device was too much".into());
            }
        }
        let notice = match taken {
            Ok(notice) => notice,
            Err(reason) => {
                self.counts.drops.note(reason);
                return Ok(());
            }
        };
        self.counts.notices_taken += 1;
        if !self.air.genuine.contains(bytes) {
            return Err(format!("the server took a notice that nobody sent: {notice:?}"));
        }
        let over_through = self.server.over_through.get(&notice.device).copied().unwrap_or(0);
        if notice.counter <= over_through {
            return Err(format!("{notice:?} was taken, behind a sync that was sent after {over_through}"));
        }
        Ok(())
    }

    /// Now and then somebody sends what was sent before, or what nobody sent.
    pub(crate) fn attack(&mut self) {
        self.after(if self.has_faults { 1_000_000 } else { 10_000_000 }, Step::Attack);
        if self.chance(self.rates.replay)
            && let Some((to, bytes)) = self.any_captured()
        {
            self.counts.replays += 1;
            let to = if self.chance(600) { to } else { self.anywhere() };
            self.after(0, Step::Datagram(to, bytes));
        }
        if self.chance(self.rates.forgery) {
            self.counts.forgeries += 1;
            let (to, bytes) = self.forged();
            self.after(0, Step::Datagram(to, bytes));
        }
    }

    /// Everything that was ever sent, once more: a device that has synced after that knows of all of it.
    pub(crate) fn replay_everything(&mut self) {
        for (to, bytes) in self.air.captured.clone() {
            self.counts.replays += 1;
            let delay = self.random.up_to(30_000_000);
            self.after(delay, Step::Datagram(to, bytes));
        }
    }

    fn any_captured(&mut self) -> Option<(To, Vec<u8>)> {
        let last = self.air.captured.len().checked_sub(1)?;
        let at = self.random.up_to(last as u64);
        self.air.captured.get(usize::try_from(at).ok()?).cloned()
    }

    fn anywhere(&mut self) -> To {
        let number = self.random.up_to(self.devices.len() as u64);
        let device = usize::try_from(number).ok().and_then(|number| self.devices.get(number));
        device.map_or(To::Server, |device| To::Address(device.address))
    }

    fn forged(&mut self) -> (To, Vec<u8>) {
        let captured = self.any_captured().filter(|_| self.random.up_to(2) > 0);
        if let Some((to, mut bytes)) = captured {
            let bit = self.random.up_to(DATAGRAM_BYTES as u64 * 8 - 1);
            bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
            return (to, bytes);
        }
        let to = self.anywhere();
        let device = DeviceId(1 + self.random.up_to(self.devices.len() as u64));
        // Higher than any: were it taken, it would be the last one.
        let counter = u32::MAX;
        let bytes = match self.random.up_to(2) {
            0 => (0..self.random.up_to(130)).map(|_| self.random.next_u64().to_le_bytes()[0]).collect(),
            // Each with the key of the other purpose.
            1 => Wake { device, reason: WakeReason::Sync, counter }.seal(&notice_key(device)).to_vec(),
            _ => Notice { device, kind: NoticeKind::Shutdown, counter, boot: 0 }
                .seal(&wake_key(device))
                .to_vec(),
        };
        (to, bytes)
    }
}
