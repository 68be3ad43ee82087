//! The commands: each prepares a stage, orders a load, and makes a report of what it saw.

pub(crate) mod hold;
mod prepare;
mod stage;
mod watch;
