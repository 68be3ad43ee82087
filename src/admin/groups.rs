//! Groups.

use axum::Json;
use axum::http::StatusCode;

use super::access::{Author, May, See};
use super::devices::check_interval;
use super::error::ApiError;
use super::extract::{Body, Query, page};
use super::why::notify_persistent;
use super::{AdminContext, Answer, Created};
use crate::store::{self, GroupChange, query};
use crate::store::{GroupOutcome, StoreError};
use crate::wire::api::{Group, GroupMove, GroupRemoval, Keep, NewGroup, Page, PageQuery, SettingsChanged};

pub(super) async fn create(
    May { shared, scope, .. }: May<Author>,
    Body(new): Body<NewGroup>,
) -> Created<NewGroup> {
    if let Some(seconds) = new.interval_seconds {
        check_interval(seconds)?;
    }
    let work = move |context: &AdminContext| {
        scope.group(&new.path)?;
        let path = store::normal_path(&new.path)?;
        let change = GroupChange {
            interval_seconds: new.interval_seconds.map(Some),
            keep_connected: new.keep_connected.map(Keep::own),
        };
        notify_persistent(context, &context.store.devices().set_group(&path, change)?);
        Ok(NewGroup { path, ..new })
    };
    Ok((StatusCode::CREATED, Json(shared.run(work).await?)))
}

pub(super) async fn list(
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<PageQuery>,
) -> Answer<Page<Group>> {
    let page = page(asked.limit, asked.cursor)?;
    let work = move |context: &AdminContext| {
        let mut page = query::groups(&*context.store.reader()?, &page)?;
        page.items.retain(|group| scope.allows(&group.path));
        Ok(page)
    };
    shared.answer(work).await
}

/// Moves a group, or says how many devices that would give other settings.
pub(super) async fn rename(
    May { shared, scope, .. }: May<Author>,
    Body(asked): Body<GroupMove>,
) -> Answer<SettingsChanged> {
    let work = move |context: &AdminContext| {
        scope.group(&asked.from)?;
        scope.group(&asked.to)?;
        let moved = context.store.devices().move_group(&asked.from, &asked.to, asked.dry_run);
        notified(context, moved)
    };
    shared.answer(work).await
}

/// Removes a group, or says how many devices that would give other settings.
pub(super) async fn remove(
    May { shared, scope, .. }: May<Author>,
    Body(asked): Body<GroupRemoval>,
) -> Answer<SettingsChanged> {
    let work = move |context: &AdminContext| {
        scope.group(&asked.path)?;
        // Its devices belong to the group above it then.
        if store::normal_path(&asked.path)? == scope.grant().group {
            scope.fleet()?;
        }
        let removed = context.store.devices().remove_group(
            &asked.path,
            asked.recursive,
            asked.dry_run,
            context.clock.now().wall,
        );
        notified(context, removed)
    };
    shared.answer(work).await
}

fn notified(
    context: &AdminContext,
    outcome: Result<GroupOutcome, StoreError>,
) -> Result<SettingsChanged, ApiError> {
    match outcome? {
        GroupOutcome::Changed(change) => {
            notify_persistent(context, &change.persistent);
            context.device_notifier.notify(&change.devices, None);
            Ok((&change).into())
        }
        GroupOutcome::DryRun { devices } => Ok(SettingsChanged { devices, ..SettingsChanged::default() }),
    }
}
