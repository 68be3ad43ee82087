//! The ports that devices come to.

use std::net::SocketAddr;
use std::sync::Arc;

use super::ServerError;
use super::config::Config;
use crate::concurrency::counters::Counters;
use crate::reactor::port::Port;
use crate::reactor::{Clock, listener};

/// Ports that devices come to.
pub(super) struct Ports {
    pub(super) listeners: Vec<std::net::TcpListener>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) udp: Port,
    pub(super) udp_address: SocketAddr,
    pub(super) counters: Arc<Counters>,
}

impl Ports {
    pub(super) fn listen(config: &Config, reactors: usize, clock: &Clock) -> Result<Self, ServerError> {
        let counters = Counters::new();
        let listeners = listener::bind(config.listen, reactors).map_err(|error| ServerError::Address {
            protocol: "TCP",
            address: config.listen,
            error,
        })?;
        let mut addresses = Vec::new();
        for listener in &listeners {
            let address = listener
                .local_addr()
                .map_err(ServerError::when("ask for the address that is listened on"))?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let tcp_port = addresses.first().map_or(0, |address: &SocketAddr| address.port());
        let udp = open_port(config.udp_address(), tcp_port, clock, &counters)?;
        let udp_address = udp.address().map_err(ServerError::when("ask for the address of the UDP port"))?;
        Ok(Self { listeners, addresses, udp, udp_address, counters })
    }

    /// The UDP port's number, when it is not that of TCP.
    pub(super) fn notice_port(&self) -> Option<u16> {
        let tcp_port = self.addresses.first().map_or(0, SocketAddr::port);
        Some(self.udp_address.port()).filter(|port| *port != tcp_port)
    }
}

/// Opens the UDP port. When the system is to choose its number, it has that of TCP if possible.
fn open_port(
    address: SocketAddr,
    tcp_port: u16,
    clock: &Clock,
    counters: &Arc<Counters>,
) -> Result<Port, ServerError> {
    if address.port() == 0
        && let Ok(port) = Port::open(SocketAddr::new(address.ip(), tcp_port), clock.clone(), counters.clone())
    {
        return Ok(port);
    }
    Port::open(address, clock.clone(), counters.clone()).map_err(|error| ServerError::Address {
        protocol: "UDP",
        address,
        error,
    })
}
