//! Floor 4: the administration API.
#![forbid(unsafe_code)]
