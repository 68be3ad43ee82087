//! The server: arguments in, one call, exit code out.
#![forbid(unsafe_code)]

mod arguments;
mod backup;
mod configuration;
mod demo;
mod journal;
mod run;

use std::process::ExitCode;

use clap::Parser as _;
use muster::logging;

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

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        None => run::command(&arguments.run),
        Some(Command::Run(run)) => run::command(&run),
        Some(Command::Demo(arguments)) => Ok(demo::run(&arguments)),
        Some(Command::Journal(command)) => journal::command(&command),
        Some(Command::Backup(arguments)) => backup::command(&arguments),
        Some(Command::Restore(arguments)) => backup::restore(&arguments),
        Some(Command::CheckConfig(check)) => configuration::check(&check),
        // clap takes the first for the program's name.
        Some(Command::Agent { arguments }) => {
            Ok(muster::agent::cli::main(std::iter::once("muster-agent".into()).chain(arguments)))
        }
        Some(Command::Ctl { arguments }) => {
            Ok(muster::client::cli::main(std::iter::once("musterctl".into()).chain(arguments)))
        }
    };
    match done {
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
