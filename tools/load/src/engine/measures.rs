//! Durations: histograms in microseconds, which travel between processes as pairs of value and count.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Significant digits that a histogram keeps.
const DIGITS: u8 = 3;

/// A histogram of microseconds that grows as it needs.
pub(crate) fn histogram() -> Histogram<u64> {
    // Three digits are always allowed.
    Histogram::new(DIGITS).unwrap_or_else(|_| unreachable!("3 digits are allowed"))
}

/// Notes how long something took.
pub(crate) fn note(histogram: &mut Histogram<u64>, microseconds: u64) {
    // It grows as it needs; what it refuses there was no memory for.
    let _ = histogram.record(microseconds);
}

/// Durations that an engine has timed since it was last asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measures {
    /// From the moment an event happened, or was to happen, to its acknowledgement.
    #[serde(with = "pairs")]
    pub(crate) ack: Histogram<u64>,
    /// From the moment a sync was due to its end.
    #[serde(with = "pairs")]
    pub(crate) sync: Histogram<u64>,
    /// From the connection attempt to the end of the first sync.
    #[serde(with = "pairs")]
    pub(crate) live: Histogram<u64>,
}

impl Default for Measures {
    fn default() -> Self {
        Self { ack: histogram(), sync: histogram(), live: histogram() }
    }
}

impl Measures {
    /// Adds what another engine timed.
    pub(crate) fn add(&mut self, other: &Self) -> Result<(), Failure> {
        self.ack.add(&other.ack).map_err(Failure::refused)?;
        self.sync.add(&other.sync).map_err(Failure::refused)?;
        self.live.add(&other.live).map_err(Failure::refused)
    }
}

/// A histogram as it travels.
mod pairs {
    use serde::de::Error as _;

    use super::{Deserialize, Histogram, histogram};

    pub(super) fn serialize<S: serde::Serializer>(from: &Histogram<u64>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(from.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())))
    }

    pub(super) fn deserialize<'d, D: serde::Deserializer<'d>>(from: D) -> Result<Histogram<u64>, D::Error> {
        let mut made = histogram();
        for (value, count) in Vec::<(u64, u64)>::deserialize(from)? {
            made.record_n(value, count).map_err(D::Error::custom)?;
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_survive_the_way_between_processes_and_two_engines_add_up() {
        let (mut one, mut other, mut both) = (Measures::default(), Measures::default(), Measures::default());
        for value in 0..10_000 {
            note(&mut one.ack, value);
            note(&mut other.ack, value * 1_000);
        }
        for measures in [&one, &other] {
            let sent = serde_json::to_string(measures).unwrap();
            both.add(&serde_json::from_str(&sent).unwrap()).unwrap();
        }
        assert_eq!((one.ack.len(), one.ack.max() / 10), (10_000, 999), "it has grown");
        assert_eq!(both.ack.len(), 20_000);
        let median = both.ack.value_at_quantile(0.5);
        assert!((9_900..=10_100).contains(&median), "{median}");
        assert!(both.ack.max() >= 9_999_000);
        assert_eq!(both.sync.len(), 0);
    }
}
