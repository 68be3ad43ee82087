//! Layer 4: the device side. One process on each device: it keeps the device's sections in sync with the
//! server, delivers events, and never loses one that it has accepted.
#![forbid(unsafe_code)]

pub mod ab_slots;
pub mod address;
pub mod application;
pub mod artifact;
#[cfg(feature = "muster-agent")]
pub mod check;
pub mod checksummed;
#[cfg(feature = "muster-agent")]
pub mod cli;
pub mod collect;
pub mod context;
pub mod datagram;
pub mod directory;
pub mod embedded;
pub mod enroll;
pub mod identity;
#[cfg(feature = "muster-agent")]
pub mod join;
pub mod last_good;
pub mod link;
pub mod local;
pub mod managed;
pub mod moving;
pub mod open;
#[cfg(feature = "muster-agent")]
pub mod packaged;
pub mod process;
pub mod race;
#[cfg(feature = "muster-agent")]
pub mod release;
pub mod run;
pub mod settings;
pub mod shutdown;
pub mod signature;
pub mod spool;
pub mod talk;
pub mod task;
mod waiting;
pub mod watch;
