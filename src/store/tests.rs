//! The store as those see it who use it.

mod crash;
mod queries;
mod writing;
