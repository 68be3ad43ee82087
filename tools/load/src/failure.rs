//! Why a run did not do what it was asked: one line, and the exit code.

use std::fmt;

/// Why a run ended, in one line that says what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// For people.
    pub(crate) message: String,
    /// 1: refused or failed, 2: it can't be asked like that.
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) fn refused(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: 1 }
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: 2 }
    }

    /// The refusal of the system, as a failure.
    pub(crate) fn when(what: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::refused(format!("can't {what}: {error}"))
    }
}
