//! Join tokens.

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;

use super::access::{Admit, May};
use super::error::ApiError;
use super::extract::{Body, Path, Query, page};
use super::install::{self, Reached};
use super::{AdminContext, Answer, Created, Shared};
use crate::store::{self, StoreError, query};
use crate::wire::api::{
    CreatedToken, NewToken, Page, PageQuery, RE_ENROLMENT_TTL_SECONDS_DEFAULT, ReEnrolment,
    TOKEN_TTL_SECONDS_DEFAULT, TOKEN_TTL_SECONDS_MAX, TOKEN_USES_MAX, Token,
};
use crate::wire::id::TokenId;
use crate::wire::time::WallTime;
use crate::wire::token::JoinToken;

pub(super) async fn create(
    May { shared, scope, .. }: May<Admit>,
    reached: Reached,
    Body(new): Body<NewToken>,
) -> Created<CreatedToken> {
    let group = new.group.clone().unwrap_or_else(|| "/".into());
    scope.group(&group)?;
    created(&shared, reached, shared.run(move |context| make(context, new)).await?).await
}

/// Makes a token.
pub(super) fn make(context: &AdminContext, new: NewToken) -> Result<CreatedToken, ApiError> {
    let ttl_seconds = checked_ttl(new.ttl_seconds, TOKEN_TTL_SECONDS_DEFAULT)?;
    let uses_max = new.uses.unwrap_or(1);
    if !(1..=TOKEN_USES_MAX).contains(&uses_max) {
        return Err(ApiError::invalid(format!("uses is {uses_max}, it must be from 1 to {TOKEN_USES_MAX}")));
    }
    let group = new.group.unwrap_or_else(|| "/".into());
    let (names, approval) = (new.names, new.approval);
    made(context, store::NewToken { group, uses_max, names, approval, ..with_life(context, ttl_seconds) })
}

/// A token with which another machine takes the device's record over.
pub(super) async fn re_enrol(
    May { shared, scope, .. }: May<Admit>,
    reached: Reached,
    Path(name): Path<String>,
    Body(asked): Body<ReEnrolment>,
) -> Created<CreatedToken> {
    let ttl_seconds = checked_ttl(asked.ttl_seconds, RE_ENROLMENT_TTL_SECONDS_DEFAULT)?;
    let make = move |context: &AdminContext| {
        let device = Some(scope.device(&context.store.reader()?, &name)?);
        made(context, store::NewToken { device, uses_max: 1, ..with_life(context, ttl_seconds) })
    };
    created(&shared, reached, shared.run(make).await?).await
}

/// The answer, with the line that uses the token.
async fn created(shared: &Arc<Shared>, reached: Reached, made: CreatedToken) -> Created<CreatedToken> {
    let (install, install_hint) = match install::line(shared, reached, &made.token).await {
        Ok(line) => (Some(line), None),
        Err(hint) => (None, Some(hint)),
    };
    Ok((StatusCode::CREATED, Json(CreatedToken { install, install_hint, ..made })))
}

fn checked_ttl(seconds: Option<u64>, default: u64) -> Result<u64, ApiError> {
    let seconds = seconds.unwrap_or(default);
    if !(1..=TOKEN_TTL_SECONDS_MAX).contains(&seconds) {
        return Err(ApiError::invalid(format!(
            "ttl_seconds is {seconds}, it must be from 1 to {TOKEN_TTL_SECONDS_MAX} (366 days)"
        )));
    }
    Ok(seconds)
}

/// A token of which nothing else is said yet.
fn with_life(context: &AdminContext, ttl_seconds: u64) -> store::NewToken {
    // As it will be judged: one that is made while the clock is doubted must not live longer for that.
    let now = context.clock.ages().wall;
    let expires_at = WallTime(now.0.saturating_add(ttl_seconds * 1_000));
    store::NewToken { created_at: now, expires_at, ..store::NewToken::default() }
}

fn made(context: &AdminContext, new: store::NewToken) -> Result<CreatedToken, ApiError> {
    let made = context.store.devices().create_token(new)?;
    let server_certificate = context.certificates.hash();
    let token = JoinToken { id: made.token.id, secret: made.secret, server_certificate }.to_string();
    Ok(CreatedToken { info: made.token, token, install: None, install_hint: None })
}

pub(super) async fn list(
    May { shared, scope, .. }: May<Admit>,
    Query(asked): Query<PageQuery>,
) -> Answer<Page<Token>> {
    let (page, now) = (page(asked.limit, asked.cursor)?, shared.context.clock.ages().wall);
    let work = move |context: &AdminContext| {
        let mut page = query::tokens(&*context.store.reader()?, &page, now)?;
        page.items.retain(|token| scope.allows(&token.group));
        Ok(page)
    };
    shared.answer(work).await
}

pub(super) async fn revoke(May { shared, scope, .. }: May<Admit>, Path(id): Path<TokenId>) -> Answer<Token> {
    let now = shared.context.clock.now().wall;
    let work = move |context: &AdminContext| {
        if !scope.allows(&query::token(&*context.store.reader()?, id, now)?.group) {
            return Err(StoreError::NoToken(id).into());
        }
        Ok(context.store.devices().revoke_token(id, now)?)
    };
    shared.answer(work).await
}
