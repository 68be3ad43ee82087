//! Values in columns.

use crate::wire::time::WallTime;

/// A time beyond what SQLite's integers hold (the year 292 million) is the last that they hold, so that times
/// keep their order.
pub(super) fn time_to_sql(time: WallTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// The time in a column; one before 1970 is 1970.
pub(super) fn time_from_sql(milliseconds: i64) -> WallTime {
    WallTime(u64::try_from(milliseconds).unwrap_or(0))
}
