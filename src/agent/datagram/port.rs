//! The UDP port on which the device hears wakes.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

use crate::reactor::udp;
use crate::wire::time::Moment;

/// Pause after which a port that could not be had is tried again.
const RETRY_SECONDS: u64 = 60;

/// Begin of the problem that no wakes are heard, though they are wanted.
pub const NO_WAKES: &str = "no wakes are heard";

/// The port: open, to be opened, or not wanted.
#[derive(Debug)]
pub struct WakePort {
    wanted: u16,
    token: Token,
    socket: Option<UdpSocket>,
    retry_at: Option<Moment>,
    /// Why it is not open.
    pub problem: Option<String>,
}

impl WakePort {
    pub(super) fn new(wanted: u16, token: Token) -> Self {
        Self { wanted, token, socket: None, retry_at: Some(Moment(0)), problem: None }
    }

    /// This port is wanted. One that could not be had is tried again at once: somebody may have made room for
    /// it.
    pub fn set(&mut self, wanted: u16) {
        if wanted != self.wanted {
            *self = Self::new(wanted, self.token);
        } else if self.socket.is_none() {
            self.retry_at = Some(Moment(0));
        }
    }

    /// Opens the port when that is due. Whether it is open now and was not before.
    pub fn open_when_due(&mut self, now: Moment, registry: &Registry) -> bool {
        if self.wanted == 0 || self.socket.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        match bind(self.wanted, registry, self.token) {
            Ok(socket) => {
                (self.socket, self.problem, self.retry_at) = (Some(socket), None, None);
                log::info!("wakes are heard on UDP port {}", self.wanted);
                true
            }
            Err(error) => {
                let problem = format!(
                    "{NO_WAKES}: UDP port {}: {error} (set another with [wake] port; tried again every minute)",
                    self.wanted
                );
                if self.problem.as_ref() != Some(&problem) {
                    log::warn!("{problem}");
                }
                self.problem = Some(problem);
                self.retry_at = Some(now.plus_seconds(RETRY_SECONDS));
                false
            }
        }
    }

    /// Time of the next try.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Moment> {
        self.retry_at.filter(|_| self.wanted != 0 && self.socket.is_none())
    }

    /// Its number; 0 when it is not open.
    pub(super) fn number(&self) -> u16 {
        self.socket.as_ref().map_or(0, |_| self.wanted)
    }

    pub(super) fn socket(&self) -> Option<&UdpSocket> {
        self.socket.as_ref()
    }
}

/// Both families on one socket; IPv4 alone where the system has no IPv6.
fn bind(port: u16, registry: &Registry, token: Token) -> io::Result<UdpSocket> {
    let mut socket = udp::bind((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
        _ => udp::bind((Ipv4Addr::UNSPECIFIED, port).into()),
    })?;
    registry.register(&mut socket, token, Interest::READABLE)?;
    Ok(socket)
}

/// Sends a datagram from the port if it is open, otherwise from any. It may be lost.
pub(super) fn send(port: Option<&UdpSocket>, bytes: &[u8], to: SocketAddr) {
    let any = || match to {
        SocketAddr::V4(_) => udp::bind((Ipv4Addr::UNSPECIFIED, 0).into()),
        SocketAddr::V6(_) => udp::bind((Ipv6Addr::UNSPECIFIED, 0).into()),
    };
    let sent = match port {
        Some(socket) => udp::send(socket, bytes, to),
        None => any().and_then(|socket| udp::send(&socket, bytes, to)),
    };
    if let Err(error) = sent {
        log::debug!("no datagram to {to}: {error}");
    }
}
