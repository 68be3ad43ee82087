//! The command line of `muster-agent`: arguments in, exit code out.
//!
//! 0: done. 1: refused, unreachable or not there; one line on standard error says what was wrong and what to
//! do. 2: bad usage, a wrong configuration among it.

/// Prints a line, or several, on standard output: what comes from a server or an application among it as
/// escapes where it would command the terminal.
macro_rules! say {
    ($($text:tt)*) => {
        println!("{}", crate::wire::printable::escaped_lines(&format!($($text)*)))
    };
}

mod arguments;
pub mod context;
mod control;
mod enroll;
mod install;

use std::any::Any;
use std::cell::Cell;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;
use std::{fmt, io};

use clap::Parser as _;

use context::Context;

pub use arguments::{
    Arguments, Check, Command, Common, Emit, Enroll, Install, InstallPlace, Move, Notice, NoticeWhat,
    PrepareImage, Status, TokenSource, Uninstall,
};
pub use install::ServiceManager;

use crate::agent::join;
use crate::agent::release::{
    self,
    enter::{Entered, Place},
};
use crate::agent::run::{Agent, End, Signals, Surroundings};
use crate::agent::settings::LogLevel;
use crate::agent::task::{execution, supervisor};
use crate::configuration::ConfigError;
use crate::wire::time::Moment;
use crate::{logging, service_manager};

/// Why a command did not do what it was asked, and its exit code.
#[derive(Debug)]
pub(crate) struct CommandError {
    message: String,
    code: u8,
}

impl CommandError {
    /// It was refused, or something is not there.
    pub(crate) fn refused(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: 1 }
    }

    /// It can't be asked like that.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: 2 }
    }
}

impl<E: std::error::Error + 'static> From<E> for CommandError {
    /// A wrong configuration is bad usage, and everything else is refused.
    fn from(error: E) -> Self {
        let is_usage = (&error as &dyn Any).is::<ConfigError>();
        if is_usage { Self::usage(error) } else { Self::refused(error) }
    }
}

/// No core dumps, which would hold the device's key: neither in a file nor for a program of core(5). It
/// concerns this process alone; what it starts may dump (prctl(2)).
fn forbid_core_dumps() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// The command line.
#[cfg(all(feature = "demo", feature = "internals"))]
pub(crate) fn command_line() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the agent's command line. The first argument is the program's name.
#[must_use]
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    match arguments.get(1).and_then(|command| command.to_str()) {
        Some(execution::COMMAND) => return supervisor::main(&arguments[2..]),
        Some(release::apply::COMMAND) => return release::apply::main(&arguments[2..]),
        Some(release::watcher::COMMAND) => return release::watcher::main(&arguments[2..]),
        _ => {}
    }
    forbid_core_dumps();
    // Before anything that takes time: until then they end the process, whatever they ask for.
    let signals = arguments.get(1).is_some_and(|command| command == "run").then(Signals::catch);
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output with code 0, everything else to standard error with 2.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let done = match &arguments.command {
        Command::Enroll(arguments) => enroll::enroll_device(arguments),
        Command::Status(arguments) => control::status(arguments),
        Command::Sync(common) => control::sync(common),
        Command::Run(common) => run(common, signals),
        Command::Check(arguments) => context::check(arguments),
        Command::CheckConfig(common) => context::check_configuration(common),
        Command::PrepareImage(arguments) => enroll::prepare_image(arguments),
        Command::Install(arguments) => install::install(arguments),
        Command::Uninstall(arguments) => install::uninstall(arguments),
        Command::Move(arguments) => enroll::move_device(arguments),
        Command::Notice(arguments) => control::notice(arguments),
        Command::Emit(arguments) => control::emit(arguments),
    };
    match done {
        Ok(()) => {
            logging::flush();
            ExitCode::SUCCESS
        }
        Err(error) => {
            logging::last_line(&format!("muster-agent: {}", error.message));
            ExitCode::from(error.code)
        }
    }
}

/// Runs the agent until a signal asks for the end. `signals`: caught since the process began.
fn run(common: &Common, signals: Option<io::Result<Signals>>) -> Result<(), CommandError> {
    let signals = signals
        .unwrap_or_else(Signals::catch)
        .map_err(|error| CommandError::refused(format!("can't handle signals: {error}")))?;
    let context = Context::or_last_good(common)?;
    logging::start(context.settings.log_level.into())
        .map_err(|error| CommandError::refused(format!("can't start logging: {error}")))?;
    let (data, socket, server) = (&context.data, &context.socket(), context.settings.server.as_deref());
    let entered = release::enter::enter(&Place { data, socket, server });
    if !join::at_first_boot(&context, &signals)? {
        return Ok(());
    }
    let service =
        Service { interval: service_manager::watchdog_interval(), due: Cell::new(Moment(0)), entered };
    match Agent::new(context, Some(signals), Box::new(service)).and_then(Agent::run)? {
        End::Asked => Ok(()),
        End::Restart => {
            Err(CommandError::refused(format!("it can't begin anew: {}", release::enter::start_anew())))
        }
    }
}

/// A service, and a process that logs.
struct Service {
    /// Interval at which the service manager wants to hear that all is well, if it does.
    interval: Option<Duration>,
    due: Cell<Moment>,
    entered: Entered,
}

impl Surroundings for Service {
    fn turns(&self, now: Moment) -> Option<Moment> {
        let interval = self.interval?;
        if self.due.get() <= now {
            service_manager::well();
            self.due.set(now + interval);
        }
        Some(self.due.get())
    }

    fn ready(&self) {
        service_manager::ready();
    }

    fn reloading(&self) {
        service_manager::reloading();
    }

    fn synced(&self) {
        self.entered.synced();
    }

    fn stopping(&self) {
        service_manager::stopping();
    }

    fn status(&self, text: &str) {
        service_manager::status(text);
    }

    fn set_log_level(&self, level: LogLevel) {
        logging::set_level(level.into());
    }
}

#[cfg(test)]
mod tests;
