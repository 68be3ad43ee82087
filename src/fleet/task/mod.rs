//! The rules of tasks: what becomes of a run, when it is due, and what a task may ask for.
//!
//! | module | what it decides |
//! |---|---|
//! | [`run`] | what becomes of one run |
#![forbid(unsafe_code)]

pub mod run;
