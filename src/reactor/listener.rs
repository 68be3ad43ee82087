//! Listening sockets: one for each reactor, all on the same address (SO_REUSEPORT, socket(7)); the kernel deals connections out.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds until they are accepted, for each listener, in connections, where it does not say how many it would:
/// a fleet that comes back at once must not be turned away.
const BACKLOG: u32 = 4_096;

/// Longest backlog that is asked for, in connections. Who waits at its end is served within a quarter of a minute, before it gives up.
const BACKLOG_MAX: u32 = 65_535;

/// How many connections may wait to be accepted, for each listener: as many as the kernel allows (`net.core.somaxconn`, listen(2)). What
/// comes beyond them is not refused, but has to ask again, after one second, then two, then four.
#[must_use]
pub fn backlog() -> u32 {
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    let Some(allowed) = allowed.and_then(|text| text.trim().parse::<u32>().ok()) else { return BACKLOG };
    if allowed < BACKLOG {
        log::warn!(
            "net.core.somaxconn is {allowed}: when a fleet comes back at once, connections beyond that wait for seconds (set it to {BACKLOG} \
             or more with sysctl)"
        );
    }
    allowed.clamp(1, BACKLOG_MAX)
}

/// Opens `count` listeners on one address. With port 0 the kernel picks one, the same for all.
///
/// # Errors
/// When the address can't be listened on.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let mut listeners: Vec<std::net::TcpListener> = Vec::new();
    let backlog = i32::try_from(backlog()).unwrap_or(i32::MAX);
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
        socket.listen(backlog)?;
        listeners.push(socket.into());
    }
    Ok(listeners)
}
