//! TOML files that people write: a wrong one is answered with the line, the key and what is allowed, in one
//! line.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::open;

/// Largest configuration file: what is larger was not written by hand for us.
pub const TOML_BYTES_MAX: u64 = 256 * 1024;

/// Why a file is not the configuration that it should be.
#[derive(Debug, thiserror::Error)]
pub enum TomlError {
    /// It can't be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It says something that is not allowed.
    #[error("{}, line {line}{}: {message}", path.display(), key.as_ref().map(|key| format!(", key '{key}'")).unwrap_or_default())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// Which key, when the line has one.
        key: Option<String>,
        /// The fault, and what is allowed.
        message: String,
    },
}

impl TomlError {
    /// Which file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::Wrong { path, .. } => path,
        }
    }
}

/// Reads and decodes a file.
///
/// # Errors
/// When it can't be read, or does not say what `T` asks for.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, TomlError> {
    parse(&text(path)?, path)
}

/// Reads a file.
///
/// # Errors
/// When it can't be read, or has more than [`TOML_BYTES_MAX`].
pub fn text(path: &Path) -> Result<String, TomlError> {
    let wrap = |source| TomlError::Io { path: path.to_owned(), source };
    open::text(path, TOML_BYTES_MAX).map_err(wrap)
}

/// Decodes a text, which is said to be from `path`.
///
/// # Errors
/// When it does not say what `T` asks for.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, TomlError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count();
        let key = text
            .lines()
            .nth(line)
            .and_then(|line| line.split_once('='))
            .map(|(key, _)| key.trim().to_owned());
        let message = error.message().replace('\n', "; ");
        TomlError::Wrong { path: path.to_owned(), line: line + 1, key, message }
    })
}
