//! Walking through the bytes of a segment, and finding where its records end.
#![forbid(unsafe_code)]

use super::layout::{
    IndexBuilder, IndexEntry, RECORD_HEADER_BYTES, RecordView, SegmentHeader, Summary, decode_record, get_u64,
};

/// One step of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step<'a> {
    /// A valid record.
    Record(RecordView<'a>),
    /// Nothing valid from here to there, where something valid begins again (or where records had to reach).
    Hole(Hole),
}

/// A stretch of positions without a valid record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hole {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// Goes from record to record, over holes too. It does not judge whether a hole is damage.
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    /// Position of the first of them.
    base: u64,
    seed: u32,
    at: u64,
    limit: u64,
    /// Records are known to reach `limit`: what is missing before it is a hole, not the end.
    reaches_limit: bool,
}

impl<'a> Walk<'a> {
    /// Walks `bytes`, a whole segment, from the record at `from`; records end at `limit` at the latest.
    pub(crate) fn new(header: &SegmentHeader, bytes: &'a [u8], from: u64, limit: u64) -> Self {
        let from = from.clamp(header.first(), header.next_base());
        let limit = limit.min(header.base + bytes.len() as u64);
        Self { bytes, base: header.base, seed: header.seed(), at: from, limit, reaches_limit: false }
    }

    /// Walks a part of a segment that begins at `from` and holds nothing but records, the last of them
    /// perhaps not whole.
    pub(crate) fn window(header: &SegmentHeader, bytes: &'a [u8], from: u64) -> Self {
        let limit = from + bytes.len() as u64;
        Self { bytes, base: from, seed: header.seed(), at: from, limit, reaches_limit: false }
    }

    /// The same, when records are known to reach `limit`.
    pub(crate) fn sealed(header: &SegmentHeader, bytes: &'a [u8], from: u64, limit: u64) -> Self {
        Self { reaches_limit: true, ..Self::new(header, bytes, from, limit) }
    }

    /// Begin of the next step; once there is none, the end of the records.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The next record or hole. `None`: nothing valid follows.
    pub(crate) fn next(&mut self) -> Option<Step<'a>> {
        if self.at >= self.limit {
            return None;
        }
        if let Some(view) = self.record_at(self.at) {
            self.at = view.end().0;
            return Some(Step::Record(view));
        }
        let next = self.next_valid();
        let to = next.or_else(|| self.reaches_limit.then_some(self.limit))?;
        let hole = Hole { from: self.at, to };
        self.at = to;
        Some(Step::Hole(hole))
    }

    fn record_at(&self, at: u64) -> Option<RecordView<'a>> {
        decode_record(self.seed, at, self.slice_from(at))
    }

    fn slice_from(&self, at: u64) -> &'a [u8] {
        let offset = |position: u64| usize::try_from(position - self.base).ok();
        offset(at).zip(offset(self.limit)).and_then(|(from, to)| self.bytes.get(from..to)).unwrap_or_default()
    }

    /// The first valid record past the current place. Every record says where it is, which is cheap to
    /// compare.
    fn next_valid(&self) -> Option<u64> {
        let mut at = self.at + 8;
        let mut rest = self.slice_from(at.min(self.limit));
        while rest.len() >= RECORD_HEADER_BYTES {
            if get_u64(rest, 8) == at && decode_record(self.seed, at, rest).is_some() {
                return Some(at);
            }
            at += 8;
            rest = &rest[8..];
        }
        None
    }
}

/// Contents of an unsealed segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// The position just past the last record that counts.
    pub(crate) end: u64,
    /// Some record that counts says that everything before this was durable.
    pub(crate) proven: u64,
    /// Damage: places that were durable and hold nothing valid now.
    pub(crate) holes: Vec<Hole>,
    /// Count and times of the records that count.
    pub(crate) summary: Summary,
    /// Sparse index of the records that count.
    pub(crate) index: Vec<IndexEntry>,
    /// The index, to go on with.
    pub(crate) builder: IndexBuilder,
}

/// Finds where the records of an unsealed segment end, and which of the holes before that are damage.
///
/// The first hole ends the records, unless a record behind it was written when the hole's place was durable
/// already. Everything before `durable` is known to have been durable, whatever the records say: `u64::MAX`
/// when a later segment holds something. Then every valid record counts.
pub(crate) fn survey(header: &SegmentHeader, bytes: &[u8], durable: u64) -> Survey {
    struct Stretch {
        survey: Survey,
        hole: Option<Hole>,
    }
    let mut runs: Vec<Stretch> = Vec::new();
    let mut current = Survey { end: header.first(), proven: header.first(), ..Survey::default() };
    let mut walk = Walk::new(header, bytes, header.first(), header.records_limit());
    while let Some(step) = walk.next() {
        match step {
            Step::Record(view) => {
                current.summary.note(view.record.wall_ms);
                if let Some(entry) = current.builder.note(header, view.position.0, view.record.wall_ms) {
                    current.index.push(entry);
                }
                current.proven = current.proven.max(view.watermark.0);
                current.end = view.end().0;
            }
            Step::Hole(hole) => {
                let next = Survey { builder: current.builder.clone(), ..Survey::default() };
                runs.push(Stretch { survey: std::mem::replace(&mut current, next), hole: Some(hole) });
            }
        }
    }
    runs.push(Stretch { survey: current, hole: None });

    // From the back: a run counts if it proves, or a later one does, that the hole before it was durable.
    let mut latest_proof = durable;
    while let [.., before, last] = runs.as_slice() {
        latest_proof = latest_proof.max(last.survey.proven);
        if before.hole.is_some_and(|hole| latest_proof > hole.from) {
            break;
        }
        runs.pop();
    }
    let last = runs.len() - 1;
    let mut whole = Survey::default();
    for (place, run) in runs.into_iter().enumerate() {
        whole.summary.merge(&run.survey.summary);
        whole.index.extend(run.survey.index);
        whole.proven = whole.proven.max(run.survey.proven);
        whole.end = run.survey.end;
        whole.builder = run.survey.builder;
        whole.holes.extend(run.hole.filter(|_| place < last));
    }
    whole.proven = whole.proven.min(whole.end);
    whole
}

