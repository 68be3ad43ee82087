//! The agent as its user runs it, against real servers and pretended ones.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

#[path = "../agent_support/mod.rs"]
mod agent_support;
mod check;
mod datagrams;
#[path = "../fixture/mod.rs"]
mod fixture;
mod flow;
mod large;
mod moves;
mod neighbours;
mod notice;
mod odd;
mod settings;
#[path = "../skip/mod.rs"]
mod skip;
mod task_flow;
mod tasks;
