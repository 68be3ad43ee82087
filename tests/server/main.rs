//! The server: in this process on real sockets, and `musterd` as its user runs it.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

#[path = "../agent_support/mod.rs"]
mod agent_support;
#[path = "../alone/mod.rs"]
mod alone;
mod backup;
mod command_line;
#[path = "../common/mod.rs"]
mod common;
mod damage;
mod event_rate;
#[path = "../fixture/mod.rs"]
mod fixture;
mod flow;
mod greedy_peers;
mod limits;
mod paths;
mod reach;
mod run;
#[path = "../skip/mod.rs"]
mod skip;
mod start;
mod started;
mod store_full;
mod storm;
mod tls;
mod trouble;
mod warnings;