/// End of the last byte that is not zero, in bytes from the start of the slice; 0 when all are zero.
pub(crate) fn nonzero_end(bytes: &[u8]) -> usize {
    // A page at a time from the back: folding over a whole page is what the compiler turns into wide
    // instructions.
    let mut end = bytes.len();
    while end > 0 {
        let start = (end - 1) / 4096 * 4096;
        let page = &bytes[start..end];
        if page.iter().fold(0, |all, byte| all | byte) != 0 {
            return start + page.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        }
        end = start;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::super::layout::{Record, encode_record_header, record_bytes};
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader { epoch: 5, base: 64 * 1024, bytes: 64 * 1024 };
    const LENGTH: u64 = record_bytes(0) as u64;

    /// A segment of empty records, each given with its watermark as a number of records before it.
    fn segment(watermarks: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0; 64 * 1024];
        for (place, watermark) in watermarks.iter().enumerate() {
            let offset = 4096 + place * record_bytes(0);
            let record = Record { wall_ms: 1, device: 1, sequence: place as u64, payload: &[] };
            let position = HEADER.base + offset as u64;
            let header =
                encode_record_header(HEADER.seed(), position, HEADER.first() + watermark * LENGTH, &record);
            bytes[offset..offset + header.len()].copy_from_slice(&header);
        }
        bytes
    }

    /// Surveys it with some records broken: how many records reach to the end, how many holes, how many were
    /// proven.
    fn survey_with(watermarks: &[u64], broken: &[usize], durable: u64) -> (u64, usize, u64) {
        let mut bytes = segment(watermarks);
        for place in broken {
            bytes[4096 + place * record_bytes(0) + 40] ^= 1;
        }
        let survey = survey(&HEADER, &bytes, durable);
        let records = |position: u64| (position - HEADER.first()) / LENGTH;
        (records(survey.end), survey.holes.len(), records(survey.proven))
    }

    #[test]
    fn the_first_hole_ends_the_records() {
        assert_eq!(survey_with(&[], &[], 0), (0, 0, 0));
        assert_eq!(survey_with(&[0, 0, 2], &[], 0), (3, 0, 2));
        assert_eq!(survey_with(&[0, 0, 0, 0], &[1], 0), (1, 0, 0));
        assert_eq!(survey_with(&[0, 0, 0, 0], &[0], 0), (0, 0, 0));
        assert_eq!(
            survey_with(&[0, 1, 1, 1], &[1], 0),
            (1, 0, 0),
            "the watermark ends where the hole begins"
        );
    }

    #[test]
    fn a_hole_below_a_later_watermark_is_damage() {
        assert_eq!(survey_with(&[0, 0, 2, 2], &[1], 0), (4, 1, 2));
        assert_eq!(survey_with(&[0, 0, 0, 3], &[1], 0), (4, 1, 3));
        assert_eq!(survey_with(&[0, 1, 2, 3, 4, 4, 4], &[1, 5], 0), (5, 1, 4), "damage, then a torn tail");
        assert_eq!(survey_with(&[0, 1, 2, 3, 4, 5], &[1, 3], 0), (6, 2, 5));
    }

    #[test]
    fn when_all_was_durable_every_record_counts() {
        assert_eq!(survey_with(&[0, 0, 0, 0], &[1], u64::MAX), (4, 1, 0));
        let until = |records: u64| HEADER.first() + records * LENGTH;
        assert_eq!(survey_with(&[0, 0, 0, 0], &[1], until(2)), (4, 1, 0), "somebody remembers the second");
        assert_eq!(survey_with(&[0, 0, 0, 0], &[1], until(1)), (1, 0, 0), "and here only the first");
    }

    #[test]
    fn zeros_are_found_from_the_back() {
        assert_eq!(nonzero_end(&[]), 0);
        assert_eq!(nonzero_end(&[0; 10_000]), 0);
        for place in [0, 1, 4095, 4096, 9_999] {
            let mut bytes = [0; 10_000];
            bytes[place] = 1;
            assert_eq!(nonzero_end(&bytes), place + 1);
        }
    }
}
