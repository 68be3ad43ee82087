//! Statistics: named numbers of an application, with their units.
//!
//! They go up with every sync that is due by time, most of which have nothing else to say: each application
//! is named once, units that everybody has are numbers, and values take as few bytes as they need.

use minicbor::data::Type;
use minicbor::decode::Error;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder, encode};
use serde::{Deserialize, Serialize};

use super::bounded;
use super::limits::STATISTICS_MAX;

/// Units that are written as their place in this list, from 0.
pub const UNITS: [&str; 6] = ["", "bytes", "%", "seconds", "bytes/s", "requests/s"];

/// A number as it was measured. Equal when its bits are, so that messages can be compared.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Number(pub f64);

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Number {}

/// As the shortest of those that are exactly it: an integer of 32 bits, a single, a double.
impl<C> Encode<C> for Number {
    fn encode<W: Write>(&self, encoder: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        let is_exactly = |other: f64| other.to_bits() == self.0.to_bits();
        #[expect(clippy::cast_possible_truncation, reason = "what does not survive is written as a double")]
        let (integer, single) = (self.0 as i64, self.0 as f32);
        let sign = if integer < 0 { -1.0 } else { 1.0 };
        match u32::try_from(integer.unsigned_abs()) {
            Ok(size) if is_exactly(sign * f64::from(size)) => encoder.i64(integer)?,
            _ if is_exactly(f64::from(single)) => encoder.f32(single)?,
            _ => encoder.f64(self.0)?,
        };
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Number {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, Error> {
        match decoder.datatype()? {
            Type::F32 | Type::F64 => decoder.f64().map(Self),
            #[expect(clippy::cast_precision_loss, reason = "statistics are floating-point numbers")]
            _ => decoder.int().map(|integer| Self(i128::from(integer) as f64)),
        }
    }
}

/// One number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Statistic {
    /// The application.
    pub application: String,
    /// Name of the measured value, such as `requests`.
    pub name: String,
    /// Its unit, such as `bytes`, `seconds` or `requests/s`; empty when it has none.
    pub unit: String,
    /// The value; a finite number.
    pub value: Number,
}

/// All numbers of a device, as they are now. They come with a sync, are not acknowledged, and may be lost:
/// the next ones come with the next sync.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Statistics {
    /// Sorted by application and name, each once.
    #[cbor(n(0), encode_with = "encode_groups", decode_with = "decode_groups")]
    pub entries: Vec<Statistic>,
}

/// `[* [application, [* [name, value, ? unit]]]]`
fn encode_groups<C, W: Write>(
    entries: &[Statistic],
    encoder: &mut Encoder<W>,
    context: &mut C,
) -> Result<(), encode::Error<W::Error>> {
    let groups = || entries.chunk_by(|a, b| a.application == b.application);
    encoder.array(groups().count() as u64)?;
    for group in groups() {
        let application = group.first().map_or("", |entry| entry.application.as_str());
        encoder.array(2)?.str(application)?.array(group.len() as u64)?;
        for entry in group {
            encoder.array(if entry.unit.is_empty() { 2 } else { 3 })?.str(&entry.name)?;
            entry.value.encode(encoder, context)?;
            match UNITS.iter().position(|unit| *unit == entry.unit) {
                Some(0) => continue,
                Some(place) => encoder.u64(place as u64)?,
                None => encoder.str(&entry.unit)?,
            };
        }
    }
    Ok(())
}

fn decode_groups<Ctx>(decoder: &mut Decoder<'_>, context: &mut Ctx) -> Result<Vec<Statistic>, Error> {
    let mut entries: Vec<Statistic> = Vec::new();
    bounded::list_with(decoder, STATISTICS_MAX, |decoder| {
        of_length(decoder, 2, 2)?;
        let application = bounded::name(decoder, context)?;
        let room = STATISTICS_MAX - entries.len();
        let group = bounded::list_with(decoder, room, |decoder| {
            let length = of_length(decoder, 2, 3)?;
            let name = bounded::name(decoder, context)?;
            let value = Number::decode(decoder, context)?;
            let unit = if length == 3 { unit(decoder, context)? } else { String::new() };
            Ok(Statistic { application: application.clone(), name, unit, value })
        })?;
        entries.extend(group);
        Ok(())
    })?;
    Ok(entries)
}

