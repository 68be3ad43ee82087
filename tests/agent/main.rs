//! The agent as its user runs it, against real servers and pretended ones.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod check;
mod clones;
mod datagrams;
mod embedded;
mod enrolment;
mod flow;
mod image;
mod install;
#[path = "../kit/mod.rs"]
mod kit;
mod large;
mod moves;
mod neighbours;
mod notice;
mod odd;
mod renewal;
mod servers;
mod settings;
mod task_flow;
mod tasks;
mod trust;
mod upgrade;
