//! The control command: arguments in, one call, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster::programs::musterctl(std::env::args_os())
}
