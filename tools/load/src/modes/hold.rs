//! `muster-load hold`: devices that stay connected, and what each of them costs.
//!
//! First all come and go, with their first upload and once more: what visits take once is no part of a link.
//! Then they connect in steps, and at each the tool waits until the server has given back what it does not
//! need.

use std::time::{Duration, Instant};

use super::density::{self, Point};
use super::handshake;
use super::prepare::{StageRequest, prepare};
use super::stage::{Stage, Waited, float};
use super::watch::share;
use crate::arguments::Hold;
use crate::engine::counters::Counts;
use crate::failure::Failure;
use crate::interrupt;
use crate::observe::process::ProcessSample;
use crate::report::model::Curve;

/// Number of steps at which the memory is looked at.
const STEPS: usize = 6;

/// The same where there are too few devices for a slope.
const STEPS_OF_FEW: usize = 1;

/// Time of memory to come back.
const BACK_SECONDS: u64 = 5;

/// Share by which memory may be above its value then.
const BACK_SHARE_MAX: f64 = 0.10;

/// Time of links to close.
const CLOSING_SECONDS_MAX: u64 = 60;

/// Runs the command. Whether nothing was missed.
pub(crate) fn run(hold: &Hold) -> Result<bool, Failure> {
    let common = &hold.common;
    let devices = common.devices_or(1_000);
    let request = StageRequest { devices, wants_starts: true, ..StageRequest::default() };
    let mut stage = prepare(common, request)?;
    stage.entitle("hold", "Devices that stay connected");
    let at_a_time = hold.at_a_time;
    stage.parameter("connecting at a time", at_a_time);
    if let Some(rate) = hold.rate {
        stage.parameter("connections a second at most", rate);
        stage.starts_per_second = Some(rate);
    }
    let devices = stage.devices.len();
    let mut waited = visit(&mut stage, devices, at_a_time)?;
    let mut points = Vec::new();
    let before = stage.workers.counts();
    if waited == Waited::Done {
        points.push(Point::take(&mut stage, 0));
        waited = climb(&mut stage, devices, at_a_time, &mut points)?;
    }
    let links = stage.workers.counts().open;
    stage.count("links", "links: held", links);
    if waited == Waited::Done {
        rest(&mut stage, common.seconds_or(10))?;
    }
    let since = stage.workers.counts().since(&before);
    stage.count("links_lost", "links: lost", since.lost);
    if waited == Waited::Done && !interrupt::requested() {
        let full = handshake::measure(&mut stage, devices, at_a_time, true)?;
        let resumed = handshake::measure(&mut stage, devices, at_a_time, false)?;
        stage.take()?;
        handshake::report(&mut stage, full, resumed);
    }
    density::report(&mut stage, &points, hold.memory);
    let_go(&mut stage, points.first().map(|point| point.resident_bytes))?;
    stage.report.passed = Some(since.lost == 0);
    if since.lost > 0 {
        let why = stage.why()?;
        stage.note(format!("{} links were lost{why}.", since.lost));
    }
    stage.finish()
}

/// Lets all devices come, sync for the first time, and go again.
fn visit(stage: &mut Stage, devices: usize, at_a_time: usize) -> Result<Waited, Failure> {
    let (begun, cpu_before) = (Instant::now(), stage.watch.cpu());
    let waited = stage.bring_up(devices, at_a_time)?;
    let connecting = begun.elapsed();
    let cpu = stage.watch.rest().map(|sample| sample.cpu_microseconds);
    let measures = stage.take()?;
    stage.latency("connect", "from the connection attempt to the end of the first sync", &measures.live);
    let live = float(stage.workers.counts().live);
    let rate = live / connecting.as_secs_f64().max(1e-9);
    stage.figure("connects_per_second", "links: connected, synced for the first time", rate);
    if let (Some(before), Some(after), true) = (cpu_before, cpu, live > 0.0) {
        stage.noted_figure(
            "server_cpu_microseconds_per_first_visit",
            "processor time: connection with the first upload",
            float(after.saturating_sub(before)) / live,
            "handshake, sync, and an inventory that the server did not have",
        );
    }
    if waited != Waited::Done {
        return Ok(waited);
    }
    close(stage)?;
    if !density::is_enough(devices) {
        return Ok(waited);
    }
    // Once more, as they will come from now on: with tickets, and with nothing to tell. Buffers and heaps
    // have seen all of it then.
    stage.watch.rest();
    let waited = stage.bring_up(devices, at_a_time)?;
    close(stage)?;
    stage.take()?;
    Ok(waited)
}

