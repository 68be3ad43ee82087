//! Managed applications: which there are (`applications.d/*.toml`, one file each), and whether each does its work.

pub mod check;
pub mod definition;
pub mod task_kind;

pub use check::{Observed, check};
pub use definition::{Definition, Definitions, Probe};
pub use task_kind::TaskKind;

#[cfg(test)]
mod tests;
