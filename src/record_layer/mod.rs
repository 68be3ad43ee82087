//! Floor 1: the records of an established TLS 1.3 connection (RFC 8446 section 5), without the library that made it.
#![forbid(unsafe_code)]

mod error;
mod half;
mod secret;
mod suite;
#[cfg(test)]
mod tests;

pub use error::CryptoFailed;
pub use half::Half;
pub use secret::{SECRET_BYTES_MAX, Secret};
pub use suite::Suite;
