//! Floor 2: what passes between threads.
//!
//! | module | what it is |
//! |---|---|
//! | [`mailbox`] | a bounded queue with a doorbell |
//! | [`reactors`] | what reactors are told, and the table of their mailboxes |
//! | [`permits`] | a bounded right to have work done, taken before the work is accepted |
//! | [`counters`] | what the server counts, by name |
#![forbid(unsafe_code)]

pub mod counters;
pub mod mailbox;
pub mod permits;
pub mod reactors;
