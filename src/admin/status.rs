//! The server at a glance.

use std::time::Instant;

use axum::Json;

use super::access::{May, SeeFleet};
use super::devices::presence_of;
use super::error::ApiError;
use super::{AdminContext, Answer, Shared};
use crate::reactor::Clock;
use crate::store::query::{self, FleetCounts};
use crate::store::table::SHARDS;
use crate::store::{Store, StoreError};
use crate::wire::api::{
    ClockCondition, ClockStatus, DeviceCounts, EventTotals, Limit, LogStatus, Presence, Status,
    StoreCondition, StoreStatus,
};
use crate::wire::time::WallTime;

fn store_status(store: &Store, counts: &FleetCounts, now: WallTime) -> StoreStatus {
    if store.failing().is_some() {
        // Perhaps nobody has wanted to store anything since it failed.
        store.probe();
    }
    let (failing, blocked) = (store.failing(), store.log_blocked());
    let ago = |since: Instant| {
        let milliseconds = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        WallTime(now.0.saturating_sub(milliseconds)).into()
    };
    StoreStatus {
        condition: match &failing {
            None => StoreCondition::Ok,
            Some(failing) if failing.error == StoreError::Full => StoreCondition::Full,
            Some(_) => StoreCondition::Failed,
        },
        since: failing.as_ref().map(|failing| ago(failing.since)),
        reason: failing.map(|failing| failing.error.to_string()),
        bytes: counts.file_bytes,
        log_bytes: store.log_bytes(),
        log_blocked_since: blocked.as_ref().map(|blocked| ago(blocked.since)),
        log_blocked_by: blocked.map(|blocked| blocked.by),
        applications: counts.applications,
        groups: counts.groups,
    }
}

pub(super) async fn show(May { shared, .. }: May<SeeFleet>) -> Answer<Status> {
    Ok(Json(of(&shared).await?))
}

/// The server at a glance. Looks at each device once, without any table of the database.
pub(super) async fn of(shared: &Shared) -> Result<Status, ApiError> {
    let stored_per_second = shared.rate.per_second(Instant::now(), shared.context.gauges.events_stored());
    let capacity = shared.capacity.limits();
    let administration = shared.network.lock().map(|address| format!("https://{address}"));
    let work = move |context: &AdminContext| {
        let now = context.clock.now().wall;
        let mut devices = DeviceCounts::default();
        for shard in 0..SHARDS {
            context.store.table().for_each_in(shard, |record| {
                devices.known += 1;
                devices.pins_missing += u64::from(!record.has_trust());
                *match presence_of(context, record, now) {
                    Presence::Connected => &mut devices.connected,
                    Presence::Idle => &mut devices.idle,
                    Presence::Asleep => &mut devices.asleep,
                    Presence::ShutDown => &mut devices.shut_down,
                    Presence::AgentStopped => &mut devices.agent_stopped,
                    Presence::Lost => &mut devices.lost,
                    Presence::NeverSeen => &mut devices.never_seen,
                    Presence::Waiting => &mut devices.waiting,
                } += 1;
            });
        }
        let counts = query::counts(&*context.store.reader()?)?;
        let statuses = query::status_counts(&*context.store.reader()?)?;
        (devices.ok, devices.warning, devices.critical) = (statuses.ok, statuses.warning, statuses.critical);
        let (used, value) = context.artifacts.usage();
        let artifacts = Limit { name: "artifact bytes".to_owned(), value, used: Some(used) };
        let limits = context.gauges.limits().into_iter().chain(capacity).chain([artifacts]).collect();
        Ok(Status {
            version: context.info.version.into(),
            started_at: context.clock.started_at().into(),
            uptime_seconds: context.clock.uptime_seconds(),
            server_epoch: context.store.server_epoch()?,
            certificate_sha256: context.certificates.hash().to_string(),
            certificate_stage: context.certificates.stage(),
            addresses: context.info.addresses.clone(),
            administration,
            tls_files_until: context.certificates.tls_files_until().map(Into::into),
            clock: clock_of(&context.clock),
            devices,
            links: context.gauges.links(),
            datagrams: context.gauges.datagrams(),
            events: EventTotals { stored_per_second, ..context.gauges.events() },
            journal: context.gauges.journal(),
            store: store_status(&context.store, &counts, now),
            backup: context.backups.status(),
            log: LogStatus { lines_dropped: log_lines_dropped() },
            limits,
        })
    };
    shared.run(work).await
}

/// Lines that the log has dropped; 0 where the program that embeds this has a log of its own.
fn log_lines_dropped() -> u64 {
    #[cfg(feature = "daemon")]
    return crate::logging::lines_dropped();
    #[cfg(not(feature = "daemon"))]
    0
}

fn clock_of(clock: &Clock) -> ClockStatus {
    let Some(doubt) = clock.doubted() else { return ClockStatus::default() };
    ClockStatus {
        condition: ClockCondition::Doubted,
        ahead_seconds: Some(doubt.ahead_milliseconds / 1_000),
        believed_in_seconds: Some(doubt.until.microseconds_since(clock.moment()).div_ceil(1_000_000)),
    }
}
