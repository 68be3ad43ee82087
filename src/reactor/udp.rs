//! UDP sockets: one for both families, as for TCP ([`listener`](super::listener)).

use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

/// Opens a socket that does not block. On an IPv6 address it serves IPv4 as well, whatever the system's
/// default is.
///
/// # Errors
/// When the address can't be had.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

/// Sends a datagram. A socket for both families takes IPv4 addresses mapped (RFC 4291 section 2.5.5.2).
///
/// # Errors
/// When the system does not take it; it counts as lost.
pub fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    let to = match (socket.local_addr()?, to) {
        (SocketAddr::V6(_), SocketAddr::V4(to)) => (to.ip().to_ipv6_mapped(), to.port()).into(),
        _ => to,
    };
    socket.send_to(bytes, to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_for_both_families_speaks_both() {
        let hears: Vec<_> = ["127.0.0.1:0", "[::1]:0"]
            .iter()
            .filter_map(|address| std::net::UdpSocket::bind(address).ok())
            .collect();
        // On a system without IPv6 there is one family, and one socket for it.
        let socket = bind("[::]:0".parse().unwrap()).or_else(|_| bind("0.0.0.0:0".parse().unwrap())).unwrap();
        for hears in hears {
            send(&socket, b"hello", hears.local_addr().unwrap()).unwrap();
            let mut bytes = [0; 8];
            assert_eq!(hears.recv(&mut bytes).unwrap(), 5);
        }
    }
}
