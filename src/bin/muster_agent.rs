//! The agent: arguments in, one call, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster::programs::muster_agent(std::env::args_os())
}
