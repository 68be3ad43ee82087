//! Forced syncs: who is called, and what becomes of each, as it becomes known.

use std::time::Duration;

use super::lines::Lines;
use super::{Client, ClientError};
use crate::wire::api::{CALL_SECONDS_DEFAULT, CallLine, CallRequest};

/// Silence of an answer beyond the request's own time.
const TIMEOUT_SECONDS: u64 = 15;

/// Answer to a request that calls devices. Ends after [`CallLine::Done`], or after the first line when the
/// request does not wait; an answer that breaks off before is an error. Dropped before its end, it takes back
/// what has not begun.
#[derive(Debug)]
pub struct Sync<'c> {
    client: &'c mut Client,
    lines: Lines,
    waits: bool,
    silence: Duration,
    has_ended: bool,
}

impl<'c> Sync<'c> {
    pub(super) fn new(client: &'c mut Client, request: &CallRequest) -> Result<Self, ClientError> {
        let body =
            serde_json::to_vec(request).map_err(|error| ClientError::NotUnderstood(error.to_string()))?;
        let Client { runtime, connection } = &mut *client;
        let response = runtime.block_on(connection.send("POST", "/v1/syncs", body.into()))?;
        let seconds = u64::from(request.timeout_seconds.unwrap_or(CALL_SECONDS_DEFAULT));
        let silence = Duration::from_secs(seconds + TIMEOUT_SECONDS);
        let lines = Lines::new(response.into_body());
        Ok(Self { client, lines, waits: request.wait, silence, has_ended: false })
    }

    fn read(&mut self) -> Result<CallLine, ClientError> {
        let Some(line) = self.lines.next(&self.client.runtime, self.silence)? else {
            let reason = "the answer ended before all devices were told of".to_owned();
            let address = self.client.connection.address().clone();
            return Err(ClientError::Broken { address, reason });
        };
        serde_json::from_slice(&line)
            .map_err(|error| ClientError::NotUnderstood(format!("{error} in a line of the answer")))
    }
}

impl Iterator for Sync<'_> {
    type Item = Result<CallLine, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let line = self.read();
        self.has_ended = match &line {
            Ok(CallLine::Called { .. }) => !self.waits,
            Ok(CallLine::Device(_)) => false,
            Ok(CallLine::Done { .. }) | Err(_) => true,
        };
        Some(line)
    }
}

impl Drop for Sync<'_> {
    fn drop(&mut self) {
        // The rest of the answer must not be taken for the next one; and the server sees that nobody waits.
        self.client.connection.close();
    }
}
