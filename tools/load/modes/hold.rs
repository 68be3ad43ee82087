//! `muster-load hold`: devices that stay connected, and what each of them costs.

use std::time::{Duration, Instant};

use super::handshake;
use super::prepare::{Wishes, prepare};
use super::stage::{Stage, Waited, float};
use super::watch::share;
use crate::arguments::Hold;
use crate::engine::counters::Counts;
use crate::failure::Failure;
use crate::interrupt;
use crate::observe::capacity::capacity;
use crate::observe::kernel::{KernelSample, socket_memory};
use crate::observe::slope::Line;
use crate::report::model::{Curve, Unit};
use crate::report::progress::Progress;

/// Devices when nobody says how many.
const DEVICES_DEFAULT: u64 = 1_000;

/// How long the links are held, in seconds.
const SECONDS_DEFAULT: u64 = 10;

/// At so many numbers of links the memory is looked at.
const STEPS: usize = 10;

/// The same where there are too few devices for a slope.
const STEPS_OF_FEW: usize = 2;

/// Links below which nothing is said of how many the server can hold: a page more or less would be hundreds of bytes a link.
const SLOPE_LINKS_MIN: usize = 1_000;

/// How long memory may take to come back, in seconds.
const BACK_SECONDS: u64 = 5;

/// What memory may be above what it was then, as a share.
const BACK_SHARE_MAX: f64 = 0.10;

const GIBIBYTE: f64 = 1_073_741_824.0;

/// The server at one number of links.
struct Point {
    links: usize,
    private_bytes: u64,
    kernel: Option<KernelSample>,
}

/// Runs the command. Whether nothing was missed.
pub(crate) fn run(hold: &Hold) -> Result<bool, Failure> {
    let common = &hold.common;
    let devices = common.devices(DEVICES_DEFAULT);
    let wishes =
        Wishes { devices, visitors: 0, is_kept: true, resumes: true, event_bytes: 200, wants_empty: true };
    let mut stage = prepare(common, wishes, Progress::new(common.quiet))?;
    stage.entitle("hold", "Devices that stay connected");
    let at_a_time = usize::try_from(hold.at_a_time).unwrap_or(1);
    stage.parameter("connecting at a time", at_a_time);
    if let Some(rate) = hold.rate {
        stage.parameter("connections a second at most", rate);
        stage.starts_per_second = Some(rate);
    }
    let devices = stage.devices.len();
    let known_bytes = stage.watch.quiet_bytes();
    let resident_before = stage.watch.sample().map(|sample| sample.resident_bytes);
    let (points, waited) = climb(&mut stage, devices, at_a_time, known_bytes)?;
    let links = points.last().map_or(0, |point| point.links);
    let before = stage.workers.counts();
    if waited == Waited::Done {
        rest(&mut stage, common.seconds(SECONDS_DEFAULT))?;
    }
    let since = stage.workers.counts().since(&before);
    stage.figure("links_lost", "links: lost", float(since.lost), Unit::Count);
    if waited == Waited::Done && !interrupt::requested() {
        let full = handshake::measure(&mut stage, links, at_a_time, true)?;
        let resumed = handshake::measure(&mut stage, links, at_a_time, false)?;
        stage.take()?;
        handshake::report(&mut stage, full, resumed);
    }
    memory(&mut stage, &points, known_bytes, hold.memory);
    let_go(&mut stage, resident_before)?;
    stage.report.passed = Some(since.lost == 0);
    if since.lost > 0 {
        let why = stage.why()?;
        stage.note(format!("{} links were lost{why}.", since.lost));
    }
    stage.finish()
}

