//! Reads what a request brings, and refuses it in the API's own words.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{self, FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ApiError;
use crate::fleet::settings::strict;
use crate::store::query::PageRequest;
use crate::wire::api::{
    CURSOR_BYTES_MAX, ErrorCode, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX, REQUEST_BODY_BYTES_MAX,
};
use crate::wire::printable::escaped;

/// A query string.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(ApiError::invalid(one_line(&rejection.body_text()))),
        }
    }
}

/// A body of JSON. Its content type is not looked at: nothing else is taken.
pub(super) struct Body<T>(pub(super) T);

impl<T: Serialize + DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = whole_body(request).await?;
        let body = axum::Json::<T>::from_bytes(&bytes);
        let axum::Json(body) =
            body.map_err(|rejection| ApiError::invalid(one_line(&rejection.body_text())))?;
        // The stored text must be the one that was written.
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        strict::check(text).map_err(|error| ApiError::invalid(error.to_string()))?;
        if let (Ok(sent), Ok(read)) = (serde_json::from_str(text), serde_json::to_value(&body))
            && !has_names(&sent, &read)
        {
            return Err(ApiError::invalid(
                "an array stands in the place of an object: give each of its values a name",
            ));
        }
        Ok(Self(body))
    }
}

/// Whether what was read as an object was sent as one. An array would do for the library: its items would be
/// taken for the fields, in the order of their declaration.
fn has_names(sent: &Value, read: &Value) -> bool {
    match (sent, read) {
        (Value::Array(_), Value::Object(_)) => false,
        (Value::Array(sent), Value::Array(read)) => {
            sent.iter().zip(read).all(|(sent, read)| has_names(sent, read))
        }
        (Value::Object(sent), Value::Object(read)) => {
            sent.iter().all(|(name, sent)| read.get(name).is_none_or(|read| has_names(sent, read)))
        }
        _ => true,
    }
}

/// The bytes of a body, as far as they are allowed.
pub(super) async fn whole_body(request: Request) -> Result<Bytes, ApiError> {
    match Bytes::from_request(request, &()).await {
        Ok(bytes) => Ok(bytes),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let text = format!("the body is longer than {REQUEST_BODY_BYTES_MAX} bytes");
            Err(ApiError::new(ErrorCode::TooLarge, text))
        }
        Err(rejection) => Err(ApiError::invalid(one_line(&rejection.body_text()))),
    }
}

/// One segment of the path, as what it has to be.
pub(super) struct Path<T>(pub(super) T);

impl<T: FromStr<Err: Display>, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match extract::Path::<String>::from_request_parts(parts, state).await {
            Ok(extract::Path(segment)) => {
                segment.parse().map(Self).map_err(|error| ApiError::invalid(error.to_string()))
            }
            Err(rejection) => Err(ApiError::invalid(one_line(&rejection.body_text()))),
        }
    }
}

/// Longest text about a request that can't be read: one that names every key of a task has 340 characters.
const TEXT_CHARACTERS_MAX: usize = 500;

fn one_line(text: &str) -> String {
    escaped(text).chars().take(TEXT_CHARACTERS_MAX).collect()
}

/// Number of items of a page.
pub(super) fn limit(limit: Option<u32>) -> Result<usize, ApiError> {
    bounded("limit", limit.unwrap_or(PAGE_ITEMS_DEFAULT), PAGE_ITEMS_MAX)
}

/// A number of items, of which there is one at least.
pub(super) fn bounded(name: &str, number: u32, max: u32) -> Result<usize, ApiError> {
    if !(1..=max).contains(&number) {
        return Err(ApiError::invalid(format!("{name} is {number}, it must be from 1 to {max}")));
    }
    usize::try_from(number).map_err(|_| ApiError::invalid(format!("{name} is too large")))
}

/// Which page of the store is asked for.
pub(super) fn page(wanted: Option<u32>, cursor: Option<String>) -> Result<PageRequest, ApiError> {
    if cursor.as_ref().is_some_and(|cursor| cursor.len() > CURSOR_BYTES_MAX) {
        return Err(ApiError::invalid(format!("the cursor is longer than {CURSOR_BYTES_MAX} bytes")));
    }
    Ok(PageRequest { limit: limit(wanted)?, cursor })
}
