//! The client side in a process of its own, where one process may not open enough connections. Lines of JSON
//! go both ways.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use muster::agent::identity::Identity;
use serde::{Deserialize, Serialize};

use super::{Split, Workers};
use crate::engine::commands::{EngineCommand, Share};
use crate::engine::counters::Counts;
use crate::engine::{self, Told};
use crate::failure::Failure;
use crate::fleet::cache;
use crate::limits;

/// Interval at which it says its counts.
const COUNTS_MILLISECONDS: u64 = 20;

/// First line to the process.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// Of its engines.
    pub(crate) engine: engine::Setting,
    /// File of the identities.
    pub(crate) identities: PathBuf,
    /// The first of them, this many, are the fleet.
    pub(crate) devices: usize,
    /// Which of the processes it is.
    pub(crate) number: usize,
    pub(crate) split: Split,
}

/// Line of its output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// It waits for commands.
    Ready,
    /// Counts of its engines, together, when they have changed.
    Counts(Counts),
    /// Durations that its engines timed.
    Told(Told),
    /// It can't go on.
    Failed(String),
}

/// The hidden command `clients`.
pub(crate) fn run() -> Result<(), Failure> {
    let outcome = serve();
    if let Err(failure) = &outcome {
        say(&Line::Failed(failure.message.clone()))?;
    }
    outcome
}

fn serve() -> Result<(), Failure> {
    let mut lines = BufReader::new(std::io::stdin()).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    let setting: Setting = serde_json::from_str(&first)
        .map_err(|error| Failure::usage(format!("'clients' is not for people ({error})")))?;
    limits::raise();
    let identities = cache::read(&setting.identities).unwrap_or_default();
    if identities.len() < setting.devices {
        return Err(Failure::refused(format!("{} holds too few identities", setting.identities.display())));
    }
    let devices: Arc<[Identity]> = identities.into_iter().take(setting.devices).collect();
    let Split { processes, threads } = setting.split;
    let of = processes * threads;
    let shares = (0..threads).map(|thread| Share { number: setting.number * threads + thread, of });
    let workers = Workers::threads(&setting.engine, &devices, shares)?;
    say(&Line::Ready)?;
    let (sender, commands) = channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let Ok(order) = serde_json::from_str::<EngineCommand>(&line) else { return };
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    let mut said = Counts::default();
    loop {
        match commands.recv_timeout(Duration::from_millis(COUNTS_MILLISECONDS)) {
            Ok(EngineCommand::End) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(EngineCommand::Take) => {
                let told = workers.take()?;
                // Counts by then are known before it.
                say(&Line::Counts(workers.counts()))?;
                say(&Line::Told(told))?;
            }
            Ok(order) => workers.order(order)?,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let counts = workers.counts();
        if counts != said {
            said = counts;
            say(&Line::Counts(counts))?;
        }
    }
}

fn say(line: &Line) -> Result<(), Failure> {
    let line = serde_json::to_string(line).map_err(Failure::refused)?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush()).map_err(Failure::when("talk to the tool"))
}
