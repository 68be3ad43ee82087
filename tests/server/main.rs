//! The server: in this process on real sockets, and `musterd` as its user runs it.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod administration;
mod artifacts;
mod backup;
mod command_line;
mod damage;
mod embedded;
mod event_rate;
mod greedy_peers;
mod install;
#[path = "../kit/mod.rs"]
mod kit;
mod limits;
mod openid;
mod passphrase;
mod paths;
mod reach;
mod run;
mod sign_in;
mod standby;
mod start;
mod started;
mod store_full;
mod storm;
mod tls;
mod trouble;
mod warnings;
