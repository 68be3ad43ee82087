//! The header of a segment that lost it, found again from what else is in the file.
//!
//! All that is needed of a header is its epoch: base and length are the file's name and length. The epoch
//! stands in the trailer too; a header with one wrong byte is found by its own checksum; and every record's
//! checksum begins with a seed made of the epoch, which can be computed backwards from a record that is
//! whole: CRC32C over known bytes maps its start to its end one to one. Two records that agree on a seed
//! prove it.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::layout::{
    HEADER_BLOCK_BYTES, HEADER_BYTES, PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, SegmentHeader, Trailer, get_u32, get_u64, record_bytes,
};
use super::scan::{Walk, nonzero_end};
use super::storage::SegmentFile;

/// Most seeds that are weighed against each other: damaged records give a different one each.
const SEEDS_MAX: usize = 64 * 1024;

/// The report of a segment whose header is damaged and was found again.
const FOUND_AGAIN: &str = "the header is damaged; the records were found by their own checksums";

/// Identity of a segment's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// `None`: nothing in it can be read.
    pub(crate) header: Option<SegmentHeader>,
    /// The flaw in the header or in the file's length. `None`: nothing.
    pub(crate) flaw: Option<&'static str>,
    /// Bytes that the segment takes. `None`: only the file's length tells.
    pub(crate) bytes: Option<u64>,
}

/// Reads a segment's header, or finds it again. Never panics, whatever the bytes.
pub(crate) fn identify(file: SegmentFile, bytes: &[u8]) -> Identity {
    let flaw = match SegmentHeader::decode(bytes) {
        Ok(header) if header.base == file.base => {
            let flaw = match header.bytes.cmp(&(bytes.len() as u64)) {
                std::cmp::Ordering::Equal => None,
                std::cmp::Ordering::Greater => Some("the file is cut short"),
                std::cmp::Ordering::Less => Some("the file is longer than its header says"),
            };
            return Identity { header: Some(header), flaw, bytes: Some(header.bytes) };
        }
        Ok(_) => "header is another segment's",
        Err(what) => what,
    };
    let header = find_again(file.base, bytes);
    let is_sealed = header.is_some_and(|header| Trailer::decode(&header, bytes).is_some());
    Identity {
        header,
        flaw: Some(if header.is_some() { FOUND_AGAIN } else { flaw }),
        bytes: is_sealed.then_some(bytes.len() as u64),
    }
}

fn find_again(base: u64, bytes: &[u8]) -> Option<SegmentHeader> {
    let length = bytes.len() as u64;
    if length <= HEADER_BLOCK_BYTES {
        return None;
    }
    // A file that was cut short too: no trailer, and the records end where it does.
    let length = length.next_multiple_of(4096).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    if !base.is_multiple_of(8) || base.checked_add(length).is_none() {
        return None;
    }
    let with = |epoch| SegmentHeader { epoch, base, bytes: length };
    let body = usize::try_from(HEADER_BLOCK_BYTES).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
    if nonzero_end(body) == 0 {
        return Some(with(0)); // nothing to read
    }
    let fits = |epoch: &u64| reads(&with(*epoch), bytes);
    let as_written = get_u64(bytes, 16);
    let known = trailer_epoch(base, bytes)
        .filter(fits)
        .or_else(|| Some(as_written).filter(fits))
        .or_else(|| one_byte_off(as_written, &with, bytes).filter(fits));
    known.or_else(|| seed_of_records(base, bytes).map(|seed| epoch_with(seed, base))).map(with)
}

/// Whether a header makes sense of the bytes: a trailer or a record is valid under it.
fn reads(header: &SegmentHeader, bytes: &[u8]) -> bool {
    // A walk steps over a hole only where a valid record follows.
    let mut walk = Walk::new(header, bytes, header.first(), header.records_limit());
    Trailer::decode(header, bytes).is_some() || walk.next().is_some()
}

