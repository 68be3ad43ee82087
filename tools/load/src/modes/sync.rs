//! `muster-load sync`: syncs in which nothing has changed.

use super::interval;
use super::prepare::{StageRequest, prepare};
use super::stage::{AT_A_TIME, float};
use crate::arguments::Sync;
use crate::engine::commands::EngineCommand;
use crate::failure::Failure;
use crate::report::model::Unit;
use crate::report::text::quantity;

/// Runs the command. Whether nothing was missed.
pub(crate) fn run(sync: &Sync) -> Result<bool, Failure> {
    let common = &sync.common;
    let devices = common.devices_or(1_000);
    let mut stage = prepare(common, StageRequest { devices, ..StageRequest::default() })?;
    stage.entitle("sync", "Syncs in which nothing has changed");
    let pace = sync.rate.map_or("each device again at once".to_owned(), |rate| rate.to_string());
    stage.parameter("syncs a second", pace);
    stage.bring_up(devices, AT_A_TIME)?;
    stage.workers.order(EngineCommand::Syncs { rate: sync.rate })?;
    let (spent, measures) = interval::measure(&mut stage, "syncing", "", common.seconds_or(10))?;
    stage.workers.order(EngineCommand::StopSyncs)?;
    let (done, counts) = (spent.counts.synced, spent.counts);
    stage.figure("syncs_per_second", "syncs: ended a second", spent.rate(done));
    let (server, client) = (spent.server_each(done), spent.client_each(done));
    stage.figure("server_cpu_microseconds_per_sync", "processor time: the server's, for a sync", server);
    stage.figure("client_cpu_microseconds_per_sync", "processor time: the device's, for a sync", client);
    for (name, label, bytes) in [
        ("payload_bytes_up_per_sync", "bytes: message to the server", counts.payload_sent),
        ("payload_bytes_down_per_sync", "bytes: message from the server", counts.payload_received),
        ("wire_bytes_up_per_sync", "bytes: TLS to the server", counts.wire_sent),
        ("wire_bytes_down_per_sync", "bytes: TLS from the server", counts.wire_received),
    ] {
        stage.figure(name, label, (done > 0).then(|| float(bytes) / float(done)));
    }
    stage.count("syncs_late", "syncs: not begun, as all devices were syncing", counts.late);
    stage.count("syncs_put_off", "syncs: put off by the server", counts.later);
    stage.count("links_lost", "syncs: links lost", counts.lost);
    spent.report_shares(&mut stage, "", "processor time");
    stage.latency("sync", "from the moment a sync was due to its end", &measures.sync);
    if let Some(each) = server {
        let (rate, each) = (quantity(spent.rate(done), Unit::Count), quantity(each, Unit::Microseconds));
        stage.report.conclusion =
            Some(format!("{rate} syncs a second, {each} of the server's processor time each"));
    }
    stage.report.passed = Some(counts.lost == 0);
    stage.finish()
}
