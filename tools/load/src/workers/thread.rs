//! An engine in a thread of this process.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;
use muster::agent::identity::Identity;

use crate::engine::commands::{EngineCommand, Share};
use crate::engine::counters::{Counters, Counts};
use crate::engine::{Engine, Setting, Told};
use crate::failure::Failure;

/// Time of an engine to tell what it timed: it may be shaking hands with thousands.
pub(super) const TOLD_SECONDS_MAX: u64 = 60;

/// An engine in a thread.
pub(super) struct ThreadWorker {
    commands: Sender<EngineCommand>,
    told: Receiver<Told>,
    waker: Arc<Waker>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl ThreadWorker {
    pub(super) fn start(setting: &Setting, devices: &Arc<[Identity]>, share: Share) -> Result<Self, Failure> {
        // Commands are few: a person's, or a phase's.
        let (commands, ordered) = unbounded();
        let (tell, told) = unbounded();
        let counters = Arc::new(Counters::default());
        let made = Engine::new(setting, devices, share, Arc::clone(&counters), ordered, tell);
        let (engine, waker) = made.map_err(Failure::when("make an engine for simulated devices"))?;
        let thread =
            std::thread::Builder::new().name(format!("engine-{}", share.number)).spawn(|| engine.run());
        let thread = Some(thread.map_err(Failure::when("start a thread"))?);
        Ok(Self { commands, told, waker, counters, thread })
    }

    pub(super) fn order(&self, order: EngineCommand) -> Result<(), Failure> {
        let ended =
            |_| Failure::refused("a thread of simulated devices has ended: the system refused to poll");
        self.commands.send(order).map_err(ended)?;
        self.waker.wake().map_err(Failure::when("wake an engine"))
    }

    pub(super) fn counts(&self) -> Counts {
        self.counters.read()
    }

    pub(super) fn told(&self) -> Result<Told, Failure> {
        self.told
            .recv_timeout(Duration::from_secs(TOLD_SECONDS_MAX))
            .map_err(|_| Failure::refused("a thread of simulated devices does not answer"))
    }
}

impl Drop for ThreadWorker {
    fn drop(&mut self) {
        let _ = self.order(EngineCommand::End);
        if let Some(thread) = self.thread.take() {
            // The way of its end is of no interest any more.
            let _ = thread.join();
        }
    }
}
