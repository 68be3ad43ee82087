//! When segments were written, as far as stamps of a clock that can be wrong tell.
#![forbid(unsafe_code)]

use super::catalog::SegmentInfo;

/// The bases of the segments that are older than `age_ms` at `now_ms`, a time that is believed. Oldest first.
///
/// A stamp may be wrong in three ways, none of which makes a segment look older than it is for long:
/// - ahead of now: it says nothing, and the segment is as old as the one behind it;
/// - behind one before it: records are written in order, so a segment is not older than those before it;
/// - behind, up to a gap of more than `age_ms` to what follows, which a long stop leaves, and a clock that
///   began in 1970 and was set right: what lies before the gap counts as written at its end.
pub(crate) fn old_segments(segments: &[SegmentInfo], age_ms: u64, now_ms: u64) -> Vec<u64> {
    let keep_from_ms = now_ms.saturating_sub(age_ms);
    let mut written_by = vec![None; segments.len()];
    let (mut following, mut behind_gap) = (None, 0);
    for (segment, by) in segments.iter().zip(&mut written_by).rev() {
        let (earliest, latest) = (segment.summary.earliest_ms, segment.summary.latest_ms);
        let own = (segment.summary.records > 0 && latest <= now_ms).then_some(latest);
        if let (Some(own), Some(following)) = (own, following)
            && following > u64::saturating_add(own, age_ms)
        {
            behind_gap = behind_gap.max(following);
        }
        *by = own.or(following).map(|by| by.max(behind_gap));
        if segment.summary.records > 0 && earliest <= now_ms {
            following = Some(earliest);
        }
    }
    let mut not_before = 0;
    let old = segments.iter().zip(written_by).filter_map(|(segment, by)| {
        let by = by?.max(not_before);
        not_before = by;
        (by < keep_from_ms).then_some(segment.base.0)
    });
    old.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Position, SegmentState, Summary};

    const DAY: u64 = 86_400_000;
    const NOW: u64 = 20_700 * DAY;

    /// Segments with the stamps of their first and last record, in days before now; negative: ahead.
    fn old(stamps: &[(i64, i64)]) -> Vec<u64> {
        let at = |days: i64| NOW.saturating_add_signed(-days * DAY.cast_signed());
        let segment = |(base, (first, last)): (u64, &(i64, i64))| SegmentInfo {
            base: Position(base),
            end: Position(base + 1),
            bytes: 1,
            state: SegmentState::Sealed,
            summary: Summary { records: 9, earliest_ms: at(*first), latest_ms: at(*last) },
        };
        let segments: Vec<_> = (0..).zip(stamps).map(segment).collect();
        old_segments(&segments, 90 * DAY, NOW)
    }

    #[test]
    fn what_is_older_than_its_age_is_old() {
        assert_eq!(old(&[(200, 101), (101, 91), (91, 89), (89, 0)]), [0, 1]);
    }

    #[test]
    fn records_of_a_clock_that_began_in_1970_are_as_old_as_what_followed() {
        assert_eq!(old(&[(20_700, 20_699), (20_699, 20_698), (1, 0)]), [0_u64; 0]);
        assert_eq!(old(&[(20_700, 20_699), (95, 94), (94, 0)]), [0, 1], "and no younger");
    }

    #[test]
    fn records_of_a_clock_that_was_behind_for_a_while_are_no_older_than_those_before_them() {
        assert_eq!(old(&[(10, 8), (208, 207), (207, 206), (5, 0)]), [0_u64; 0]);
    }

    #[test]
    fn a_stamp_of_the_future_keeps_nothing_back() {
        assert_eq!(old(&[(300, 299), (299, -3_650), (298, 200), (199, 0)]), [0, 1, 2]);
        assert_eq!(
            old(&[(300, 299), (-3_651, -3_650), (10, 0)]),
            [0_u64; 0],
            "a gap to the next credible stamp"
        );
    }
}
