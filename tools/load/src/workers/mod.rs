//! The engines of a run, in threads of this process or in processes of their own, and what they say together.

pub(crate) mod child;
mod process;
mod thread;

use std::path::Path;
use std::sync::Arc;

use muster::agent::identity::Identity;
use serde::{Deserialize, Serialize};

use crate::engine::commands::{EngineCommand, Share};
use crate::engine::counters::Counts;
use crate::engine::{Setting, Told};
use crate::failure::Failure;
use process::ProcessWorker;
use thread::ThreadWorker;

/// Division of the work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Split {
    /// Processes; 1: this one alone.
    pub(crate) processes: usize,
    /// Threads of each.
    pub(crate) threads: usize,
}

enum Worker {
    Thread(ThreadWorker),
    Process(ProcessWorker),
}

/// The engines of a run.
pub(crate) struct Workers {
    workers: Vec<Worker>,
}

impl Workers {
    /// Starts them. Processes read the identities from `file`.
    pub(crate) fn start(
        setting: &Setting,
        devices: &Arc<[Identity]>,
        split: Split,
        file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let Some(file) = file.filter(|_| split.processes > 1) else {
            let shares = (0..split.threads).map(|number| Share { number, of: split.threads });
            return Self::threads(setting, devices, shares);
        };
        let start = |number| {
            let (engine, identities) = (setting.clone(), file.to_owned());
            let setting = child::Setting { engine, identities, devices: devices.len(), number, split };
            ProcessWorker::start(&setting).map(Worker::Process)
        };
        Ok(Self { workers: (0..split.processes).map(start).collect::<Result<_, _>>()? })
    }

    /// Starts engines in threads of this process, one for each share.
    fn threads(
        setting: &Setting,
        devices: &Arc<[Identity]>,
        shares: impl Iterator<Item = Share>,
    ) -> Result<Self, Failure> {
        let start = |share| ThreadWorker::start(setting, devices, share).map(Worker::Thread);
        Ok(Self { workers: shares.map(start).collect::<Result<_, _>>()? })
    }

    /// Tells all of them the same.
    pub(crate) fn order(&self, order: EngineCommand) -> Result<(), Failure> {
        self.workers.iter().try_for_each(|worker| match worker {
            Worker::Thread(worker) => worker.order(order),
            Worker::Process(worker) => worker.order(order),
        })
    }

    /// Their counts, together.
    pub(crate) fn counts(&self) -> Counts {
        let counts = self.workers.iter().map(|worker| match worker {
            Worker::Thread(worker) => worker.counts(),
            Worker::Process(worker) => worker.counts(),
        });
        counts.fold(Counts::default(), |all, one| all + one)
    }

    /// Durations that they timed since the last time, and faults, each once.
    pub(crate) fn take(&self) -> Result<Told, Failure> {
        self.order(EngineCommand::Take)?;
        let mut all = Told::default();
        for worker in &self.workers {
            let told = match worker {
                Worker::Thread(worker) => worker.told()?,
                Worker::Process(worker) => worker.told()?,
            };
            all.measures.add(&told.measures)?;
            for trouble in told.troubles {
                if !all.troubles.contains(&trouble) {
                    all.troubles.push(trouble);
                }
            }
        }
        Ok(all)
    }

    /// The processes that they run in.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<_> = self
            .workers
            .iter()
            .map(|worker| match worker {
                Worker::Thread(_) => std::process::id(),
                Worker::Process(worker) => worker.pid(),
            })
            .collect();
        pids.dedup();
        pids
    }
}
