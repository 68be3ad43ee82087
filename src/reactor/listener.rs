//! Listening sockets: one for each reactor, all on the same address (SO_REUSEPORT, socket(7)); the kernel
//! deals connections out.
//!
//! Another server with the same option would have its share of the devices without a word to anybody. So the
//! first socket is bound, and listens, without it: while anybody else listens that fails, and while it
//! listens so does everybody else, whatever their options. Of two servers that start at the same time the
//! kernel refuses one at the latest when it listens, where it looks at the others on the port once more
//! (`inet_csk_listen_start` of Linux). Only then is the option set on it, so that ours can join. From there
//! on a server that begins as this one does is refused; a program of the same user that does not is none of
//! ours.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds until they are accepted, for each listener, in connections, where it
/// does not say how many it would: a fleet that comes back at once must not be turned away.
const BACKLOG: u32 = 4_096;

/// Longest backlog that is asked for, in connections. A connection at its end is served within a quarter of a
/// minute, before the device gives up.
const BACKLOG_MAX: u32 = 65_535;

/// Connections that may wait to be accepted, for each listener: as many as the kernel allows
/// (`net.core.somaxconn`, listen(2)). Those beyond them are not refused, but have to ask again, after one
/// second, then two, then four.
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
/// When the address can't be listened on; [`io::ErrorKind::AddrInUse`] when anybody else listens there.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let mut listeners: Vec<std::net::TcpListener> = Vec::new();
    let backlog = i32::try_from(backlog()).unwrap_or(i32::MAX);
    for _ in 0..count.max(1) {
        let joined = listeners.first().map(std::net::TcpListener::local_addr).transpose()?;
        let address = joined.unwrap_or(address);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(joined.is_some())?;
        if address.is_ipv6() {
            // One socket for both families, whatever the system's default is.
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        socket.set_reuse_port(true)?;
        listeners.push(socket.into());
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};
    use std::sync::Barrier;

    use super::*;

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn nobody_shares_the_address_of_another() {
        let first = bind(LOOPBACK, 2).unwrap();
        let address = first[0].local_addr().unwrap();
        let wildcard = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        for address in [address, wildcard] {
            let error = bind(address, 2).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{address}");
        }
        drop(first);
        assert_eq!(bind(address, 2).unwrap().len(), 2);
    }

    #[test]
    fn of_two_that_begin_at_the_same_time_one_at_most_has_the_address() {
        for _ in 0..200 {
            let address = std::net::TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
            let barrier = Barrier::new(2);
            let bound = std::thread::scope(|scope| {
                let both = [(); 2].map(|()| {
                    scope.spawn(|| {
                        barrier.wait();
                        // Held until both have tried.
                        let bound = bind(address, 2);
                        barrier.wait();
                        bound.is_ok()
                    })
                });
                both.map(|thread| thread.join().unwrap())
            });
            assert_ne!(bound, [true, true], "both listen on {address}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn connections_are_dealt_out_to_all_listeners() {
        let listeners = bind(LOOPBACK, 4).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let connections: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
        let accepted = listeners.iter().map(|listener| std::iter::from_fn(|| listener.accept().ok()).count());
        let accepted: Vec<usize> = accepted.collect();
        assert_eq!(accepted.iter().sum::<usize>(), connections.len(), "{accepted:?}");
        assert!(accepted.iter().all(|share| *share > 10), "{accepted:?}");
    }
}
