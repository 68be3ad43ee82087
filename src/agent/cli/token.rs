//! The join token of `enroll` and `move`: from a file, standard input or the environment. Arguments of a
//! program can be read by every user of the device (ps(1)), so none is needed.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::CommandError;
use super::arguments::{TOKEN_VARIABLE, TokenSource};
use crate::wire::token::JoinToken;

/// Longest file of a token: a token has about a hundred.
const FILE_BYTES_MAX: u64 = 4096;

/// Finds the token: the first line of its source, so that all that `musterctl token create` prints may be
/// given.
pub(super) fn find(source: &TokenSource) -> Result<JoinToken, CommandError> {
    let text = match (&source.token_file, &source.token) {
        (Some(file), _) if file == Path::new("-") => read_typed()?,
        (Some(file), _) => {
            // A pipe is welcome: it is what a shell makes of `<(…)`.
            let open = File::options().read(true).open(file);
            read(&file.display().to_string(), open.map_err(|error| refused(&file.display(), &error))?)?
        }
        (None, Some(token)) if token == "-" => read_typed()?,
        (None, Some(token)) => {
            eprintln!(
                "muster-agent: warning: every user of this device can read the token in the process list: give --token-file FILE, --token-file - or {TOKEN_VARIABLE} instead"
            );
            Zeroizing::new(token.clone())
        }
        (None, None) => Zeroizing::new(std::env::var(TOKEN_VARIABLE).map_err(|_| {
            CommandError::usage(format!(
                "a join token is missing: give --token-file FILE ('-' for standard input) or set {TOKEN_VARIABLE} (make one on the server: musterctl token create)"
            ))
        })?),
    };
    text.parse().map_err(CommandError::usage)
}

/// From standard input. Its line is what ends it: a user who pastes the token need not end the input as well.
fn read_typed() -> Result<Zeroizing<String>, CommandError> {
    if io::stdin().is_terminal() {
        eprintln!("the join token, and Enter:");
    }
    read("standard input", io::stdin())
}

/// The first line.
fn read(name: &str, from: impl Read) -> Result<Zeroizing<String>, CommandError> {
    let bytes_max = usize::try_from(FILE_BYTES_MAX).unwrap_or_default();
    let mut line = Zeroizing::new(Vec::with_capacity(bytes_max));
    let mut from = from.take(FILE_BYTES_MAX);
    let mut byte = [0];
    while from.read(&mut byte).map_err(|error| refused(&name, &error))? > 0 && byte != *b"\n" {
        line.push(byte[0]);
    }
    let text = String::from_utf8(std::mem::take(&mut *line));
    text.map(Zeroizing::new).map_err(|_| refused(&name, &io::Error::other("it is no text")))
}

fn refused(name: &dyn std::fmt::Display, error: &io::Error) -> CommandError {
    CommandError::usage(format!("the join token can't be read from {name}: {error}"))
}
