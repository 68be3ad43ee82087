//! Layer 1: the rules of a fleet as pure functions.
//!
//! | module | what it decides |
//! |---|---|
//! | [`access`] | who may do what |
//! | [`filter`] | which devices are meant |
//! | [`pacing`] | when a device is to come |
//! | [`presence`] | where a device is, as far as can be told |
//! | [`renewal`] | when a device's certificate is renewed |
//! | [`ring`] | how a day of numbers is kept |
//! | [`rotation`] | when the keys of session tickets come and go |
//! | [`schema`] | what settings must look like |
//! | [`settings`] | what settings come of policies, locks and a device's own |
//! | [`status`] | whether a device is well, and why not |
//! | [`task`] | what becomes of tasks and of their runs |
//! | [`version`] | which of two versions is newer |
//! | [`why`] | why a device is in sync or not, in words |
#![forbid(unsafe_code)]

pub mod access;
pub mod filter;
pub mod pacing;
pub mod presence;
pub mod renewal;
pub mod ring;
pub mod rotation;
pub mod schema;
pub mod settings;
pub mod status;
pub mod task;
pub mod version;
pub mod why;
