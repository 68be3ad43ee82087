//! The end of a run: one line that says what was wrong, and where.

use std::fmt::Display;

use crate::protocol::ProtocolError;

/// Why a comparison could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(pub(crate) String);

impl From<ProtocolError> for Failure {
    fn from(error: ProtocolError) -> Self {
        Self(error.to_string())
    }
}

impl Failure {
    /// Turns an error into a failure that says what was tried.
    pub(crate) fn when<E: Display>(what: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self(format!("can't {what}: {error}"))
    }
}
