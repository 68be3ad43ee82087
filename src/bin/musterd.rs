//! The server: arguments in, one call, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster::programs::musterd(std::env::args_os())
}
