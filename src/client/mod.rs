//! Floor 4: what `musterctl` and tests use to talk to `admin`.
#![forbid(unsafe_code)]
