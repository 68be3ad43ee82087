//! The bytes of a journal, and nothing else: this page is the one place where they are described.
//!
//! A journal is a run of **positions**, counted in bytes from 0 and never used twice. It is cut into
//! **segments**, one file each, named after the position at which it begins (`00000000000067108864.journal`;
//! a segment that was set aside because acknowledged data in it is damaged ends in `.damaged`). A segment
//! covers the positions `base .. base + segment bytes`, so a byte's place in its file is its position less
//! the base. All integers are little-endian. Rows are 8 bytes.
//!
//! ```text
//! segment = header block | records … | zeros | trailer room
//!
//! header (64 bytes, at the start of a block of 4,096 that holds nothing else, so that no append rewrites it)
//!   row 0  magic "mustrjnl"
//!   row 1  version (u32) = 1          | zero (u32)
//!   row 2  epoch: random, drawn when the segment was made
//!   row 3  base position
//!   row 4  segment bytes: the length of the file
//!   row 5  zero
//!   row 6  zero
//!   row 7  CRC32C of rows 0 to 6 (u32) | zero (u32)
//!
//! record (8-byte aligned, at least 48 bytes)
//!   row 0  payload length (u32)       | CRC32C (u32)
//!   row 1  position of this record
//!   row 2  watermark: the durable position when this record was written
//!   row 3  wall time, milliseconds since 1970
//!   row 4  device
//!   row 5  device's sequence number
//!   then   payload, zeros up to the next multiple of 8
//!   The CRC begins with the segment's epoch and base, then covers the length, rows 1 to 5, payload and zeros.
//!
//! trailer room (fixed by the segment's length: [`trailer_room`]; zero until the segment is sealed)
//!   entries of two rows each, ending where the footer begins:
//!     row 0  position of a record
//!     row 1  latest wall time among all records before it in this segment (0 for the first)
//!   footer (64 bytes, the last of the file)
//!   row 0  magic "mustrend"
//!   row 1  epoch, as in the header
//!   row 2  base position, as in the header
//!   row 3  end: the position just past the last record
//!   row 4  records, count
//!   row 5  earliest wall time of a record
//!   row 6  latest wall time of a record
//!   row 7  index entries (u32)        | CRC32C (u32)
//!   The CRC begins with the epoch and base, then covers the entries, rows 0 to 6 and the number of entries.
//! ```
//!
//! # Assumptions about the medium
//!
//! 1. A sector of 512 bytes is written whole or not at all when power fails, and rewriting one with the same
//!    bytes in some places leaves those places alone.
//! 2. A write that was reported durable (`RWF_DSYNC`, `fdatasync`) survives a power cut. A drive that lies
//!    about its cache breaks this, and nothing in software can mend it.
//! 3. Between two durable writes, the sectors of a write in flight reach the medium in any order, any subset
//!    of them.
//! 4. Overwriting zeros that were written and synced earlier needs no room. (A copy-on-write file system may
//!    need some; an error there is a failed write, see below.)
//! 5. Nobody shortens or rewrites the files while a process has them open. A lock on the directory keeps a
//!    second journal out.
//!
//! # Torn writes, and how they are read
//!
//! Order of writing: a segment is zero-filled, given its header and synced before it gets its name. Records
//! are written in order, in whole pages, each write durable before the next begins: with what stands in the
//! first page already, and zeros up to the end of the last. The trailer is written once all of the segment's
//! records are durable. The next segment gets its first record once the trailer is durable.
//!
//! | found at the opening | what happened | what is done |
//! |---|---|---|
//! | file ends in `.new` | cut while a segment was made | deleted |
//! | invalid record, no later one says it was durable | torn batch: nobody was told that it is durable | the tail ends here; the rest is zeroed, durably, before the next append: a valid record behind a hole must not come back to life |
//! | invalid record below a later record's watermark | damage of acknowledged data | reported with its position; the segment is set aside; what is valid behind it is kept |
//! | invalid record below a valid trailer's end | the same | the same |
//! | segment without a valid trailer, a later one holds anything | trailer or end damaged | the same |
//! | no trailer, later segments empty | cut before or while sealing | trailer room zeroed; appends go on here |
//! | valid records past the last watermark | written, perhaps not synced (the process was killed) | written again, durably, before they count |
//! | header invalid | damage: it was synced before it had its name | reported and set aside. The epoch is found again, by the trailer, by the one byte that makes the header's checksum true, or by two records whose checksums give one seed when they are computed backwards; then every whole record is read. Only a segment with one record, no trailer and more than one wrong byte in the header stays unread |
//! | file shorter than its header says, or empty | cut by something else: a segment is made in full length | what is whole before the cut is read, the rest reported; set aside |
//! | a gap behind the position where the journal begins, or between that and the first segment | a file is gone | reported, and noted in an empty file `FROM-TO.missing`, so that later openings tell of it too |
//! | everything ends before a position that the user of the journal remembers ([`Options::remembered`](super::Options::remembered)) | the last files are gone, or this is an older copy | the same; what is there is set aside or sealed, and new positions begin behind what is remembered |
//! | a full segment is damaged while the journal runs | the medium | found by a reading of all full segments, at 8 MiB/s after the start and once a day; reported and set aside |
//!
//! The position where the journal begins is the name of an empty file, `POSITION.oldest`: made with the
//! journal, renamed before a segment is deleted, to where the next one begins that is not set aside. In a
//! journal without it, as when there was no room for it, a gap is a loss only behind a segment that retention
//! would have deleted first, and it is made anew from the first segment that is there.
//!
//! Segments that were set aside are deleted by no rule of age or size, and count towards no limit of size:
//! `status` shows their size. A second file of the same name that is set aside later leaves the first one as
//! `*.damaged.1`.
//!
//! An archive (`archive` in this module) is a second journal of the same form, with positions of its own. The
//! payload of its records begins with the position (8 bytes) that the record had in the first.
//!
//! A recycled block of an older segment never passes for a record: its CRC was seeded with another epoch, and
//! its position is another. The epoch never leaves the server, so a peer can't forge a record inside a
//! payload either, but for one chance in 2³² for each try, and only if the record around it is torn.
#![forbid(unsafe_code)]

