//! Layer 6: the program `musterd`: arguments in, one call, exit code out.
#![forbid(unsafe_code)]

mod arguments;
mod backup;
mod configuration;
#[cfg(feature = "demo")]
mod demo;
mod identity;
mod journal;
mod recovery_key;
mod run;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use crate::logging;
use clap::Parser as _;

use arguments::{Arguments, Command};

/// Why a command did not do what it was asked: one line, and the exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// It was refused, failed, or is not there.
    fn refused(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), code: 1 }
    }

    /// It can't be asked like that.
    fn usage(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), code: 2 }
    }
}

/// The command line.
#[cfg(all(feature = "demo", feature = "internals"))]
pub(crate) fn command_line() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the program with these arguments, the first of which is its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Before anything that takes time.
    let signals = is_run(arguments.get(1)).then(run::catch_signals);
    let arguments = Arguments::parse_from(arguments);
    let panicked = |_| Err(Failure::refused("it has panicked; the log says where"));
    // Nothing is used after a panic: what it unwinds through ends the server's parts.
    match catch_unwind(AssertUnwindSafe(|| dispatch(arguments, signals))).unwrap_or_else(panicked) {
        Ok(code) => {
            logging::flush();
            code
        }
        Err(failure) => {
            logging::last_line(&format!("musterd: {}", failure.message));
            ExitCode::from(failure.code)
        }
    }
}

/// Whether the first argument leaves it at `run`, or says so.
fn is_run(first: Option<&OsString>) -> bool {
    first.is_none_or(|first| first == "run" || first.as_encoded_bytes().starts_with(b"-"))
}

fn dispatch(
    arguments: Arguments,
    signals: Option<std::io::Result<signal_hook::iterator::Signals>>,
) -> Result<ExitCode, Failure> {
    match arguments.command {
        None => run::command(&arguments.run, signals),
        Some(Command::Run(run)) => run::command(&run, signals),
        #[cfg(feature = "demo")]
        Some(Command::Demo(arguments)) => Ok(demo::run(&arguments)),
        Some(Command::Journal(command)) => journal::command(&command),
        Some(Command::Identity(command)) => identity::command(&command),
        Some(Command::Backup(arguments)) => backup::command(&arguments),
        Some(Command::Restore(arguments)) => backup::restore(&arguments),
        Some(Command::RecoveryKey(command)) => recovery_key::command(&command),
        Some(Command::CheckConfig(check)) => configuration::check(&check),
        // clap takes the first for the program's name.
        #[cfg(feature = "demo")]
        Some(Command::Agent { arguments }) => {
            Ok(crate::agent::cli::main(std::iter::once("muster-agent".into()).chain(arguments)))
        }
        #[cfg(feature = "demo")]
        Some(Command::Ctl { arguments }) => {
            Ok(crate::client::cli::main(std::iter::once("musterctl".into()).chain(arguments)))
        }
    }
}
