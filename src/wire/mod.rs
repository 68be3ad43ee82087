//! Layer 0: bytes to values and back. Frames, messages, records, ids, digests, limits; no IO, no clock.
//!
//! Everything that a peer can send is decoded here, under the limits of [`limits`], and nothing that a peer
//! can send panics or allocates more than its frame justifies. The messages are described for other languages
//! in `muster.cddl` (RFC 8610), beside this file.
#![forbid(unsafe_code)]

pub mod api;
pub mod artifact;
pub mod bounded;
pub mod certificate;
pub mod clone_policy;
pub mod datagram;
pub mod digest;
pub mod event;
pub mod frame;
pub mod id;
pub mod inventory;
pub mod limits;
pub mod message;
pub mod named;
pub mod pattern;
pub mod presence;
pub mod printable;
pub mod role;
pub mod run_state;
pub mod section;
pub mod settings;
pub mod statistics;
pub mod status;
pub mod task;
pub mod time;
pub mod token;
pub mod units;
