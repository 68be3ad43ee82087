//! The API, asked from within: over the same routes as from outside, so that rights, audit and answers are
//! the same.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, Request, Response};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::page::Problem;
use crate::admin::connection::Caller;
use crate::wire::api::{ErrorBody, ErrorCode, ErrorDetail};

/// Headers that say who asks, and from which page.
const PASSED_ON: [HeaderName; 5] =
    [AUTHORIZATION, COOKIE, HOST, ORIGIN, HeaderName::from_static("sec-fetch-site")];

/// Longest answer: a page of a thousand items has about a megabyte.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The API for the one who asks for a page.
pub(super) struct Api {
    routes: Router,
    caller: Caller,
    headers: HeaderMap,
}

impl FromRequestParts<Router> for Api {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, routes: &Router) -> Result<Self, Problem> {
        let given = |name: HeaderName| Some((name.clone(), parts.headers.get(&name)?.clone()));
        Ok(Self {
            routes: routes.clone(),
            caller: parts.extensions.get().cloned().unwrap_or_default(),
            headers: PASSED_ON.into_iter().filter_map(given).collect(),
        })
    }
}

impl Api {
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, ErrorDetail> {
        read(self.answer(Method::GET, url, Body::empty()).await?).await
    }

    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        url: &str,
        body: &impl Serialize,
    ) -> Result<T, ErrorDetail> {
        let body = serde_json::to_vec(body).map_err(|error| internal(&error))?;
        read(self.answer(method, url, body.into()).await?).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        url: &str,
        body: &impl Serialize,
    ) -> Result<T, ErrorDetail> {
        self.send(Method::POST, url, body).await
    }

    pub(super) async fn delete<T: DeserializeOwned>(&self, url: &str) -> Result<T, ErrorDetail> {
        self.send(Method::DELETE, url, &()).await
    }

    /// The answer, which is a success.
    pub(super) async fn answer(
        &self,
        method: Method,
        url: &str,
        body: Body,
    ) -> Result<Response<Body>, ErrorDetail> {
        let mut request = Request::builder().method(method).uri(url).body(body).map_err(|error| {
            ErrorDetail { code: ErrorCode::InvalidArgument, message: error.to_string(), at: None }
        })?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(CONTENT_TYPE, super::JSON);
        request.extensions_mut().insert(self.caller.clone());
        let Ok(answer) = asked(&self.routes, request).await;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let refusal: ErrorBody = read(answer).await?;
        Err(refusal.error)
    }
}

/// The answer of the API.
pub(super) async fn asked(
    routes: &Router,
    request: Request<Body>,
) -> Result<Response<Body>, std::convert::Infallible> {
    TowerToHyperService::new(routes.clone()).call(request).await
}

async fn read<T: DeserializeOwned>(answer: Response<Body>) -> Result<T, ErrorDetail> {
    let bytes = to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await.map_err(|error| internal(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| internal(&error))
}

fn internal(error: &dyn std::fmt::Display) -> ErrorDetail {
    let message = format!("the console does not understand the API: {error}");
    log::error!("administration: {message}");
    ErrorDetail { code: ErrorCode::Internal, message, at: None }
}
