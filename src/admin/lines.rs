//! Answers that come piece by piece, of which no more is in memory than the client has room for: lines of
//! JSON, and a backup as it is made.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::access::{Govern, May};
use super::error::ApiError;
use crate::wire::api::ErrorCode;

/// The way into the answer: takes a piece when the client has taken the one before. Closed when the client
/// goes away.
pub(super) type LinesSender = mpsc::Sender<Bytes>;

/// An answer, and the way into it. The answer ends when the sender is dropped.
pub(super) fn answer() -> (LinesSender, Response) {
    let (lines, body) = body();
    (lines, ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// A body, and the way into it.
pub(super) fn body() -> (LinesSender, Body) {
    body_of(Ok)
}

/// The same of pieces that may be missing: the answer ends there, in the middle, so that nobody takes it for
/// a whole one.
pub(super) fn body_of<T: Send + 'static>(read: fn(T) -> Result<Bytes, ApiError>) -> (mpsc::Sender<T>, Body) {
    let (pieces, taken) = mpsc::channel(1);
    (pieces, Body::new(Pieces { taken, read }))
}

/// The answer begins at once; the first piece comes when the database is copied.
pub(super) async fn backup(May { shared, .. }: May<Govern>) -> Result<Response, ApiError> {
    let (pieces, body) = body();
    let begun = shared.context.backups.send_to(pieces);
    begun.map_err(|busy| ApiError::new(ErrorCode::Busy, busy.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/x-tar")], body).into_response())
}

/// The stream's body.
struct Pieces<T> {
    taken: mpsc::Receiver<T>,
    read: fn(T) -> Result<Bytes, ApiError>,
}

impl<T> hyper::body::Body for Pieces<T> {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let piece = self.taken.poll_recv(context);
        piece.map(|piece| piece.map(|piece| (self.read)(piece).map(Frame::data).map_err(|_| BrokenOff)))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the rest could not be read")]
struct BrokenOff;
