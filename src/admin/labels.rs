//! Tags, views, counts and changes of selections.

use super::Answer;
use super::access::{Admit, May, Name, Operate, Scope, See, SeeFleet};
use super::context::AdminContext;
use super::devices::{check_interval, store_change};
use super::error::ApiError;
use super::extract::{Body, Path, Query};
use super::selection::{filter, moment};
use super::why::notify_persistent;
use crate::store::Among;
use crate::wire::api::{
    FacetQuery, Facets, Interval, Selected, SelectionApproval, SelectionChange, SelectionRemoval, Tag,
    TagChange, TagRule, View,
};
use crate::wire::id::DeviceId;
use crate::wire::units::count;

/// Devices that are removed in one transaction: all that other devices say waits as long as it takes.
const REMOVED_AT_ONCE: usize = 256;

pub(super) async fn tags(May { shared, .. }: May<SeeFleet>) -> Answer<Vec<Tag>> {
    shared.answer(|context| Ok(context.store.selection().tags(moment(context))?)).await
}

/// Gives devices a tag, or takes it from them, or says how many are meant.
pub(super) async fn tag(
    May { shared, scope, .. }: May<Operate>,
    Path(name): Path<String>,
    Body(asked): Body<TagChange>,
) -> Answer<Selected> {
    let work = move |context: &AdminContext| {
        let devices = match (&asked.filter, asked.devices.is_empty()) {
            (Some(text), true) => select(context, &scope, text, Among::Approved)?,
            (None, false) => {
                let reader = context.store.reader()?;
                let ids = asked.devices.iter().map(|device| scope.device(&reader, device));
                ids.collect::<Result<Vec<DeviceId>, _>>()?
            }
            _ => return Err(ApiError::invalid("which devices: give exactly one of devices and where")),
        };
        if asked.dry_run {
            return Ok(Selected { devices: devices.len() as u64 });
        }
        Ok(Selected { devices: context.store.selection().tag(&name, devices, asked.takes)? })
    };
    shared.answer(work).await
}

/// Gives a tag a rule, or none; the number of devices that the rule gives it to now.
pub(super) async fn rule(
    May { shared, .. }: May<Name>,
    Path(name): Path<String>,
    Body(asked): Body<TagRule>,
) -> Answer<Selected> {
    let work = move |context: &AdminContext| {
        let rule = asked.rule.as_deref().map(|text| filter(Some(text))).transpose()?;
        context.store.selection().set_rule(&name, rule.as_ref())?;
        let meant = rule.map_or(Ok(Vec::new()), |rule| {
            context.store.selection().ids(&rule, Among::Approved, moment(context))
        });
        Ok(Selected { devices: meant?.len() as u64 })
    };
    shared.answer(work).await
}

pub(super) async fn remove_tag(May { shared, .. }: May<Name>, Path(name): Path<String>) -> Answer<Tag> {
    let work = move |context: &AdminContext| {
        let tags = context.store.selection().tags(moment(context))?;
        context.store.selection().remove_tag(&name)?;
        let removed = tags.into_iter().find(|tag| tag.name.eq_ignore_ascii_case(&name));
        Ok(removed.unwrap_or(Tag { name, rule: None, devices: 0 }))
    };
    shared.answer(work).await
}

pub(super) async fn views(May { shared, .. }: May<See>) -> Answer<Vec<View>> {
    shared.answer(|context| Ok(context.store.selection().views()?)).await
}

pub(super) async fn save_view(May { shared, .. }: May<Name>, Body(view): Body<View>) -> Answer<View> {
    let work = move |context: &AdminContext| {
        context.store.selection().save_view(&view.name, &filter(Some(&view.filter))?)?;
        Ok(view)
    };
    shared.answer(work).await
}

pub(super) async fn remove_view(May { shared, .. }: May<Name>, Path(name): Path<String>) -> Answer<View> {
    let work = move |context: &AdminContext| {
        let views = context.store.selection().views()?;
        context.store.selection().remove_view(&name)?;
        let removed = views.into_iter().find(|view| view.name.eq_ignore_ascii_case(&name));
        Ok(removed.unwrap_or(View { name, filter: String::new() }))
    };
    shared.answer(work).await
}

