//! One connection of an administrator: HTTP/1.1, or HTTP/2 with a browser, with deadlines.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::http::header::HOST;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse as _, Response};
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::artifacts::{UPLOAD_SECONDS_MAX, is_upload};
use super::connection::{Caller, stopped};
use super::error::ApiError;
use super::stall::{STALL_SECONDS_MAX, StallGuard};
use crate::wire::api::{ErrorCode, REQUEST_BODY_BYTES_MAX};
use crate::wire::limits::ARTIFACT_BYTES_MAX;

pub(super) mod streams;

/// Most of a head that is kept: the longest cursor, and the longest filter, which is three times as long
/// there.
const HEAD_BYTES_MAX: u16 = 24 * 1024;

/// Longest time of a request until its answer begins, its body's arrival included. A client waits a little
/// longer.
const ANSWER_SECONDS_MAX: u64 = 25;

/// Answers requests until the client or the server ends it. An idle connection is kept for
/// `head_seconds_max`, as long as the head of a request may take.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    caller: Caller,
    router: Router,
    head_seconds_max: u64,
    stopping: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| answered(request, caller.clone(), router.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(head_seconds_max))
        .max_buf_size(HEAD_BYTES_MAX.into())
        .serve_connection(guarded(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopped(stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!("administration: a connection ended: {error}");
    }
}

/// The same with HTTP/2.
pub(super) async fn converse_in_streams(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    caller: Caller,
    router: Router,
    places: [streams::Places; 2],
    idle_seconds_max: u64,
    stopping: watch::Receiver<bool>,
) {
    let answer = move |request| answered(request, caller.clone(), router.clone());
    let deadlines = streams::Deadlines {
        idle: Duration::from_secs(idle_seconds_max),
        stall: Duration::from_secs(STALL_SECONDS_MAX),
    };
    streams::converse(guarded(stream), answer, places, deadlines, stopping).await;
}

fn guarded<S>(stream: S) -> TokioIo<StallGuard<S>> {
    TokioIo::new(StallGuard::new(stream, Duration::from_secs(STALL_SECONDS_MAX)))
}

async fn answered(
    mut request: Request<Incoming>,
    caller: Caller,
    router: Router,
) -> Result<Response, Infallible> {
    let is_upload = is_upload(request.method(), request.uri().path());
    let (bytes_max, seconds_max) = match is_upload {
        true => (ARTIFACT_BYTES_MAX, UPLOAD_SECONDS_MAX),
        false => (REQUEST_BODY_BYTES_MAX as u64, ANSWER_SECONDS_MAX),
    };
    if let Some(refusal) = too_long(&request, bytes_max) {
        return Ok(refusal.into_response());
    }
    request.extensions_mut().insert(caller);
    name_host_in_header(&mut request);
    let answer = TowerToHyperService::new(router).call(request);
    let answered = tokio::time::timeout(Duration::from_secs(seconds_max), answer).await;
    answered.unwrap_or_else(|_| {
        let text = format!("the request took longer than {seconds_max} s: try again later");
        Ok(ApiError::new(ErrorCode::Busy, text).into_response())
    })
}

/// A request that says before it begins that it is longer than any may be.
fn too_long(request: &Request<Incoming>, bytes_max: u64) -> Option<ApiError> {
    let bytes = request.body().size_hint().lower();
    (bytes > bytes_max).then(|| {
        let text = format!("the body is to have {bytes} bytes, at most {bytes_max} are allowed");
        ApiError::new(ErrorCode::TooLarge, text)
    })
}

/// Brings a request whose target names the host, as all of HTTP/2 do, into the usual form. The target
/// counts, not what a header says beside it (RFC 9112 section 3.2.2, RFC 9113 section 8.3.1).
fn name_host_in_header<B>(request: &mut Request<B>) {
    let uri = request.uri();
    let (Some(host), Some(target)) = (uri.authority(), uri.path_and_query()) else { return };
    if let Ok(host) = HeaderValue::from_str(host.as_str()) {
        let target = Uri::from(target.clone());
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = target;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_in_the_target_counts_and_the_target_is_the_path() {
        let request = Request::get("https://fleet.example:13001/devices?where=a").header(HOST, "elsewhere");
        let mut request = request.body(()).unwrap();
        name_host_in_header(&mut request);
        assert_eq!(request.headers()[HOST], "fleet.example:13001");
        assert_eq!(request.uri(), "/devices?where=a");
        name_host_in_header(&mut request);
        assert_eq!(request.headers()[HOST], "fleet.example:13001");
    }
}
