//! The handbook.
#![forbid(unsafe_code)]
