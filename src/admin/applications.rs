//! Installed applications: how far each is spread, and on which devices.

use axum::Json;
use axum::extract::State;

use super::AdminShared;
use super::error::ApiError;
use super::extract::{Query, page};
use crate::store::query::{self, ApplicationFilter, DeviceKey};
use crate::wire::api::{ApplicationQuery, Installation, InstalledApplication, Page};

fn filter(asked: &ApplicationQuery) -> Result<ApplicationFilter, ApiError> {
    let version = asked.version.as_deref().map(str::parse).transpose();
    Ok(ApplicationFilter {
        device: asked.device.clone().map(DeviceKey::NameOrId),
        name: asked.name.clone(),
        version: version.map_err(|error| ApiError::invalid(format!("{error}")))?,
    })
}

pub(super) async fn list(
    State(shared): State<AdminShared>,
    Query(asked): Query<ApplicationQuery>,
) -> Result<Json<Page<InstalledApplication>>, ApiError> {
    let filter = filter(&asked)?;
    let page = page(asked.limit, asked.cursor)?;
    shared.answer(move |context| Ok(query::applications(&*context.store.reader()?, &filter, &page)?)).await
}

pub(super) async fn installations(
    State(shared): State<AdminShared>,
    Query(asked): Query<ApplicationQuery>,
) -> Result<Json<Page<Installation>>, ApiError> {
    let filter = filter(&asked)?;
    let page = page(asked.limit, asked.cursor)?;
    shared.answer(move |context| Ok(query::installations(&*context.store.reader()?, &filter, &page)?)).await
}
