//! Events: what happened on a device, said once.

mod mend;

use minicbor::data::Type;
use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};
use serde::{Deserialize, Serialize};

use super::bounded;
use super::limits::{EVENT_BYTES_MAX, EVENT_FIELDS_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};
use super::named::named;
use super::time::WallTime;
pub use mend::{MENDED_FIELD, NOT_UTF8};

/// The server's own application.
pub const SERVER_NAME: &str = "muster";

/// Names of the server: an event of a device is never listed under one of them.
const SERVER_NAMES: [&str; 2] = [SERVER_NAME, "musterd"];

/// Whether a reader would take `name` for `reserved`, which is in lower case: letter case, spaces and
/// characters that are not seen do not count.
#[must_use]
pub fn looks_like(name: &str, reserved: &str) -> bool {
    let is_seen = |c: &char| c.is_alphanumeric() || c.is_ascii_punctuation();
    name.chars().filter(is_seen).flat_map(char::to_lowercase).eq(reserved.chars())
}

/// Whether a reader would take `application` for the server itself.
#[must_use]
pub fn is_server_name(application: &str) -> bool {
    SERVER_NAMES.iter().any(|name| looks_like(application, name))
}

named! {
    /// Severity of an event. Ordered: `Info < Critical`.
    #[derive(
        Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode, Serialize, Deserialize,
    )]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[cbor(index_only)]
    #[serde(rename_all = "snake_case")]
    Severity, else "a severity (info, warning, error or critical)" {
        /// Worth keeping, nothing to do.
        #[n(0)]
        Info = "info",
        /// May become a problem.
        #[n(1)]
        Warning = "warning",
        /// Something did not work.
        #[n(2)]
        Error = "error",
        /// Somebody has to act now.
        #[n(3)]
        Critical = "critical",
    }
}

impl Severity {
    /// Severity of an encoded event, without a look at the rest of it; `None` when it is not where this
    /// version looks for it.
    #[must_use]
    pub fn of_encoded(event: &[u8]) -> Option<Self> {
        let mut decoder = Decoder::new(event);
        let keys = decoder.map().ok()??;
        for _ in 0..keys {
            if decoder.u32().ok()? == 0 {
                return decoder.decode().ok();
            }
            decoder.skip().ok()?;
        }
        None
    }
}

/// One event. Its encoding is what the spool keeps, what travels, and what the server's journal stores: the
/// same bytes.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct Event {
    /// Its severity.
    #[n(0)]
    pub severity: Severity,
    /// Which application it is about, such as `nginx`.
    #[cbor(n(1), decode_with = "bounded::name")]
    pub application: String,
    /// Its kind, such as `backup.failed`; for programs.
    #[cbor(n(2), decode_with = "bounded::name")]
    pub kind: String,
    /// Its message, a sentence; for people.
    #[cbor(n(3), decode_with = "bounded::message")]
    pub message: String,
    /// When it happened, by the device's clock.
    #[n(4)]
    pub occurred_at: WallTime,
    /// Further facts, by name.
    #[cbor(
        n(5),
        default,
        skip_if = "Vec::is_empty",
        encode_with = "encode_fields",
        decode_with = "decode_fields"
    )]
    #[serde(default, with = "fields_as_map")]
    pub fields: Vec<(String, String)>,
}

/// Why something is no event that may be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// A part of it is longer than the wire allows.
    #[error("{what} has {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The application or the kind is empty.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// Too many fields.
    #[error("{0} fields, at most {EVENT_FIELDS_MAX} are allowed")]
    TooManyFields(usize),
    /// The bytes are not an event's encoding.
    #[error("not an event: {0}")]
    Malformed(String),
}

impl Event {
    /// Encodes the event, having checked every limit.
    ///
    /// # Errors
    /// When a part of it, or all of it together, is longer than allowed, or the application or kind is empty.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EventError> {
        let check = |what, text: &str, max| {
            (text.len() <= max).then_some(()).ok_or(EventError::TooLong { what, bytes: text.len(), max })
        };
        for (what, text) in [("the application", &self.application), ("the kind", &self.kind)] {
            check(what, text, NAME_BYTES_MAX)?;
            if text.is_empty() {
                return Err(EventError::Empty(what));
            }
        }
        check("the message", &self.message, TEXT_BYTES_MAX)?;
        if self.fields.len() > EVENT_FIELDS_MAX {
            return Err(EventError::TooManyFields(self.fields.len()));
        }
        for (name, value) in &self.fields {
            check("a field's name", name, NAME_BYTES_MAX)?;
            check("a field's value", value, TEXT_BYTES_MAX)?;
        }
        let bytes = minicbor::to_vec(self).map_err(|error| EventError::Malformed(error.to_string()))?;
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(EventError::TooLong { what: "the event", bytes: bytes.len(), max: EVENT_BYTES_MAX });
        }
        Ok(bytes)
    }

    /// Decodes an event.
    ///
    /// # Errors
    /// When the bytes are not an event, or it breaks a limit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EventError> {
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(EventError::TooLong { what: "the event", bytes: bytes.len(), max: EVENT_BYTES_MAX });
        }
        minicbor::decode(bytes).map_err(|error| EventError::Malformed(error.to_string()))
    }
}