/// Connects the devices in steps and looks at the server at each.
fn climb(
    stage: &mut Stage,
    devices: usize,
    at_a_time: usize,
    known_bytes: Option<u64>,
) -> Result<(Vec<Point>, Waited), Failure> {
    let kernel = KernelSample::take();
    let mut points = vec![Point { links: 0, private_bytes: known_bytes.unwrap_or(0), kernel }];
    let (mut connecting, mut cpu) = (Duration::ZERO, 0);
    let mut waited = Waited::Done;
    let steps = if devices < SLOPE_LINKS_MIN { STEPS_OF_FEW } else { STEPS };
    for step in 1..=steps {
        let links = devices * step / steps;
        if points.last().is_some_and(|point| point.links == links) {
            continue;
        }
        let (begun, cpu_before) = (Instant::now(), stage.watch.cpu());
        waited = stage.bring_up(links, at_a_time)?;
        connecting += begun.elapsed();
        let bytes = stage.watch.quiet_bytes();
        cpu += stage.watch.cpu().unwrap_or(0).saturating_sub(cpu_before.unwrap_or(0));
        if waited != Waited::Done {
            break;
        }
        points.push(Point { links, private_bytes: bytes.unwrap_or(0), kernel: KernelSample::take() });
    }
    let links = points.last().map_or(0, |point| point.links);
    let measures = stage.take()?;
    stage.latency("connect", "from the connection attempt to the end of the first sync", &measures.live);
    stage.figure("links", "links: held", float(links as u64), Unit::Count);
    stage.figure(
        "connects_per_second",
        "links: connected, synced for the first time",
        float(links as u64) / connecting.as_secs_f64().max(1e-9),
        Unit::PerSecond,
    );
    if known_bytes.is_some() && links > 0 {
        stage.noted_figure(
            "server_cpu_microseconds_per_first_visit",
            "processor time: connection with the first upload",
            float(cpu) / float(links as u64),
            Unit::Microseconds,
            "handshake, sync, and an inventory that the server did not have",
        );
    }
    Ok((points, waited))
}

/// Holds the links, with nothing on them but what the agents have to say.
fn rest(stage: &mut Stage, time: Duration) -> Result<(), Failure> {
    let (before, counts) = (stage.watch.sample(), stage.workers.counts());
    stage.pass("holding", time)?;
    let (after, since) = (stage.watch.sample(), stage.workers.counts().since(&counts));
    if let (Some(before), Some(after)) = (before, after) {
        let seconds = after.at.duration_since(before.at).as_secs_f64();
        let used = after.cpu_microseconds().saturating_sub(before.cpu_microseconds());
        stage.figure(
            "idle_cpu_percent",
            "processor time: holding, of one core",
            100.0 * share(used, seconds),
            Unit::Percent,
        );
        stage.figure(
            "server_descriptors",
            "links: open files of the server",
            float(after.descriptors),
            Unit::Count,
        );
        stage.figure(
            "server_threads",
            "processor time: threads of the server",
            float(after.threads),
            Unit::Count,
        );
    }
    stage.figure(
        "syncs_while_holding",
        "links: scheduled syncs while holding",
        float(since.synced),
        Unit::Count,
    );
    Ok(())
}

