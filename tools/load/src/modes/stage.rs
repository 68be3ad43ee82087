//! A prepared run: the server, the engines, the watch, and the report that grows.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use muster::agent::identity::Identity;

use super::watch::Watch;
use crate::arguments::Common;
use crate::engine::Told;
use crate::engine::commands::EngineCommand;
use crate::engine::counters::Counts;
use crate::engine::measures::Measures;
use crate::failure::Failure;
use crate::interrupt;
use crate::observe::process::ServerProcess;
use crate::report::model::{Figure, Latency, Report};
use crate::report::progress::{Phase, Progress};
use crate::report::{html, json, table};
use crate::subject::Subject;
use crate::subject::directory::Scratch;
use crate::workers::Workers;

/// Devices that are brought up at a time.
pub(super) const AT_A_TIME: usize = 64;

/// Interval at which counters are looked at.
const LOOK_MILLISECONDS: u64 = 10;

/// A prepared run.
pub(crate) struct Stage {
    // Before the server: the devices leave first.
    pub(crate) workers: Workers,
    /// Those that visit.
    pub(crate) visitors: Option<Workers>,
    pub(crate) subject: Subject,
    pub(crate) devices: Arc<[Identity]>,
    pub(crate) watch: Watch,
    pub(crate) steps: Progress,
    /// Servers that were looked at before the run, each just started, the one that knows fewest devices
    /// first.
    pub(crate) started: Vec<Started>,
    pub(crate) report: Report,
    /// Number of devices that may be started a second.
    pub(crate) starts_per_second: Option<f64>,
    /// Threads that simulate devices, in all processes.
    pub(crate) engines: usize,
    pub(super) begun: Instant,
    pub(super) clients: Vec<ServerProcess>,
    pub(super) common: Common,
    /// Files that are removed at the end.
    pub(super) _scratch: Option<Scratch>,
}

/// A server that has just been started, without a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Started {
    /// Number of devices that it knows.
    pub(crate) devices: u64,
    pub(crate) private_bytes: u64,
    pub(crate) resident_bytes: u64,
}

