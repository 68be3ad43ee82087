//! A backup of the server, as it makes it.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};

use super::{Client, ClientError};

/// Longest silence of the server: it copies and checks its database before the first piece.
const SILENCE_SECONDS_MAX: u64 = 600;

/// A backup that is being received, piece by piece. Whether it is whole is in the backup itself.
#[derive(Debug)]
pub struct BackupPieces<'c> {
    client: &'c mut Client,
    body: Option<Incoming>,
}

impl<'c> BackupPieces<'c> {
    pub(super) fn begin(client: &'c mut Client) -> Result<Self, ClientError> {
        let Client { runtime, connection } = &mut *client;
        let response = runtime.block_on(connection.send("GET", "/v1/backup", Bytes::new()))?;
        Ok(Self { body: Some(response.into_body()), client })
    }
}

impl Iterator for BackupPieces<'_> {
    type Item = Result<Bytes, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let body = self.body.as_mut()?;
            let silence = Duration::from_secs(SILENCE_SECONDS_MAX);
            let frame = async { tokio::time::timeout(silence, body.frame()).await };
            let address = || self.client.connection.address().clone();
            let error = match self.client.runtime.block_on(frame) {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) => return Some(Ok(piece)),
                    Err(_) => continue,
                },
                Ok(None) => {
                    self.body = None;
                    return None;
                }
                Ok(Some(Err(error))) => ClientError::Broken { address: address(), reason: error.to_string() },
                Err(_) => ClientError::TimedOut { address: address(), seconds: SILENCE_SECONDS_MAX },
            };
            self.body = None;
            self.client.connection.close();
            return Some(Err(error));
        }
    }
}
