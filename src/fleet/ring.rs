//! A day of an application's numbers, in little room.
//!
//! Time is counted in slots of five minutes since 1970; a ring holds at most one point for each slot of a
//! day. A point has one value for each number (a column), as the upper 21 bits of an `f32`: four digits are
//! more than a plot can show.
//!
//! ```text
//! version (1 byte) | columns (LEB128) | slot of the newest point (LEB128)
//! then for each point, the newest first:
//!     slots since the one before it, 0 for the first (LEB128)
//!     for each column: its 21 bits, exclusive or'ed with those in the point before it (LEB128); NaN: no value
//! ```
//!
//! A value that does not change takes one byte a point, none takes more than three. The newest come first so
//! that a ring that would be too long loses its oldest points, and nothing has to be written twice to find
//! out how many.

use crate::wire::time::WallTime;

/// Length of a slot.
pub const SLOT_MILLISECONDS: u64 = 300_000;

/// Slots in a ring: a day of them.
pub const SLOTS: u64 = 24 * 60 * 60 * 1_000 / SLOT_MILLISECONDS;

const VERSION: u8 = 1;

/// Bits of an `f32` that are not kept: of its 23 bits of fraction 12 are.
const DROPPED_BITS: u32 = 11;

/// The nearest number that is kept as it is; NaN for what is not finite.
fn kept(value: f32) -> f32 {
    if !value.is_finite() {
        return f32::NAN;
    }
    let half = 1 << (DROPPED_BITS - 1);
    let cut = |bits: u32| f32::from_bits(bits >> DROPPED_BITS << DROPPED_BITS);
    // Rounded up, the greatest of all would be infinite.
    let rounded = cut(value.to_bits() + half);
    if rounded.is_finite() { rounded } else { cut(value.to_bits()) }
}

/// The slot in which a time lies.
#[must_use]
pub fn slot_of(time: WallTime) -> u64 {
    time.0 / SLOT_MILLISECONDS
}

/// When a slot begins.
#[must_use]
pub fn begin_of(slot: u64) -> WallTime {
    WallTime(slot.saturating_mul(SLOT_MILLISECONDS))
}

/// The values of all columns in one slot.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// Which slot.
    pub slot: u64,
    /// One value for each column; NaN: none.
    pub values: Vec<f32>,
}

/// A ring. Its points are sorted by slot, the newest first, each slot once.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ring {
    columns: usize,
    points: Vec<Point>,
}

