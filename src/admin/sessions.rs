//! Signing in and out. A sign-in gives a cookie that no script can read, and whose hash alone is kept.

use std::sync::Arc;

use axum::http::header::{COOKIE, HeaderName, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::AppendHeaders;
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::access::{May, Newcomer, See};
use super::connection::Caller;
use super::error::ApiError;
use super::extract::Body;
use super::{Answer, Created, Shared, passwords};
use crate::store::{Proof, SESSION_MILLISECONDS_MAX, SESSION_SECRET_BYTES};
use crate::wire::api::{CreatedApiToken, ErrorCode, Session, SignIn};
use crate::wire::time::WallTime;
use crate::wire::token::ApiTokenText;

/// The cookie's name: with this prefix a browser takes it over TLS alone, for this host and for all of it
/// (RFC 6265bis section 4.1.3.2).
pub(super) const NAME: &str = "__Host-muster";

/// The cookie beside an answer.
pub(super) type Cookie = AppendHeaders<[(HeaderName, HeaderValue); 1]>;

/// Life of an API token that a sign-in makes: 30 days.
const TOKEN_MILLISECONDS: u64 = 30 * 24 * 3_600 * 1_000;

/// Begins a session; with the value of `Set-Cookie`. Its secret is a new one, whatever cookie came with the
/// request.
pub(super) async fn begin(
    shared: &Arc<Shared>,
    caller: &Caller,
    asked: SignIn,
) -> Result<(Session, HeaderValue), ApiError> {
    begin_with(shared, proof(shared, caller, asked).await?).await
}

/// The same, by a proof.
pub(super) async fn begin_with(shared: &Shared, proof: Proof) -> Result<(Session, HeaderValue), ApiError> {
    let work = move |context: &super::AdminContext| {
        let begun = context.store.users().begin_session(proof, context.clock.ages().wall)?;
        begun.ok_or_else(changed_meanwhile)
    };
    let (signed_in, secret) = shared.run(work).await?;
    let session = Session {
        name: signed_in.name,
        role: signed_in.grant.role,
        group: signed_in.grant.group,
        expires_at: Some(signed_in.expires_at.into()),
        certificate_sha256: shared.context.certificates.hash().to_string(),
    };
    Ok((session, cookie(NAME, &URL_SAFE_NO_PAD.encode(secret), SESSION_MILLISECONDS_MAX / 1_000)))
}

/// Ends the session that a request came with; with the value of `Set-Cookie` that forgets it.
pub(super) async fn end(shared: &Shared, caller: &Caller) -> Result<HeaderValue, ApiError> {
    let Some((secret, _)) = caller.session else {
        let text = "you did not sign in with a password: 'musterctl api-token revoke' ends an API token";
        return Err(ApiError::new(ErrorCode::Conflict, text));
    };
    shared.run(move |context| Ok(context.store.users().end_session(secret)?)).await?;
    Ok(cookie(NAME, "", 0))
}

/// A value of `Set-Cookie`, for this host and its own pages alone.
pub(super) fn cookie(name: &str, value: &str, seconds: u64) -> HeaderValue {
    let text = format!("{name}={value}; Max-Age={seconds}; Path=/; Secure; HttpOnly; SameSite=Strict");
    let mut value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// The secret in a request's cookie; an error: there is a cookie, and it is none of ours.
pub(super) fn secret_in(headers: &HeaderMap) -> Option<Result<[u8; SESSION_SECRET_BYTES], ApiError>> {
    let secret =
        URL_SAFE_NO_PAD.decode(cookie_in(headers, NAME)?).ok().and_then(|secret| secret.try_into().ok());
    Some(secret.ok_or_else(is_over))
}

/// The value of a cookie of this name.
pub(super) fn cookie_in<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    cookies.find_map(|header| {
        header.split(';').find_map(|cookie| cookie.trim().strip_prefix(name)?.strip_prefix('='))
    })
}

pub(super) fn is_over() -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, "the session is over: sign in again")
}

async fn proof(shared: &Arc<Shared>, caller: &Caller, asked: SignIn) -> Result<Proof, ApiError> {
    match asked {
        SignIn { user: Some(user), link: None, password } => {
            passwords::check(shared, caller.address, user, password).await
        }
        SignIn { user: None, link: Some(link), password } => {
            passwords::check_link(shared, caller.address, &link, password).await
        }
        _ => Err(ApiError::invalid("either user or link says who signs in")),
    }
}

fn changed_meanwhile() -> ApiError {
    let text = "the password, the one-time link or the user has changed at this moment: try again";
    ApiError::new(ErrorCode::Unauthenticated, text)
}

pub(super) async fn create(
    Newcomer { shared, caller }: Newcomer,
    Body(asked): Body<SignIn>,
) -> Result<(StatusCode, Cookie, Json<Session>), ApiError> {
    let (session, cookie) = begin(&shared, &caller, asked).await?;
    Ok((StatusCode::CREATED, AppendHeaders([(SET_COOKIE, cookie)]), Json(session)))
}

pub(super) async fn create_token(
    Newcomer { shared, caller }: Newcomer,
    Body(asked): Body<SignIn>,
) -> Created<CreatedApiToken> {
    let proof = proof(&shared, &caller, asked).await?;
    let make = move |context: &super::AdminContext| {
        let now = context.clock.ages().wall;
        let expires_at = WallTime(now.0.saturating_add(TOKEN_MILLISECONDS));
        let made = context.store.users().sign_in_token(proof, now, expires_at)?;
        let (info, secret) = made.ok_or_else(changed_meanwhile)?;
        let server_certificate = context.certificates.hash();
        let token = ApiTokenText { id: info.id, secret, server_certificate }.to_string();
        Ok(CreatedApiToken { info, token })
    };
    Ok((StatusCode::CREATED, Json(shared.run(make).await?)))
}

pub(super) async fn show(
    May { shared, scope, .. }: May<See>,
    Extension(caller): Extension<Caller>,
) -> Answer<Session> {
    let grant = scope.grant().clone();
    let name = caller.actor.strip_prefix("user ").unwrap_or(&caller.actor).to_owned();
    let expires_at = caller.session.map(|(_, expires_at)| expires_at.into());
    let certificate_sha256 = shared.context.certificates.hash().to_string();
    Ok(Json(Session { name, role: grant.role, group: grant.group, expires_at, certificate_sha256 }))
}

pub(super) async fn remove(
    may: May<See>,
    caller: Extension<Caller>,
) -> Result<(Cookie, Json<Session>), ApiError> {
    let cookie = end(&may.shared, &caller.0).await?;
    let session = show(may, caller).await?;
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), session))
}
