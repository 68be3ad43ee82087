//! The join token of `enroll` and `move`: from a file, standard input or the environment. Arguments of a
//! program can be read by every user of the device (ps(1)), so none is needed.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::CommandError;
use super::arguments::{TOKEN_VARIABLE, TokenSource};
use crate::wire::token::JoinToken;

/// Longest file of a token, in bytes: a token has about a hundred.
const FILE_BYTES_MAX: u64 = 4096;

/// Finds the token.
pub(super) fn find(source: &TokenSource) -> Result<JoinToken, CommandError> {
    let text = match (&source.token_file, &source.token) {
        (Some(file), _) if file == Path::new("-") => read("standard input", io::stdin())?,
        (Some(file), _) => {
            // A pipe is welcome: it is what a shell makes of `<(…)`.
            let open = File::options().read(true).open(file);
            read(&file.display().to_string(), open.map_err(|error| refused(&file.display(), &error))?)?
        }
        (None, Some(token)) if token == "-" => read("standard input", io::stdin())?,
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

fn read(name: &str, from: impl Read) -> Result<Zeroizing<String>, CommandError> {
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(FILE_BYTES_MAX).unwrap_or_default()));
    from.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| refused(&name, &error))?;
    Ok(text)
}

fn refused(name: &dyn std::fmt::Display, error: &io::Error) -> CommandError {
    CommandError::usage(format!("the join token can't be read from {name}: {error}"))
}