/// End of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waited {
    /// The awaited state is there.
    Done,
    /// The time was up.
    TimedOut,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl Stage {
    /// Gives the report its name.
    pub(crate) fn entitle(&mut self, command: &str, title: &str) {
        (self.report.command, self.report.title) = (command.to_owned(), title.to_owned());
    }

    pub(crate) fn parameter(&mut self, name: &str, value: impl std::fmt::Display) {
        self.report.parameters.push((name.to_owned(), value.to_string()));
    }

    /// Adds a number of things.
    pub(crate) fn count(&mut self, name: &str, label: &str, count: u64) {
        self.figure(name, label, float(count));
    }

    /// Adds a figure, if its value is known.
    pub(crate) fn figure(&mut self, name: &str, label: &str, value: impl Into<Option<f64>>) {
        self.noted_figure(name, label, value, "");
    }

    pub(crate) fn noted_figure(
        &mut self,
        name: &str,
        label: &str,
        value: impl Into<Option<f64>>,
        note: &str,
    ) {
        let figure = value.into().map(|value| Figure::new(name, label, value, note));
        self.report.figures.extend(figure);
    }

    pub(crate) fn latency(&mut self, name: &str, label: &str, histogram: &Histogram<u64>) {
        if !histogram.is_empty() {
            let (name, label) = (name.to_owned(), label.to_owned());
            self.report.latencies.push(Latency { name, label, histogram: histogram.clone() });
        }
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.report.notes.push(note.into());
    }

    /// Tells the visitors.
    pub(crate) fn order_visitors(&self, order: EngineCommand) -> Result<(), Failure> {
        self.visitors.as_ref().map_or(Ok(()), |visitors| visitors.order(order))
    }

    /// Number of visits.
    pub(crate) fn visits(&self) -> u64 {
        self.visitors.as_ref().map_or(0, |visitors| visitors.counts().visits)
    }

    /// Waits until the counters say so. Fails when the tool's own server has died and should not have.
    pub(crate) fn wait(
        &mut self,
        phase: &Phase,
        limit: Duration,
        done: impl Fn(&Counts) -> u64,
        target: u64,
    ) -> Result<Waited, Failure> {
        let until = Instant::now() + limit;
        loop {
            let reached = done(&self.workers.counts());
            phase.set(reached.min(target));
            if reached >= target {
                return Ok(Waited::Done);
            }
            if interrupt::requested() {
                return Ok(Waited::Interrupted);
            }
            if Instant::now() >= until {
                return Ok(Waited::TimedOut);
            }
            self.subject.check()?;
            interrupt::sleep(Duration::from_millis(LOOK_MILLISECONDS));
        }
    }

    /// Lets a load go on for a time. Whether all of it passed.
    pub(crate) fn pass(&mut self, name: &str, time: Duration) -> Result<bool, Failure> {
        let phase = self.steps.phase(name, time.as_secs());
        let begun = Instant::now();
        while begun.elapsed() < time {
            phase.set(begun.elapsed().as_secs());
            self.subject.check()?;
            let left = time.saturating_sub(begun.elapsed());
            if !interrupt::sleep(left.min(Duration::from_millis(100))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Has `devices` devices run.
    pub(crate) fn run(&self, devices: usize, at_a_time: usize) -> Result<(), Failure> {
        self.workers.order(EngineCommand::Run { devices, at_a_time, rate: self.starts_per_second })
    }

    /// Starts devices until `devices` are live, and says why when they do not come.
    pub(crate) fn bring_up(&mut self, devices: usize, at_a_time: usize) -> Result<Waited, Failure> {
        self.run(devices, at_a_time)?;
        let phase = self.steps.phase("connecting", devices as u64);
        let paced = self.starts_per_second.map_or(0.0, |rate| float(devices as u64) / rate);
        let limit = timeout(devices) + Duration::from_secs_f64(paced);
        let waited = self.wait(&phase, limit, |counts| counts.live, devices as u64)?;
        if waited == Waited::TimedOut {
            let live = self.workers.counts().live;
            return Err(Failure::refused(format!("only {live} of {devices} devices came up{}", self.why()?)));
        }
        Ok(waited)
    }

    /// Faults of links, to be added to a sentence.
    pub(crate) fn why(&mut self) -> Result<String, Failure> {
        let troubles = self.workers.take()?.troubles;
        let mut why = String::new();
        for trouble in &troubles {
            // A text can always be written to.
            let _ = write!(why, "{}{trouble}", if why.is_empty() { ": " } else { "; " });
        }
        if why.is_empty() {
            why.push_str(": the server says nothing");
        }
        if self.subject.own.is_none() {
            why.push_str(" (were the devices removed there? --no-cache enrols new ones)");
        }
        Ok(why)
    }

    /// Durations that were timed since the last time; troubles become notes.
    pub(crate) fn take(&mut self) -> Result<Measures, Failure> {
        let Told { measures, troubles } = self.workers.take()?;
        for trouble in troubles {
            self.note(format!("A link ended: {trouble}."));
        }
        Ok(measures)
    }

    /// Ends the events, and waits for the last acknowledgements. Number of events, whether all were
    /// acknowledged, and the durations that were timed since the last time.
    pub(crate) fn end_events(&mut self) -> Result<(u64, Waited, Measures), Failure> {
        self.workers.order(EngineCommand::StopEvents)?;
        // An engine that answers has obeyed what came before: no event occurs any more.
        let mut measures = self.workers.take()?.measures;
        let emitted = self.workers.counts().emitted;
        let phase = self.steps.phase("last acknowledgements", emitted);
        let waited = self.wait(&phase, timeout(0), |counts| counts.acknowledged, emitted)?;
        drop(phase);
        let rest = self.take()?;
        measures.add(&rest)?;
        Ok((emitted, waited, measures))
    }

    /// Processor time that the simulated devices have used, in microseconds.
    pub(crate) fn client_cpu(&mut self) -> u64 {
        self.clients.iter_mut().filter_map(|client| Some(client.sample()?.cpu_microseconds)).sum()
    }

    /// Prints the report. Whether nothing was missed.
    pub(crate) fn finish(mut self) -> Result<bool, Failure> {
        self.report.seconds = self.begun.elapsed().as_secs_f64();
        if interrupt::requested() {
            self.note("The run was interrupted: the figures are those up to then.");
        }
        if self.common.json {
            let document =
                serde_json::to_string_pretty(&json::render(&self.report)).map_err(Failure::refused)?;
            println!("{document}");
        } else {
            table::print(&self.report).map_err(Failure::when("print the tables"))?;
        }
        if let Some(path) = &self.common.report {
            std::fs::write(path, html::render(&self.report))
                .map_err(Failure::when(format!("write the report {}", path.display())))?;
        }
        Ok(self.report.passed != Some(false))
    }
}

/// Time of `devices` devices to come up: 50 a second, on the slowest machine, and a minute.
pub(crate) fn timeout(devices: usize) -> Duration {
    Duration::from_secs(60 + devices as u64 / 50)
}

/// A count as a float.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
