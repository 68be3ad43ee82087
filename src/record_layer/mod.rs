//! Layer 1: the records of an established TLS 1.3 connection (RFC 8446 section 5), without the library that
//! made it.
//!
//! A TLS library keeps kilobytes for a connection, for a handshake that is over and buffers that are empty.
//! An established connection needs little: for each direction a traffic secret and a number. That is a
//! [`SlimLink`]. Everything else is made when bytes come or go, in a burst, and dropped with it:
//!
//! ```text
//!  bytes -> OpeningBurst::open -> data, close_notify, an alert, or a named OpenError with the alert that it deserves
//!  data  -> SealingBurst::data -> records, and before them the KeyUpdate that is owed or due
//! ```
//!
//! Guarantees, whatever arrives and whatever the caller does:
//!
//! - No number is used twice under one key. A burst borrows the half and counts in it; the number is used up
//!   before the cipher is called.
//! - A link that failed fails in the same way ever after; one that was closed says so.
//! - A key is never older than [`SEALED_RECORDS_PER_KEY`] records when data is sealed.
//! - Nothing that arrives panics, or makes anything be allocated beyond one key's worth.
//!
//! The price: a burst derives its key anew, in one to four microseconds, most with SHA-384, where a record of
//! 100 bytes takes a fifth of one; and the crypto library keeps a key on the heap while it lasts. A busy link
//! pays once for all records that one read brings.
#![forbid(unsafe_code)]

mod burst;
mod error;
mod limits;
mod link;
mod opening;
mod record;
mod sealing;
mod secret;
mod suite;
#[cfg(test)]
mod tests;

pub use error::Alert;
pub use error::{CryptoFailed, OpenError, SealError};
pub use limits::{
    EMPTY_RECORDS_IN_A_ROW_MAX, FRAGMENT_BYTES_MAX, HEADER_BYTES, INNER_BYTES_MAX, KEY_UPDATES_AHEAD_MAX,
    OPENED_RECORDS_PER_KEY, PROTECTED_BYTES_MAX, RECORD_BYTES_MAX, SEALED_BYTES_MORE, SEALED_RECORDS_MAX,
    SEALED_RECORDS_PER_KEY, TAG_BYTES,
};
pub use link::{SLIM_LINK_BYTES_MAX, SlimLink, Start};
pub use opening::{Content, Opened, OpeningBurst};
pub use sealing::SealingBurst;
pub use suite::Suite;
