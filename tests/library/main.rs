//! The library without a process: journal, record layer, wire format, tables at their largest.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

#[cfg(feature = "server")]
#[path = "../kit/alone.rs"]
mod alone;
mod cddl;
mod journal_archive;
mod journal_crash;
mod journal_damage;
mod journal_files;
mod journal_kill;
mod journal_properties;
#[cfg(feature = "server")]
mod record_layer;
#[path = "../kit/skip.rs"]
mod skip;
#[cfg(feature = "server")]
mod two_million;
