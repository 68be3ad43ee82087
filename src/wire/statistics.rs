//! Statistics: named numbers of an application, with their units.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::bounded;
use super::limits::STATISTICS_MAX;

/// A number as it was measured. Equal when its bits are, so that messages can be compared.
#[derive(Clone, Copy, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Number(#[n(0)] pub f64);

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Number {}

/// One number.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
pub struct Statistic {
    /// The application.
    #[cbor(n(0), decode_with = "bounded::name")]
    pub application: String,
    /// What is measured, such as `requests`.
    #[cbor(n(1), decode_with = "bounded::name")]
    pub name: String,
    /// Its unit, such as `bytes`, `seconds` or `requests/s`; empty when it has none.
    #[cbor(n(2), decode_with = "bounded::name")]
    pub unit: String,
    /// How much; a finite number.
    #[n(3)]
    pub value: Number,
}

/// All numbers of a device, as they are now. They come with a sync, are not acknowledged, and may be lost: the next ones come with the
/// next sync.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Statistics {
    /// Sorted by application and name, each once.
    #[cbor(n(0), decode_with = "bounded::list::<Ctx, Statistic, STATISTICS_MAX>")]
    pub entries: Vec<Statistic>,
}
