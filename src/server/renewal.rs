//! A device renews its certificate: the request is signed, the certificate stored beside the one in use, and
//! only then the device is told it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::identity::{Identity, IssuedCertificate, Wanted};
use crate::fleet::renewal::Life;
use crate::machine::command::RenewalOutcome;
use crate::store::{DeviceCertificate, Store, StoreError};
use crate::wire::id::DeviceId;
use crate::wire::message::{ErrorCode, ErrorReport, Renew, Renewed};
use crate::wire::time::WallTime;

/// The life of the certificates that are issued now. A reload changes it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct CertificateLife(Arc<AtomicU64>);

impl CertificateLife {
    /// Certificates that are issued from now on live for so long.
    pub fn set(&self, life: Duration) {
        self.0.store(u64::try_from(life.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// It, in milliseconds.
    #[must_use]
    pub fn milliseconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl IssuedCertificate {
    /// As it is stored.
    #[must_use]
    pub fn to_stored(&self) -> DeviceCertificate {
        let Self { hash, counter, key_type, issued_at, expires_at, .. } = *self;
        DeviceCertificate { hash, counter, key_type, life: Some(Life { issued_at, expires_at }) }
    }
}

/// Works on one renewal, on a worker's thread. `done` is called once: here when it is refused, otherwise on
/// the store's writer, after the commit.
pub fn renew(
    store: &Store,
    identity: &Identity,
    device: DeviceId,
    request: &Renew,
    life: &CertificateLife,
    now: WallTime,
    done: impl FnOnce(RenewalOutcome) + Send + 'static,
) {
    let devices = store.devices();
    let (newest, counter) = match devices.newest_certificate(device) {
        Ok(known) => known,
        Err(error) => return done(failed(device, &error)),
    };
    if newest.and_then(|newest| newest.life).is_some_and(|life| life.is_new(now)) {
        // A constant text: it stands among the device's conditions.
        let message =
            "a certificate was issued to this device a moment ago, and one a minute is issued at most";
        return done(refused(device, ErrorCode::Unexpected, message.to_owned()));
    }
    let wanted = Wanted { device, counter, life_milliseconds: life.milliseconds() };
    let issued = match identity.issue(&request.request, wanted, now) {
        Ok(issued) => issued,
        Err(error) => return done(refused(device, ErrorCode::Malformed, error.to_string())),
    };
    let renewed = issued.to_stored();
    devices.renew_certificate(device, renewed, move |result| match result {
        Ok(()) => {
            let (expires_at, key_type) = (issued.expires_at, issued.key_type);
            log::info!(
                "device {device}: certificate {counter} ({key_type}) is issued, good until {expires_at}"
            );
            done(RenewalOutcome::Issued(Renewed { certificate: issued.der }));
        }
        Err(error) => done(failed(device, &error)),
    });
}

fn refused(device: DeviceId, code: ErrorCode, message: String) -> RenewalOutcome {
    log::warn!("device {device}: its certificate was not renewed: {message}");
    RenewalOutcome::Refused(ErrorReport { code, message })
}

fn failed(device: DeviceId, error: &StoreError) -> RenewalOutcome {
    if matches!(error, StoreError::DeviceRemoved(_) | StoreError::NoDevice(_)) {
        return RenewalOutcome::DeviceRemoved;
    }
    log::error!("device {device}: its certificate was not renewed: {error}");
    RenewalOutcome::Failed
}
