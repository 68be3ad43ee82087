//! Floor 1: the rules of a fleet as pure functions.
#![forbid(unsafe_code)]
