//! Policies of groups, settings of devices.

use axum::Extension;

use super::access::{Author, May, Scope, See};
use super::connection::Caller;
use super::error::ApiError;
use super::extract::{Body, Path, Query, page};
use super::{AdminContext, Answer};
use crate::fleet::settings::{self, SettingsError};
use crate::store::query::{self, DeviceKey};
use crate::store::{self, NewSettings, OWN_APPLICATION, Preview, SetSettings, SettingsChange};
use crate::wire::api::{
    ApplicationSettings, ChangedDevice, ExplainQuery, ExplainedKey, NewPolicy, OwnSettings, Page, Policy,
    PolicyHistoryQuery, PolicyQuery, PolicyRemoval, PolicyVersion, SettingsChanged,
};
use crate::wire::datagram::WakeReason;
use crate::wire::id::DeviceId;

impl From<SettingsError> for ApiError {
    fn from(error: SettingsError) -> Self {
        Self::invalid(error.to_string())
    }
}

fn checked(new: &NewPolicy) -> Result<NewSettings, ApiError> {
    settings::check(&new.settings)?;
    let locks = settings::parse_locks(&new.locks, &new.settings)?;
    Ok(NewSettings { settings: new.settings.clone(), locks, drift: new.drift })
}

/// Lets those devices know that have other settings. The rules of the server are told to none.
fn notified(
    context: &AdminContext,
    application: &str,
    change: &SettingsChange,
    wake: bool,
) -> SettingsChanged {
    if application != OWN_APPLICATION {
        context.device_notifier.notify(&change.devices, wake.then_some(WakeReason::Sync));
    }
    change.into()
}

impl From<&SettingsChange> for SettingsChanged {
    fn from(change: &SettingsChange) -> Self {
        Self { revision: Some(change.revision), devices: change.devices.len() as u64, ..Self::default() }
    }
}

/// Says which devices would have other settings.
fn previewed(preview: Preview) -> SettingsChanged {
    let devices = preview.devices.len() as u64;
    let examples = preview.examples.into_iter().map(|(name, keys)| ChangedDevice { name, keys }).collect();
    SettingsChanged { revision: None, devices, examples }
}

fn device_of(context: &AdminContext, scope: &Scope, name: &str) -> Result<DeviceId, ApiError> {
    scope.device(&context.store.reader()?, name)
}

pub(super) async fn set(
    May { shared, scope, .. }: May<Author>,
    Extension(caller): Extension<Caller>,
    Body(new): Body<NewPolicy>,
) -> Answer<SettingsChanged> {
    let work = move |context: &AdminContext| {
        scope.group(&new.at)?;
        let (settings, policies) = (checked(&new)?, context.store.policies());
        let by = author(context, caller);
        if new.dry_run {
            return Ok(previewed(policies.preview(&new.at, &new.application, settings, by)?));
        }
        let change = policies.set(&new.at, &new.application, settings, by)?;
        Ok(notified(context, &new.application, &change, new.wake))
    };
    shared.answer(work).await
}

fn author(context: &AdminContext, caller: Caller) -> store::Author {
    store::Author { name: caller.actor, at: context.clock.now().wall }
}

pub(super) async fn remove(
    May { shared, scope, .. }: May<Author>,
    Extension(caller): Extension<Caller>,
    Body(asked): Body<PolicyRemoval>,
) -> Answer<SettingsChanged> {
    let work = move |context: &AdminContext| {
        scope.group(&asked.at)?;
        let (policies, by) = (context.store.policies(), author(context, caller));
        if asked.dry_run {
            return Ok(previewed(policies.preview_removal(&asked.at, &asked.application, by)?));
        }
        let change = policies.remove(&asked.at, &asked.application, by)?;
        Ok(notified(context, &asked.application, &change, asked.wake))
    };
    shared.answer(work).await
}

pub(super) async fn set_own(
    May { shared, scope, .. }: May<Author>,
    Body(new): Body<NewPolicy>,
) -> Answer<SettingsChanged> {
    if !new.locks.is_empty() {
        return Err(ApiError::invalid("a device's own settings have no locks: nothing lies below them"));
    }
    let work = move |context: &AdminContext| {
        let settings = checked(&new)?;
        let (device, now) = (device_of(context, &scope, &new.at)?, context.clock.now().wall);
        let policies = context.store.policies();
        if new.dry_run {
            return Ok(previewed(policies.preview_own(device, &new.application, settings, now)?));
        }
        let change = policies.set_own(device, &new.application, settings, now)?;
        Ok(notified(context, &new.application, &change, new.wake))
    };
    shared.answer(work).await
}

