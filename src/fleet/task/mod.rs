//! The rules of tasks: what becomes of a run, when it is due, and what a task may ask for.
//!
//! | module | what it decides |
//! |---|---|
//! | [`cron`] | when a time recurs |
//! | [`definition`] | what a task may ask for, how fast it spreads, when it is tried again and when it stops |
//! | [`period`] | how the clocks of a time zone run |
//! | [`retry`] | whether a run that failed is tried again, and when |
//! | [`run`] | what becomes of one run |
//! | [`schedule`] | when a task is due |
//! | [`window`] | in which hours of a day its runs may begin |
#![forbid(unsafe_code)]

pub mod cron;
pub mod definition;
pub mod period;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod window;
