//! Signing in at a provider of `OpenID` Connect: the pages between which the browser goes to and fro.

use std::sync::Arc;

use axum::Extension;
use axum::http::header::{HeaderName, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{AppendHeaders, IntoResponse as _, Response};

use super::api::Api;
use super::form::Fields;
use super::page::{Answer, Link, Page, Part, see};
use super::sign_in::{self, local};
use crate::admin::connection::Caller;
use crate::admin::openid::{BROWSER_COOKIE, OpenId};
use crate::admin::sessions;
use crate::wire::api::url::with_query;
use crate::wire::api::{ErrorCode, ErrorDetail, OpenIdAnswer};

/// The provider, when there is one.
pub(super) type Provider = Extension<Option<Arc<OpenId>>>;

/// A page that goes on by itself, after as many seconds (WHATWG HTML, declarative refresh).
const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// A link to the provider, for the sign-in page.
pub(super) fn link(openid: &OpenId, fields: &Fields) -> Part {
    let text = format!("Sign in with {}", openid.name());
    Part::Links(vec![Link::new(openid.start_url(local(fields.get("next"))), text)])
}

/// Sends the browser to the provider.
pub(super) async fn start(provider: Provider, caller: Option<Extension<Caller>>, fields: Fields) -> Response {
    let Extension(Some(openid)) = &provider else { return see("/sign-in") };
    let address = caller.and_then(|caller| caller.address);
    match openid.begin(address, local(fields.get("next"))).await {
        Ok(begun) => (AppendHeaders([(SET_COOKIE, begun.cookie)]), see(&begun.url)).into_response(),
        Err(error) => sign_in::page(&provider, &fields, Some(error.into())).into_response(),
    }
}

/// The provider has sent the browser back. Coming from another site it brings no cookie of ours: the page
/// that it gets sends it on, from this site.
pub(super) async fn callback(fields: Fields) -> Response {
    let names = ["state", "code", "error", "iss"];
    let given = names.into_iter().filter_map(|name| Some((name.to_owned(), fields.some(name)?.into())));
    let url = with_query("/openid/finish", &serde_json::Value::Object(given.collect()));
    let refresh = HeaderValue::try_from(format!("0; url={url}")).ok();
    let page = Page::outside("Signing in").with(Part::Links(vec![Link::new(url, "Go on")]));
    (AppendHeaders(refresh.map(|refresh| (REFRESH, refresh))), page).into_response()
}

/// Begins the session.
pub(super) async fn finish(provider: Provider, api: Api, headers: HeaderMap, fields: Fields) -> Answer {
    let browser = sessions::cookie_in(&headers, BROWSER_COOKIE).unwrap_or_default().to_owned();
    let state = fields.get("state").to_owned();
    let next = provider.as_ref().and_then(|openid| openid.next(&state));
    let (code, error, issuer) = (fields.some("code"), fields.some("error"), fields.some("iss"));
    let answer = OpenIdAnswer { state, code, error, issuer, browser };
    match sign_in::begun(&api, "/v1/sessions/openid", &answer).await {
        Ok(cookie) => {
            let mut answer = sign_in::with_cookie(see(local(&next.unwrap_or_default())), cookie);
            answer.headers_mut().append(SET_COOKIE, sessions::cookie(BROWSER_COOKIE, "", 0));
            Ok(answer)
        }
        Err(error) => sign_in::page(&provider, &Fields::default(), Some(shown(error))).into(),
    }
}

/// A page of status 401 would be the sign-in page, without the reason.
fn shown(error: ErrorDetail) -> ErrorDetail {
    match error.code {
        ErrorCode::Unauthenticated => ErrorDetail { code: ErrorCode::Forbidden, ..error },
        _ => error,
    }
}
