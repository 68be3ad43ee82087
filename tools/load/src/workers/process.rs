//! Engines in another process, from this side.

use std::io::{BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::child::{Line, Setting};
use super::thread::TOLD_SECONDS_MAX;
use crate::engine::Told;
use crate::engine::commands::EngineCommand;
use crate::engine::counters::{Counters, Counts};
use crate::failure::Failure;

/// Time of a process to read its identities and make its engines.
const READY_SECONDS_MAX: u64 = 60;

/// Engines in another process.
pub(super) struct ProcessWorker {
    child: Child,
    input: Mutex<Option<ChildStdin>>,
    told: Receiver<Told>,
    counters: Arc<Counters>,
}

impl ProcessWorker {
    pub(super) fn start(setting: &Setting) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::when("find this program"))?;
        let mut child = Command::new(program)
            .arg("clients")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(Failure::when("start another process of this program"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (ready, is_ready) = bounded(1);
        let (tell, told) = unbounded();
        let counters = Arc::new(Counters::default());
        if let Some(output) = output {
            let counters = Arc::clone(&counters);
            std::thread::spawn(move || listen(BufReader::new(output), &counters, &ready, &tell));
        }
        let worker = Self { child, input: Mutex::new(input), told, counters };
        worker.write(&serde_json::to_string(setting).map_err(Failure::refused)?)?;
        match is_ready.recv_timeout(Duration::from_secs(READY_SECONDS_MAX)) {
            Ok(Ok(())) => Ok(worker),
            Ok(Err(why)) => {
                Err(Failure::refused(format!("a process of simulated devices can't begin: {why}")))
            }
            Err(_) => Err(Failure::refused("a process of simulated devices did not begin")),
        }
    }

    pub(super) fn order(&self, order: EngineCommand) -> Result<(), Failure> {
        self.write(&serde_json::to_string(&order).map_err(Failure::refused)?)
    }

    fn write(&self, line: &str) -> Result<(), Failure> {
        let mut input = self.input.lock().map_err(|_| Failure::refused("a thread of the tool has failed"))?;
        let input =
            input.as_mut().ok_or_else(|| Failure::refused("a process of simulated devices has ended"))?;
        writeln!(input, "{line}").map_err(Failure::when("talk to a process of simulated devices"))
    }

    pub(super) fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// Durations of its engines, together.
    pub(super) fn told(&self) -> Result<Told, Failure> {
        self.told
            .recv_timeout(Duration::from_secs(TOLD_SECONDS_MAX))
            .map_err(|_| Failure::refused("a process of simulated devices does not answer"))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ProcessWorker {
    fn drop(&mut self) {
        if let Ok(mut input) = self.input.lock() {
            *input = None;
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hears what the process says, until it says nothing more.
fn listen(
    output: impl std::io::BufRead,
    counters: &Counters,
    ready: &Sender<Result<(), String>>,
    tell: &Sender<Told>,
) {
    for line in output.lines().map_while(Result::ok) {
        // Nobody may wait for it any more, and nothing else is lost then.
        match serde_json::from_str(&line) {
            Ok(Line::Ready) => drop(ready.try_send(Ok(()))),
            Ok(Line::Counts(counts)) => counters.set(&counts),
            Ok(Line::Told(told)) => drop(tell.send(told)),
            Ok(Line::Failed(why)) => drop(ready.try_send(Err(why))),
            Err(error) => drop(ready.try_send(Err(error.to_string()))),
        }
    }
}
