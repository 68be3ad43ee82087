//! Datagrams on the device: wakes that come in, shutdown notices that go out.
//!
//! A datagram is judged in this order, and each step has a reason with a counter: length and head, the code
//! (in constant time), the rate, the counter, which is on the disk before the wake counts. A wake that comes
//! too soon does not use its counter up, so that its repetition is taken. Nothing is ever answered.

pub mod counters;
pub mod port;

use std::net::SocketAddr;
use std::path::Path;

use mio::Token;
use serde::Serialize;
use zeroize::Zeroizing;

use self::counters::Counters;
use self::port::WakePort;
use super::identity::Identity;
use super::local::protocol::{DatagramStatus, DropCount};
use crate::machine::bucket::Bucket;
use crate::wire::datagram::{
    DATAGRAM_BYTES, DATAGRAM_BYTES_MAX, DatagramKey, DropReason, Notice, NoticeKind, Wake, WakeReason,
};
use crate::wire::id::DeviceId;
use crate::wire::message::{Goodbye, Reach};
use crate::wire::time::{Now, WallTime};

/// Datagrams that are heard in one turn.
const DATAGRAMS_PER_TURN: usize = 64;

/// Wakes that may come at once, in wakes: an administrator who tries things.
const BURST: u64 = 100;

/// Wakes that may come in a second for long, in wakes. Each costs a device a handshake, about a millisecond.
const PER_SECOND: u64 = 10;

/// Cost of one wake, in microseconds of waiting.
const COST_MICROSECONDS: u64 = 1_000_000 / PER_SECOND;

/// Shortest interval of lines in the log about forged datagrams.
const WARN_MILLISECONDS: u64 = 60_000;

/// Wakes and shutdown notices of this device.
#[derive(Debug)]
pub struct Datagrams {
    device: DeviceId,
    wake_key: Zeroizing<DatagramKey>,
    notice_key: Zeroizing<DatagramKey>,
    boot: u32,
    /// The port on which wakes are heard. It is opened when that is due.
    pub port: WakePort,
    counters: Counters,
    bucket: Bucket,
    taken: u64,
    last_at: Option<WallTime>,
    drops: [u64; DropReason::ALL.len()],
    probes: u64,
    probe_counter: u32,
    warned_at: WallTime,
}

/// The answer to a local program that checks whether everything works.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct ProbeState {
    /// The number of the notice that was sent.
    pub counter: u32,
    /// The UDP port on which wakes are heard; 0: none.
    pub port: u16,
    /// Counter of the last wake of the kind probe that was taken; 0: none.
    pub probe_counter: u32,
    /// Number of such wakes.
    pub probes: u64,
}

impl Datagrams {
    /// Those of a device. Port 0 means that no wakes are wanted.
    #[must_use]
    pub fn new(
        identity: &Identity,
        directory: &Path,
        boot: u32,
        port: u16,
        token: Token,
        now: WallTime,
    ) -> Self {
        Self {
            device: identity.device,
            wake_key: Zeroizing::new(identity.wake_key),
            notice_key: Zeroizing::new(identity.notice_key),
            boot,
            port: WakePort::new(port, token),
            counters: Counters::read(directory, now),
            bucket: Bucket::default(),
            taken: 0,
            last_at: None,
            drops: [0; DropReason::ALL.len()],
            probes: 0,
            probe_counter: 0,
            warned_at: WallTime(0),
        }
    }

    /// The device belongs to another server now, which counts its wakes anew.
    pub fn belong_to(&mut self, identity: &Identity) {
        self.device = identity.device;
        self.wake_key = Zeroizing::new(identity.wake_key);
        self.notice_key = Zeroizing::new(identity.notice_key);
        self.counters.forget_wakes();
    }

    /// The server has other keys for this device.
    pub fn set_keys(&mut self, wake_key: DatagramKey, notice_key: DatagramKey) {
        self.wake_key = Zeroizing::new(wake_key);
        self.notice_key = Zeroizing::new(notice_key);
    }

