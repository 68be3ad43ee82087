//! Records as both ends see them.

mod derivation;