use std::fmt;

/// A place in the journal, in bytes from its beginning. Never used twice for different data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({})", self.0)
    }
}

/// Version of this layout.
pub const VERSION: u32 = 1;

/// Bytes at the start of a segment that hold the header alone: one page, so that an append never rewrites its
/// sector.
pub const HEADER_BLOCK_BYTES: u64 = 4096;

/// Bytes of the header itself.
pub const HEADER_BYTES: usize = 64;

/// Bytes of a record before its payload.
pub const RECORD_HEADER_BYTES: usize = 48;

/// Largest payload: what one frame of the wire holds, so that whatever arrives can be kept.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Smallest segment: header, sixteen records of a few KiB, trailer.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// Largest segment: recovery reads the last one whole, so it bounds the time of a start.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes of the footer at the end of a sealed segment.
pub const FOOTER_BYTES: usize = 64;

/// Bytes of one index entry.
pub const INDEX_ENTRY_BYTES: usize = 16;

/// Most index entries in a segment: 16 KiB of memory for the segment that is being written.
pub const INDEX_ENTRIES_MAX: u64 = 1024;

/// Least distance between index entries: what a reader walks through to find one record.
pub const INDEX_STRIDE_BYTES_MIN: u64 = 4096;

const HEADER_MAGIC: [u8; 8] = *b"mustrjnl";
const FOOTER_MAGIC: [u8; 8] = *b"mustrend";

const _: () = assert!(SEGMENT_BYTES_MIN.is_multiple_of(4096) && SEGMENT_BYTES_MAX.is_multiple_of(4096));
const _: () = assert!(SEGMENT_BYTES_MAX < u32::MAX as u64);

/// Header of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Random, drawn when the segment was made; seeds every CRC in it.
    pub epoch: u64,
    /// Position of the segment's first byte.
    pub base: u64,
    /// Length of the segment's file.
    pub bytes: u64,
}

impl SegmentHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&HEADER_MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        put_u64(&mut out, 16, self.epoch);
        put_u64(&mut out, 24, self.base);
        put_u64(&mut out, 32, self.bytes);
        let crc = crc32c::crc32c(&out[..56]);
        out[56..60].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header from the first bytes of a segment; the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let Some(row) = bytes.get(..HEADER_BYTES) else { return Err("shorter than a header") };
        if row[..8] != HEADER_MAGIC {
            return Err("does not begin like a journal segment");
        }
        if get_u32(row, 56) != crc32c::crc32c(&row[..56]) {
            return Err("header has a wrong checksum");
        }
        if get_u32(row, 8) != VERSION {
            return Err("has a version that this program does not know");
        }
        let header = Self { epoch: get_u64(row, 16), base: get_u64(row, 24), bytes: get_u64(row, 32) };
        let in_range = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&header.bytes);
        let aligned = header.bytes.is_multiple_of(4096) && header.base.is_multiple_of(8);
        if !in_range || !aligned || header.base.checked_add(header.bytes).is_none() {
            return Err("header gives an impossible length or position");
        }
        Ok(header)
    }

    /// Position of the first record.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.base + HEADER_BLOCK_BYTES
    }

    /// Position just past the last byte that records may use.
    #[must_use]
    pub fn records_limit(&self) -> u64 {
        self.base + self.bytes - trailer_room(self.bytes)
    }

    /// Position just past the segment, where the next one begins.
    #[must_use]
    pub fn next_base(&self) -> u64 {
        self.base + self.bytes
    }

    /// Seed of every CRC in this segment.
    #[must_use]
    pub fn seed(&self) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.epoch.to_le_bytes()), &self.base.to_le_bytes())
    }
}