    /// Reach of the device now.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach {
            udp_port: self.port.number(),
            wake_counter: self.counters.wake(),
            notice_counter: self.counters.notice(),
            boot: self.boot,
        }
    }

    /// The server has heard a notice with this number.
    pub fn raise_notice(&mut self, counter: u32) {
        self.counters.raise_notice(counter);
    }

    /// Hears what has come, within a budget. Wakes that count go to `woken`; whether there may be more.
    pub fn hear(&mut self, now: &Now, woken: &mut Vec<WakeReason>) -> bool {
        // One byte more than any datagram has: a longer one is cut, and recognised by its length.
        let mut bytes = [0; DATAGRAM_BYTES_MAX + 1];
        for _ in 0..DATAGRAMS_PER_TURN {
            let Some(socket) = self.port.socket() else { return false };
            match socket.recv_from(&mut bytes) {
                Ok((length, from)) => match self.judge(now, &bytes[..length]) {
                    Ok(wake) => {
                        log::info!("woken by the server: {:?}", wake.reason);
                        woken.push(wake.reason);
                    }
                    Err(reason) => self.dropped(now, reason, from),
                },
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                // An ICMP message about a notice of ours (udp(7)).
                Err(error) => log::debug!("the wake port: {error}"),
            }
        }
        true
    }

    fn judge(&mut self, now: &Now, bytes: &[u8]) -> Result<Wake, DropReason> {
        let wake = Wake::open(bytes, self.device, &self.wake_key)?;
        // A replay is not worth a place in the bucket.
        if wake.counter > self.counters.wake() {
            if self.bucket.opens_at((BURST - 1) * COST_MICROSECONDS) > now.moment {
                return Err(DropReason::Limited);
            }
            self.bucket.take(now.moment, COST_MICROSECONDS);
        }
        self.counters.take_wake(wake.counter)?;
        self.taken += 1;
        self.last_at = Some(now.wall);
        if wake.reason == WakeReason::Probe {
            self.probes += 1;
            self.probe_counter = wake.counter;
        }
        Ok(wake)
    }

    fn dropped(&mut self, now: &Now, reason: DropReason, from: SocketAddr) {
        self.drops[reason.index()] += 1;
        let is_hostile = matches!(reason, DropReason::Forged | DropReason::OtherDevice | DropReason::Stale);
        if is_hostile && now.wall.0.saturating_sub(self.warned_at.0) >= WARN_MILLISECONDS {
            self.warned_at = now.wall;
            log::warn!("{from}: a datagram that is no wake of the server was dropped: {reason}");
        } else {
            log::debug!("{from}: datagram dropped: {reason}");
        }
    }

    /// The next shutdown notice: on a link, and its copy as a datagram.
    pub fn next_notice(&mut self, kind: NoticeKind) -> (Goodbye, [u8; DATAGRAM_BYTES]) {
        let (counter, boot) = (self.counters.next_notice(), self.boot);
        let notice = Notice { device: self.device, kind, counter, boot };
        (Goodbye { kind, counter, boot }, notice.seal(&self.notice_key))
    }

    /// Sends a datagram; it may be lost.
    pub fn send(&self, bytes: &[u8], to: SocketAddr) {
        port::send(self.port.socket(), bytes, to);
    }

    /// For a check of whether everything works; `counter` is that of the notice that was sent for it.
    #[must_use]
    pub fn probe_state(&self, counter: u32) -> ProbeState {
        let (probes, probe_counter) = (self.probes, self.probe_counter);
        ProbeState { counter, port: self.port.number(), probes, probe_counter }
    }

    /// For `muster-agent status`.
    #[must_use]
    pub fn status(&self) -> DatagramStatus {
        let drops = DropReason::ALL.iter().zip(self.drops).filter(|(_, count)| *count > 0);
        DatagramStatus {
            port: self.port.number(),
            wakes: self.taken,
            last_wake: self.last_at,
            dropped: drops
                .map(|(reason, count)| DropCount { reason: reason.name().to_owned(), count })
                .collect(),
        }
    }
}
