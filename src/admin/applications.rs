//! Installed applications: how far each is spread, and on which devices.

use axum::extract::State;

use super::error::ApiError;
use super::extract::{Query, page};
use super::{Admin, Answer};
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
    State(shared): Admin,
    Query(asked): Query<ApplicationQuery>,
) -> Answer<Page<InstalledApplication>> {
    let filter = filter(&asked)?;
    let page = page(asked.limit, asked.cursor)?;
    shared.answer(move |context| Ok(query::applications(&*context.store.reader()?, &filter, &page)?)).await
}

pub(super) async fn installations(
    State(shared): Admin,
    Query(asked): Query<ApplicationQuery>,
) -> Answer<Page<Installation>> {
    let filter = filter(&asked)?;
    let page = page(asked.limit, asked.cursor)?;
    shared.answer(move |context| Ok(query::installations(&*context.store.reader()?, &filter, &page)?)).await
}
