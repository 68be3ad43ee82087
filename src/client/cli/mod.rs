//! The commands of `musterctl`: arguments in, one or several questions to the server, a table or JSON out.
//!
//! Exit codes: 0 done; 1 the server refused, can't be reached, the thing is not there, a device was not
//! reached, or a run did not succeed; 2 wrong usage.

mod api_token;
mod application;
mod apply;
mod arguments;
mod artifact;
mod audit;
mod certificate;
mod device;
mod event;
mod group;
mod history;
mod json_file;
mod login;
mod output;
mod plot;
mod policy;
mod statistics;
mod status;
mod sync;
mod tag;
mod task;
mod token;
mod user;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use super::{Address, Client, ClientError, SERVER_VARIABLE};
use crate::wire::api::ErrorCode;
use arguments::{Arguments, Command};
use output::Output;

/// Exit code of wrong usage, as clap has it too.
const EXIT_USAGE: u8 = 2;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The server could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Standard output could not be written.
    #[error("can't write to standard output: {0}")]
    Output(#[from] io::Error),
    /// It was done, and did not end well everywhere: a device was not reached, or a run did not succeed.
    #[error("{0}")]
    NotReached(String),
    /// The arguments contradict each other.
    #[error("{0}")]
    Usage(String),
}

/// The command line.
pub(crate) fn command_line() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs `musterctl` with these arguments, the program's name first.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output and are no failure; a reader that has closed it has seen
            // enough.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE));
        }
    };
    let failure = match run(arguments) {
        Ok(()) => return ExitCode::SUCCESS,
        // The reader, such as `head`, has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    // Standard error is the last place to say anything.
    let _ = writeln!(io::stderr(), "musterctl: {}", output::plain(&failure.to_string()));
    let is_usage = match failure {
        Failure::Client(error) => error.code() == Some(ErrorCode::InvalidArgument),
        Failure::Usage(_) => true,
        Failure::Output(_) | Failure::NotReached(_) => false,
    };
    ExitCode::from(if is_usage { EXIT_USAGE } else { 1 })
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Command::Completion { shell } = arguments.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command_line(), "musterctl", &mut script);
        return Ok(io::stdout().write_all(&script)?);
    }
    let server = match (arguments.server, std::env::var(SERVER_VARIABLE)) {
        (Some(server), _) => server,
        (None, Ok(text)) if !text.is_empty() => {
            text.parse().map_err(|error| Failure::Usage(format!("{SERVER_VARIABLE}: {error}")))?
        }
        (None, _) => Address::of_this_machine(),
    };
    let mut output = Output::new(arguments.json);
    match &arguments.command {
        Command::Login(asked) => return login::login(server, &mut output, asked),
        Command::Logout => return login::logout(&server, &mut output),
        _ => {}
    }
    let token = login::token_for(&server)?;
    let mut client = Client::new(server)?;
    if let Some(token) = &token {
        client.sign_in(token);
    }
    let done = command(&mut client, &mut output, arguments.command);
    if let Some(token) = token {
        login::follow(&mut client, &token);
    }
    done
}

fn command(client: &mut Client, output: &mut Output, command: Command) -> Result<(), Failure> {
    match command {
        Command::Token(command) => token::run(client, output, command),
        Command::Device(command) => device::run(client, output, command),
        Command::Application(command) => application::run(client, output, command),
        Command::Event(command) => event::run(client, output, command),
        Command::Tag(command) => tag::run(client, output, command),
        Command::View(command) => tag::run_view(client, output, command),
        Command::Group(command) => group::run(client, output, command),
        Command::Policy(command) => policy::run(client, output, command),
        Command::Settings(command) => policy::run_settings(client, output, command),
        Command::Task(command) => task::run(client, output, command),
        Command::Artifact(command) => artifact::run(client, output, command),
        Command::Certificate(command) => certificate::run(client, output, command),
        Command::ApiToken(command) => api_token::run(client, output, command),
        Command::User(command) => user::run(client, output, command),
        Command::Audit(command) => audit::run(client, output, &command),
        // Done above: they need no client that has signed in.
        Command::Login(_) | Command::Logout | Command::Completion { .. } => Ok(()),
        Command::Apply(asked) => apply::run(client, output, &asked),
        Command::Status => status::run(client, output),
    }
}
