//! Floor 3: the sockets. Links, the TLS channel, the acceptor and the poll loop that drives them.
#![forbid(unsafe_code)]

pub mod channel;
