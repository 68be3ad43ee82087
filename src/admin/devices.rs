//! Devices.

use super::Answer;
use super::access::{Admit, May, Operate, See};
use super::context::AdminContext;
use super::error::ApiError;
use super::extract::{Body, Path};
use super::selection::moment;
use super::why::{address, next_slot, notify_persistent, persistent_by, record_of, udp_port};
use crate::fleet::pacing::{INTERVAL_SECONDS_MAX, INTERVAL_SECONDS_MIN};
use crate::fleet::presence::{Presence, presence};
use crate::fleet::ring::begin_of;
use crate::machine::device_state::DeviceState;
use crate::store::query::{self, DeviceKey, DeviceRow};
use crate::store::table::signs_of;
use crate::store::{self, ApplicationStatistics, DeviceCertificate};
use crate::wire::api::{
    Approval, Certificate, Device, DeviceChange, DeviceDetail, Interval, Keep, Link, SectionStatus, Spool,
    StatisticSeries, StatusReason, Timestamp,
};
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::section::Section;
use crate::wire::statistics::Number;
use crate::wire::time::WallTime;

pub(super) fn check_interval(seconds: u32) -> Result<(), ApiError> {
    if (INTERVAL_SECONDS_MIN..=INTERVAL_SECONDS_MAX).contains(&seconds) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "the interval is {seconds} s, it must be from {INTERVAL_SECONDS_MIN} s to {INTERVAL_SECONDS_MAX} s (7 days)"
    )))
}

/// The record's presence now.
pub(super) fn presence_of(context: &AdminContext, record: &DeviceState, now: WallTime) -> Presence {
    presence(&signs_of(record, context.clock.present_since()), now)
}

pub(super) fn to_api(context: &AdminContext, row: DeviceRow, record: &DeviceState) -> Device {
    let now = context.clock.now().wall;
    let reasons = row.device_status.reasons.iter();
    Device {
        status: row.device_status.status,
        status_since: row.device_status.since.map(Into::into),
        reasons: reasons.map(|r| StatusReason { level: r.level, text: r.text(now) }).collect(),
        id: row.device,
        name: row.name,
        group: row.group,
        presence: presence_of(context, record, now),
        last_seen_at: Timestamp::unless_zero(record.last_seen),
        last_sync_at: Timestamp::unless_zero(record.last_sync),
        keep_connected: record.keep_connected,
        interval_seconds: record.interval_seconds(),
        enrolled_at: row.enrolled_at.into(),
    }
}

fn certificate_of(certificate: &DeviceCertificate, record: &DeviceState) -> Certificate {
    let DeviceCertificate { counter, key_type, life, .. } = *certificate;
    Certificate {
        number: counter,
        key_type,
        expires_at: life.map(|life| life.expires_at.into()),
        renews_at: life.map(|life| life.due_at(record.device, u64::MAX).into()),
        is_due: record.is_to_renew(),
    }
}

pub(super) async fn show(
    May { shared, scope, .. }: May<See>,
    Path(name): Path<String>,
) -> Answer<DeviceDetail> {
    shared.answer(move |context| load_detail(context, scope.device(&context.store.reader()?, &name)?)).await
}

/// A device, as a list shows it.
pub(super) fn shown(context: &AdminContext, name: String) -> Result<Device, ApiError> {
    let row = query::device(&*context.store.reader()?, &DeviceKey::NameOrId(name))?.row;
    let record = record_of(context, row.device);
    Ok(to_api(context, row, &record))
}

fn load_detail(context: &AdminContext, device: DeviceId) -> Result<DeviceDetail, ApiError> {
    let detail = query::device(&*context.store.reader()?, &DeviceKey::Id(device))?;
    let record = record_of(context, detail.row.device);
    let sections = Section::ALL.map(|section| {
        // Memory and disk say the same but for the moment between a sync's commit and its reply.
        let state = detail.sections[section.index()];
        SectionStatus { section, revision: state.revision, digest: state.digest }
    });
    let tags = context.store.selection().tags_of(detail.row.device, moment(context))?;
    Ok(DeviceDetail {
        tags,
        next_sync_at: next_slot(&record),
        own_interval_seconds: detail.own_interval_seconds,
        own_keep_connected: detail.own_keep_connected,
        persistent_by: persistent_by(context, detail.own_keep_connected, &record),
        waits_for_room: context.store.devices().waits_for_room(record.device),
        departure: record.departure,
        address: address(&record),
        udp_port: udp_port(&record),
        udp_reach: record.udp_reach,
        agent_epoch: if detail.agent_epoch == Epoch(0) { record.agent_epoch } else { detail.agent_epoch },
        sections: sections.to_vec(),
        host: detail.host,
        conditions: detail.conditions.into_iter().map(Into::into).collect(),
        statistics: series(detail.statistics),
        applications: detail.applications,
        certificate: detail.certificate.map(|certificate| certificate_of(&certificate, &record)),
        events: Spool { spool_epoch: record.spool_epoch, last_sequence: record.last_sequence },
        link: record.link.map(|link| Link {
            reactor: link.reactor(),
            slot: link.slot(),
            generation: link.generation(),
        }),
        device: to_api(context, detail.row, &record),
    })
}

