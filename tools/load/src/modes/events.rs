//! `muster-load events`: events that are durable before they are acknowledged; alone, and while others shake
//! hands.

use std::time::{Duration, Instant};

use super::consoles::Consoles;
use super::interval::{self, Spent, WARM_UP};
use super::prepare::{StageRequest, prepare};
use super::stage::{AT_A_TIME, Stage, Waited, float};
use crate::arguments::Events;
use crate::engine::commands::{EngineCommand, EventLoad, Visits};
use crate::failure::Failure;
use crate::interrupt;
use crate::observe::disk::DiskReference;
use crate::report::model::Unit;
use crate::report::text::quantity;

/// Events a second of the low load beside which the disk is looked at.
const LOW_RATE: f64 = 50.0;

/// Length of that.
const LOW_SECONDS: u64 = 3;

/// A durable write of the tool between the low load's: at another beat, or the two would always meet, or
/// never.
const DISK_EVERY: Duration = Duration::from_millis(27);

/// Runs the command. Whether nothing was missed.
pub(crate) fn run(events: &Events) -> Result<bool, Failure> {
    let common = &events.common;
    let publishers = common.devices_or(64);
    let at_a_time = events.handshakes.unwrap_or(0);
    // As many wait as are on their way, so that the next one is always there.
    let visitors = at_a_time * 2;
    let request = StageRequest {
        devices: publishers + visitors,
        visitors,
        event_bytes: events.bytes,
        ..StageRequest::default()
    };
    let mut stage = prepare(common, request)?;
    stage.entitle("events", "Events, durable before they are acknowledged");
    stage.parameter("publishers", publishers);
    stage.parameter("bytes of an event", events.bytes);
    match events.rate {
        Some(rate) => stage.parameter("events a second (open loop)", rate),
        None => stage.parameter("under way for each publisher (closed loop)", events.in_flight),
    }
    let stored = stage.subject.client()?.status().map_err(Failure::refused)?.events.stored;
    stage.bring_up(publishers, AT_A_TIME)?;
    beside_the_disk(&mut stage, publishers)?;
    let load = EventLoad { devices: publishers, rate: events.rate, in_flight: events.in_flight };
    stage.workers.order(EngineCommand::Events(load))?;
    let time = common.seconds_or(10);
    let alone = measure(&mut stage, "", "", time)?;
    if at_a_time > 0 && !interrupt::requested() {
        stage.parameter("handshakes at a time", at_a_time);
        stage.order_visitors(EngineCommand::Visits(Visits { devices: visitors, at_a_time }))?;
        let before = stage.visits();
        let during = measure(&mut stage, "storm_", ", during handshakes", time)?;
        // The warming up is in both.
        let visits = stage.visits() - before;
        stage.order_visitors(EngineCommand::StopVisits)?;
        let seconds = during.seconds + WARM_UP.as_secs_f64();
        stage.figure(
            "storm_handshakes_per_second",
            "handshakes: full ones a second, with a sync each",
            float(visits) / seconds,
        );
        let kept = during.rate(during.counts.acknowledged) / alone.rate(alone.counts.acknowledged).max(1e-9);
        stage.figure("storm_rate_kept_ratio", "handshakes: rate of events that is kept", kept);
    }
    if let Some(count) = events.consoles.filter(|_| !interrupt::requested()) {
        stage.parameter("consoles", count);
        let consoles = Consoles::open(&mut stage, count)?;
        measure(&mut stage, "consoles_", ", beside consoles", time)?;
        consoles.close(&mut stage)?;
        measure(&mut stage, "again_", ", alone again", time)?;
    }
    let is_complete = settle(&mut stage, stored)?;
    let rate = quantity(alone.rate(alone.counts.acknowledged), Unit::Count);
    stage.report.conclusion =
        Some(format!("{rate} events a second, each durable before it was acknowledged"));
    stage.report.passed = Some(is_complete);
    stage.finish()
}

