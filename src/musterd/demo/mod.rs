//! `musterd demo`: the main job, on this machine, with a real server process and a real agent process.
//!
//! Every step uses what a user would use, the commands and the administration API, and prints what it
//! measured. A step that does not do what it says ends the demo with exit code 1.

mod manage;
mod people;
mod process;
mod reach;
mod steps;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

/// Options of the demo.
#[derive(Args, Debug)]
pub(crate) struct DemoArguments {
    /// Keep everything in this directory [default: a directory of its own, removed at the end]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// End after the last step; exit code 0 only if every step worked
    #[arg(long)]
    exit: bool,
}

/// Why a step did not work.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

impl Failure {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl From<crate::client::ClientError> for Failure {
    fn from(error: crate::client::ClientError) -> Self {
        Self(error.to_string())
    }
}

/// Runs the demo.
pub(crate) fn run(arguments: &DemoArguments) -> ExitCode {
    let directory = match Directory::open(arguments.data.as_deref()) {
        Ok(directory) => directory,
        Err(failure) => {
            eprintln!("musterd demo: {failure}");
            return ExitCode::FAILURE;
        }
    };
    println!("muster {}: a server and an agent, on this machine, for real", env!("CARGO_PKG_VERSION"));
    println!("everything is kept in {}\n", directory.path.display());
    match steps::all(&directory.path, !arguments.exit) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nmusterd demo: this step failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Directory of the demo.
struct Directory {
    path: PathBuf,
    is_ours: bool,
}

impl Directory {
    fn open(wanted: Option<&Path>) -> Result<Self, Failure> {
        let (path, is_ours) = match wanted {
            Some(path) => (path.to_owned(), false),
            None => (std::env::temp_dir().join(format!("muster-demo-{}", std::process::id())), true),
        };
        let name = path.display();
        let mut entries = match std::fs::create_dir_all(&path).and_then(|()| std::fs::read_dir(&path)) {
            Ok(entries) => entries,
            Err(error) => return Err(Failure::new(format!("{name}: {error}"))),
        };
        if entries.next().is_some() {
            return Err(Failure::new(format!(
                "{name} is not empty: the demo starts from nothing, name another --data"
            )));
        }
        // Children are told their directories whatever directory they are started in.
        let path = path.canonicalize().map_err(|error| Failure::new(format!("{name}: {error}")))?;
        Ok(Self { path, is_ours })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// A duration as people read it: `0.42 ms`, `18 ms`, `1.3 s`.
fn shown(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1_000.0;
    match milliseconds {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1_000.0),
    }
}
