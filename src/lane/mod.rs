//! Floor 2: what passes between threads.
#![forbid(unsafe_code)]
