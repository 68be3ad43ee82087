//! The console: its pages over the administration's socket, and in a browser over the network.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod browser;
mod fleet;
mod hostile;
#[path = "../kit/mod.rs"]
mod kit;
mod pages;
mod visitor;
