//! Loads for a muster server, and what they cost it.

mod observe;
mod report;

fn main() {}
