//! Answers that come piece by piece: events as they become durable, what becomes of devices that are called,
//! a backup, a table.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use tokio::runtime::Runtime;

use super::{Client, ClientError};
use crate::wire::api::url::with_query;
use crate::wire::api::{CALL_SECONDS_DEFAULT, CallLine, CallRequest, FollowLine, FollowQuery};

/// Longest line. The longest event is 8 KiB of CBOR, which JSON's escapes can make six times as long.
const LINE_BYTES_MAX: usize = 128 * 1024;

/// An answer that is being read.
#[derive(Debug)]
pub(super) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, buffer: Vec::new() }
    }

    /// The next whole line without its end; nothing when the stream has ended, broke, or was silent for too
    /// long: to a reader that is the same.
    pub(super) fn next(
        &mut self,
        runtime: &Runtime,
        silence: Duration,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        // The bytes that were looked at hold no end of a line.
        let mut looked_at = 0;
        loop {
            if let Some(end) = self.buffer[looked_at..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(looked_at + end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(Some(line));
            }
            looked_at = self.buffer.len();
            if looked_at > LINE_BYTES_MAX {
                return Err(ClientError::NotUnderstood(format!("a line of over {LINE_BYTES_MAX} bytes")));
            }
            let frame = runtime.block_on(async { tokio::time::timeout(silence, self.body.frame()).await });
            match frame {
                Ok(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Ok(Some(Err(_)) | None) | Err(_) => return Ok(None),
            }
        }
    }
}

/// Longest silence of the server. It gives a sign of life three times as often.
const FOLLOW_SILENCE_SECONDS_MAX: u64 = 45;

/// Pause before a server that went away is asked again.
const RETRY_MILLISECONDS: u64 = 500;

/// Follows the events of a server. Goes on at the same place when the server restarts; what can't pass by
/// itself is an error, and the end.
#[derive(Debug)]
pub struct Follow<'c> {
    client: &'c mut Client,
    query: FollowQuery,
    lines: Option<Lines>,
    was_connected: bool,
    has_failed: bool,
}

impl<'c> Follow<'c> {
    pub(super) fn new(client: &'c mut Client, query: FollowQuery) -> Self {
        Self { client, query, lines: None, was_connected: false, has_failed: false }
    }

    fn open(&mut self) -> Result<(), ClientError> {
        let url = with_query("/v1/events/follow", &self.query);
        let Client { runtime, connection } = &mut *self.client;
        let response = runtime.block_on(connection.send("GET", &url, Bytes::new()))?;
        self.lines = Some(Lines::new(response.into_body()));
        self.was_connected = true;
        Ok(())
    }

    fn step(&mut self) -> Result<Option<FollowLine>, ClientError> {
        if self.lines.is_none() {
            match self.open() {
                Ok(()) => {}
                Err(error) if self.was_connected && error.may_pass() => {
                    std::thread::sleep(Duration::from_millis(RETRY_MILLISECONDS));
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        let silence = Duration::from_secs(FOLLOW_SILENCE_SECONDS_MAX);
        let line = match &mut self.lines {
            Some(lines) => lines.next(&self.client.runtime, silence)?,
            None => None,
        };
        // Silence, a broken connection and an end are the same to a follower: connect again.
        let Some(line) = line else {
            self.lines = None;
            self.client.connection.close();
            return Ok(None);
        };
        let line: FollowLine = serde_json::from_slice(&line)
            .map_err(|error| ClientError::NotUnderstood(format!("{error} in a line of the stream")))?;
        match &line {
            FollowLine::Event(event) => self.query.from = Some(event.next_position),
            FollowLine::Reached(position) => self.query.from = Some(*position),
            FollowLine::Gone { to, .. } | FollowLine::Skipped { to, .. } => self.query.from = Some(*to),
        }
        Ok(Some(line))
    }
}

impl Iterator for Follow<'_> {
    type Item = Result<FollowLine, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.has_failed {
            match self.step() {
                Ok(Some(line)) => return Some(Ok(line)),
                Ok(None) => {}
                Err(error) => {
                    self.has_failed = true;
                    self.client.connection.close();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

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

/// Longest silence of the server: before the first piece of a backup it copies and checks its database.
const PIECE_SILENCE_SECONDS_MAX: u64 = 600;

/// An answer that is being received, piece by piece: a table, or a backup. One that breaks off is an error.
#[derive(Debug)]
pub struct AnswerPieces<'c> {
    client: &'c mut Client,
    body: Option<Incoming>,
}

impl<'c> AnswerPieces<'c> {
    pub(super) fn begin(client: &'c mut Client, path: &str) -> Result<Self, ClientError> {
        let Client { runtime, connection } = &mut *client;
        let response = runtime.block_on(connection.send("GET", path, Bytes::new()))?;
        Ok(Self { body: Some(response.into_body()), client })
    }
}

impl Iterator for AnswerPieces<'_> {
    type Item = Result<Bytes, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let body = self.body.as_mut()?;
            let silence = Duration::from_secs(PIECE_SILENCE_SECONDS_MAX);
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
                Err(_) => ClientError::TimedOut { address: address(), seconds: PIECE_SILENCE_SECONDS_MAX },
            };
            self.body = None;
            self.client.connection.close();
            return Some(Err(error));
        }
    }
}