/// Connects the devices in steps and looks at the server at each.
fn climb(
    stage: &mut Stage,
    devices: usize,
    at_a_time: usize,
    points: &mut Vec<Point>,
) -> Result<Waited, Failure> {
    let steps = if density::is_enough(devices) { STEPS } else { STEPS_OF_FEW };
    for step in 1..=steps {
        let waited = stage.bring_up(devices * step / steps, at_a_time)?;
        if waited != Waited::Done {
            return Ok(waited);
        }
        points.push(Point::take(stage, devices * step / steps));
    }
    // Time to come again is another figure.
    stage.take()?;
    Ok(Waited::Done)
}

/// Holds the links, with nothing on them but what the agents have to say.
fn rest(stage: &mut Stage, time: Duration) -> Result<(), Failure> {
    let (before, counts) = (stage.watch.sample(), stage.workers.counts());
    stage.pass("holding", time)?;
    let (after, since) = (stage.watch.sample(), stage.workers.counts().since(&counts));
    if let (Some(before), Some(after)) = (before, after) {
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        let used = after.cpu_microseconds.saturating_sub(before.cpu_microseconds);
        let percent = 100.0 * share(used, seconds);
        stage.figure("idle_cpu_percent", "processor time: holding, of one core", percent);
        stage.count("server_descriptors", "links: open files of the server", after.descriptors);
        stage.count("server_threads", "processor time: threads of the server", after.threads);
    }
    stage.count("syncs_while_holding", "links: scheduled syncs while holding", since.synced);
    Ok(())
}

/// Closes all links. When the last had gone.
fn close(stage: &mut Stage) -> Result<Instant, Failure> {
    let links = stage.workers.counts().open;
    stage.run(0, 1)?;
    let phase = stage.steps.phase("closing", links);
    let gone = |counts: &Counts| links.saturating_sub(counts.open);
    stage.wait(&phase, Duration::from_secs(CLOSING_SECONDS_MAX), gone, links)?;
    Ok(Instant::now())
}

/// Closes all links, and looks how fast memory comes back to what it was without them: `idle` resident bytes
/// when all had been there and gone.
fn let_go(stage: &mut Stage, idle: Option<u64>) -> Result<(), Failure> {
    let links = stage.workers.counts().open;
    let begun = close(stage)?;
    let Some(idle) = idle.filter(|idle| *idle > 0 && links > 0) else { return Ok(()) };
    let started = stage.started.last().map(|started| started.resident_bytes);
    let mut series = Vec::new();
    let mut last: Option<ProcessSample> = None;
    let mut back_seconds = None;
    let most = float(idle) * (1.0 + BACK_SHARE_MAX);
    while begun.elapsed() < Duration::from_secs(BACK_SECONDS) {
        if !interrupt::sleep(Duration::from_millis(250)) {
            break;
        }
        let Some(sample) = stage.watch.sample() else { break };
        let seconds = begun.elapsed().as_secs_f64();
        series.push((seconds, float(sample.resident_bytes)));
        if float(sample.resident_bytes) > most {
            back_seconds = None;
        } else {
            back_seconds.get_or_insert(seconds);
        }
        last = Some(sample);
    }
    let Some(last) = last else { return Ok(()) };
    let name = ("memory_after_closing", "Resident memory of the server after all links closed");
    let axes = ("seconds since the links were closed", "resident memory, bytes");
    stage.report.curves.push(Curve::new(name, axes, vec![("measured".to_owned(), series)]));
    stage.noted_figure(
        "memory_after_closing_ratio",
        "memory: after all links closed, of that before",
        float(last.resident_bytes) / float(idle),
        &format!(
            "resident, {BACK_SECONDS} s after, of that when all had been there and gone; the target is at most {:.2}",
            1.0 + BACK_SHARE_MAX
        ),
    );
    stage.figure(
        "memory_after_closing_of_started_ratio",
        "memory: the same, of the server before the first link",
        started.map(|started| float(last.resident_bytes) / float(started)),
    );
    stage.figure("memory_back_seconds", "memory: within a tenth of that before, from then on", back_seconds);
    Ok(())
}
