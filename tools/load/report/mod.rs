//! How a run is shown: while it goes on, and what it found.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "every command uses its part")]

#[cfg(test)]
mod example;
pub(crate) mod json;
pub(crate) mod model;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod text;