impl Ring {
    /// An empty ring of `columns` columns.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { columns, points: Vec::new() }
    }

    /// Number of its columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The points, the newest first.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The same points with other columns: for each new one, which of the old ones it is; `None`: it has no
    /// values yet.
    #[must_use]
    pub fn with_columns(&self, from: &[Option<usize>]) -> Self {
        let value = |point: &Point, column: &Option<usize>| {
            column.and_then(|column| point.values.get(column).copied()).unwrap_or(f32::NAN)
        };
        let moved = |point: &Point| Point {
            slot: point.slot,
            values: from.iter().map(|column| value(point, column)).collect(),
        };
        Self { columns: from.len(), points: self.points.iter().map(moved).collect() }
    }

    /// Whether a column has a value anywhere.
    #[must_use]
    pub fn has_values(&self, column: usize) -> bool {
        self.points.iter().any(|point| point.values.get(column).is_some_and(|value| value.is_finite()))
    }

    /// Forgets what is older than a day, and what is newer than now, which a clock that was set back has
    /// left.
    pub fn forget(&mut self, now: WallTime) {
        let slot = slot_of(now);
        self.points.retain(|point| point.slot <= slot && slot - point.slot < SLOTS);
    }

    /// Enters the values of now and forgets what is older than a day.
    #[cfg(any(test, feature = "internals"))]
    pub fn push(&mut self, now: WallTime, values: Vec<f32>) {
        self.forget(now);
        self.enter(now, values);
    }

    /// Enters the values of now; those of the same slot are replaced, and nothing is forgotten for its age.
    pub fn enter(&mut self, now: WallTime, mut values: Vec<f32>) {
        let slot = slot_of(now);
        self.points.retain(|point| point.slot < slot);
        values.resize(self.columns, f32::NAN);
        values.iter_mut().for_each(|value| *value = kept(*value));
        self.points.insert(0, Point { slot, values });
        self.points.truncate(usize::try_from(SLOTS).unwrap_or(usize::MAX));
    }

    /// The bytes, at most `bytes_max` of them: what does not fit is left out, the oldest first.
    #[must_use]
    pub fn encode(&self, bytes_max: usize) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        write_number(&mut bytes, self.columns as u64);
        let Some(newest) = self.points.first() else { return bytes };
        write_number(&mut bytes, newest.slot);
        let (mut slot, mut before) = (newest.slot, vec![0_u32; self.columns]);
        for point in &self.points {
            let length = bytes.len();
            write_number(&mut bytes, slot.saturating_sub(point.slot));
            for (value, before) in point.values.iter().zip(&mut before) {
                let bits = kept(*value).to_bits() >> DROPPED_BITS;
                write_number(&mut bytes, u64::from(bits ^ *before));
                *before = bits;
            }
            if bytes.len() > bytes_max {
                bytes.truncate(length);
                break;
            }
            slot = point.slot;
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` when it is anything else.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        if *bytes.split_off_first()? != VERSION {
            return None;
        }
        // A point takes at least a byte for each column.
        let columns = usize::try_from(read_number(&mut bytes)?).ok()?;
        let mut points: Vec<Point> = Vec::new();
        if bytes.is_empty() {
            return Some(Self { columns, points });
        }
        let mut slot = read_number(&mut bytes)?;
        if bytes.is_empty() {
            return Some(Self { columns, points });
        }
        let mut before = vec![0_u32; (columns <= bytes.len()).then_some(columns)?];
        while !bytes.is_empty() {
            let distance = read_number(&mut bytes)?;
            if (distance == 0) != points.is_empty() || points.len() as u64 >= SLOTS {
                return None;
            }
            slot = slot.checked_sub(distance)?;
            for before in &mut before {
                let changed = u32::try_from(read_number(&mut bytes)?).ok()?;
                *before ^= (changed <= u32::MAX >> DROPPED_BITS).then_some(changed)?;
            }
            let values = before.iter().map(|bits| f32::from_bits(bits << DROPPED_BITS)).collect();
            points.push(Point { slot, values });
        }
        Some(Self { columns, points })
    }
}

fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        number |= part << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(slot: u64) -> WallTime {
        WallTime(slot * SLOT_MILLISECONDS + 7)
    }

    /// Bits, so that "no value" equals itself.
    fn bits(ring: &Ring) -> Vec<(u64, Vec<u32>)> {
        let of = |value: &f32| if value.is_finite() { value.to_bits() } else { u32::MAX };
        ring.points.iter().map(|point| (point.slot, point.values.iter().map(of).collect())).collect()
    }

    #[test]
    fn a_day_of_a_number_that_hardly_changes_takes_little() {
        let mut ring = Ring::new(2);
        for slot in 0..SLOTS + 50 {
            ring.push(at(slot), vec![35.0, slot as f32]);
        }
        assert_eq!((ring.points().len() as u64, ring.points()[0].slot), (SLOTS, SLOTS + 49));
        let bytes = ring.encode(usize::MAX);
        assert!((bytes.len() as u64) < 5 * SLOTS, "{}", bytes.len());
        assert_eq!(Ring::decode(&bytes), Some(ring));
    }

    #[test]
    fn a_second_value_in_a_slot_replaces_the_first_and_a_clock_set_back_leaves_no_future() {
        let mut ring = Ring::new(1);
        for (slot, value) in [(10, 1.0), (12, 2.0), (12, 3.0)] {
            ring.push(at(slot), vec![value]);
        }
        assert_eq!(bits(&ring).len(), 2);
        ring.push(at(11), vec![4.0]);
        assert_eq!(ring.points().iter().map(|point| point.slot).collect::<Vec<_>>(), [11, 10]);
    }

    #[test]
    fn columns_come_and_go() {
        let mut ring = Ring::new(2);
        ring.push(at(1), vec![1.0, 2.0]);
        let mut ring = ring.with_columns(&[None, Some(1)]);
        ring.push(at(2), vec![5.0]);
        assert!(ring.has_values(0) && ring.has_values(1) && !ring.has_values(2));
        let point = &ring.points()[1];
        assert!(point.values[0].is_nan() && point.values[1] == 2.0);
    }

    #[test]
    fn numbers_are_kept_to_four_digits() {
        for (value, text) in
            [(0.1_f32, "1.000e-1"), (12.34, "1.234e1"), (-8_191.0, "-8.191e3"), (2e10, "2.000e10")]
        {
            assert_eq!(format!("{:.3e}", kept(value)), text);
        }
        assert!(kept(f32::MAX).is_finite() && kept(f32::MIN).is_finite() && kept(f32::INFINITY).is_nan());
    }

    proptest! {
        #[test]
        fn a_ring_comes_back_whole_or_without_its_oldest(
            columns in 0_usize..5,
            steps in prop::collection::vec((0_u64..40, prop::collection::vec(any::<f32>(), 0..5)), 0..60),
            bytes_max in 0_usize..2_000,
        ) {
            let (mut ring, mut slot) = (Ring::new(columns), 1_000);
            for (step, mut values) in steps {
                slot += step;
                values.truncate(columns);
                ring.push(at(slot), values);
            }
            let whole = Ring::decode(&ring.encode(usize::MAX)).unwrap();
            prop_assert_eq!(bits(&whole), bits(&ring));
            let bytes = ring.encode(bytes_max);
            prop_assert!(bytes.len() <= bytes_max.max(12));
            let part = Ring::decode(&bytes).unwrap();
            prop_assert_eq!(part.columns(), columns);
            prop_assert_eq!(bits(&part), bits(&ring)[..part.points().len()].to_vec());
        }

        #[test]
        fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(ring) = Ring::decode(&bytes) {
                prop_assert!(ring.points().is_sorted_by(|a, b| a.slot > b.slot));
                prop_assert!(ring.points().iter().all(|point| point.values.len() == ring.columns()));
            }
        }
    }
}
