//! The programs on a system: service manager, clock, namespaces, nginx, and every documented command.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod clock_identity;
mod clock_steps;
mod clock_tasks;
mod documented_commands;
#[path = "../kit/mod.rs"]
mod kit;
mod nat;
mod nginx;
mod prometheus;
mod service_manager;
mod systemd_units;
