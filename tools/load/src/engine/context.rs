//! State that the devices of one engine share: the poll, the clock, the counters, the buffers.

use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use muster::agent::identity::Identity;
use muster::agent::talk::tls_of;
use muster::machine::random::Random;
use muster::machine::timers::Timers;
use muster::reactor::Clock;
use muster::reactor::channel::{ChannelError, ClientTls};
use muster::wire::inventory::Application;
use muster::wire::time::Moment;

use super::counters::Counters;
use super::measures::Measures;
use super::spool::Paper;

/// Different troubles that are kept for the report.
const TROUBLES_MAX: usize = 8;

/// State that the devices of one engine share.
pub(crate) struct Context {
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
    /// In the order in which devices try them.
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) devices: Arc<[Identity]>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) measures: Measures,
    pub(crate) paper: Paper,
    /// Every device has the same few applications.
    pub(crate) inventory: Arc<[Application]>,
    pub(crate) random: Random,
    /// Bytes that were just read.
    pub(crate) plain: Vec<u8>,
    pub(crate) timers: Timers<u32>,
    /// Port at which this engine hears wakes; 0: none.
    pub(crate) udp_port: u16,
    /// Whether devices keep their tickets.
    pub(crate) resumes: bool,
    /// Counts the marks; a device that has synced under this one is live.
    pub(crate) mark: u32,
    /// Devices on their way to their first sync.
    pub(crate) starting: usize,
    /// The first devices of this engine, this many, have a new event for each that is acknowledged.
    pub(crate) closed_loop_devices: usize,
    /// Whether each device syncs again as soon as a sync has ended.
    pub(crate) syncs_again: bool,
    /// Visitors that are done.
    pub(crate) leaving: Vec<u32>,
    /// Faults, each once.
    pub(crate) troubles: Vec<String>,
}

impl Context {
    /// The device's TLS configuration: kept with its tickets when it resumes, made anew for each link
    /// otherwise.
    pub(crate) fn tls(
        &self,
        device: usize,
        kept: &mut Option<ClientTls>,
        resumes: bool,
    ) -> Result<ClientTls, ChannelError> {
        if let Some(tls) = kept.as_ref().filter(|_| resumes) {
            return Ok(tls.clone());
        }
        let tls = tls_of(&self.devices[device])?;
        if resumes {
            *kept = Some(tls.clone());
        }
        Ok(tls)
    }

    pub(crate) fn register(&self, socket: &mut TcpStream, index: u32) -> std::io::Result<()> {
        self.registry.register(socket, Token(index as usize), Interest::READABLE | Interest::WRITABLE)
    }

    /// Sees to it that the device is looked at then.
    pub(crate) fn arm(&mut self, armed_at: &mut Option<Moment>, at: Moment, index: u32) {
        if armed_at.is_none_or(|armed| at < armed) {
            *armed_at = Some(at);
            self.timers.arm(at, index);
        }
    }

    pub(crate) fn note_trouble(&mut self, trouble: &str) {
        if self.troubles.len() < TROUBLES_MAX && !self.troubles.iter().any(|known| known == trouble) {
            self.troubles.push(trouble.to_owned());
        }
    }
}
