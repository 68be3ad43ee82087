//! A backup of the running server, as it is made.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use super::{AdminShared, lines};
use crate::wire::api::ErrorCode;

/// The answer begins at once; the first piece comes when the database is copied.
pub(super) async fn make(State(shared): State<AdminShared>) -> Result<Response, ApiError> {
    let (pieces, body) = lines::body();
    let begun = shared.context.backups.send_to(pieces);
    begun.map_err(|busy| ApiError::new(ErrorCode::Busy, busy.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/x-tar")], body).into_response())
}