/// Lets the load go on for a while and adds what came of it to the report.
fn measure(stage: &mut Stage, prefix: &str, when: &str, time: Duration) -> Result<Spent, Failure> {
    let (spent, measures) = interval::measure(stage, "events", when, time)?;
    let done = spent.counts.acknowledged;
    let (name, label) =
        (format!("{prefix}events_per_second"), format!("events: acknowledged a second{when}"));
    stage.figure(&name, &label, spent.rate(done));
    let label = format!("from the event to its acknowledgement{when}");
    stage.latency(&format!("{prefix}ack"), &label, &measures.ack);
    // With handshakes beside them there is no telling what is whose.
    if prefix.is_empty() {
        let (server, client) = (spent.server_each(done), spent.client_each(done));
        let bytes = float(spent.counts.wire_sent + spent.counts.wire_received);
        let wire = (done > 0).then(|| bytes / float(done));
        for (name, label, each) in [
            ("server_cpu_microseconds_per_event", "processor time: the server's, for an event", server),
            ("client_cpu_microseconds_per_event", "processor time: the devices', for an event", client),
            ("wire_bytes_per_event", "events: bytes of TLS for one, both ways", wire),
        ] {
            stage.figure(name, label, each);
        }
    }
    spent.report_shares(stage, prefix, &format!("processor time{when}"));
    Ok(spent)
}

/// A few events, one at a time, and durable writes of the same disk in between: what an acknowledgement costs
/// beyond the write.
fn beside_the_disk(stage: &mut Stage, publishers: usize) -> Result<(), Failure> {
    let Some(own) = &stage.subject.own else { return Ok(()) };
    let Ok(mut disk) = DiskReference::create(own.directory.path()) else { return Ok(()) };
    stage.workers.order(EngineCommand::Events(EventLoad {
        devices: publishers,
        rate: Some(LOW_RATE),
        in_flight: 1,
    }))?;
    let phase = stage.steps.phase("low load, disk beside", LOW_SECONDS);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(LOW_SECONDS) && interrupt::sleep(DISK_EVERY) {
        if let Err(error) = disk.write() {
            stage.report.notes.push(format!("The disk could not be looked at: {error}."));
            break;
        }
        phase.set(begun.elapsed().as_secs());
    }
    drop(phase);
    stage.workers.order(EngineCommand::StopEvents)?;
    let measures = stage.take()?;
    let median = |histogram: &hdrhistogram::Histogram<u64>| float(histogram.value_at_quantile(0.5));
    if !measures.ack.is_empty() && !disk.histogram.is_empty() {
        stage.noted_figure(
            "low_load_ack_ratio",
            "events: median acknowledgement at low load, of a durable write",
            median(&measures.ack) / median(&disk.histogram).max(1.0),
            "the target is at most 2",
        );
    }
    stage.latency("low_load_ack", &format!("acknowledgement at {LOW_RATE} events a second"), &measures.ack);
    stage.latency(
        "disk_write",
        &format!("one durable write of 4 KiB beside it ({})", disk.method()),
        &disk.histogram,
    );
    Ok(())
}

/// Waits for the last acknowledgements and compares what was acknowledged with what is stored. Whether that
/// is the same.
fn settle(stage: &mut Stage, stored_before: u64) -> Result<bool, Failure> {
    let (emitted, waited, _) = stage.end_events()?;
    let counts = stage.workers.counts();
    let status = stage.subject.client()?.status().map_err(Failure::refused)?;
    let stored = status.events.stored.saturating_sub(stored_before);
    stage.count("events_acknowledged", "verified: acknowledged in all", counts.acknowledged);
    stage.count("events_stored", "verified: stored by the server", stored);
    stage.count("links_lost", "verified: links lost", counts.lost);
    // Events of other devices come in between at a server that has others.
    let is_same = match stage.subject.own {
        Some(_) => stored == counts.acknowledged,
        None => stored >= counts.acknowledged,
    };
    if !is_same {
        stage.note(format!(
            "{} events were acknowledged and {stored} stored: this must not be.",
            counts.acknowledged
        ));
    }
    let is_complete = waited == Waited::Interrupted || counts.acknowledged == emitted;
    if !is_complete {
        let why = stage.why()?;
        stage.note(format!(
            "{} of {emitted} events were not acknowledged{why}.",
            emitted.saturating_sub(counts.acknowledged)
        ));
    }
    Ok(is_same && is_complete)
}
