//! Why a device is as it is: how it is reached, why its link stays, why it is in sync or not.

use std::sync::atomic::Ordering;

use std::net::IpAddr;

use super::Answer;
use super::access::{May, See};
use super::context::AdminContext;
use super::error::ApiError;
use super::extract::Path;
use crate::fleet::presence::{lost_at, presence};
use crate::fleet::status::Cause;
use crate::fleet::why::explain;
use crate::machine::device_state::DeviceState;
use crate::store::PersistentLinkChanges;
use crate::store::query::{self, DeviceKey};
use crate::store::table::signs_of;
use crate::wire::api::{PersistentBy, Timestamp, UdpReach, UnsettledSettings, Waiting, Why, WhyFacts};
use crate::wire::clone_policy::ClonePolicy;
use crate::wire::datagram::{NoticeKind, WakeReason};
use crate::wire::id::DeviceId;
use crate::wire::settings::SettingsState;
use crate::wire::time::WallTime;

/// The device's state in memory.
pub(super) fn record_of(context: &AdminContext, device: DeviceId) -> DeviceState {
    // Enrolled or removed this very moment: on disk, not in memory.
    let record = context.store.table().get(device);
    record.unwrap_or_else(|| DeviceState::new(device, context.info.interval_seconds))
}

/// When it was told to come again.
pub(super) fn next_slot(record: &DeviceState) -> Option<Timestamp> {
    let WallTime(last) = Timestamp::unless_zero(record.last_sync)?.0;
    Some(WallTime(last.saturating_add(u64::from(record.due_seconds()) * 1_000)).into())
}

pub(super) fn address(record: &DeviceState) -> Option<String> {
    let is_known = !record.address.is_unspecified();
    is_known.then(|| IpAddr::V6(record.address).to_canonical().to_string())
}

pub(super) fn udp_port(record: &DeviceState) -> Option<u16> {
    (record.udp_port != 0).then_some(record.udp_port)
}

/// Why its link is to stay, when it is.
pub(super) fn persistent_by(
    context: &AdminContext,
    own: Option<bool>,
    record: &DeviceState,
) -> Option<PersistentBy> {
    let is_unreached = record.udp_reach == UdpReach::Unreached;
    match (record.keep_connected, own) {
        (true, Some(_)) => Some(PersistentBy::Device),
        (true, None) => Some(PersistentBy::Group),
        (false, _) => (context.keep_unreachable.load(Ordering::Relaxed) && is_unreached)
            .then_some(PersistentBy::Unreachable),
    }
}

/// Those whose links are to stay from now on are called, so that they come; those who have one that need not
/// stay any more, so that they learn it. Nobody waits for that: a device that is not reached learns it with
/// its next sync.
pub(super) fn notify_persistent(context: &AdminContext, changes: &PersistentLinkChanges) {
    let has_link = |device: &&DeviceId| record_of(context, **device).link.is_some();
    let devices: Vec<DeviceId> =
        changes.on.iter().chain(changes.off.iter().filter(has_link)).copied().collect();
    if !devices.is_empty()
        && let Err(busy) = context.calls.call(&devices, WakeReason::Stay, None)
    {
        log::info!(
            "{} devices learn with their next sync that their links are (not) to stay: {busy}",
            devices.len()
        );
    }
}

pub(super) async fn why(May { shared, scope, .. }: May<See>, Path(name): Path<String>) -> Answer<Why> {
    let work = move |context: &AdminContext| {
        let device = scope.device(&context.store.reader()?, &name)?;
        explained(context, device)
    };
    shared.answer(work).await
}

/// Applications whose settings the device has not put in place as they should be.
fn unsettled(
    context: &AdminContext,
    detail: &query::DeviceDetail,
) -> Result<Vec<UnsettledSettings>, ApiError> {
    let desired = context.store.policies().desired(detail.row.device)?;
    let unsettled = desired.into_iter().filter(|desired| desired.revision > 0).map(|desired| {
        let condition = detail.conditions.iter().find(|known| known.application == desired.application);
        UnsettledSettings {
            reported: condition.and_then(|condition| condition.settings.clone()),
            application: desired.application,
            desired_revision: desired.revision,
        }
    });
    let is_settled = |settings: &UnsettledSettings| {
        settings.reported.as_ref().is_some_and(|report| {
            report.revision == settings.desired_revision && report.state == SettingsState::Applied
        })
    };
    Ok(unsettled.filter(|settings| !is_settled(settings)).collect())
}

fn explained(context: &AdminContext, device: DeviceId) -> Result<Why, ApiError> {
    let detail = query::device(&*context.store.reader()?, &DeviceKey::Id(device))?;
    let settings = unsettled(context, &detail)?;
    let row = detail.row;
    let (runs_waiting, runs_taken) = query::open_runs(&*context.store.reader()?, row.device)?;
    let mut reasons = row.device_status.reasons.iter();
    let shared = reasons.find(|reason| matches!(reason.cause, Cause::SharedIdentity(_)));
    let (record, now) = (record_of(context, row.device), context.clock.now().wall);
    let signs = signs_of(&record, context.clock.present_since());
    let can_be_lost =
        record.last_seen != WallTime(0) && matches!(record.departure, None | Some(NoticeKind::Reboot));
    let facts =
        WhyFacts {
            name: row.name,
            asked_at: now.into(),
            presence: presence(&signs, now),
            has_link: record.link.is_some(),
            persistent_by: persistent_by(context, detail.own_keep_connected, &record),
            waits_for_room: context.store.devices().waits_for_room(row.device),
            departure: record.departure,
            is_called: record.is_called(),
            last_seen_at: Timestamp::unless_zero(record.last_seen),
            last_sync_at: Timestamp::unless_zero(record.last_sync),
            next_slot_at: next_slot(&record),
            lost_at: can_be_lost.then(|| lost_at(&signs).into()),
            interval_seconds: record.interval_seconds(),
            address: address(&record),
            udp_port: udp_port(&record),
            udp_reach: record.udp_reach,
            settings,
            runs_waiting,
            runs_taken,
            shared_identity: shared.map(|reason| reason.text(now)),
            clone_policy: shared.map(|reason| match &reason.cause {
                Cause::SharedIdentity(shared) => shared.policy,
                _ => ClonePolicy::default(),
            }),
            waiting: detail.waits.map(|(since, was_unknown)| Waiting { since: since.into(), was_unknown }),
            certificate: row.device_status.reasons.iter().find_map(|reason| {
                matches!(reason.cause, Cause::Certificate { .. }).then(|| reason.text(now))
            }),
            events_held: row.device_status.reasons.iter().find_map(|reason| {
                matches!(reason.cause, Cause::EventsHeld { .. }).then(|| reason.text(now))
            }),
            pin_missing: row.device_status.reasons.iter().find_map(|reason| {
                matches!(reason.cause, Cause::PinMissing { .. }).then(|| reason.text(now))
            }),
            journal: context.gauges.journal().condition,
            server_started_at: context.clock.present_since().into(),
        };
    Ok(Why { text: explain(&facts), facts })
}
