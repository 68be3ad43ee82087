//! `muster-load wake`: devices that are not connected are called over UDP, and come.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use hdrhistogram::Histogram;
use muster::client::Client;
use muster::machine::random::Random;
use muster::wire::api::{CallLine, CallOutcome, CallRequest, CallVia};

use super::interval::Interval;
use super::prepare::{StageRequest, prepare};
use super::stage::{AT_A_TIME, Stage, Waited, float, timeout};
use crate::arguments::Wake;
use crate::engine::measures::{histogram, note};
use crate::failure::Failure;
use crate::interrupt;
use crate::report::model::Unit;
use crate::report::text::quantity;

/// Calls that wait for their outcome at a time: each holds a connection of the administration.
const CALLERS: usize = 16;

/// Time that one call waits for its outcome.
const OUTCOME_SECONDS_MAX: u32 = 30;

/// Time of devices to go once they have synced: those whose wakes the server tries first stay a little
/// longer.
const GO_SECONDS_MAX: u64 = 60;

/// Outcomes of the calls.
struct Outcomes {
    begun: Histogram<u64>,
    synced: Histogram<u64>,
    kinds: BTreeMap<&'static str, u64>,
    failures: Vec<String>,
}

/// Runs the command. Whether nothing was missed.
pub(crate) fn run(wake: &Wake) -> Result<bool, Failure> {
    let common = &wake.common;
    let devices = common.devices_or(200);
    let request = StageRequest { devices, is_persistent: false, ..StageRequest::default() };
    let mut stage = prepare(common, request)?;
    stage.entitle("wake", "Devices that are called over UDP");
    stage.parameter("calls a second", wake.rate);
    come_and_go(&mut stage, devices)?;
    let interval = Interval::begin(&mut stage);
    let (outcomes, late) = call(&mut stage, wake.rate, common.seconds_or(10))?;
    let spent = interval.end(&mut stage);
    let all: u64 = outcomes.kinds.values().sum();
    let synced = outcomes.kinds.get("synced by wake").copied().unwrap_or(0);
    stage.count("calls", "calls: devices that were called", all);
    for (kind, count) in &outcomes.kinds {
        let name = format!("calls_{}", kind.replace(' ', "_"));
        stage.count(&name, &format!("calls: {kind}"), *count);
    }
    stage.count("calls_late", "calls: not made in time, as too many were waited for", late);
    stage.count("wakes_taken", "calls: datagrams that reached a device first", spent.counts.wakes);
    stage.latency("begun", "from the question until the device's sync had begun", &outcomes.begun);
    stage.latency("synced", "from the question until it had ended", &outcomes.synced);
    let each = spent.server_each(all);
    stage.figure("server_cpu_microseconds_per_call", "processor time: the server's, for a call", each);
    stage.note("The times are the server's own, as its administration gives them; a call includes the device's connection and its handshake.");
    for failure in outcomes.failures {
        stage.note(failure);
    }
    if !outcomes.begun.is_empty() {
        let median = quantity(float(outcomes.begun.value_at_quantile(0.5)), Unit::Microseconds);
        stage.report.conclusion = Some(format!(
            "{synced} of {all} calls brought the device; half of the syncs had begun within {median}"
        ));
    }
    stage.report.passed = Some(synced == all && all > 0);
    stage.finish()
}

/// The devices sync, say where they hear wakes, and go.
fn come_and_go(stage: &mut Stage, devices: usize) -> Result<(), Failure> {
    stage.run(devices, AT_A_TIME)?;
    let phase = stage.steps.phase("connecting", devices as u64);
    let waited = stage.wait(&phase, timeout(devices), |counts| counts.synced, devices as u64)?;
    drop(phase);
    if waited == Waited::TimedOut {
        let synced = stage.workers.counts().synced;
        return Err(Failure::refused(format!("only {synced} of {devices} devices came{}", stage.why()?)));
    }
    let phase = stage.steps.phase("leaving", devices as u64);
    let all = devices as u64;
    let gone = |counts: &crate::engine::counters::Counts| all.saturating_sub(counts.open);
    let waited = stage.wait(&phase, Duration::from_secs(GO_SECONDS_MAX), gone, all)?;
    if waited == Waited::TimedOut {
        let open = stage.workers.counts().open;
        stage.note(format!(
            "{open} devices stayed connected: the server asked them to; they are called on their links."
        ));
    }
    stage.take().map(drop)
}

