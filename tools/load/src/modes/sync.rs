//! `muster-load sync`: syncs in which nothing has changed.

use std::time::Duration;

use super::interval::Interval;
use super::prepare::{StageRequest, prepare};
use super::stage::float;
use crate::arguments::Sync;
use crate::engine::commands::EngineCommand;
use crate::failure::Failure;
use crate::report::model::Unit;
use crate::report::progress::Progress;
use crate::report::text::quantity;

/// Devices when nobody says how many.
const DEVICES_DEFAULT: u64 = 1_000;

/// Length of the measurement.
const SECONDS_DEFAULT: u64 = 10;

/// Time for which a load goes on before it counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// Devices that are brought up at a time.
const AT_A_TIME: usize = 64;

/// Runs the command. Whether nothing was missed.
pub(crate) fn run(sync: &Sync) -> Result<bool, Failure> {
    let common = &sync.common;
    let devices = common.devices(DEVICES_DEFAULT);
    let request = StageRequest {
        devices,
        visitors: 0,
        is_persistent: true,
        resumes: true,
        event_bytes: 200,
        wants_starts: false,
    };
    let mut stage = prepare(common, request, Progress::new(common.quiet))?;
    stage.entitle("sync", "Syncs in which nothing has changed");
    let pace = sync.rate.map_or("each device again at once".to_owned(), |rate| rate.to_string());
    stage.parameter("syncs a second", pace);
    stage.bring_up(devices, AT_A_TIME)?;
    stage.workers.order(EngineCommand::Syncs { rate: sync.rate })?;
    stage.pass("warming up", WARM_UP)?;
    stage.take()?;
    let interval = Interval::begin(&mut stage);
    stage.pass("syncing", common.seconds(SECONDS_DEFAULT))?;
    let spent = interval.end(&mut stage);
    let measures = stage.take()?;
    stage.workers.order(EngineCommand::StopSyncs)?;
    let (done, counts) = (spent.counts.synced, spent.counts);
    stage.figure("syncs_per_second", "syncs: ended a second", spent.rate(done), Unit::PerSecond);
    stage.maybe_figure(
        "server_cpu_microseconds_per_sync",
        "processor time: the server's, for a sync",
        spent.server_each(done),
        Unit::Microseconds,
    );
    stage.maybe_figure(
        "client_cpu_microseconds_per_sync",
        "processor time: the device's, for a sync",
        spent.client_each(done),
        Unit::Microseconds,
    );
    for (name, label, bytes) in [
        ("payload_bytes_up_per_sync", "bytes: message to the server", counts.payload_sent),
        ("payload_bytes_down_per_sync", "bytes: message from the server", counts.payload_received),
        ("wire_bytes_up_per_sync", "bytes: TLS to the server", counts.wire_sent),
        ("wire_bytes_down_per_sync", "bytes: TLS from the server", counts.wire_received),
    ] {
        stage.maybe_figure(name, label, (done > 0).then(|| float(bytes) / float(done)), Unit::Bytes);
    }
    stage.figure(
        "syncs_late",
        "syncs: not begun, as all devices were syncing",
        float(counts.late),
        Unit::Count,
    );
    stage.figure("syncs_put_off", "syncs: put off by the server", float(counts.later), Unit::Count);
    stage.figure("links_lost", "syncs: links lost", float(counts.lost), Unit::Count);
    spent.report_shares(&mut stage, "", "processor time");
    stage.latency("sync", "from the moment a sync was due to its end", &measures.sync);
    if let Some(each) = spent.server_each(done) {
        let (rate, each) = (quantity(spent.rate(done), Unit::Count), quantity(each, Unit::Microseconds));
        stage.report.conclusion =
            Some(format!("{rate} syncs a second, {each} of the server's processor time each"));
    }
    stage.report.passed = Some(counts.lost == 0);
    stage.finish()
}
