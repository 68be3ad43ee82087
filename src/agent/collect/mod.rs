//! Collectors: what is installed, and what the host says of itself. They read what others wrote, so nothing
//! in it is trusted: every reader is bounded and none panics.

pub mod addresses;
pub mod apk;
pub mod dpkg;
pub mod host;
pub mod inventory;
mod lines;
pub mod pkg;
pub mod rpm;

use std::io;
use std::time::Duration;

use crate::agent::process::{self, ProcessError};
use crate::wire::bounded::clip;
use crate::wire::limits::{INVENTORY_ENTRIES_MAX, NAME_BYTES_MAX};

/// Time of a program that is asked for packages. It reads some megabytes; what takes longer waits for a lock.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Most that it may say: [`INVENTORY_ENTRIES_MAX`] packages of 200 bytes.
const QUERY_BYTES_MAX: usize = INVENTORY_ENTRIES_MAX * 200;

/// As much of a text as a name may have, cut between characters.
fn clipped(text: &str) -> String {
    clip(text, NAME_BYTES_MAX).to_owned()
}

/// The answer of a program, its name first, that is the keeper of its own database.
///
/// # Errors
/// When it is not there, takes too long or fails.
fn query_keeper(words: &[&str]) -> Result<Vec<u8>, ProcessError> {
    let answer = process::run(words, QUERY_TIMEOUT, QUERY_BYTES_MAX)?;
    match answer.failure("it") {
        Some(message) => {
            let program = words.first().copied().unwrap_or_default();
            Err(ProcessError::Io(program.to_owned(), io::Error::other(message)))
        }
        None => Ok(answer.output),
    }
}

#[cfg(test)]
mod tests;