pub(super) async fn facets(
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<FacetQuery>,
) -> Answer<Facets> {
    let filter = scope.filter(asked.filter.as_deref())?;
    let work =
        move |context: &AdminContext| Ok(context.store.selection().facets(&filter, moment(context))?);
    shared.answer(work).await
}

/// Changes every device of a selection, all or none, or says how many are meant.
pub(super) async fn change(
    May { shared, scope, .. }: May<Operate>,
    Body(asked): Body<SelectionChange>,
) -> Answer<Selected> {
    if asked.change.name.is_some() {
        return Err(ApiError::invalid("a name is for one device: no two have the same"));
    }
    if asked.change.is_empty() {
        return Err(ApiError::invalid("nothing to change: give a group, keep_connected or interval"));
    }
    if let Some(group) = &asked.change.group {
        scope.group(group)?;
    }
    if let Some(Interval::Seconds(seconds)) = asked.change.interval {
        check_interval(seconds)?;
    }
    let work = move |context: &AdminContext| {
        let devices = select(context, &scope, &asked.filter, Among::Approved)?;
        let selected = Selected { devices: devices.len() as u64 };
        if asked.dry_run {
            return Ok(selected);
        }
        let changed = context.store.devices().change_all(devices.clone(), store_change(asked.change))?;
        devices.iter().for_each(|device| context.links.settings_changed(*device));
        notify_persistent(context, &changed.persistent);
        context.device_notifier.notify(&changed.devices, None);
        Ok(selected)
    };
    shared.answer(work).await
}

/// Approves every device of a selection that waits, all or none, or says how many are meant.
pub(super) async fn approve(
    May { shared, scope, .. }: May<Operate>,
    Body(asked): Body<SelectionApproval>,
) -> Answer<Selected> {
    if let Some(group) = &asked.group {
        scope.group(group)?;
    }
    let work = move |context: &AdminContext| {
        let devices = select(context, &scope, &asked.filter, Among::Waiting)?;
        if asked.dry_run {
            return Ok(Selected { devices: devices.len() as u64 });
        }
        let (approved, persistent) = context.store.devices().approve_all(devices, asked.group)?;
        notify_persistent(context, &persistent);
        // Tasks take newcomers along.
        context.device_notifier.tasks_changed();
        log::info!("{} that waited were approved", count(approved.len() as u64, "device"));
        Ok(Selected { devices: approved.len() as u64 })
    };
    shared.answer(work).await
}

/// Removes every device of a selection, piece by piece, or says how many are meant.
pub(super) async fn remove(
    May { shared, scope, .. }: May<Admit>,
    Body(asked): Body<SelectionRemoval>,
) -> Answer<Selected> {
    let work = move |context: &AdminContext| {
        let devices = select(context, &scope, &asked.filter, Among::All)?;
        if asked.dry_run {
            return Ok(Selected { devices: devices.len() as u64 });
        }
        let mut removed = 0;
        for piece in devices.chunks(REMOVED_AT_ONCE) {
            let records = context.store.devices().remove_all(piece.to_vec(), context.clock.now().wall);
            let records = records.map_err(|error| {
                let text = format!("{removed} of {} are removed", count(devices.len() as u64, "device"));
                ApiError::from(error).behind(&text)
            })?;
            removed += records.len();
            for (device, link) in records.iter().filter_map(|record| Some((record.device, record.link?))) {
                context.links.device_removed(device, link);
            }
        }
        Ok(Selected { devices: removed as u64 })
    };
    shared.answer(work).await
}

/// The devices of a filter that are within the scope.
pub(super) fn select(
    context: &AdminContext,
    scope: &Scope,
    text: &str,
    among: Among,
) -> Result<Vec<DeviceId>, ApiError> {
    Ok(context.store.selection().ids(&scope.filter(Some(text))?, among, moment(context))?)
}
