//! Events as they become durable: one JSON document a line, without end.

use std::time::Duration;

use hyper::body::Bytes;

use super::lines::Lines;
use super::query::with_query;
use super::{Client, ClientError};
use crate::wire::api::{FollowLine, FollowQuery};

/// Longest silence of the server. It gives a sign of life three times as often.
const SILENCE_SECONDS_MAX: u64 = 45;

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
        let silence = Duration::from_secs(SILENCE_SECONDS_MAX);
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
