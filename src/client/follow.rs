//! Events as they become durable: one JSON document a line, without end.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};

use super::query::with_query;
use super::{Client, ClientError};
use crate::wire::api::{FollowLine, FollowQuery};

/// Longest line, in bytes. The longest event is 8 KiB of CBOR, which JSON's escapes can make six times as long.
const LINE_BYTES_MAX: usize = 128 * 1024;

/// How long the server may say nothing, in seconds. It gives a sign of life three times as often.
const SILENCE_SECONDS_MAX: u64 = 45;

/// How long to wait before a server that went away is asked again, in milliseconds.
const RETRY_MILLISECONDS: u64 = 500;

/// Follows the events of a server. Goes on at the same place when the server restarts; what can't pass by itself is
/// an error, and the end.
#[derive(Debug)]
pub struct Follow<'c> {
    client: &'c mut Client,
    query: FollowQuery,
    body: Option<Incoming>,
    buffer: Vec<u8>,
    was_connected: bool,
    has_failed: bool,
}

impl<'c> Follow<'c> {
    pub(super) fn new(client: &'c mut Client, query: FollowQuery) -> Self {
        Self { client, query, body: None, buffer: Vec::new(), was_connected: false, has_failed: false }
    }

    fn open(&mut self) -> Result<(), ClientError> {
        let url = with_query("/v1/events/follow", &self.query);
        let Client { runtime, connection } = &mut *self.client;
        let response = runtime.block_on(connection.send("GET", &url, Bytes::new()))?;
        self.buffer.clear();
        self.body = Some(response.into_body());
        self.was_connected = true;
        Ok(())
    }

    /// The next whole line without its end; nothing when the stream ended.
    fn read_line(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(ClientError::NotUnderstood(format!("a line of over {LINE_BYTES_MAX} bytes")));
            }
            let Some(body) = &mut self.body else { return Ok(None) };
            let silence = Duration::from_secs(SILENCE_SECONDS_MAX);
            let frame =
                self.client.runtime.block_on(async { tokio::time::timeout(silence, body.frame()).await });
            match frame {
                Ok(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                // Silence, a broken connection and an end are the same to a follower: connect again.
                Ok(Some(Err(_)) | None) | Err(_) => return Ok(None),
            }
        }
    }

    fn step(&mut self) -> Result<Option<FollowLine>, ClientError> {
        if self.body.is_none() {
            match self.open() {
                Ok(()) => {}
                Err(error) if self.was_connected && error.may_pass() => {
                    std::thread::sleep(Duration::from_millis(RETRY_MILLISECONDS));
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        let Some(line) = self.read_line()? else {
            self.body = None;
            self.client.connection.close();
            return Ok(None);
        };
        let line: FollowLine = serde_json::from_slice(&line)
            .map_err(|error| ClientError::NotUnderstood(format!("{error} in a line of the stream")))?;
        match &line {
            FollowLine::Event(event) => self.query.from = Some(event.next_position),
            FollowLine::Reached(position) => self.query.from = Some(*position),
            FollowLine::Gone { to, .. } => self.query.from = Some(*to),
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
