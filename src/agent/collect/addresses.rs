//! The addresses of the interfaces that are up, loopback and link-local ones left out.
//!
//! On Linux they are in `/proc/net/fib_trie` and `/proc/net/if_inet6`, which any user may read. Elsewhere the
//! system is asked which address it would speak from: that is one address and not all, but it is the one that
//! counts.

use std::io::{BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use super::lines::each_line;
use crate::agent::open;
use crate::wire::limits::HOST_ADDRESSES_MAX;

/// Most of either file that is read. A router that carries the internet's routes has more; its own addresses
/// may then be incomplete.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The addresses, sorted, at most [`HOST_ADDRESSES_MAX`].
#[must_use]
pub fn collect(root: &Path) -> Vec<String> {
    let open =
        |file: &str| open::file(&root.join(file)).ok().map(|file| BufReader::new(file.take(FILE_BYTES_MAX)));
    let mut found: Vec<IpAddr> = Vec::new();
    let (fib_trie, if_inet6) = (open("proc/net/fib_trie"), open("proc/net/if_inet6"));
    if fib_trie.is_none() && if_inet6.is_none() {
        found.extend(spoken_from());
    }
    found.extend(fib_trie.into_iter().flat_map(parse_fib_trie).map(IpAddr::V4));
    found.extend(if_inet6.into_iter().flat_map(parse_if_inet6).map(IpAddr::V6));
    found.sort_unstable();
    found.dedup();
    found.truncate(HOST_ADDRESSES_MAX);
    found.iter().map(IpAddr::to_string).collect()
}

/// An address line is `|-- ADDRESS`; the line after it says `/32 host LOCAL` when the address is this host's
/// own.
pub(super) fn parse_fib_trie(reader: impl std::io::BufRead) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last = None;
    let _ = each_line(reader, |line| {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.take()
            && !address.is_loopback()
            && !address.is_link_local()
            && !found.contains(&address)
            && found.len() < HOST_ADDRESSES_MAX
        {
            found.push(address);
        }
    });
    found
}

/// `ADDRESS INDEX PREFIX SCOPE FLAGS NAME`, in hexadecimal; scope 0 is global.
pub(super) fn parse_if_inet6(reader: impl std::io::BufRead) -> Vec<Ipv6Addr> {
    let mut found = Vec::new();
    let _ = each_line(reader, |line| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| word.len() == 32);
        let address = address.and_then(|word| u128::from_str_radix(word, 16).ok()).map(Ipv6Addr::from);
        let scope = words.nth(2);
        if let (Some(address), Some("00")) = (address, scope)
            && !address.is_loopback()
            && found.len() < HOST_ADDRESSES_MAX
        {
            found.push(address);
        }
    });
    found
}

/// The address that the system would speak from. Connecting a datagram socket sends nothing; the peers are of
/// the blocks for documentation (RFC 5737, RFC 3849).
fn spoken_from() -> Vec<IpAddr> {
    let ask = |from: &str, to: &str| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    [ask("0.0.0.0:0", "192.0.2.1:9"), ask("[::]:0", "[2001:db8::1]:9")].into_iter().flatten().collect()
}
