//! Floor 4: the device side.
#![forbid(unsafe_code)]
