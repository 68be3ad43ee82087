//! API tokens.

use axum::http::StatusCode;
use axum::{Extension, Json};

use super::access::{Admit, May};
use super::connection::Caller;
use super::error::ApiError;
use super::extract::{Body, Path, Query, page};
use super::{AdminContext, Answer, Created};
use crate::fleet::access::Grant;
use crate::store::{self, StoreError};
use crate::wire::api::{
    API_TOKEN_TTL_SECONDS_DEFAULT, API_TOKEN_TTL_SECONDS_MAX, ApiToken, CreatedApiToken, NewApiToken, Page,
    PageQuery,
};
use crate::wire::id::ApiTokenId;
use crate::wire::time::WallTime;
use crate::wire::token::ApiTokenText;

pub(super) async fn create(
    May { shared, scope, .. }: May<Admit>,
    Extension(caller): Extension<Caller>,
    Body(new): Body<NewApiToken>,
) -> Created<CreatedApiToken> {
    let seconds = new.ttl_seconds.unwrap_or(API_TOKEN_TTL_SECONDS_DEFAULT);
    if !(1..=API_TOKEN_TTL_SECONDS_MAX).contains(&seconds) {
        return Err(ApiError::invalid(format!(
            "ttl_seconds is {seconds}, it must be from 1 to {API_TOKEN_TTL_SECONDS_MAX} (400 days)"
        )));
    }
    let group = store::normal_path(new.group.as_deref().unwrap_or("/"))?;
    let grant = scope.given(Grant { role: new.role, group })?;
    let make = move |context: &AdminContext| {
        let created_at = context.clock.ages().wall;
        let expires_at = WallTime(created_at.0.saturating_add(seconds * 1_000));
        let new = store::NewApiToken { name: new.name, grant, user: caller.user, created_at, expires_at };
        let (info, secret) = context.store.api_tokens().create(new)?;
        let server_certificate = context.certificates.hash();
        let token = ApiTokenText { id: info.id, secret, server_certificate }.to_string();
        Ok(CreatedApiToken { info, token })
    };
    let made = shared.run(make).await?;
    shared.admitted.notify_one();
    Ok((StatusCode::CREATED, Json(made)))
}

pub(super) async fn list(
    May { shared, scope, .. }: May<Admit>,
    Query(asked): Query<PageQuery>,
) -> Answer<Page<ApiToken>> {
    let page = page(asked.limit, asked.cursor)?;
    let work = move |context: &AdminContext| {
        Ok(context.store.api_tokens().list(&scope.grant().group, &page, context.clock.ages().wall)?)
    };
    shared.answer(work).await
}

pub(super) async fn revoke(
    May { shared, scope, .. }: May<Admit>,
    Path(id): Path<ApiTokenId>,
) -> Answer<ApiToken> {
    let work = move |context: &AdminContext| {
        let now = context.clock.now().wall;
        if !scope.allows(&context.store.api_tokens().get(id, now)?.group) {
            return Err(StoreError::NoApiToken(id).into());
        }
        Ok(context.store.api_tokens().revoke(id, now)?)
    };
    shared.answer(work).await
}
