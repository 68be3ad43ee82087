//! The command line of `muster-agent`: arguments in, exit code out.
//!
//! 0: done. 1: refused, unreachable or not there; one line on standard error says what was wrong and what to do.
//! 2: bad usage.

mod arguments;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

pub use arguments::{Arguments, Command, Emit, Enroll, Run, Status};

/// Runs the agent's command line. The first argument is the program's name.
#[must_use]
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output with code 0, everything else to standard error with 2.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    eprintln!("muster-agent: {} is not linked in yet", arguments.command.name());
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests;
