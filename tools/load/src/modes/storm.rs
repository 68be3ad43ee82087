//! `muster-load storm`: the server is killed under its devices, started again, and everybody comes back.

use std::time::{Duration, Instant};

use super::handshake::{self, HandshakeCost};
use super::prepare::{StageRequest, prepare};
use super::stage::{AT_A_TIME, Stage, Waited, float, timeout};
use super::verify;
use super::watch::Watch;
use crate::arguments::Storm;
use crate::engine::commands::{EngineCommand, EventLoad};
use crate::failure::Failure;
use crate::interrupt;
use crate::report::model::Curve;

/// Interval at which is looked who is back.
const LOOK_MILLISECONDS: u64 = 5;

/// The shares whose return is timed, in percent.
const SHARES: [u64; 4] = [50, 90, 99, 100];

/// Time of the return of 99 %, as a multiple of the handshakes' processor time.
const TARGET_FACTOR: f64 = 1.5;

/// From this share of the time on the devices' own thread is part of what is measured.
const BUSY_SHARE: f64 = 0.5;

/// Points of the curve, at most: more are not to be seen.
const POINTS_MAX: usize = 400;

/// Return of devices over time.
struct Recovery {
    /// Seconds since the server was there again, and devices.
    points: Vec<(f64, f64)>,
    /// When each share was reached.
    reached: Vec<(u64, f64)>,
    /// From the kill until the server was there again.
    away_seconds: f64,
    waited: Waited,
}

/// Runs the command. Whether nothing was missed.
pub(crate) fn run(storm: &Storm) -> Result<bool, Failure> {
    let common = &storm.common;
    common.must_be_own("storm")?;
    let devices = common.devices_or(1_000);
    let request =
        StageRequest { devices, resumes: !storm.full, has_standby: storm.standby, ..StageRequest::default() };
    let mut stage = prepare(common, request)?;
    stage.entitle("storm", "A server that was killed, and the return of its devices");
    stage.parameter("events a second", storm.rate);
    stage.parameter(
        "tickets",
        if storm.full { "lost: full handshakes" } else { "kept: resumed handshakes where the server can" },
    );
    if storm.standby {
        stage.parameter("standby", "a server at another address waits for the data");
    }
    stage.bring_up(devices, AT_A_TIME)?;
    let full = handshake::measure(&mut stage, devices, AT_A_TIME, true)?;
    let resumed = match storm.full {
        true => None,
        false => handshake::measure(&mut stage, devices, AT_A_TIME, false)?,
    };
    stage.take()?;
    let load = EventLoad { devices, rate: Some(storm.rate), in_flight: 1 };
    stage.workers.order(EngineCommand::Events(load))?;
    let time = common.seconds_or(2);
    stage.pass("events before", time)?;
    let before = stage.take()?;
    stage.latency("ack_before", "from the event to its acknowledgement, before", &before.ack);
    let (recovery, is_complete) = storm_and_after(&mut stage, storm, devices, time, (full, resumed))?;
    handshake::report(&mut stage, full, resumed);
    let is_back = recovery.waited == Waited::Done;
    if recovery.waited == Waited::TimedOut {
        let live = stage.workers.counts().live;
        let why = stage.why()?;
        stage.note(format!("Only {live} of {devices} devices came back{why}."));
    }
    stage.report.passed = Some(is_back && is_complete);
    stage.finish()
}

