//! The server at a glance.

use axum::Json;
use axum::extract::State;

use super::AdminShared;
use super::devices::presence_of;
use super::error::ApiError;
use crate::store::query;
use crate::store::table::SHARDS;
use crate::wire::api::{DeviceCounts, EventTotals, Presence, Status, StoreStatus};

pub(super) async fn show(State(shared): State<AdminShared>) -> Result<Json<Status>, ApiError> {
    let context = shared.context.clone();
    let stored_per_second = shared.rate.per_second(context.gauges.events_stored());
    let work = move || {
        let now = (context.clock)();
        let mut devices = DeviceCounts::default();
        for shard in 0..SHARDS {
            context.store.table().for_each_in(shard, |record| {
                devices.known += 1;
                *match presence_of(&context, record, now) {
                    Presence::Connected => &mut devices.connected,
                    Presence::Idle => &mut devices.idle,
                    Presence::Asleep => &mut devices.asleep,
                    Presence::ShutDown => &mut devices.shut_down,
                    Presence::AgentStopped => &mut devices.agent_stopped,
                    Presence::Lost => &mut devices.lost,
                    Presence::NeverSeen => &mut devices.never_seen,
                } += 1;
            });
        }
        let counts = query::counts(&*context.store.reader()?)?;
        let statuses = query::status_counts(&*context.store.reader()?)?;
        (devices.ok, devices.warning, devices.critical) = (statuses.ok, statuses.warning, statuses.critical);
        Ok(Status {
            version: context.info.version.into(),
            started_at: context.info.started_at.into(),
            uptime_seconds: now.0.saturating_sub(context.info.started_at.0) / 1_000,
            server_epoch: context.store.server_epoch()?,
            certificate_sha256: context.info.certificate.to_string(),
            addresses: context.info.addresses.clone(),
            devices,
            links: context.gauges.links(),
            datagrams: context.gauges.datagrams(),
            events: EventTotals { stored_per_second, ..context.gauges.events() },
            journal: context.gauges.journal(),
            store: StoreStatus {
                bytes: counts.file_bytes,
                applications: counts.applications,
                groups: counts.groups,
            },
            limits: context.gauges.limits(),
        })
    };
    Ok(Json(shared.pool.run(work).await?))
}