fn encode_fields<Ctx, W: Write>(
    fields: &Vec<(String, String)>,
    encoder: &mut Encoder<W>,
    _: &mut Ctx,
) -> Result<(), EncodeError<W::Error>> {
    encoder.map(fields.len() as u64)?;
    for (name, value) in fields {
        encoder.str(name)?.str(value)?;
    }
    Ok(())
}

fn decode_fields<Ctx>(
    decoder: &mut Decoder<'_>,
    context: &mut Ctx,
) -> Result<Vec<(String, String)>, DecodeError> {
    let mut fields = Vec::new();
    for _ in 0..count_fields(decoder)? {
        fields.push((bounded::name(decoder, context)?, bounded::message(decoder, context)?));
    }
    Ok(fields)
}

/// Number of fields that follow.
fn count_fields(decoder: &mut Decoder<'_>) -> Result<u64, DecodeError> {
    let position = decoder.position();
    if decoder.datatype()? != Type::Map {
        return Err(DecodeError::message("fields must be a map of definite length").at(position));
    }
    let length = decoder.map()?.unwrap_or(u64::MAX);
    if length > EVENT_FIELDS_MAX as u64 {
        return Err(DecodeError::message(format!("{length} fields, at most {EVENT_FIELDS_MAX} are allowed"))
            .at(position));
    }
    Ok(length)
}

/// In JSON the fields are an object, in the order in which they were given.
mod fields_as_map {
    use std::fmt;

    use serde::de::{Deserializer, MapAccess, Visitor};
    use serde::ser::{SerializeMap, Serializer};

    pub(super) fn serialize<S: Serializer>(
        fields: &[(String, String)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for (name, value) in fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(String, String)>, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Vec<(String, String)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_event() -> impl Strategy<Value = Event> {
        let severity = prop::sample::select(&Severity::ALL[..]);
        let field = ("\\PC{1,20}", "\\PC{0,40}");
        (
            severity,
            "\\PC{1,40}",
            "[a-z.]{1,40}",
            "\\PC{0,200}",
            any::<u64>(),
            prop::collection::vec(field, 0..8),
        )
            .prop_map(|(severity, application, kind, message, wall, fields)| Event {
                severity,
                application,
                kind,
                message,
                occurred_at: WallTime(wall),
                fields,
            })
    }

    proptest! {
        #[test]
        fn an_event_survives_its_bytes_and_its_json(event in any_event()) {
            let bytes = event.to_bytes().unwrap();
            prop_assert_eq!(&Event::from_bytes(&bytes).unwrap(), &event);
            prop_assert_eq!(Severity::of_encoded(&bytes), Some(event.severity));
            let json = serde_json::to_string(&event).unwrap();
            prop_assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
        }

        #[test]
        fn a_flipped_byte_is_an_event_or_an_error(event in any_event(), at: prop::sample::Index, to: u8) {
            let mut bytes = event.to_bytes().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = Severity::of_encoded(&bytes);
            if let Ok(event) = Event::from_bytes(&bytes) {
                prop_assert!(event.fields.len() <= EVENT_FIELDS_MAX);
            }
        }
    }

    #[test]
    fn what_breaks_a_limit_is_named() {
        let event = |message: String, fields| Event {
            severity: Severity::Info,
            application: "shop".into(),
            kind: "test".into(),
            message,
            occurred_at: WallTime(0),
            fields,
        };
        let error = event("x".repeat(4097), vec![]).to_bytes().unwrap_err();
        assert_eq!(error.to_string(), "the message has 4097 bytes, at most 4096 are allowed");
        let field = (String::from("a"), "x".repeat(4000));
        let error = event(String::new(), vec![field; 3]).to_bytes().unwrap_err();
        assert!(error.to_string().starts_with("the event has 12"), "{error}");
        let error = event(String::new(), vec![(String::new(), String::new()); 33]).to_bytes().unwrap_err();
        assert_eq!(error.to_string(), "33 fields, at most 32 are allowed");
    }
}