/// The storm itself, and the events in it.
fn storm_and_after(
    stage: &mut Stage,
    storm: &Storm,
    devices: usize,
    time: Duration,
    (full, resumed): (Option<HandshakeCost>, Option<HandshakeCost>),
) -> Result<(Recovery, bool), Failure> {
    let counts_before = stage.workers.counts();
    let client_before = stage.client_cpu();
    let recovery = recover(stage, devices, storm.standby)?;
    let client_cpu = float(stage.client_cpu().saturating_sub(client_before));
    let server_cpu = stage.watch.cpu().map(float);
    let since = stage.workers.counts().since(&counts_before);
    report_recovery(stage, &recovery, devices);
    stage.count("full_handshakes", "handshakes: full", since.full);
    stage.count("resumed_handshakes", "handshakes: resumed", since.resumed);
    stage.count("failed_attempts", "handshakes: attempts that came to nothing", since.failed);
    stage.count("put_off", "handshakes: devices that were told to come later", since.later);
    let last = recovery.points.last().map_or(0.0, |(seconds, _)| *seconds).max(1e-9);
    let rate = float(since.full + since.resumed) / last;
    stage.figure("handshakes_per_second", "handshakes: a second until everybody was back", rate);
    stage.figure(
        "storm_server_cpu_seconds",
        "processor time: the server's, since it was started again",
        server_cpu.map(|cpu| cpu / 1e6),
    );
    let client_cpu = client_cpu / 1e6;
    stage.figure("storm_client_cpu_seconds", "processor time: the devices', in the storm", client_cpu);
    let busy = client_cpu / last;
    if busy > BUSY_SHARE && stage.engines == 1 {
        stage.note(format!(
            "The one thread that simulates the devices was busy for {:.0} % of their return, which is part of how long it took: --threads 2 \
             gives them another.",
            100.0 * busy.min(1.0)
        ));
    }
    target(stage, &recovery, devices, (since.full, full), (since.resumed, resumed));

    stage.pass("events after", time)?;
    let (emitted, _, measures) = stage.end_events()?;
    let label = "from the event to its acknowledgement, in the storm and after";
    stage.latency("ack_storm", label, &measures.ack);
    stage.latency("live", "from the connection attempt to the end of the first sync", &measures.live);
    let worst = float(measures.ack.max()) / 1e6;
    stage.figure("worst_event_delay_seconds", "events: the worst delay", worst);
    let acknowledged = stage.workers.counts().acknowledged;
    let stored = verify::stored_events(stage)?;
    stage.count("events_emitted", "events: that occurred", emitted);
    stage.count("events_acknowledged", "events: acknowledged", acknowledged);
    stage.count("events_stored", "events: stored", stored.events);
    stage.count("events_twice", "events: stored twice", stored.twice);
    stage.count("events_missing", "events: missing in between", stored.missing);
    let was_interrupted = interrupt::requested();
    let is_complete = stored.twice == 0
        && stored.missing == 0
        && (was_interrupted || (acknowledged == emitted && stored.events == emitted));
    if !is_complete {
        stage.note("Events were lost or stored twice: this must not be.");
    }
    Ok((recovery, is_complete))
}

/// Kills the server, starts it again or has its standby take over, and watches the devices come back.
fn recover(stage: &mut Stage, devices: usize, has_standby: bool) -> Result<Recovery, Failure> {
    // Nobody counts from now on who has not synced after it.
    stage.workers.order(EngineCommand::Mark)?;
    // The order must have reached the engines before the first of them can sync with the new server.
    std::thread::sleep(Duration::from_millis(20));
    stage.workers.order(EngineCommand::Mark)?;
    let phase = stage.steps.phase("coming back", devices as u64);
    let Some(own) = &mut stage.subject.own else {
        return Err(Failure::refused("there is no server to kill"));
    };
    let standby = has_standby.then(|| own.start_standby()).transpose()?;
    let killed = Instant::now();
    own.kill();
    match standby {
        Some(standby) => own.take_over(standby)?,
        None => own.start_again()?,
    }
    let (ready, away_seconds) = (Instant::now(), killed.elapsed().as_secs_f64());
    stage.watch = Watch::open(stage.subject.pid(), &mut stage.report.notes);
    let until = ready + timeout(devices) * 2;
    let mut recovery =
        Recovery { points: Vec::new(), reached: Vec::new(), away_seconds, waited: Waited::Done };
    loop {
        let live = stage.workers.counts().live;
        let seconds = ready.elapsed().as_secs_f64();
        phase.set(live);
        recovery.points.push((seconds, float(live)));
        for share in SHARES {
            let is_reached = live * 100 >= devices as u64 * share;
            if is_reached && !recovery.reached.iter().any(|(known, _)| *known == share) {
                recovery.reached.push((share, seconds));
            }
        }
        if live >= devices as u64 {
            return Ok(recovery);
        }
        if interrupt::requested() {
            recovery.waited = Waited::Interrupted;
            return Ok(recovery);
        }
        if Instant::now() >= until {
            recovery.waited = Waited::TimedOut;
            return Ok(recovery);
        }
        stage.subject.check()?;
        std::thread::sleep(Duration::from_millis(LOOK_MILLISECONDS));
    }
}

