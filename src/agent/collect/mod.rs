//! Collectors: what is installed, and what the host says of itself. They read what others wrote, so nothing
//! in it is trusted: every reader is bounded and none panics.

pub mod addresses;
pub mod apk;
pub mod dpkg;
pub mod host;
pub mod inventory;
mod lines;
pub mod rpm;

use crate::wire::bounded::clip;
use crate::wire::limits::NAME_BYTES_MAX;

/// As much of a text as a name may have, cut between characters.
fn clipped(text: &str) -> String {
    clip(text, NAME_BYTES_MAX).to_owned()
}

#[cfg(test)]
mod tests;
