//! Records as both ends see them.

mod closing;
mod derivation;
mod forgeries;
mod limits;
mod messages;
mod properties;
mod reference;
mod rfc8448;
mod sizes;