fn report_recovery(stage: &mut Stage, recovery: &Recovery, devices: usize) {
    let away = recovery.away_seconds;
    stage.figure("away_seconds", "return: from the kill until the server was there again", away);
    for (share, seconds) in &recovery.reached {
        let label = format!("return: {share} % live again, since the server was there");
        stage.figure(&format!("live_{share}_percent_seconds"), &label, *seconds);
    }
    if let Some((_, seconds)) = recovery.reached.iter().find(|(share, _)| *share == 99) {
        let label = "return: 99 % live again, since the kill";
        stage.figure("back_99_percent_seconds", label, away + seconds);
    }
    let points = thin(&recovery.points, POINTS_MAX);
    let end = points.last().map_or(0.0, |(seconds, _)| *seconds);
    let all = vec![(0.0, float(devices as u64)), (end, float(devices as u64))];
    let series = vec![("live".to_owned(), points), ("all".to_owned(), all)];
    let name = ("recovery", "Devices that are live again");
    let axes = ("seconds since the server was there again", "devices");
    stage.report.curves.push(Curve::new(name, axes, series));
}

/// The processor time that the handshakes need, and how the return compares with it.
fn target(
    stage: &mut Stage,
    recovery: &Recovery,
    devices: usize,
    full: (u64, Option<HandshakeCost>),
    resumed: (u64, Option<HandshakeCost>),
) {
    let cores = float(stage.report.machine.cores.max(1) as u64);
    let all = float((full.0 + resumed.0).max(1));
    // Of the kind that they were, as far as that kind was measured.
    let mean = |of: fn(&HandshakeCost) -> f64| {
        let cost = |(count, cost): (u64, Option<HandshakeCost>), other: Option<HandshakeCost>| {
            cost.or(other).map(|cost| of(&cost) * float(count) / all)
        };
        Some(cost(full, resumed.1)? + cost(resumed, full.1)?)
    };
    let (Some(server), Some(client)) = (mean(|cost| cost.server), mean(|cost| cost.client)) else { return };
    let seconds = |cost: f64| TARGET_FACTOR * float(devices as u64) * cost / 1e6 / cores;
    stage.noted_figure(
        "target_seconds",
        "return: target for 99 %, both ends on this machine",
        seconds(server + client),
        &format!(
            "{TARGET_FACTOR} × {devices} × ({server:.0} + {client:.0}) µs of processor time, of server and device, ÷ {cores} cores"
        ),
    );
    stage.noted_figure(
        "target_server_alone_seconds",
        "return: target for 99 %, if the devices took no processor time",
        seconds(server),
        &format!("{TARGET_FACTOR} × {devices} × {server:.0} µs ÷ {cores} cores"),
    );
    let Some((_, reached)) = recovery.reached.iter().find(|(share, _)| *share == 99) else { return };
    let ratio = reached / seconds(server + client);
    stage.figure("target_ratio", "return: 99 % live, of the target", ratio);
    stage.report.conclusion = Some(format!(
        "99 % of {devices} devices were live {reached:.2} s after the server was there again (target {:.2} s)",
        seconds(server + client)
    ));
}

/// Some of the points, at most `most`, the last one included.
fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(most.max(1)).max(1);
    let mut thin: Vec<_> = points.iter().step_by(step).copied().collect();
    if let Some(last) = points.last().filter(|last| thin.last() != Some(last)) {
        thin.push(*last);
    }
    thin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_is_thinned_and_keeps_its_ends() {
        let points: Vec<_> = (0..1_001).map(|number| (f64::from(number), 0.0)).collect();
        let thin = thin(&points, 100);
        assert!(thin.len() <= 101, "{}", thin.len());
        assert_eq!((thin.first(), thin.last()), (points.first(), points.last()));
        assert_eq!(super::thin(&points[..3], 100), points[..3]);
        assert!(super::thin(&[], 100).is_empty());
    }
}
