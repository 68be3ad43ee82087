//! From plaintext to records that may leave.

use super::burst::Burst;
use super::error::Alert;
use super::error::SealError;
use super::limits::{
    FRAGMENT_BYTES_MAX, HEADER_BYTES, OPENED_RECORDS_PER_KEY, SEALED_BYTES_MORE, SEALED_RECORDS_PER_KEY,
    TAG_BYTES,
};
use super::link::{Receiving, Sending, State};
use super::record::{self, ContentType};
use super::secret::Half;
use super::suite::Suite;

/// Seals records. Appended records must leave in the order in which they were appended; the peer misses one
/// that is thrown away, and the link is of no more use.
pub struct SealingBurst<'link> {
    burst: Burst<'link>,
    state: &'link mut State,
    /// Records of the peer's that its present key has sealed.
    opened: u64,
}

impl<'link> SealingBurst<'link> {
    pub(super) fn new(suite: Suite, half: &'link mut Half, state: &'link mut State, opened: u64) -> Self {
        Self { burst: Burst::new(suite, half), state, opened }
    }

    /// Seals data, in as many records as it takes; none for no data. A KeyUpdate that is owed, or that the
    /// key's age demands, goes before it.
    ///
    /// # Errors
    /// When nothing more may be sent: a closing alert was said or heard, or the link has failed. The appended
    /// bytes are whole records, and the link must end.
    pub fn data(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        self.check_open()?;
        for fragment in plain.chunks(FRAGMENT_BYTES_MAX) {
            self.renew(out)?;
            self.seal(ContentType::ApplicationData, fragment, out)?;
        }
        Ok(())
    }

    /// Seals a KeyUpdate, and goes on under the next key. It answers what is owed; otherwise the peer is
    /// asked for one where `wants_one` says so.
    ///
    /// # Errors
    /// As of [`SealingBurst::data`].
    pub fn key_update(&mut self, wants_one: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        self.check_open()?;
        // An answer may not ask (RFC 8446 section 4.6.3), and who was asked is not asked again.
        let asks = wants_one && !self.state.owes_key_update && !self.state.has_asked;
        self.seal(ContentType::Handshake, &record::key_update(asks), out)?;
        self.state.owes_key_update = false;
        self.state.has_asked |= asks;
        self.burst.advance().map_err(|error| {
            self.state.sending = Sending::Closed;
            error.into()
        })
    }

    /// Says that nothing more will be sent. Does nothing when that has been said.
    ///
    /// # Errors
    /// When it can't be said; nothing was appended.
    pub fn close_notify(self, out: &mut Vec<u8>) -> Result<(), SealError> {
        self.close_with(Alert::CLOSE_NOTIFY, out)
    }

    /// Ends the connection, and says why. Does nothing when nothing more may be sent.
    ///
    /// # Errors
    /// When it can't be said; nothing was appended.
    pub fn fatal_alert(self, alert: Alert, out: &mut Vec<u8>) -> Result<(), SealError> {
        self.close_with(alert, out)
    }

    fn close_with(mut self, alert: Alert, out: &mut Vec<u8>) -> Result<(), SealError> {
        if self.state.sending == Sending::Closed {
            return Ok(());
        }
        self.state.sending = Sending::Closed;
        self.seal(ContentType::Alert, &alert.to_bytes(), out)
    }

    fn check_open(&self) -> Result<(), SealError> {
        match (self.state.sending, self.state.receiving) {
            // A peer that breaks the protocol is told so, and nothing else.
            (Sending::Closed, _) | (_, Receiving::Failed(_)) => Err(SealError::Closed),
            (Sending::Open, Receiving::Open | Receiving::Closed) => Ok(()),
        }
    }

    /// The KeyUpdate that must go before the next data, if any.
    fn renew(&mut self, out: &mut Vec<u8>) -> Result<(), SealError> {
        let is_worn = self.burst.sequence() >= SEALED_RECORDS_PER_KEY;
        let asks = self.opened >= OPENED_RECORDS_PER_KEY && !self.state.has_asked;
        if self.state.owes_key_update || is_worn || asks {
            self.key_update(asks, out)?;
        }
        Ok(())
    }

    fn seal(&mut self, kind: ContentType, content: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let start = out.len();
        let length = u16::try_from(content.len() + 1 + TAG_BYTES).map_err(|_| SealError::Crypto)?;
        let header = record::header(length);
        out.reserve(content.len() + SEALED_BYTES_MORE);
        out.extend_from_slice(&header);
        out.extend_from_slice(content);
        out.push(kind.number());
        match self.burst.seal(header, &mut out[start + HEADER_BYTES..]) {
            Ok(tag) => out.extend_from_slice(tag.as_ref()),
            Err(error) => {
                out.truncate(start);
                return Err(error);
            }
        }
        Ok(())
    }
}
