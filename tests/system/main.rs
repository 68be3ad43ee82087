//! The programs on a system: service manager, clock, namespaces, nginx, and every documented command.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

#[path = "../agent_support/mod.rs"]
mod agent_support;
mod clock_steps;
mod clock_tasks;
mod documented_commands;
mod nat;
mod nginx;
mod service_manager;
#[path = "../skip/mod.rs"]
mod skip;
mod systemd_units;