/// The epoch as the footer has it, for what it is worth.
fn trailer_epoch(base: u64, bytes: &[u8]) -> Option<u64> {
    let footer = bytes.len().checked_sub(super::layout::FOOTER_BYTES).and_then(|at| bytes.get(at..))?;
    (get_u64(footer, 16) == base).then(|| get_u64(footer, 8))
}

/// The epoch of a header that has one wrong byte in it: the one with which its checksum is true.
fn one_byte_off(epoch: u64, with: &dyn Fn(u64) -> SegmentHeader, bytes: &[u8]) -> Option<u64> {
    let is_true = |epoch: &u64| {
        let header: [u8; HEADER_BYTES] = with(*epoch).encode();
        get_u32(&header, 56) == get_u32(bytes, 56)
    };
    (0..8).flat_map(|byte| (0..=255_u64).map(move |flip| epoch ^ (flip << (8 * byte)))).find(is_true)
}

/// The seed that most records of a segment give, two at least.
fn seed_of_records(base: u64, bytes: &[u8]) -> Option<u32> {
    let mut seeds: HashMap<u32, u32> = HashMap::new();
    let mut at = usize::try_from(HEADER_BLOCK_BYTES).ok()?;
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= RECORD_HEADER_BYTES) {
        let Some((seed, length)) = seed_of_record(base + at as u64, rest) else {
            at += 8;
            continue;
        };
        at += length;
        if seeds.len() < SEEDS_MAX || seeds.contains_key(&seed) {
            *seeds.entry(seed).or_default() += 1;
        }
    }
    let (seed, records) = seeds.into_iter().max_by_key(|(_, records)| *records)?;
    (records >= 2).then_some(seed)
}

/// The seed with which a record's checksum would be true, and the record's length, when something at
/// `position` looks like one.
fn seed_of_record(position: u64, bytes: &[u8]) -> Option<(u32, usize)> {
    let length = usize::try_from(get_u32(bytes, 0)).ok()?;
    if get_u64(bytes, 8) != position || get_u64(bytes, 16) > position || length > PAYLOAD_BYTES_MAX {
        return None;
    }
    let bytes = bytes.get(..record_bytes(length))?;
    let after = undo(get_u32(bytes, 4), &bytes[8..]);
    Some((undo(after, &bytes[..4]), bytes.len()))
}

/// An epoch that gives the seed: not the one that was drawn, but one that every checksum takes for it.
fn epoch_with(seed: u32, base: u64) -> u64 {
    let of_epoch = undo(seed, &base.to_le_bytes());
    // The low half is chosen so that it leads to the state from which eight bytes of zeros lead to what is
    // wanted.
    u64::from(!undo(of_epoch, &[0; 8]) ^ u32::MAX)
}

/// The checksum before `bytes` were added, from the one after: `crc32c_append(undo(crc, bytes), bytes) ==
/// crc`.
fn undo(crc: u32, bytes: &[u8]) -> u32 {
    let state = bytes.iter().rev().fold(!crc, |state, byte| {
        let index = BACKWARDS[(state >> 24) as usize];
        ((state ^ FORWARDS[usize::from(index)]) << 8) | u32::from(index ^ byte)
    });
    !state
}

/// Effect of one byte on the register, CRC32C (RFC 3720, appendix B.4; reflected polynomial 0x82f63b78).
static FORWARDS: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut state = index as u32;
        let mut bit = 0;
        while bit < 8 {
            state = (state >> 1) ^ (if state & 1 == 1 { 0x82f6_3b78 } else { 0 });
            bit += 1;
        }
        table[index] = state;
        index += 1;
    }
    table
};