/// What a device takes, and how many there can be.
fn memory(stage: &mut Stage, points: &[Point], known_bytes: Option<u64>, asked_gib: Option<f64>) {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
    let sockets = socket_memory(first.kernel.as_ref(), last.kernel.as_ref());
    stage.noted_figure(
        "kernel_bytes_per_socket",
        "memory: the kernel's, for a socket",
        sockets.bytes,
        Unit::Bytes,
        if sockets.is_measured { "measured" } else { "not measured: the project's figure" },
    );
    stage.note(sockets.note);
    // Without a sample of the server there is nothing to fit.
    let Some(known_bytes) = known_bytes else { return };
    let measured: Vec<_> =
        points.iter().skip(1).map(|point| (float(point.links as u64), float(point.private_bytes))).collect();
    let Some(line) = Line::fit(&measured) else { return };
    stage.noted_figure(
        "private_bytes_per_link",
        "memory: the server's, for a link",
        line.slope,
        Unit::Bytes,
        &format!(
            "slope of private memory over {} steps, off by {:.0} KiB",
            line.points,
            line.residual / 1024.0
        ),
    );
    // A kept server may know more than this run simulates.
    let status = stage.subject.client().ok().and_then(|mut client| client.status().ok());
    let devices = float(status.map_or(stage.devices.len() as u64, |status| status.devices.known).max(1));
    let known = stage.empty_bytes.map(|empty| (float(known_bytes) - float(empty)) / devices);
    let known = known.filter(|bytes| stage.devices.len() >= SLOPE_LINKS_MIN && *bytes > 0.0);
    stage.maybe_figure(
        "private_bytes_per_known_device",
        "memory: the server's, for a device that it knows",
        known,
        Unit::Bytes,
    );
    stage.maybe_figure(
        "empty_server_private_bytes",
        "memory: the server without devices",
        stage.empty_bytes.map(float),
        Unit::Bytes,
    );
    stage.figure(
        "idle_private_bytes",
        "memory: the server before the first link",
        float(known_bytes),
        Unit::Bytes,
    );
    stage.figure(
        "held_private_bytes",
        "memory: the server with all links",
        float(last.private_bytes),
        Unit::Bytes,
    );
    let each = line.slope + known.unwrap_or(0.0);
    stage.figure(
        "private_bytes_per_device",
        "memory: the server's, for a connected device",
        each,
        Unit::Bytes,
    );
    let fit = line.between(0.0, float(last.links as u64));
    stage.curve(Curve {
        name: "memory".to_owned(),
        label: "Private memory of the server".to_owned(),
        x_label: "links".to_owned(),
        y_label: "private memory, bytes".to_owned(),
        series: vec![("measured".to_owned(), measured), (format!("{:.0} bytes a link", line.slope), fit)],
    });
    if last.links < SLOPE_LINKS_MIN {
        stage.note(format!(
            "{} links are too few to tell what one takes from what else moves in a process: with --devices {SLOPE_LINKS_MIN} or \
             more the run says how many the server can hold.",
            last.links
        ));
        return;
    }
    let idle = stage.empty_bytes.unwrap_or(known_bytes);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of gibibytes"
    )]
    let asked = asked_gib.map_or(stage.report.machine.memory_bytes, |gib| (gib * GIBIBYTE) as u64);
    let capacity = capacity(idle, each, sockets.bytes, asked);
    stage.figure("capacity_devices", "capacity: devices", float(capacity.devices), Unit::Count);
    stage.note(capacity.explanation());
    if let Some(most) = stage.watch.descriptors_max().filter(|most| *most < capacity.devices) {
        stage.note(format!(
            "That is what memory allows. As the server's process was started, it may have {most} files open, each link takes one: raise LimitNOFILE, or \
             'ulimit -n', before it is to hold more."
        ));
    }
    stage.report.conclusion = Some(capacity.to_string());
}

/// Closes all links, and looks how fast memory comes back.
fn let_go(stage: &mut Stage, resident_before: Option<u64>) -> Result<(), Failure> {
    let links = stage.workers.counts().open;
    stage.run(0, 1)?;
    let begun = Instant::now();
    let phase = stage.steps.phase("closing", links);
    let gone = |counts: &Counts| links.saturating_sub(counts.open);
    stage.wait(&phase, Duration::from_secs(60), gone, links)?;
    drop(phase);
    let Some(known) = resident_before.filter(|_| links > 0) else { return Ok(()) };
    let mut series = Vec::new();
    let mut last = None;
    let mut back_seconds = None;
    let most = float(known) * (1.0 + BACK_SHARE_MAX);
    while begun.elapsed() < Duration::from_secs(BACK_SECONDS) {
        if !interrupt::sleep(Duration::from_millis(250)) {
            break;
        }
        let Some(sample) = stage.watch.sample() else { break };
        let seconds = begun.elapsed().as_secs_f64();
        series.push((seconds, float(sample.resident_bytes)));
        if back_seconds.is_none() && float(sample.resident_bytes) <= most {
            back_seconds = Some(seconds);
        }
        last = Some(sample.resident_bytes);
    }
    let Some(last) = last else { return Ok(()) };
    stage.curve(Curve {
        name: "memory_after_closing".to_owned(),
        label: "Resident memory of the server after all links closed".to_owned(),
        x_label: "seconds since the links were closed".to_owned(),
        y_label: "resident memory, bytes".to_owned(),
        series: vec![("measured".to_owned(), series)],
    });
    stage.noted_figure(
        "memory_after_closing_ratio",
        "memory: after all links closed, of that before",
        float(last) / float(known),
        Unit::Ratio,
        &format!("{BACK_SECONDS} s after; the target is at most {:.2}", 1.0 + BACK_SHARE_MAX),
    );
    stage.maybe_figure(
        "memory_back_seconds",
        "memory: back within a tenth of that before",
        back_seconds,
        Unit::Seconds,
    );
    Ok(())
}
