//! The journal's view of a disk: one small interface, so that a simulated disk can stand in for the real one.
#![forbid(unsafe_code)]

use std::io;
use std::ops::Deref;

use super::layout::SegmentHeader;

/// A segment's file, as a listing shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentFile {
    /// Position of its first byte, from its name.
    pub base: u64,
    /// Its length.
    pub bytes: u64,
    /// Set aside, because acknowledged data in it is damaged.
    pub set_aside: bool,
}

/// A place for segments. Every method that changes something returns only once the change survives a power
/// cut.
pub trait Storage: Send + Sync + 'static {
    /// A segment's bytes for reading; stays whole when the segment is deleted. Its bytes are untrusted.
    type View: Deref<Target = [u8]> + Send + Sync + 'static;

    /// Whether a view shows what is written after it was opened. If not, a reader that follows opens it
    /// again.
    const VIEWS_FOLLOW_WRITES: bool = false;

    /// All segments, in order of their base.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn list(&self) -> io::Result<Vec<SegmentFile>>;

    /// Makes a segment of `header.bytes` bytes: zeros but for the header. It is there wholly or not at all.
    /// `pace` is told after each piece how many bytes are made, and returns when the next may begin, so that
    /// a whole segment does not get in the way of small writes.
    ///
    /// # Errors
    /// `StorageFull` or `QuotaExceeded` when there is no room, else whatever the medium answers; nothing is
    /// left behind.
    fn create(&self, header: &SegmentHeader, pace: &mut dyn FnMut(u64)) -> io::Result<()>;

    /// Writes pages at `offset` in the segment at `base`, and returns how many bytes are durable. Fewer than
    /// asked for is a short write, which the journal treats as a failure. `offset` and length are multiples
    /// of [`PAGE_BYTES`](super::PAGE_BYTES), and the bytes lie at one in memory.
    ///
    /// # Errors
    /// Whatever the medium answers. The medium's content is then unknown.
    fn write_durable(&self, base: u64, offset: u64, pages: &[u8]) -> io::Result<usize>;

    /// Opens a segment for reading.
    ///
    /// # Errors
    /// `NotFound` when it is gone, else whatever the medium answers.
    fn view(&self, file: SegmentFile) -> io::Result<Self::View>;

    /// Reads from `offset` on, as much as `bytes` takes, without a map. Finds it as [`view`](Self::view)
    /// does.
    ///
    /// # Errors
    /// `NotFound` when the file is gone, `UnexpectedEof` when it ends before, else whatever the medium
    /// answers.
    fn read(&self, file: SegmentFile, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Marks a segment as damaged, so that nothing is written to it again, and no rule deletes it. Views of
    /// it go on being valid, and [`view`](Self::view) finds it by what a listing showed before.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn set_aside(&self, base: u64) -> io::Result<()>;

    /// The ranges of positions that were noted as missing, in order: (from, to).
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn missing(&self) -> io::Result<Vec<(u64, u64)>>;

    /// Notes that what was at these positions is missing, so that later openings tell of it too.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn note_missing(&self, from: u64, to: u64) -> io::Result<()>;

    /// Begin of the journal: before that, segments may have been deleted as old. `None`: it is not known.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn oldest(&self) -> io::Result<Option<u64>>;

    /// Notes that position, before anything up to it is deleted. Without room for the note nothing is known
    /// from then on: deleting is what makes room.
    ///
    /// # Errors
    /// Whatever else the medium answers.
    fn set_oldest(&self, oldest: u64) -> io::Result<()>;

    /// Deletes a segment.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn delete(&self, file: SegmentFile) -> io::Result<()>;

    /// Bytes that new segments could take.
    ///
    /// # Errors
    /// Whatever the medium answers.
    fn free_bytes(&self) -> io::Result<u64>;

    /// A random number, for a segment's epoch. A method of the disk so that a simulation repeats itself.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    fn random(&self) -> io::Result<u64>;
}
