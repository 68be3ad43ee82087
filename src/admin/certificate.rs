//! The server's certificate.

use axum::Json;
use axum::http::StatusCode;

use super::access::{Govern, May};
use super::context::CertificateError;
use super::error::ApiError;
use super::extract::Body;
use super::{Answer, Created};
use crate::wire::api::{CertificateChange, CertificateStatus, ErrorCode, RecoveryKey};

impl From<CertificateError> for ApiError {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::Refused(message) => Self::new(ErrorCode::Conflict, message),
            CertificateError::Invalid(message) => Self::invalid(message),
            CertificateError::Failed(message) => Self::internal(message),
        }
    }
}

pub(super) async fn show(May { shared, .. }: May<Govern>) -> Answer<CertificateStatus> {
    shared.answer(|context| Ok(context.certificates.status()?)).await
}

pub(super) async fn change(
    May { shared, .. }: May<Govern>,
    Body(change): Body<CertificateChange>,
) -> Answer<CertificateStatus> {
    shared.answer(move |context| Ok(context.certificates.change(&change)?)).await
}

pub(super) async fn create_recovery_key(May { shared, .. }: May<Govern>) -> Created<RecoveryKey> {
    let made = shared.run(|context| Ok(context.certificates.create_recovery_key()?)).await?;
    Ok((StatusCode::CREATED, Json(made)))
}
