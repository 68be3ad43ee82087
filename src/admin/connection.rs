//! Connections of administrators: HTTP/1.1 with deadlines, only so many at once.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::error::ApiError;
use super::listen::{AdminListener, CONNECTIONS_MAX};
use super::patience::Patient;
use crate::wire::api::ErrorCode;

/// How long a request's head may take, in seconds; also how long an idle connection is kept.
const HEAD_SECONDS_MAX: u64 = 15;

/// Most of a head that is kept, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long a request may take until its answer begins, its body's arrival included, in seconds. A client waits a little longer.
const ANSWER_SECONDS_MAX: u64 = 25;

/// How long requests in flight may take when the server stops, in seconds.
const STOP_SECONDS_MAX: u64 = 3;

/// Pause after accept(2) failed for want of something, such as descriptors, in milliseconds.
const ACCEPT_PAUSE_MILLISECONDS: u64 = 100;

/// Accepts and serves until `stopping`, then lets what is in flight end.
pub(super) async fn serve(
    listener: AdminListener,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut should_stop = pin!(stopped(stopping.clone()));
    loop {
        // Without a permit nothing is accepted: who comes too many waits in the backlog.
        let permit = tokio::select! {
            () = &mut should_stop => break,
            permit = Arc::clone(&permits).acquire_owned() => permit.map_err(io::Error::other)?,
        };
        let accepted = tokio::select! {
            () = &mut should_stop => break,
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, router.clone(), stopping.clone(), permit));
            }
            Err(error) => {
                log::warn!("administration: can't accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MILLISECONDS)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    stopping.mark_unchanged();
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(STOP_SECONDS_MAX), all).await.is_err() {
        log::warn!("administration: requests were cut off after {STOP_SECONDS_MAX} s");
    }
    Ok(())
}

/// Ends when the server stops.
pub(super) async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that nobody is left who could say so.
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
}

async fn converse(
    stream: UnixStream,
    router: Router,
    stopping: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = router.call(request);
        async move {
            let answered = tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), answer).await;
            answered.unwrap_or_else(|_| {
                let text = format!("the request took longer than {ANSWER_SECONDS_MAX} s: try again later");
                Ok(ApiError::new(ErrorCode::Busy, text).into_response())
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEAD_SECONDS_MAX))
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
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
    drop(permit);
}