/// Index in [`FORWARDS`] by the highest byte of what stands there, which is another for each.
static BACKWARDS: [u8; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let low = index as u8;
        table[(FORWARDS[index] >> 24) as usize] = low;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::super::layout::{Record, encode_record_header};
    use super::super::scan::Step;
    use super::*;

    const HEADER: SegmentHeader =
        SegmentHeader { epoch: 0x0123_4567_89ab_cdef, base: 192 * 1024, bytes: 64 * 1024 };
    const FILE: SegmentFile = SegmentFile { base: HEADER.base, bytes: HEADER.bytes, set_aside: false };

    fn segment(records: usize, is_sealed: bool) -> Vec<u8> {
        let mut bytes = vec![0; 64 * 1024];
        bytes[..HEADER_BYTES].copy_from_slice(&HEADER.encode());
        let mut at = 4096;
        for sequence in 0..records {
            let payload = vec![7; sequence * 11];
            let record = Record { wall_ms: 5, device: 1, sequence: sequence as u64, payload: &payload };
            let header = encode_record_header(HEADER.seed(), HEADER.base + at as u64, 0, &record);
            bytes[at..at + 48].copy_from_slice(&header);
            bytes[at + 48..at + 48 + payload.len()].copy_from_slice(&payload);
            at += record_bytes(payload.len());
        }
        if is_sealed {
            let end = HEADER.base + at as u64;
            let trailer =
                Trailer { end, summary: super::super::layout::Summary::default(), index: Vec::new() };
            let trailer = trailer.encode(&HEADER);
            let at = bytes.len() - trailer.len();
            bytes[at..].copy_from_slice(&trailer);
        }
        bytes
    }

    fn records(bytes: &[u8]) -> usize {
        let Some(header) = identify(FILE, bytes).header else { return 0 };
        let mut walk = Walk::new(&header, bytes, header.first(), header.records_limit());
        std::iter::from_fn(|| walk.next()).filter(|step| matches!(step, Step::Record(_))).count()
    }

    #[test]
    fn a_checksum_goes_backwards() {
        let bytes = b"what the checksum covers";
        for seed in [0, 1, 0xdead_beef, u32::MAX] {
            assert_eq!(undo(crc32c::crc32c_append(seed, bytes), bytes), seed);
            let found = SegmentHeader { epoch: epoch_with(seed, HEADER.base), ..HEADER };
            assert_eq!(found.seed(), seed);
        }
    }

    #[test]
    fn one_wrong_byte_anywhere_in_the_header_costs_no_record() {
        for count in [1, 2, 9] {
            for place in 0..HEADER_BYTES - 4 {
                let mut bytes = segment(count, false);
                bytes[place] ^= 0x41;
                assert_eq!(records(&bytes), count, "byte {place}");
                assert_eq!(identify(FILE, &bytes).flaw, Some(FOUND_AGAIN));
            }
        }
    }

    #[test]
    fn a_header_that_is_gone_is_found_by_the_trailer_or_by_two_records() {
        for (count, is_sealed, found) in
            [(9, true, 9), (1, true, 1), (9, false, 9), (2, false, 2), (1, false, 0)]
        {
            let mut bytes = segment(count, is_sealed);
            bytes[..4096].fill(0xff);
            assert_eq!(records(&bytes), found, "{count} records, sealed: {is_sealed}");
            bytes.truncate(40_000);
            assert_eq!(records(&bytes), if count == 1 { 0 } else { count }, "and cut short");
        }
        let mut bytes = segment(9, true);
        bytes[..4096].fill(0xff);
        bytes[64 * 1024 - 40] ^= 1;
        bytes[4096 + 8] ^= 1;
        bytes[4096 + 48 + 48] ^= 1;
        assert_eq!(records(&bytes), 7, "the trailer and the first two records are damaged as well");
    }

    #[test]
    fn what_is_no_segment_stays_unread() {
        for bytes in [vec![], vec![0xff; 4096], vec![0xff; 64 * 1024], vec![0; 4095]] {
            assert_eq!(identify(FILE, &bytes).header, None);
        }
        let whole = segment(3, true);
        assert_eq!(
            identify(FILE, &whole),
            Identity { header: Some(HEADER), flaw: None, bytes: Some(64 * 1024) }
        );
        let cut = identify(FILE, &whole[..9000]);
        assert_eq!((cut.header, cut.flaw), (Some(HEADER), Some("the file is cut short")));
        let elsewhere = SegmentFile { base: 0, ..FILE };
        assert_eq!(identify(elsewhere, &whole).header, None, "another's bytes under this name");
    }
}