/// Calls random devices at a pace. Returns the outcomes, and the number of calls that could not be made in
/// time.
fn call(stage: &mut Stage, rate: f64, time: Duration) -> Result<(Outcomes, u64), Failure> {
    let clients = (0..CALLERS).map(|_| stage.subject.client()).collect::<Result<Vec<_>, _>>()?;
    let outcomes = Mutex::new(Outcomes {
        begun: histogram(),
        synced: histogram(),
        kinds: BTreeMap::new(),
        failures: Vec::new(),
    });
    let (sender, receiver) = bounded::<String>(CALLERS);
    let phase = stage.steps.phase("calling", time.as_secs());
    let mut late = 0;
    std::thread::scope(|scope| {
        for mut client in clients {
            let (receiver, outcomes) = (receiver.clone(), &outcomes);
            scope.spawn(move || {
                for device in receiver {
                    let outcome = call_one(&mut client, device);
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.add(outcome);
                    }
                }
            });
        }
        drop(receiver);
        let mut random = Random::new(stage.devices.len() as u64);
        let mut order: Vec<usize> = (0..stage.devices.len()).collect();
        let (begun, mut called) = (Instant::now(), 0_u32);
        while begun.elapsed() < time {
            let due = Duration::from_secs_f64(f64::from(called) / rate);
            if due >= time || !interrupt::sleep(due.saturating_sub(begun.elapsed())) {
                break;
            }
            let place = called as usize % order.len();
            if place == 0 {
                shuffle(&mut order, &mut random);
            }
            let device = stage.devices[order[place]].device.to_string();
            late += u64::from(sender.try_send(device).is_err());
            called += 1;
            phase.set(begun.elapsed().as_secs());
        }
        drop(sender);
    });
    drop(phase);
    let outcomes = outcomes.into_inner().map_err(|_| Failure::refused("a thread of the tool has failed"))?;
    Ok((outcomes, late))
}

fn call_one(client: &mut Client, device: String) -> Result<CallOutcome, String> {
    let request = CallRequest {
        devices: vec![device],
        wait: true,
        timeout_seconds: Some(OUTCOME_SECONDS_MAX),
        ..CallRequest::default()
    };
    let lines = client.sync(&request).map_err(|error| error.to_string())?;
    for line in lines {
        if let CallLine::Device(called) = line.map_err(|error| error.to_string())? {
            return Ok(called.outcome);
        }
    }
    Err("the server's answer names no device".to_owned())
}

impl Outcomes {
    fn add(&mut self, outcome: Result<CallOutcome, String>) {
        let kind = match outcome {
            Ok(CallOutcome::Synced { by, begun_microseconds, synced_microseconds }) => {
                note(&mut self.begun, begun_microseconds);
                note(&mut self.synced, synced_microseconds);
                match by {
                    CallVia::Wake => "synced by wake",
                    CallVia::Link => "synced by link",
                    CallVia::Itself => "came by itself",
                }
            }
            Ok(CallOutcome::Unreachable { .. }) => "unreachable",
            Ok(CallOutcome::Unfinished { .. }) => "unfinished",
            Ok(CallOutcome::PutOff) => "put off",
            Ok(CallOutcome::TimedOut) => "timed out",
            Ok(_) => "something else",
            Err(error) => {
                if self.failures.len() < 3 {
                    self.failures.push(format!("A call failed: {error}."));
                }
                "failed"
            }
        };
        *self.kinds.entry(kind).or_default() += 1;
    }
}

/// Brings places into a random order (Fisher and Yates).
fn shuffle(places: &mut [usize], random: &mut Random) {
    for last in (1..places.len()).rev() {
        let other = usize::try_from(random.up_to(last as u64)).unwrap_or(last);
        places.swap(last, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_everybody_once() {
        let mut places: Vec<usize> = (0..100).collect();
        shuffle(&mut places, &mut Random::new(3));
        assert_ne!(places, (0..100).collect::<Vec<_>>());
        places.sort_unstable();
        assert_eq!(places, (0..100).collect::<Vec<_>>());
    }
}
