//! Everyone comes back at once: real servers, real sockets, and more devices than they are allowed to serve
//! at a time.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod admission;
#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod later;
mod process;
mod tickets;
