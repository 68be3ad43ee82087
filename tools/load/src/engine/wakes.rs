//! One UDP port on which all devices of an engine hear wakes: each datagram says whom it is for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use muster::wire::datagram::{DATAGRAM_BYTES_MAX, Wake};
use muster::wire::id::DeviceId;

/// Datagrams that the kernel is asked to keep until they are read: a fleet is called at once.
const RECEIVE_BYTES: usize = 4 * 1024 * 1024;

/// The port.
pub(crate) struct WakePort {
    socket: UdpSocket,
    pub(super) number: u16,
    devices: HashMap<DeviceId, u32>,
}

impl WakePort {
    /// Opens a port of the system's choice on all addresses: those of the devices on loopback are many.
    pub(crate) fn open(
        servers: &[SocketAddr],
        registry: &Registry,
        token: Token,
        devices: impl Iterator<Item = (DeviceId, u32)>,
    ) -> std::io::Result<Self> {
        let any = match servers.iter().all(SocketAddr::is_ipv4) {
            true => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            false => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = std::net::UdpSocket::bind(SocketAddr::new(any, 0))?;
        // Fewer are a matter of luck, not an error.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BYTES);
        socket.set_nonblocking(true)?;
        let number = socket.local_addr()?.port();
        let mut socket = UdpSocket::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self { socket, number, devices: devices.collect() })
    }

    /// The next datagram that is for one of the devices; the device judges whether to believe it.
    pub(crate) fn receive(&mut self) -> Option<(u32, Vec<u8>)> {
        let mut bytes = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            match self.socket.recv_from(&mut bytes) {
                Ok((length, _)) => {
                    let device = Wake::claimed(&bytes[..length]).ok();
                    if let Some(index) = device.and_then(|device| self.devices.get(&device)) {
                        return Some((*index, bytes[..length].to_vec()));
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
                // An ICMP message (udp(7)), or a signal.
                Err(_) => {}
            }
        }
    }
}
