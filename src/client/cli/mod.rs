//! The commands of `musterctl`.