pub(super) async fn change(
    May { shared, scope, .. }: May<Operate>,
    Path(name): Path<String>,
    Body(change): Body<DeviceChange>,
) -> Answer<Device> {
    if change.is_empty() {
        return Err(ApiError::invalid("nothing to change: give a name, group, keep_connected or interval"));
    }
    if let Some(group) = &change.group {
        scope.group(group)?;
    }
    if let Some(Interval::Seconds(seconds)) = change.interval {
        check_interval(seconds)?;
    }
    let change = store_change(change);
    let work = move |context: &AdminContext| {
        let device = scope.device(&context.store.reader()?, &name)?;
        let changed = context.store.devices().change(device, change)?;
        context.links.settings_changed(device);
        notify_persistent(context, &changed.persistent);
        if changed.has_other_desired_state {
            context.device_notifier.notify(&[device], None);
        }
        let row = query::device(&*context.store.reader()?, &DeviceKey::Id(device))?.row;
        let record = record_of(context, device);
        Ok(to_api(context, row, &record))
    };
    shared.answer(work).await
}

/// As the store takes it.
pub(super) fn store_change(change: DeviceChange) -> store::DeviceChange {
    store::DeviceChange {
        name: change.name,
        group: change.group,
        keep_connected: change.keep_connected.map(Keep::own),
        interval_seconds: change.interval.map(|interval| match interval {
            Interval::Seconds(seconds) => Some(seconds),
            Interval::Inherited => None,
        }),
    }
}

/// Lets a device in that waits.
pub(super) async fn approve(
    May { shared, scope, .. }: May<Operate>,
    Path(name): Path<String>,
    Body(approval): Body<Approval>,
) -> Answer<Device> {
    if let Some(group) = &approval.group {
        scope.group(group)?;
    }
    let change =
        store::DeviceChange { name: approval.name, group: approval.group, ..store::DeviceChange::default() };
    let work = move |context: &AdminContext| {
        let device = scope.device(&context.store.reader()?, &name)?;
        let changed = context.store.devices().approve(device, change)?;
        notify_persistent(context, &changed.persistent);
        // Tasks take newcomers along.
        context.device_notifier.tasks_changed();
        let row = query::device(&*context.store.reader()?, &DeviceKey::Id(device))?.row;
        let record = record_of(context, device);
        log::info!("device {device} was approved as '{}' in {}", row.name, row.group);
        Ok(to_api(context, row, &record))
    };
    shared.answer(work).await
}

pub(super) async fn remove(
    May { shared, scope, .. }: May<Admit>,
    Path(name): Path<String>,
) -> Answer<Device> {
    let work = move |context: &AdminContext| {
        let device = scope.device(&context.store.reader()?, &name)?;
        let row = query::device(&*context.store.reader()?, &DeviceKey::Id(device))?.row;
        let record = record_of(context, device);
        let removed = context.store.devices().remove(device, context.clock.now().wall)?;
        if let Some(link) = removed.and_then(|record| record.link) {
            context.links.device_removed(device, link);
        }
        Ok(to_api(context, row, &record))
    };
    shared.answer(work).await
}

/// One series for each number, by application and name.
fn series(statistics: Vec<ApplicationStatistics>) -> Vec<StatisticSeries> {
    statistics.into_iter().flat_map(of_application).collect()
}

/// The number that people would write for it, to the four digits that are kept: 0.1, where the bits alone say
/// 0.10000610352.
fn widened(value: f32) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value.into())
}

fn of_application(statistics: ApplicationStatistics) -> Vec<StatisticSeries> {
    let ApplicationStatistics { application, at, latest, ring } = statistics;
    let points = |column: usize| {
        let points = ring.points().iter().rev();
        let value = |values: &[f32]| values.get(column).copied().filter(|value| value.is_finite());
        points
            .filter_map(|point| Some((begin_of(point.slot).into(), Number(widened(value(&point.values)?)))))
            .collect()
    };
    let series = |(column, (name, unit, value)): (usize, (String, String, Option<f64>))| StatisticSeries {
        application: application.clone(),
        name,
        unit,
        value: value.map(Number),
        at: at.into(),
        points: points(column),
    };
    latest.into_iter().enumerate().map(series).collect()
}
