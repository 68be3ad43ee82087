//! Artifacts: files that tasks come with. A content goes to the disk as it comes, piece by piece.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::{Method, StatusCode};
use axum::{Extension, Json};
use serde_json::json;

use super::access::{May, Name, Operate, See};
use super::connection::Caller;
use super::error::ApiError;
use super::extract::{Path, Query, page};
use super::{Answer, Created, audit};
use crate::wire::api::{ErrorCode, NewArtifact, Page, PageQuery, StoredArtifact};
use crate::wire::id::ArtifactHash;

/// The path of uploads, and of the list.
pub(super) const PATH: &str = "/v1/artifacts";

/// Longest time of an upload: the largest artifact at 1.2 MB a second.
pub(super) const UPLOAD_SECONDS_MAX: u64 = 3_600;

/// Bytes that are written at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// Longest time until as many have come: half of what an ISDN line does.
const PIECE_SECONDS_MAX: u64 = 60;

/// Whether a request is an upload: its body is not read whole, and may take its time.
pub(super) fn is_upload(method: &Method, path: &str) -> bool {
    method == Method::POST && path == PATH
}

/// The body of an upload.
pub(super) struct Content {
    body: Body,
    /// Begin of the next piece.
    rest: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Content {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        Ok(Self { body: request.into_body(), rest: Bytes::new() })
    }
}

impl Content {
    /// The length, as far as the request has said it.
    fn bytes(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next piece; nothing at the end.
    async fn piece(&mut self) -> Result<Vec<u8>, ApiError> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let fill = async {
            while piece.len() < PIECE_BYTES {
                if self.rest.is_empty() {
                    match poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
                        None => break,
                        Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                        Some(Err(error)) => {
                            return Err(ApiError::invalid(format!("the upload broke off: {error}")));
                        }
                    }
                }
                let taken = self.rest.split_to(self.rest.len().min(PIECE_BYTES - piece.len()));
                piece.extend_from_slice(&taken);
            }
            Ok(())
        };
        match tokio::time::timeout(Duration::from_secs(PIECE_SECONDS_MAX), fill).await {
            Ok(filled) => filled.map(|()| piece),
            Err(_) => Err(ApiError::new(
                ErrorCode::Busy,
                format!("the upload is too slow: {PIECE_BYTES} bytes must come within {PIECE_SECONDS_MAX} s"),
            )),
        }
    }
}

pub(super) async fn add(
    May { shared, .. }: May<Operate>,
    Extension(caller): Extension<Caller>,
    Query(new): Query<NewArtifact>,
    mut content: Content,
) -> Created<StoredArtifact> {
    let _place = shared.capacity.upload()?;
    let (artifacts, asked, bytes) = (Arc::clone(&shared.context.artifacts), new.clone(), content.bytes());
    let mut upload = shared.pool.run(move || Ok(artifacts.begin(&asked, bytes)?)).await?;
    loop {
        let piece = content.piece().await?;
        if piece.is_empty() {
            break;
        }
        let write = move || {
            upload.write(&piece)?;
            Ok(upload)
        };
        upload = shared.pool.run(write).await?;
    }
    let (hash, bytes) = (upload.hash(), upload.bytes());
    audit::names(&json!({ "hash": hash, "bytes": bytes, "name": new.name }));
    let stored =
        shared.run(move |context| Ok(upload.finish(new, caller.actor, context.clock.ages().wall)?)).await?;
    Ok((StatusCode::CREATED, Json(stored)))
}

pub(super) async fn list(
    May { shared, .. }: May<See>,
    Query(asked): Query<PageQuery>,
) -> Answer<Page<StoredArtifact>> {
    let page = page(asked.limit, asked.cursor)?;
    shared.answer(move |context| Ok(context.artifacts.list(&page)?)).await
}

pub(super) async fn remove(
    May { shared, .. }: May<Name>,
    Path(hash): Path<ArtifactHash>,
) -> Answer<StoredArtifact> {
    shared.answer(move |context| Ok(context.artifacts.remove(hash)?)).await
}
