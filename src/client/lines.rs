//! An answer that comes line by line, as a stream of JSON documents.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::runtime::Runtime;

use super::ClientError;

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