/// Distance between index entries in a segment of this size.
#[must_use]
pub fn index_stride(segment_bytes: u64) -> u64 {
    segment_bytes.div_ceil(INDEX_ENTRIES_MAX).max(INDEX_STRIDE_BYTES_MIN)
}

/// Most index entries of a segment of this size.
#[must_use]
pub fn index_entries_max(segment_bytes: u64) -> u64 {
    segment_bytes.div_ceil(index_stride(segment_bytes))
}

/// Bytes kept free for the trailer at the end of a segment of this size.
#[must_use]
pub fn trailer_room(segment_bytes: u64) -> u64 {
    FOOTER_BYTES as u64 + index_entries_max(segment_bytes) * INDEX_ENTRY_BYTES as u64
}

/// Bytes that a record with a payload of this size takes.
#[must_use]
pub const fn record_bytes(payload_bytes: usize) -> usize {
    RECORD_HEADER_BYTES + payload_bytes.next_multiple_of(8)
}

/// A record to append: an event, or anything else that has to be kept in order and for sure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Wall time, milliseconds since 1970.
    pub wall_ms: u64,
    /// Whose record it is.
    pub device: u64,
    /// The device's own number for it.
    pub sequence: u64,
    /// Whatever it says, at most [`PAYLOAD_BYTES_MAX`] bytes.
    pub payload: &'a [u8],
}

/// A record as it stands in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordView<'a> {
    /// Its position.
    pub position: Position,
    /// The durable position when it was written.
    pub watermark: Position,
    /// The record.
    pub record: Record<'a>,
}

impl RecordView<'_> {
    /// The position just past it: once the durable position is there, it is durable; a reader goes on from
    /// here.
    #[must_use]
    pub fn end(&self) -> Position {
        Position(self.position.0 + record_bytes(self.record.payload.len()) as u64)
    }
}

/// The 48 bytes before the payload, with the CRC over everything, for a record at `position`.
/// The caller has checked the payload's length.
#[must_use]
pub fn encode_record_header(
    seed: u32,
    position: u64,
    watermark: u64,
    record: &Record<'_>,
) -> [u8; RECORD_HEADER_BYTES] {
    let mut out = [0; RECORD_HEADER_BYTES];
    let length = u32::try_from(record.payload.len()).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_le_bytes());
    put_u64(&mut out, 8, position);
    put_u64(&mut out, 16, watermark);
    put_u64(&mut out, 24, record.wall_ms);
    put_u64(&mut out, 32, record.device);
    put_u64(&mut out, 40, record.sequence);
    let crc = record_crc(seed, &out, record.payload, padding(record.payload.len()));
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The zeros that follow a payload of this size.
#[must_use]
pub fn padding(payload_bytes: usize) -> &'static [u8] {
    const ZEROS: [u8; 8] = [0; 8];
    &ZEROS[..payload_bytes.next_multiple_of(8) - payload_bytes]
}

fn record_crc(seed: u32, header: &[u8], payload: &[u8], padding: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(seed, &header[..4]);
    let crc = crc32c::crc32c_append(crc, &header[8..RECORD_HEADER_BYTES]);
    crc32c::crc32c_append(crc32c::crc32c_append(crc, payload), padding)
}

/// Reads the record that begins at `position`, from the bytes there up to where records may reach.
/// `None`: there is no valid one. Never panics, whatever the bytes.
#[must_use]
pub fn decode_record(seed: u32, position: u64, bytes: &[u8]) -> Option<RecordView<'_>> {
    let header = bytes.get(..RECORD_HEADER_BYTES)?;
    if get_u64(header, 8) != position {
        return None;
    }
    let length = usize::try_from(get_u32(header, 0)).ok()?;
    if length > PAYLOAD_BYTES_MAX {
        return None;
    }
    let body = bytes.get(RECORD_HEADER_BYTES..record_bytes(length))?;
    let (payload, zeros) = body.split_at(length);
    let watermark = get_u64(header, 16);
    if record_crc(seed, header, payload, zeros) != get_u32(header, 4) || watermark > position {
        return None;
    }
    Some(RecordView {
        position: Position(position),
        watermark: Position(watermark),
        record: Record {
            wall_ms: get_u64(header, 24),
            device: get_u64(header, 32),
            sequence: get_u64(header, 40),
            payload,
        },
    })
}

/// An entry of a segment's sparse index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexEntry {
    /// Position of the record.
    pub position: u64,
    /// Latest wall time among the segment's records before it, in milliseconds since 1970; 0 when it is the
    /// first.
    pub latest_before_ms: u64,
}

