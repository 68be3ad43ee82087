//! Faults between a client and the server.

use std::io;

use super::address::{Address, SERVER_VARIABLE};
use crate::wire::api::ErrorCode;

/// Why a request was not fulfilled. Its text is one line: what was wrong and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nothing listens there.
    #[error(
        "no server at {address} ({reason}): start one with 'musterd', or name its socket with --server unix:PATH or {SERVER_VARIABLE}"
    )]
    NotRunning {
        /// The address that was tried.
        address: Address,
        /// The system's message.
        reason: String,
    },
    /// The socket is there, but not for this user.
    #[error("not allowed to use {address}: run this as root (sudo), or as the user that runs the server")]
    NotAllowed {
        /// Whose socket it is.
        address: Address,
    },
    /// Over the network nothing is asked before it is known which server that must be.
    #[error("not signed in at {address}: 'musterctl login {address}' with --user, or with an API token")]
    NotSignedIn {
        /// The server's.
        address: Address,
    },
    /// The server is not the one that the API token names, or no muster server.
    #[error("{address} is not the server that the API token or the link is for: {reason}")]
    Untrusted {
        /// The one that was tried.
        address: Address,
        /// The fault.
        reason: String,
    },
    /// The server refused.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        message: String,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("the connection to {address} broke: {reason}; is it a muster server, and still running?")]
    Broken {
        /// Whom it was to.
        address: Address,
        /// The fault.
        reason: String,
    },
    /// The server took too long.
    #[error("the server at {address} did not answer within {seconds} s: try again, and look at its log")]
    TimedOut {
        /// The address that did not answer.
        address: Address,
        /// Time for which it was waited.
        seconds: u64,
    },
    /// The answer is not what the request asks for.
    #[error("the server's answer is not understood ({0}): are musterctl and musterd of the same version?")]
    NotUnderstood(String),
    /// This process lacks what it needs to wait for an answer.
    #[error("can't wait for answers: {0}")]
    Runtime(#[source] io::Error),
}

impl ClientError {
    /// Whether it may go away by itself: the server restarts, or is busy.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NotRunning { .. } | Self::Broken { .. } | Self::TimedOut { .. } => true,
            Self::Refused { code, .. } => *code == ErrorCode::Busy,
            Self::NotSignedIn { .. } | Self::Untrusted { .. } => false,
            Self::NotAllowed { .. } | Self::NotUnderstood(_) | Self::Runtime(_) => false,
        }
    }

    /// The server's code, when it was the server that refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}
