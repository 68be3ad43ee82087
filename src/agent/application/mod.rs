//! Managed applications: which there are (`applications.d/*.toml`, one file each), whether each does its
//! work, and what else its file says of it. A program that embeds the agent [has them within](embedded).

pub mod adapter;
pub mod check;
pub mod definition;
pub mod embedded;
pub mod render;
pub mod task_kind;

pub use adapter::{Program, SettingsAdapter, SettingsPlace, StatisticsSource};
pub use check::{Observed, check};
pub use definition::{Definition, Definitions, Probe};
pub use task_kind::TaskKind;

#[cfg(test)]
mod tests;
