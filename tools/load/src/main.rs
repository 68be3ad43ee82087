//! `muster-load`: simulates devices and measures what they cost a server.
#![forbid(unsafe_code)]

mod arguments;
mod engine;
mod failure;
mod fleet;
mod interrupt;
mod limits;
mod modes;
mod observe;
mod report;
mod subject;
mod workers;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Command::Server => subject::child::run().map(|()| true),
        Command::Clients => workers::child::run().map(|()| true),
        Command::Hold(hold) => modes::hold::run(hold),
        Command::Storm(storm) => modes::storm::run(storm),
        Command::Sync(sync) => modes::sync::run(sync),
        Command::Events(events) => modes::events::run(events),
        Command::Wake(wake) => modes::wake::run(wake),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("muster-load: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