pub(super) async fn remove_own(
    May { shared, scope, .. }: May<Author>,
    Body(asked): Body<PolicyRemoval>,
) -> Answer<SettingsChanged> {
    let work = move |context: &AdminContext| {
        let (device, policies) = (device_of(context, &scope, &asked.at)?, context.store.policies());
        if asked.dry_run {
            return Ok(previewed(policies.preview_removal_own(device, &asked.application)?));
        }
        let change = policies.remove_own(device, &asked.application)?;
        Ok(notified(context, &asked.application, &change, asked.wake))
    };
    shared.answer(work).await
}

/// Versions of a policy, the newest first.
pub(super) async fn history(
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<PolicyHistoryQuery>,
) -> Answer<Page<PolicyVersion>> {
    let page = page(asked.limit, asked.cursor)?;
    let work = move |context: &AdminContext| {
        scope.group(&asked.group)?;
        Ok(context.store.policies().history(&asked.group, &asked.application, &page)?)
    };
    shared.answer(work).await
}

pub(super) fn to_api(policy: SetSettings) -> Policy {
    Policy {
        group: policy.from,
        application: policy.application,
        settings: policy.set.settings,
        locks: policy.set.locks.iter().map(ToString::to_string).collect(),
        drift: policy.set.drift,
        revision: policy.revision,
        changed_at: policy.changed_at.into(),
    }
}

/// Policies by group and application. A cursor is the last one's group and application, with a line between
/// them.
pub(super) async fn list(
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<PolicyQuery>,
) -> Answer<Page<Policy>> {
    let page = page(asked.limit, asked.cursor)?;
    let work = move |context: &AdminContext| {
        let store = &context.store;
        let group = asked.group.as_deref().map(store::normal_path).transpose()?;
        let key = |policy: &SetSettings| format!("{}\n{}", policy.from, policy.application);
        let mut found = store.policies().list(asked.application.as_deref())?;
        found.retain(|policy| scope.allows(&policy.from));
        found.retain(|policy| group.as_ref().is_none_or(|group| *group == policy.from));
        found.sort_by_key(key);
        found.retain(|policy| page.cursor.as_ref().is_none_or(|cursor| key(policy) > *cursor));
        let next_cursor = found.get(page.limit).and(found.get(page.limit - 1)).map(key);
        found.truncate(page.limit);
        Ok(Page::new(found.into_iter().map(to_api).collect(), next_cursor))
    };
    shared.answer(work).await
}

/// Settings that a device should have beside those that it says it has.
pub(super) async fn of_device(
    May { shared, scope, .. }: May<See>,
    Path(name): Path<String>,
) -> Answer<Vec<ApplicationSettings>> {
    let work = move |context: &AdminContext| {
        let device = device_of(context, &scope, &name)?;
        let detail = query::device(&*context.store.reader()?, &DeviceKey::Id(device))?;
        let desired = context.store.policies().desired(detail.row.device)?;
        let reported = |application: &str| {
            let condition = detail.conditions.iter().find(|condition| condition.application == application);
            condition.and_then(|condition| condition.settings.clone())
        };
        let one = |desired: store::DesiredSettings| {
            let own = context.store.policies().own(device, &desired.application)?;
            Ok(ApplicationSettings {
                reported: reported(&desired.application),
                application: desired.application,
                desired_revision: (desired.revision > 0).then_some(desired.revision),
                settings: desired.merged.settings,
                drift: desired.merged.drift,
                own: own.map(|own| OwnSettings { settings: own.set.settings, drift: own.set.drift }),
            })
        };
        desired.into_iter().map(one).collect()
    };
    shared.answer(work).await
}

/// Origin of each key of a device's settings.
pub(super) async fn explain(
    May { shared, scope, .. }: May<See>,
    Path(name): Path<String>,
    Query(asked): Query<ExplainQuery>,
) -> Answer<Vec<ExplainedKey>> {
    let work = move |context: &AdminContext| {
        let device = device_of(context, &scope, &name)?;
        Ok(context.store.policies().explain(device, &asked.application)?)
    };
    shared.answer(work).await
}
