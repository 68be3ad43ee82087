//! Listening sockets: one for each reactor, all on the same address (SO_REUSEPORT, socket(7)); the kernel deals connections out.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds until they are accepted, for each listener, in connections: a fleet that comes back at once
/// must not be turned away. The kernel cuts it to `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

/// Opens `count` listeners on one address. With port 0 the kernel picks one, the same for all.
///
/// # Errors
/// When the address can't be listened on.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let mut listeners: Vec<std::net::TcpListener> = Vec::new();
    for _ in 0..count.max(1) {
        let address = match listeners.first() {
            Some(first) => first.local_addr()?,
            None => address,
        };
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            // One socket for both families, whatever the system's default is.
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        listeners.push(socket.into());
    }
    Ok(listeners)
}
