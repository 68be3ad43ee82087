//! A device's socket: it comes from an address of its own where that is possible, and its bytes are counted.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// Address of a device's link when the server is on this machine: every device has an address of its own in
/// 127.0.0.0/8, so that neither ports run out (28,000 for one address) nor the server takes the fleet for one
/// host. `None`: as the system likes.
pub(crate) fn source(server: SocketAddr, device: usize) -> Option<Ipv4Addr> {
    let IpAddr::V4(address) = server.ip() else { return None };
    // From 127.1.0.1 on, and round again after 16 million.
    let host = u32::try_from(device % 0x00f0_0000).unwrap_or_default() + 0x0001_0001;
    address.is_loopback().then(|| Ipv4Addr::from(0x7f00_0000 | host))
}

/// Begins to connect.
pub(crate) fn connect(server: SocketAddr, from: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Acks and events are small; neither should wait for the other (RFC 896).
    socket.set_tcp_nodelay(true)?;
    if let Some(address) = from {
        socket.bind(&SocketAddr::from((address, 0)).into())?;
    }
    match socket.connect(&server.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// A socket for the length of one turn: counts what passes, and does not ask again after a read that the
/// socket could not fill (epoll(7), question 9: with an edge-triggered poll it has no more).
pub(crate) struct Counted<'s> {
    socket: &'s mut TcpStream,
    is_drained: bool,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl<'s> Counted<'s> {
    pub(crate) fn new(socket: &'s mut TcpStream) -> Self {
        Self { socket, is_drained: false, received: 0, sent: 0 }
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_drained {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = self.socket.read(buffer)?;
        self.received += read as u64;
        // The end of the stream must be seen each time.
        self.is_drained = read > 0 && read < buffer.len();
        Ok(read)
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.socket.write(bytes)?;
        self.sent += written as u64;
        Ok(written)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let written = self.socket.write_vectored(slices)?;
        self.sent += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_device_has_an_address_of_its_own_on_loopback_and_none_elsewhere() {
        let here = SocketAddr::from(([127, 0, 0, 1], 13_000));
        let addresses: HashSet<_> = (0..300_000).map(|device| source(here, device).unwrap()).collect();
        assert_eq!(addresses.len(), 300_000);
        assert!(addresses.iter().all(|address| address.is_loopback() && !address.is_broadcast()));
        assert_eq!(source(here, 0), Some(Ipv4Addr::new(127, 1, 0, 1)));
        assert!(source(here, usize::MAX).unwrap().is_loopback());
        assert_eq!(source("192.0.2.1:13000".parse().unwrap(), 3), None);
        assert_eq!(source("[::1]:13000".parse().unwrap(), 3), None);
    }

    #[test]
    fn a_device_connects_from_its_address_and_its_bytes_are_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let mut stream = connect(server, source(server, 77)).unwrap();
        let (mut peer, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), IpAddr::V4(Ipv4Addr::new(127, 1, 0, 78)));
        peer.write_all(b"hello").unwrap();
        let mut counted = Counted::new(&mut stream);
        let mut buffer = [0; 64];
        while counted.read(&mut buffer).is_err() {}
        assert_eq!(counted.received, 5);
        assert_eq!(counted.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        counted.write_all(b"abc").unwrap();
        assert_eq!(counted.sent, 3);
    }
}
