//! Refusals: a code, a status and one line of text.

use std::fmt;

use axum::Json;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::fleet::filter::FilterError;
use crate::store::StoreError;
use crate::wire::api::{ErrorBody, ErrorCode, ErrorDetail};

/// Why a request is not fulfilled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ApiError(ErrorDetail);

impl ApiError {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(ErrorDetail { code, message: message.into(), at: None })
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// The same of something that went as far as the text says.
    pub(super) fn behind(self, done: &str) -> Self {
        let ErrorDetail { code, message, at } = self.0;
        Self(ErrorDetail { code, message: format!("{done}; then: {message}"), at })
    }

    /// Something failed here: the log has it too.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        log::error!("administration: {message}");
        Self::new(ErrorCode::Internal, message)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(ErrorBody { error: self.0.clone() })).into_response();
        if self.0.code == ErrorCode::Unauthenticated {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For the audit, which sees answers alone.
        response.extensions_mut().insert(self.0);
        response
    }
}

impl From<ApiError> for ErrorDetail {
    fn from(error: ApiError) -> Self {
        error.0
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        let (code, message) = (ErrorCode::InvalidArgument, format!("where: {error}"));
        Self(ErrorDetail { code, message, at: Some(error.at) })
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NoDevice(_)
            | StoreError::DeviceRemoved(_)
            | StoreError::NoGroup(_)
            | StoreError::NoArtifact(_)
            | StoreError::NoPolicy { .. }
            | StoreError::NoTask(_)
            | StoreError::NoRun(_)
            | StoreError::NoLabel { .. }
            | StoreError::NoApiToken(_)
            | StoreError::NoUser(_)
            | StoreError::NoToken(_) => Self::new(ErrorCode::NotFound, message),
            StoreError::NameTaken(_)
            | StoreError::TooManyPersistent { .. }
            | StoreError::UnknownApplication { .. }
            | StoreError::BadSettings { .. }
            | StoreError::TooManyApiTokens(_)
            | StoreError::UserTaken(_)
            | StoreError::SignsInElsewhere { .. }
            | StoreError::TooManyUsers(_)
            | StoreError::TooManyTasks { .. }
            | StoreError::ArtifactRefused(_)
            | StoreError::TooManyLabels { .. }
            | StoreError::NotWaiting(_)
            | StoreError::Waits(_)
            | StoreError::GroupRefused(_) => Self::new(ErrorCode::Conflict, message),
            StoreError::NoUserOfProvider { .. } | StoreError::AnotherPerson(_) => {
                Self::new(ErrorCode::Unauthenticated, message)
            }
            StoreError::BadName(_)
            | StoreError::BadApiTokenName(_)
            | StoreError::BadUserName(_)
            | StoreError::BadGroup(_)
            | StoreError::BadTask(_)
            | StoreError::BadArtifact(_)
            | StoreError::BadLabel(_)
            | StoreError::BadPattern(_)
            | StoreError::BadCursor(_) => Self::invalid(message),
            StoreError::Busy | StoreError::Full | StoreError::Stopped | StoreError::IdTaken => {
                Self::new(ErrorCode::Busy, message)
            }
            StoreError::ArtifactTooLarge(_) => Self::new(ErrorCode::TooLarge, message),
            StoreError::Token(_) => Self::new(ErrorCode::Conflict, message),
            _ => Self::internal(message),
        }
    }
}

pub(super) async fn no_such_path(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(120).collect();
    ApiError::new(ErrorCode::NotFound, format!("there is no path '{path}' in this API"))
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(120).collect();
    ApiError::new(ErrorCode::MethodNotAllowed, format!("'{path}' does not take {method}"))
}
