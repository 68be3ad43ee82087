//! How a run is shown: while it goes on, and what it found.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "every command uses its part")]

pub(crate) mod model;
