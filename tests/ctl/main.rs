//! `musterctl` as a user runs it, against an administration API whose devices follow a script.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod apply;
mod artifact;
mod audit;
mod calls;
mod commands;
mod hostile;
#[path = "../kit/mod.rs"]
mod kit;
mod policy;
mod rights;
mod selections;
mod status;
mod task;
