//! The commands: each prepares a stage, orders a load, and makes a report of what it saw.

mod consoles;
mod density;
pub(crate) mod events;
mod handshake;
pub(crate) mod hold;
mod interval;
mod prepare;
mod stage;
pub(crate) mod storm;
pub(crate) mod sync;
mod verify;
pub(crate) mod wake;
mod watch;
