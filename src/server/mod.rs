//! Floor 5: assembly of the embeddable server.
#![forbid(unsafe_code)]

pub mod config;
pub mod enrolment;
pub mod identity;
pub mod members;
pub mod sequences;
