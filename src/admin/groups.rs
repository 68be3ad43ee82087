//! Groups.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::AdminShared;
use super::devices::check_interval;
use super::error::ApiError;
use super::extract::{Asked, Body, page};
use crate::store::{self, query};
use crate::wire::api::{Group, NewGroup, Page, PageQuery};

pub(super) async fn create(
    State(shared): State<AdminShared>,
    Body(new): Body<NewGroup>,
) -> Result<(StatusCode, Json<NewGroup>), ApiError> {
    if let Some(seconds) = new.interval_seconds {
        check_interval(seconds)?;
    }
    let store = shared.context.store.clone();
    let group = shared
        .pool
        .run(move || {
            let path = store::normal_path(&new.path)?;
            store.set_group(&path, new.interval_seconds.map(Some))?;
            Ok(NewGroup { path, interval_seconds: new.interval_seconds })
        })
        .await?;
    Ok((StatusCode::CREATED, Json(group)))
}

pub(super) async fn list(
    State(shared): State<AdminShared>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Json<Page<Group>>, ApiError> {
    let page = page(asked.limit, asked.cursor)?;
    let store = shared.context.store.clone();
    let page = shared.pool.run(move || Ok(query::groups(&*store.reader()?, &page)?)).await?;
    let shown = |group: store::Group| Group {
        path: group.path,
        interval_seconds: group.interval_seconds,
        devices: group.devices,
    };
    Ok(Json(Page { items: page.items.into_iter().map(shown).collect(), next_cursor: page.next }))
}
