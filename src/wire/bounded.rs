//! Bounded decoders: a CBOR text, byte string or list (RFC 8949) that may not exceed its limit.
//!
//! Each is used in a `#[cbor(decode_with = …)]`. The error names the limit, so that the peer's log says what
//! to change.

use minicbor::Decoder;
use minicbor::decode::Error;

use super::limits;

/// The beginning of a text: at most `bytes` bytes, cut between characters. For senders, so that what they say
/// is within the limits.
#[must_use]
pub fn clip(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Decodes a text of at most `MAX` bytes.
///
/// # Errors
/// When it is no text, not UTF-8, or longer than `MAX` bytes.
pub fn text<Ctx, const MAX: usize>(decoder: &mut Decoder<'_>, _: &mut Ctx) -> Result<String, Error> {
    let position = decoder.position();
    let text = decoder.str()?;
    if text.len() > MAX {
        return Err(
            Error::message(format!("text of {} bytes, at most {MAX} are allowed", text.len())).at(position)
        );
    }
    Ok(text.to_owned())
}

/// Decodes a text of at most `MAX` bytes, or null.
///
/// # Errors
/// As [`text`].
pub fn optional_text<Ctx, const MAX: usize>(
    decoder: &mut Decoder<'_>,
    context: &mut Ctx,
) -> Result<Option<String>, Error> {
    if decoder.datatype()? == minicbor::data::Type::Null {
        decoder.skip()?;
        return Ok(None);
    }
    text::<Ctx, MAX>(decoder, context).map(Some)
}

/// Decodes a name: a text of at most [`limits::NAME_BYTES_MAX`] bytes.
///
/// # Errors
/// As [`text`].
pub fn name<Ctx>(decoder: &mut Decoder<'_>, context: &mut Ctx) -> Result<String, Error> {
    text::<Ctx, { limits::NAME_BYTES_MAX }>(decoder, context)
}

/// Decodes a message for people: a text of at most [`limits::TEXT_BYTES_MAX`] bytes.
///
/// # Errors
/// As [`text`].
pub fn message<Ctx>(decoder: &mut Decoder<'_>, context: &mut Ctx) -> Result<String, Error> {
    text::<Ctx, { limits::TEXT_BYTES_MAX }>(decoder, context)
}

/// Decodes a byte string of at most `MAX` bytes.
///
/// # Errors
/// When it is no byte string or longer than `MAX` bytes.
pub fn bytes<Ctx, const MAX: usize>(decoder: &mut Decoder<'_>, _: &mut Ctx) -> Result<Vec<u8>, Error> {
    let position = decoder.position();
    let bytes = decoder.bytes()?;
    if bytes.len() > MAX {
        return Err(Error::message(format!(
            "byte string of {} bytes, at most {MAX} are allowed",
            bytes.len()
        ))
        .at(position));
    }
    Ok(bytes.to_owned())
}

/// Decodes DER of a certificate or request: at most [`limits::CERTIFICATE_BYTES_MAX`] bytes.
///
/// # Errors
/// As [`bytes`].
pub fn certificate<Ctx>(decoder: &mut Decoder<'_>, context: &mut Ctx) -> Result<Vec<u8>, Error> {
    bytes::<Ctx, { limits::CERTIFICATE_BYTES_MAX }>(decoder, context)
}

/// Decodes a list of at most `max` items with `item`. Allocates as items arrive, never from the announced
/// length.
///
/// # Errors
/// When it is no array, longer than `max`, or when an item does not decode.
pub fn list_with<'b, T>(
    decoder: &mut Decoder<'b>,
    max: usize,
    mut item: impl FnMut(&mut Decoder<'b>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let position = decoder.position();
    let Some(length) = decoder.array()? else {
        return Err(Error::message("indefinite-length array, a definite one is required").at(position));
    };
    if length > max as u64 {
        return Err(
            Error::message(format!("list of {length} entries, at most {max} are allowed")).at(position)
        );
    }
    let mut items = Vec::new();
    for _ in 0..length {
        items.push(item(decoder)?);
    }
    Ok(items)
}

/// Decodes a list of at most `MAX` items of a type that knows how to decode itself.
///
/// # Errors
/// As [`list_with`].
pub fn list<'b, Ctx, T: minicbor::Decode<'b, Ctx>, const MAX: usize>(
    decoder: &mut Decoder<'b>,
    context: &mut Ctx,
) -> Result<Vec<T>, Error> {
    list_with(decoder, MAX, |decoder| T::decode(decoder, context))
}
