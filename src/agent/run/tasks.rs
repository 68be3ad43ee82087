//! Runs of tasks: ordered by the server, executed under supervisors, reported.

use super::{Agent, Now, RUNS};
use crate::agent::local::protocol::RunStatus;
use crate::agent::settings::CONCURRENT_RUNS_MAX;
use crate::agent::task::files::uptime_milliseconds;
use crate::agent::task::plan::plan;
use crate::wire::id::RunId;
use crate::wire::task::{RunAck, RunOrder};

const _: () = assert!(RUNS + CONCURRENT_RUNS_MAX <= super::LOCAL);

impl Agent {
    /// Keeps an ordered run, and has it executed.
    pub(super) fn take_run(&mut self, now: &Now, order: &RunOrder) {
        // A run that this device does not execute is refused at once, and not when its turn would come.
        let rejection = plan(&self.settings, order).err();
        self.machine.forget_run(order.run);
        if let Err(error) = self.runs.accept(order, now, rejection) {
            log::error!("run {} is not accepted, the server will order it again: {error}", order.run);
        }
        self.work_on_runs(now);
    }

    /// Ends runs that the server does not want, and reports those that this device does not know.
    pub(super) fn take_run_list(&mut self, now: &Now, runs: &[RunId]) {
        for run in runs.iter().filter(|run| !self.runs.has(**run)) {
            // It is said anew.
            self.machine.forget_run(*run);
        }
        self.runs.keep_only(runs, now);
        self.work_on_runs(now);
    }

    /// Forgets runs whose final report is stored.
    pub(super) fn runs_stored(&mut self, now: &Now, acks: &[RunAck]) {
        if let Err(error) = self.runs.stored(acks) {
            log::error!("runs that are over can't be forgotten, they are reported again: {error}");
        }
        self.work_on_runs(now);
    }

    /// The line to a supervisor has something to say.
    pub(super) fn hear_run(&mut self, now: &Now, slot: usize) {
        self.runs.heard(slot, now);
    }

    /// Begins and looks at what is due, and has the machine report it.
    pub(super) fn work_on_runs(&mut self, now: &Now) {
        // An agent that is about to end begins nothing; what runs goes on under its supervisor.
        if !self.mode.is_leaving() {
            self.runs.note_uptime(uptime_milliseconds(), now);
            self.runs.work(&self.settings, self.poll.registry(), RUNS, now);
        }
        for update in self.runs.take_news() {
            self.machine.report_run(update);
        }
        let digest = self.runs.digest();
        if digest != self.runs_digest {
            self.runs_digest = digest;
            self.name_desired_digests();
        }
    }

    /// A machine that has just been made hears what is not yet stored at its server.
    pub(super) fn hand_runs_in(&mut self) {
        for update in self.runs.final_reports() {
            self.machine.report_run(update);
        }
        self.runs_digest = self.runs.digest();
        self.name_desired_digests();
    }

    /// For `muster-agent status`.
    pub(super) fn run_statuses(&self) -> Vec<RunStatus> {
        let runs = self.runs.list();
        runs.into_iter()
            .map(|(order, stage, accepted_at, progress)| RunStatus {
                run: order.run,
                application: order.application.clone(),
                kind: order.kind.clone(),
                stage,
                accepted_at,
                progress_percent: progress.percent,
                message: progress.message,
            })
            .collect()
    }
}
