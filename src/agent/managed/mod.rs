//! Settings that the server orders for managed applications: kept, put in place, watched.
//!
//! ```text
//! order ─▶ DATA/orders/*.order ─▶ render ─▶ validate ─▶ journal ─▶ write ─▶ validate in place ─▶ apply ─▶ applied
//!                                    │          │                                │                 │
//!                                    └──────────┴── failed: nothing was touched  └── the old file ─┴── … and rollback
//! ```
//!
//! An order is durable before the next sync names it. [`Managed`] decides what to do, a helper thread
//! [does](work::work) it, one application at a time. Before a settings file is touched, its journal
//! (`DATA/orders/*.journal`) holds what was there before; whenever the agent is killed, its next start finds
//! the journal, puts the old file back, tells the application if it may have been told of the new one, and
//! then begins anew. A file that somebody else changed meanwhile is left alone. A file that can't be
//! replaced, because it is a mount point, is written over, and the journal tells a crash's remains from what
//! somebody else wrote.

mod apply;
mod attributes;
pub mod declare;
mod file;
mod journal;
pub mod own;
mod place;
pub mod statistics;
pub mod stored_settings;
mod table;
pub mod work;

pub use table::Managed;
pub use work::{Outcome, Work};

#[cfg(test)]
mod neighbour_tests;
#[cfg(test)]
mod tests;
