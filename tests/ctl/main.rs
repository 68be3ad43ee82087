//! `musterctl` as a user runs it, against an administration API whose devices follow a script.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod calls;
mod commands;
#[path = "../ctl_support/mod.rs"]
mod ctl_support;
mod hostile;
mod policy;
mod status;
mod task;
