//! From records that have arrived to what they bring.

use super::burst::Burst;
use super::error::Alert;
use super::error::OpenError;
use super::limits::{
    EMPTY_RECORDS_IN_A_ROW_MAX, HEADER_BYTES, INNER_BYTES_MAX, KEY_UPDATES_AHEAD_MAX, PROTECTED_BYTES_MAX,
    TAG_BYTES,
};
use super::link::{Receiving, Sending, State};
use super::record::{self, ContentType};
use super::secret::Half;
use super::suite::Suite;

/// The beginning of the input.
#[derive(PartialEq, Eq, Debug)]
pub enum Opened<'b> {
    /// Not a whole record: at least this many bytes are missing. Nothing was consumed.
    NeedMore(usize),
    /// A record.
    Record {
        /// Its length in the input.
        bytes: usize,
        /// Its content.
        content: Content<'b>,
    },
    /// The peer has said that nothing more comes. Records that come nevertheless must be ignored (RFC 8446
    /// section 6.1).
    Closed,
}

/// Content of a record.
#[derive(PartialEq, Eq, Debug)]
pub enum Content<'b> {
    /// At least one byte, deciphered in place.
    Data(&'b [u8]),
    /// Nothing: no data, or that a handshake which is over was given up.
    Nothing,
    /// The peer goes on under its next key. Done already; what is owed for it is sealed before the next data.
    KeyUpdate,
    /// The peer will send nothing more (`close_notify`).
    CloseNotify,
    /// The peer ended the connection. Nothing more may be sent or received.
    Alert(Alert),
}

/// Opens records, one at a time, in the order in which they were sealed.
pub struct OpeningBurst<'link> {
    burst: Burst<'link>,
    state: &'link mut State,
}

impl<'link> OpeningBurst<'link> {
    pub(super) fn new(suite: Suite, half: &'link mut Half, state: &'link mut State) -> Self {
        Self { burst: Burst::new(suite, half), state }
    }

    /// Opens the record that the input begins with, in place.
    ///
    /// # Errors
    /// When the peer breaks the protocol, or somebody else has sent what arrived. The link must end, with the
    /// error's alert; whatever is opened afterwards fails in the same way.
    pub fn open<'b>(&mut self, input: &'b mut [u8]) -> Result<Opened<'b>, OpenError> {
        match self.state.receiving {
            Receiving::Open => {}
            Receiving::Closed => return Ok(Opened::Closed),
            Receiving::Failed(error) => return Err(error),
        }
        let opened = self.open_record(input);
        if let Err(error) = opened {
            self.state.receiving = Receiving::Failed(error);
        }
        opened
    }

    fn open_record<'b>(&mut self, input: &'b mut [u8]) -> Result<Opened<'b>, OpenError> {
        record::check_beginning(input)?;
        let arrived = input.len();
        let Some((header, rest)) = input.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Ok(Opened::NeedMore(HEADER_BYTES - arrived));
        };
        let length = record::length(*header);
        if length > PROTECTED_BYTES_MAX {
            return Err(OpenError::RecordTooLong);
        }
        if length < TAG_BYTES {
            return Err(OpenError::RecordTooShort);
        }
        let Some(protected) = rest.get_mut(..length) else {
            return Ok(Opened::NeedMore(HEADER_BYTES + length - arrived));
        };
        let inner = self.burst.open(*header, protected)?;
        if inner.len() > INNER_BYTES_MAX {
            return Err(OpenError::ContentTooLong);
        }
        let (content_type, content) = record::strip(inner).ok_or(OpenError::NoContentType)?;
        let content = self.take(content_type, content)?;
        Ok(Opened::Record { bytes: HEADER_BYTES + length, content })
    }

    fn take<'b>(&mut self, content_type: u8, content: &'b [u8]) -> Result<Content<'b>, OpenError> {
        match ContentType::from_number(content_type) {
            Some(ContentType::ApplicationData) if content.is_empty() => self.take_nothing(),
            Some(ContentType::ApplicationData) => {
                self.state.empty_records = 0;
                self.state.key_updates_ahead = self.state.key_updates_ahead.saturating_sub(1);
                Ok(Content::Data(content))
            }
            Some(ContentType::Alert) => self.take_alert(record::parse_alert(content)?),
            Some(ContentType::Handshake) => self.take_key_update(record::parse_key_update(content)?),
            None => Err(OpenError::ContentType),
        }
    }

    fn take_nothing<'b>(&mut self) -> Result<Content<'b>, OpenError> {
        if self.state.empty_records == EMPTY_RECORDS_IN_A_ROW_MAX {
            return Err(OpenError::TooManyEmptyRecords);
        }
        self.state.empty_records += 1;
        Ok(Content::Nothing)
    }

    fn take_alert<'b>(&mut self, alert: Alert) -> Result<Content<'b>, OpenError> {
        match alert {
            Alert::USER_CANCELED => self.take_nothing(),
            Alert::CLOSE_NOTIFY => {
                self.state.receiving = Receiving::Closed;
                Ok(Content::CloseNotify)
            }
            // Whatever its level, and known or not, it is the end (RFC 8446 section 6.2).
            _ => {
                self.state.receiving = Receiving::Closed;
                self.state.sending = Sending::Closed;
                Ok(Content::Alert(alert))
            }
        }
    }

    fn take_key_update<'b>(&mut self, wants_one: bool) -> Result<Content<'b>, OpenError> {
        if self.state.key_updates_ahead == KEY_UPDATES_AHEAD_MAX {
            return Err(OpenError::TooManyKeyUpdates);
        }
        self.state.key_updates_ahead += 1;
        self.burst.advance()?;
        // However many are asked for while nothing is sent, one answers them all (RFC 8446 section 4.6.3).
        self.state.owes_key_update |= wants_one;
        self.state.has_asked = false;
        Ok(Content::KeyUpdate)
    }
}