/// Summary of the records of a segment, or of a part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Records, count.
    pub records: u64,
    /// Earliest wall time, in milliseconds since 1970; 0 when there are no records.
    pub earliest_ms: u64,
    /// Latest wall time, in milliseconds since 1970; 0 when there are no records.
    pub latest_ms: u64,
}

impl Summary {
    /// Counts one more record.
    pub fn note(&mut self, wall_ms: u64) {
        self.merge(&Self { records: 1, earliest_ms: wall_ms, latest_ms: wall_ms });
    }

    /// Counts what another part holds.
    pub fn merge(&mut self, other: &Self) {
        if other.records == 0 {
            return;
        }
        let earliest =
            if self.records == 0 { other.earliest_ms } else { self.earliest_ms.min(other.earliest_ms) };
        *self = Self {
            records: self.records + other.records,
            earliest_ms: earliest,
            latest_ms: self.latest_ms.max(other.latest_ms),
        };
    }
}

/// The trailer of a sealed segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trailer {
    /// The position just past the last record.
    pub end: u64,
    /// Count and times of the segment's records.
    pub summary: Summary,
    /// The sparse index, in order of position.
    pub index: Vec<IndexEntry>,
}

impl Trailer {
    /// The trailer's bytes, which belong at the very end of the segment.
    #[must_use]
    pub fn encode(&self, header: &SegmentHeader) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.index.len() * INDEX_ENTRY_BYTES + FOOTER_BYTES);
        for entry in &self.index {
            out.extend_from_slice(&entry.position.to_le_bytes());
            out.extend_from_slice(&entry.latest_before_ms.to_le_bytes());
        }
        out.extend_from_slice(&FOOTER_MAGIC);
        let Summary { records, earliest_ms, latest_ms } = self.summary;
        for row in [header.epoch, header.base, self.end, records, earliest_ms, latest_ms] {
            out.extend_from_slice(&row.to_le_bytes());
        }
        let entries = u32::try_from(self.index.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&entries.to_le_bytes());
        let crc = crc32c::crc32c_append(header.seed(), &out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the trailer of a segment from the segment's bytes. `None`: there is no valid one.
    #[must_use]
    pub fn decode(header: &SegmentHeader, segment: &[u8]) -> Option<Self> {
        let footer_at = segment.len().checked_sub(FOOTER_BYTES)?;
        let footer = segment.get(footer_at..)?;
        if footer[..8] != FOOTER_MAGIC
            || get_u64(footer, 8) != header.epoch
            || get_u64(footer, 16) != header.base
        {
            return None;
        }
        let entries = usize::try_from(get_u32(footer, 56)).ok()?;
        if entries as u64 > index_entries_max(header.bytes) {
            return None;
        }
        let index_at = footer_at.checked_sub(entries * INDEX_ENTRY_BYTES)?;
        let covered = segment.get(index_at..segment.len() - 4)?;
        if crc32c::crc32c_append(header.seed(), covered) != get_u32(footer, 60) {
            return None;
        }
        let end = get_u64(footer, 24);
        if !(header.first()..=header.records_limit()).contains(&end) {
            return None;
        }
        let index: Vec<IndexEntry> = segment[index_at..footer_at]
            .chunks_exact(INDEX_ENTRY_BYTES)
            .map(|entry| IndexEntry { position: get_u64(entry, 0), latest_before_ms: get_u64(entry, 8) })
            .collect();
        let in_order = index.windows(2).all(|pair| pair[0].position < pair[1].position);
        let inside = index.iter().all(|entry| entry.position >= header.first() && entry.position < end);
        let summary = Summary {
            records: get_u64(footer, 32),
            earliest_ms: get_u64(footer, 40),
            latest_ms: get_u64(footer, 48),
        };
        (in_order && inside).then_some(Self { end, summary, index })
    }
}

/// Builds the sparse index of a segment while its records pass by in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IndexBuilder {
    next_at: u64,
    latest_ms: u64,
}

impl IndexBuilder {
    /// Tells of the record at `position`; the entry, if it is to have one.
    pub fn note(&mut self, header: &SegmentHeader, position: u64, wall_ms: u64) -> Option<IndexEntry> {
        let entry =
            (position >= self.next_at).then_some(IndexEntry { position, latest_before_ms: self.latest_ms });
        if entry.is_some() {
            let stride = index_stride(header.bytes);
            self.next_at = header.base + ((position - header.base) / stride + 1) * stride;
        }
        self.latest_ms = self.latest_ms.max(wall_ms);
        entry
    }
}

fn put_u64(out: &mut [u8], at: usize, value: u64) {
    out[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Reads a row; the caller has checked that it is there.
pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let mut row = [0; 8];
    row.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(row)
}

/// The same of half a row.
pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    let mut row = [0; 4];
    row.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(row)
}
