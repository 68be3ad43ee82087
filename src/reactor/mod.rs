//! Layer 3: the sockets. Links, the TLS channel, the acceptor and the poll loop that drives them.
//!
//! A [`Reactor`] owns its listener, its links and their deadlines, and nobody else touches them. Their
//! messages and their owners are its [`Endpoint`](crate::machine::endpoint::Endpoint)'s to decide; the
//! reactor moves bytes and secrets. It knows neither the journal nor the store: what it needs of them is
//! behind [`Backend`].
//!
//! Each turn is the same sequence (see [`Reactor::turn`]): wait (`waiting`); read, decode and decide, within
//! a budget; empty the mailbox; flush the journal once, or wait for the thread that does, or notify the
//! flusher; release the acknowledgements that the durable position allows; write; accept and go on with
//! handshakes, within a budget (`arrivals`); write what came of that; look at deadlines. A reactor that is to
//! end tells its links so, a piece of them in each turn (`Endpoint::drain`).
#![forbid(unsafe_code)]

mod accept;
mod arrivals;
mod backend;
pub mod channel;
pub mod clock;
mod commit;
mod drive;
mod ending;
mod link;
pub mod listener;
pub mod port;
mod queues;
mod turn;
pub mod udp;
mod waiting;
mod welcome;

pub use accept::HANDSHAKES_BEYOND_MAX;
pub use backend::{Backend, Flushed};
pub use clock::Clock;
#[cfg(feature = "internals")]
pub use link::DEADLINE_BYTES;
pub use link::LINK_BYTES;
#[cfg(feature = "server")]
pub(crate) use turn::random;
pub use turn::{Reactor, ReactorError};
