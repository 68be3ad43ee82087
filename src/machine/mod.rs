//! Floor 1: pure state machines, told bytes, time and randomness.
#![forbid(unsafe_code)]
