//! The console: the administration as pages for browsers, made on the server.
//!
//! ```text
//! browser ── page or form ── console ── request to the API, in the process ── right, audit, handler
//! ```
//!
//! A page asks the [`Api`](api::Api) as every other client does, and shows the answers; nothing is stored.
//! Reading needs no script: links and forms do everything. The policy that is sent with each page lets no
//! other script than the console's own run, whatever devices have in their names.

mod access;
mod api;
mod applications;
mod assets;
mod audit;
mod device;
mod devices;
mod events;
mod form;
mod groups;
mod help;
mod history;
mod openid;
mod overview;
mod page;
mod policies;
mod reference;
mod rights;
mod rotation;
mod said;
mod selection;
mod server;
mod sign_in;
mod tasks;
pub(in crate::admin) mod text;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};

use crate::admin::openid::OpenId;
use crate::wire::api::{ErrorDetail, REQUEST_BODY_BYTES_MAX};
use page::Problem;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Nothing but the console's own files, no frame around it, no script within a page (CSP level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Headers of every answer of the console that does not say otherwise.
const HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // Not "no-referrer": a form would be sent with `Origin: null` then (Fetch, section 3.2).
    (REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

/// The API's routes, and the console's around them.
pub(super) fn around(api: Router, provider: Option<Arc<OpenId>>) -> Router {
    Router::new()
        .route("/", get(overview::show))
        .route("/devices", get(devices::show))
        .route("/devices/{device}", get(device::show).post(device::change))
        .route("/selection", post(selection::change))
        .route("/groups", get(groups::show).post(groups::change))
        .route("/applications", get(applications::show))
        .route("/policies", get(policies::show))
        .route("/policies/edit", get(policies::edit).post(policies::change))
        .route("/policies/history", get(history::show))
        .route("/tasks", get(tasks::show))
        .route("/tasks/new", get(tasks::new).post(tasks::make))
        .route("/tasks/{id}", get(tasks::one).post(tasks::cancel))
        .route("/runs/{id}", get(tasks::run))
        .route("/events", get(events::show))
        .route("/events/live", get(events::live))
        .route("/access", get(access::show).post(access::change))
        .route("/audit", get(audit::show))
        .route("/server", get(server::show).post(rotation::change))
        .route("/api", get(reference::show))
        .route("/help", get(help::show))
        .route("/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route("/openid/start", get(openid::start))
        .route("/openid/callback", get(openid::callback))
        .route("/openid/finish", get(openid::finish))
        .route("/welcome", get(sign_in::welcome).post(sign_in::set_password))
        .route("/sign-out", post(sign_in::sign_out))
        .layer(DefaultBodyLimit::max(REQUEST_BODY_BYTES_MAX))
        .layer(Extension(provider))
        .layer(middleware::from_fn_with_state(api.clone(), rights::known))
        .layer(middleware::from_fn(safe))
        .route("/assets/{name}", get(assets::serve))
        .fallback(other)
        .with_state(api)
}

/// Adds the headers. Somebody who comes to a page and is not signed in is led to where they can.
async fn safe(request: Request, next: Next) -> Response {
    let is_page = request.method() == Method::GET && is_browser(request.headers());
    let wanted = request.uri().path_and_query().map(ToString::to_string).filter(|_| is_page);
    let site = request.headers().get("sec-fetch-site").cloned();
    let mut answer = next.run(request).await;
    match (answer.status(), wanted) {
        (StatusCode::UNAUTHORIZED, Some(wanted)) => answer = page::see(&sign_in::url(&wanted)),
        (StatusCode::FORBIDDEN, Some(wanted)) if site.is_some_and(|site| site != "same-origin") => {
            answer = sign_in::from_elsewhere(&wanted).into_response();
        }
        _ => {}
    }
    for (name, value) in HEADERS {
        answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}

/// Everything else is the API's. A browser that comes to a place which is not there gets a page.
async fn other(State(api): State<Router>, request: Request) -> Response {
    let is_browser = is_browser(request.headers());
    let Ok(answer) = api::asked(&api, request).await;
    let detail = answer.extensions().get::<ErrorDetail>().cloned();
    match detail.filter(|_| is_browser) {
        Some(detail) => {
            let mut page = Problem(detail).into_response();
            for (name, value) in HEADERS {
                page.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            page
        }
        None => answer,
    }
}

/// Whether a page is wanted, and not a document for a program.
fn is_browser(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("text/html"))
}
