//! The task `upgrade`: a run of it puts a release into the free slot, has the agent start anew as that, and
//! waits for what becomes of it. Its artifact was judged before: the trusted key has signed it.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use serde::Deserialize;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::rules::{Release, judge_comment};
use super::store::{ReleaseStore, hash_of};
use super::{architecture, installed, refusal};
use crate::agent::application::TaskKind;
use crate::agent::local::client::LocalClient;
use crate::agent::open;
use crate::agent::process;
use crate::agent::waiting::{signals, wait_for};
use crate::wire::artifact::ArtifactUse;
use crate::wire::id::ArtifactHash;
use crate::wire::settings;

/// The program's hidden command.
pub const COMMAND: &str = "apply-release";

/// The kind of task of the agent that replaces it.
pub const KIND: &str = "upgrade";

/// Time in which a release has to come in sync when the task does not say.
const WITHIN_SECONDS_DEFAULT: u32 = 300;

/// Shortest such time: a start and a sync over a slow line.
const WITHIN_SECONDS_MIN: u32 = 5;

/// Longest such time, and longest run: a day.
const WITHIN_SECONDS_MAX: u32 = 86_400;

/// Most bytes of a run's settings.
const SETTINGS_BYTES_MAX: u64 = 16 * 1024;

/// Time of a release to say its version, before it is tried.
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// Most bytes that it may say.
const VERSION_BYTES_MAX: usize = 4096;

/// Time of the agent's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval at which the outcome is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    within_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { within_seconds: WITHIN_SECONDS_DEFAULT }
    }
}

/// The kind of task, for an agent with this socket; `None`: it is in the data directory.
#[must_use]
pub fn kind(socket: Option<&Path>) -> TaskKind {
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "within_seconds": {
                "type": "integer", "minimum": WITHIN_SECONDS_MIN, "maximum": WITHIN_SECONDS_MAX,
            },
        },
    });
    let declared = settings::TaskKind {
        kind: KIND.to_owned(),
        schema: schema.to_string(),
        timeout_seconds: WITHIN_SECONDS_MAX,
        is_repeatable: true,
        artifact: ArtifactUse::Signed,
    };
    // A brace is a placeholder's unless it is doubled.
    let socket = socket.map(|path| path.to_string_lossy().replace('{', "{{").replace('}', "}}"));
    let mut command = vec!["/proc/self/exe".to_owned(), COMMAND.to_owned(), "{artifact}".to_owned()];
    command.extend(socket);
    TaskKind { declared, command: Some(command), user: None, directory: None, function: None }
}

/// Runs the hidden command with what follows it. It prints the run's output.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    let (Some(artifact), 1..=2) = (arguments.first().map(Path::new), arguments.len()) else {
        eprintln!("muster-agent: {COMMAND} is for runs of the task '{KIND}' alone");
        return ExitCode::from(2);
    };
    // Artifacts are in a directory of the data directory.
    let data = artifact.ancestors().nth(2).unwrap_or(artifact);
    let socket = arguments.get(1).map_or_else(|| data.join("agent.sock"), PathBuf::from);
    match apply(data, artifact, &socket) {
        Ok(done) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|error| format!("{name}: {error}"))
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn apply(data: &Path, artifact: &Path, socket: &Path) -> Result<String, String> {
    if let Some(refusal) = refusal() {
        return Err(refusal);
    }
    // Before the trial begins: what ends this run ends that.
    let mut told = signals(&[SIGTERM, SIGINT, SIGHUP]).map_err(words)?;
    let mut text = String::new();
    io::stdin().take(SETTINGS_BYTES_MAX).read_to_string(&mut text).map_err(words)?;
    let settings: Settings = serde_json::from_str(&text).map_err(words)?;
    let hash: ArtifactHash = variable("MUSTER_ARTIFACT_SHA256")?.parse().map_err(words)?;
    let comment = variable("MUSTER_ARTIFACT_COMMENT")?;
    let store = ReleaseStore::new(data);
    store.make().map_err(words)?;
    let Some(release) = begin(&store, artifact, hash, &comment, settings.within_seconds)? else {
        return Ok(format!("this release runs already: {comment}"));
    };
    println!("release {} is on trial: the agent starts anew", release.version);
    let asked = LocalClient::connect(socket, ANSWER_TIMEOUT)
        .and_then(|mut agent| agent.ask(&json!({ "command": "restart" })));
    if let Err(error) = asked {
        // It is due whenever the agent is started.
        println!("the agent does not start anew by itself: {error}");
    }
    loop {
        let is_told = wait_for(&mut [PollFd::new(&told, PollFlags::IN)], Instant::now() + LOOK_INTERVAL);
        let is_told = is_told.map_err(words)? && crate::agent::waiting::drain(&mut told);
        let lock = store.lock().map_err(words)?;
        let releases = lock.change(|releases| {
            is_told
                && releases.tries(hash).is_some()
                && releases.take_back("its run was ended before it had come in sync")
        })?;
        if releases.tries(hash).is_some() {
            continue;
        }
        if releases.current.is_some_and(|current| current.hash == hash) {
            return Ok(format!("release {} is in sync, and stays", release.version));
        }
        let failed = releases.failed.filter(|failed| failed.hash == hash);
        let why = failed.map_or_else(|| "another one took its place".to_owned(), |failed| failed.reason);
        return Err(format!("release {} was taken back: {why}", release.version));
    }
}

/// Puts the release into the free slot, and has it tried; `None`: it runs already.
fn begin(
    store: &ReleaseStore,
    artifact: &Path,
    hash: ArtifactHash,
    comment: &str,
    within_seconds: u32,
) -> Result<Option<Release>, String> {
    let lock = store.lock().map_err(words)?;
    let mut releases = lock.read()?;
    let installed = installed().ok_or("the installed program is not found")?;
    let installed = hash_of(&installed).map_err(words)?;
    let runs = releases.current.as_ref().map_or(installed, |current| current.hash);
    if runs == hash && releases.trial.is_none() {
        return Ok(None);
    }
    let running = releases.current.as_ref().map_or(env!("CARGO_PKG_VERSION"), |current| &current.version);
    let version = judge_comment(comment, running, &architecture())?;
    match &releases.trial {
        // This run was interrupted, and is executed again.
        Some(trial) if trial.release.hash == hash => return Ok(Some(trial.release.clone())),
        Some(trial) => return Err(format!("release {} is on trial", trial.release.version)),
        None => {}
    }
    let slot = releases.free();
    let program = store.place(slot, &mut open::file(artifact).map_err(words)?).map_err(words)?;
    // One that can't be executed at all is found out before the agent goes.
    let question = [program.to_string_lossy().into_owned(), "--version".to_owned()];
    let answer = process::run(&question, VERSION_TIMEOUT, VERSION_BYTES_MAX).map_err(words)?;
    if let Some(failure) = answer.failure("it, asked for its version,") {
        return Err(failure);
    }
    let release = Release { slot, hash, version };
    releases.begin(installed, release.clone(), within_seconds);
    lock.write(&releases)?;
    Ok(Some(release))
}
