//! Layer 2: what passes between threads.
//!
//! | module | what it is |
//! |---|---|
//! | [`mailbox`] | a bounded queue with a notifier |
//! | [`reactors`] | what reactors are told, and the table of their mailboxes |
//! | [`calls`] | what the owner of the UDP port is told |
//! | [`counters`] | what the server counts, by name |
//! | [`strangers`] | connections that ended without a valid identity, for the log |
//! | [`wall`] | the wall clock, as all threads see it |
#![forbid(unsafe_code)]

pub mod calls;
pub mod counters;
pub mod mailbox;
pub mod reactors;
pub mod strangers;
pub mod wall;
