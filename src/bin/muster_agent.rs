//! The agent: arguments in, one call, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster::agent::cli::main(std::env::args_os())
}