fn unit<Ctx>(decoder: &mut Decoder<'_>, context: &mut Ctx) -> Result<String, Error> {
    if decoder.datatype()? == Type::String {
        return bounded::name(decoder, context);
    }
    let position = decoder.position();
    let place = decoder.u32()?;
    let unit = usize::try_from(place).ok().and_then(|place| UNITS.get(place));
    let unit = unit.ok_or_else(|| Error::message(format!("no unit has the number {place}")).at(position))?;
    Ok((*unit).to_owned())
}

fn of_length(decoder: &mut Decoder<'_>, least: u64, most: u64) -> Result<u64, Error> {
    let position = decoder.position();
    let length = decoder.array()?.filter(|length| (least..=most).contains(length));
    length.ok_or_else(|| Error::message(format!("not an array of {least} to {most} items")).at(position))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(value: f64) -> usize {
        minicbor::to_vec(Number(value)).unwrap().len()
    }

    fn entry(application: &str, name: &str, unit: &str, value: f64) -> Statistic {
        let (application, name, unit) = (application.into(), name.into(), unit.into());
        Statistic { application, name, unit, value: Number(value) }
    }

    #[test]
    fn a_number_takes_what_it_needs() {
        assert_eq!((size(0.0), size(23.0), size(-200.0), size(65_535.0)), (1, 1, 2, 3));
        assert_eq!((size(4e9), size(-4e9), size(1_048_576.0 * 65_537.0), size(0.5)), (5, 5, 5, 5));
        assert_eq!((size(0.1), size(-0.0), size(1e11 + 1.0), size(f64::NAN)), (9, 5, 9, 5));
    }

    #[test]
    fn an_application_is_named_once_and_common_units_are_numbers() {
        let entries = vec![
            entry("nginx", "load", "", 1.0),
            entry("nginx", "sent", "bytes", 2.0),
            entry("shop", "sold", "pieces", 3.0),
        ];
        let bytes = minicbor::to_vec(Statistics { entries }).unwrap();
        let expected = b"\xa1\x00\x82\x82\x65nginx\x82\x82\x64load\x01\x83\x64sent\x02\x01\x82\x64shop\x81\x83\x64sold\x03\x66pieces";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_no_list_of_numbers_is_refused() {
        let error = |bytes: &[u8]| minicbor::decode::<Statistics>(bytes).unwrap_err().to_string();
        assert!(error(b"\xa1\x00\x81\x82\x61a\x81\x83\x61b\x01\x06").contains("no unit has the number 6"));
        assert!(error(b"\xa1\x00\x81\x82\x61a\x81\x84\x61b\x01\x01\x01").contains("array of 2 to 3"));
        assert!(error(b"\xa1\x00\x81\x83\x61a\x80\x80").contains("array of 2 to 2"));
        // The limit is one for all applications together.
        let many = |application: &str, count: usize| {
            (0..count).map(|number| entry(application, &number.to_string(), "", 0.0)).collect::<Vec<_>>()
        };
        let entries = [many("a", STATISTICS_MAX), many("b", 1)].concat();
        let error = error(&minicbor::to_vec(Statistics { entries }).unwrap());
        assert!(error.contains("list of 1 entries, at most 0"), "{error}");
    }

    proptest! {
        #[test]
        fn every_number_survives(bits: u64, whole: i64, single: f32) {
            #[expect(clippy::cast_precision_loss, reason = "any number will do")]
            let whole = whole as f64;
            for value in [f64::from_bits(bits), whole, f64::from(single)] {
                let bytes = minicbor::to_vec(Number(value)).unwrap();
                prop_assert_eq!(minicbor::decode::<Number>(&bytes).unwrap(), Number(value));
            }
        }
    }
}
