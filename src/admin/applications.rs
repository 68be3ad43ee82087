//! Installed applications: how far each is spread, and on which devices.

use super::access::{May, See};
use super::error::ApiError;
use super::extract::{Query, page};
use super::{AdminContext, Answer};
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
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<ApplicationQuery>,
) -> Answer<Page<InstalledApplication>> {
    let filter = filter(&asked)?;
    let page = page(asked.limit, asked.cursor)?;
    let work = move |context: &AdminContext| {
        let reader = context.store.reader()?;
        scope.device_or_fleet(&reader, asked.device.as_deref())?;
        Ok(query::applications(&reader, &filter, &page)?)
    };
    shared.answer(work).await
}

pub(super) async fn installations(
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<ApplicationQuery>,
) -> Answer<Page<Installation>> {
    let filter = filter(&asked)?;
    let page = page(asked.limit, asked.cursor)?;
    let work = move |context: &AdminContext| {
        let reader = context.store.reader()?;
        scope.device_or_fleet(&reader, asked.device.as_deref())?;
        Ok(query::installations(&reader, &filter, &page)?)
    };
    shared.answer(work).await
}
