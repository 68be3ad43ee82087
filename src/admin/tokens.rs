//! Join tokens.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::error::ApiError;
use super::extract::{Body, Path, Query, page};
use super::{Admin, Answer, Created};
use crate::store::{self, query};
use crate::wire::api::{
    CreatedToken, NewToken, Page, PageQuery, TOKEN_TTL_SECONDS_DEFAULT, TOKEN_TTL_SECONDS_MAX,
    TOKEN_USES_MAX, Token,
};
use crate::wire::id::TokenId;
use crate::wire::time::WallTime;
use crate::wire::token::JoinToken;

pub(super) async fn create(State(shared): Admin, Body(new): Body<NewToken>) -> Created<CreatedToken> {
    let ttl_seconds = new.ttl_seconds.unwrap_or(TOKEN_TTL_SECONDS_DEFAULT);
    if !(1..=TOKEN_TTL_SECONDS_MAX).contains(&ttl_seconds) {
        return Err(ApiError::invalid(format!(
            "ttl_seconds is {ttl_seconds}, it must be from 1 to {TOKEN_TTL_SECONDS_MAX} (366 days)"
        )));
    }
    let uses_max = new.uses.unwrap_or(1);
    if !(1..=TOKEN_USES_MAX).contains(&uses_max) {
        return Err(ApiError::invalid(format!("uses is {uses_max}, it must be from 1 to {TOKEN_USES_MAX}")));
    }
    // As it will be judged: one that is made while the clock is doubted must not live longer for that.
    let now = shared.context.clock.ages().wall;
    let new = store::NewToken {
        group: new.group.unwrap_or_else(|| "/".into()),
        created_at: now,
        expires_at: WallTime(now.0.saturating_add(ttl_seconds * 1_000)),
        uses_max,
    };
    let server_certificate = shared.context.info.certificate;
    let made = shared.run(move |context| Ok(context.store.devices().create_token(new)?)).await?;
    let token = JoinToken { id: made.token.id, secret: made.secret, server_certificate }.to_string();
    Ok((StatusCode::CREATED, Json(CreatedToken { info: made.token, token })))
}

pub(super) async fn list(State(shared): Admin, Query(asked): Query<PageQuery>) -> Answer<Page<Token>> {
    let (page, now) = (page(asked.limit, asked.cursor)?, shared.context.clock.ages().wall);
    shared.answer(move |context| Ok(query::tokens(&*context.store.reader()?, &page, now)?)).await
}

pub(super) async fn revoke(State(shared): Admin, Path(id): Path<TokenId>) -> Answer<Token> {
    let now = shared.context.clock.now().wall;
    shared.answer(move |context| Ok(context.store.devices().revoke_token(id, now)?)).await
}
