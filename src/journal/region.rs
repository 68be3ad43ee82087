//! Mapped memory: with `memory`, one of the two files of the crate with `unsafe`. Two safe types come out of
//! it.
//!
//! [`ring`] makes the mapped tail: an anonymous map, used as a ring between the one who appends and the one
//! who flushes. Its pages come with the first bytes that need them: a server without events has none.
//! [`FileMap`] is a read-only map of a segment's file.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Mmap, MmapMut, MmapOptions};

/// The memory both halves share. Bytes in `read .. written` (counted without end, taken modulo the length)
/// belong to the consumer, all others to the producer; only the consumer moves `read`, only the producer
/// moves `written`.
struct Ring {
    /// Keeps the mapping alive; touched through `start` alone.
    _map: MmapMut,
    start: *mut u8,
    bytes: u64,
    written: AtomicU64,
    read: AtomicU64,
}

// SAFETY: `start` points into `_map`, which lives and moves with the struct; the mapping is not tied to a
// thread. Access to the bytes is divided between the two halves by `written` and `read` as said above.
#[expect(unsafe_code, reason = "a raw pointer into a mapping is not Send by itself")]
unsafe impl Send for Ring {}
// SAFETY: as above: the counters are atomic, and no byte is ever open to both halves at once.
#[expect(unsafe_code, reason = "a raw pointer into a mapping is not Sync by itself")]
unsafe impl Sync for Ring {}

/// Makes a ring of `bytes` bytes (rounded up to whole pages by the kernel, not used beyond `bytes`).
///
/// # Errors
/// Whatever `mmap` answers, most likely that there is no memory.
pub(crate) fn ring(bytes: usize) -> io::Result<(Producer, Consumer)> {
    let mut map = MmapOptions::new().len(bytes).map_anon()?;
    let start = map.as_mut_ptr();
    let ring = Arc::new(Ring {
        _map: map,
        start,
        bytes: bytes as u64,
        written: AtomicU64::new(0),
        read: AtomicU64::new(0),
    });
    Ok((Producer { ring: Arc::clone(&ring) }, Consumer { ring }))
}

/// The half that appends. There is one, and pushing needs it mutably.
pub(crate) struct Producer {
    ring: Arc<Ring>,
}

impl Producer {
    /// Bytes that can be pushed now. Only ever grows until the next push.
    pub(crate) fn room(&self) -> u64 {
        let written = self.ring.written.load(Ordering::Relaxed);
        self.ring.bytes - (written - self.ring.read.load(Ordering::Acquire))
    }

    /// Bytes that the ring holds when it is empty.
    pub(crate) fn capacity(&self) -> u64 {
        self.ring.bytes
    }

    /// Copies the parts, one after the other, or nothing: `false` when there is no room for all of them.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> bool {
        let total: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if total > self.room() {
            return false;
        }
        let mut written = self.ring.written.load(Ordering::Relaxed);
        for part in parts {
            let (before_wrap, after_wrap) = part.split_at(part.len().min(self.until_wrap(written)));
            self.copy_in(written, before_wrap);
            self.copy_in(written + before_wrap.len() as u64, after_wrap);
            written += part.len() as u64;
        }
        self.ring.written.store(written, Ordering::Release);
        true
    }

    fn until_wrap(&self, at: u64) -> usize {
        usize::try_from(self.ring.bytes - at % self.ring.bytes).unwrap_or(usize::MAX)
    }

    fn copy_in(&mut self, at: u64, bytes: &[u8]) {
        let offset = usize::try_from(at % self.ring.bytes).unwrap_or(0);
        assert!(offset as u64 + bytes.len() as u64 <= self.ring.bytes, "a copy stays inside the ring");
        // SAFETY: `offset + len` lies inside the mapping (asserted above). These bytes are at or past
        // `written`, and `push` checked that they end before `read + bytes`, so the consumer does not look at
        // them until `written` is stored with Release; `&mut self` on the only producer keeps other writers
        // out. The source is a borrowed slice, which can't lie in the ring: the ring hands out slices only
        // through the consumer, below `written`.
        #[expect(unsafe_code, reason = "copy into the producer's part of the ring")]
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.ring.start.add(offset), bytes.len());
        }
    }
}

/// The half that flushes. There is one, and looking needs it mutably, so that what it lends is given back
/// before it is consumed.
pub(crate) struct Consumer {
    ring: Arc<Ring>,
}

impl Consumer {
    /// The oldest `length` bytes, in two slices because they may wrap. `None`: fewer have been pushed.
    pub(crate) fn front(&mut self, length: u64) -> Option<(&[u8], &[u8])> {
        let read = self.ring.read.load(Ordering::Relaxed);
        if self.ring.written.load(Ordering::Acquire) - read < length {
            return None;
        }
        let first = length.min(self.ring.bytes - read % self.ring.bytes);
        Some((self.slice(read, first), self.slice(read + first, length - first)))
    }

    /// Gives the oldest `length` bytes back to the producer, at most what has been pushed.
    pub(crate) fn consume(&mut self, length: u64) {
        let read = self.ring.read.load(Ordering::Relaxed);
        let written = self.ring.written.load(Ordering::Acquire);
        self.ring.read.store(written.min(read + length), Ordering::Release);
    }

    fn slice(&self, at: u64, length: u64) -> &[u8] {
        let offset = usize::try_from(at % self.ring.bytes).unwrap_or(0);
        let length = usize::try_from(length).unwrap_or(0);
        assert!(offset as u64 + length as u64 <= self.ring.bytes, "a slice stays inside the ring");
        // SAFETY: the range lies inside the mapping (asserted above), which lives as long as the ring that
        // `self` holds. Its bytes lie in `read .. written`, loaded with Acquire, so they are initialised and
        // the producer leaves them alone until `consume`, which needs `&mut self` and hence the end of this
        // borrow.
        #[expect(unsafe_code, reason = "look at the consumer's part of the ring")]
        unsafe {
            std::slice::from_raw_parts(self.ring.start.add(offset), length)
        }
    }
}

/// A read-only map of a whole file. Its bytes are untrusted: every reader checks what it reads.
///
/// It outlives the file's deletion (the kernel keeps the data while it is mapped).
pub struct FileMap {
    map: Option<Mmap>,
}

impl FileMap {
    /// Maps a file as it is now.
    ///
    /// # Errors
    /// Whatever `fstat` or `mmap` answers.
    pub fn open(file: &std::fs::File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self { map: None }); // mmap refuses a length of 0
        }
        // SAFETY: the file is a segment in a directory that the journal's lock guards. No one shortens a
        // segment: it is created at its full length before it gets its name, and goes by being unlinked,
        // which leaves the mapping whole. While it is mapped, only the flusher writes to it, and only past
        // the durable position, which no reader looks beyond. Bytes that a faulty medium changes are caught
        // by CRC; nothing here relies on them being valid.
        #[expect(unsafe_code, reason = "map a file read-only")]
        let map = unsafe { Mmap::map(file)? };
        Ok(Self { map: Some(map) })
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_comes_out_across_the_wrap() {
        let (mut producer, mut consumer) = ring(4096).unwrap();
        let mut pushed = 0_u64;
        for round in 0..100_u8 {
            assert!(producer.push(&[&[round; 700], &[round ^ 0xff; 333]]));
            pushed += 1033;
            let (first, second) = consumer.front(1033).unwrap();
            let out = [first, second].concat();
            assert!(out[..700].iter().all(|byte| *byte == round));
            assert!(out[700..].iter().all(|byte| *byte == round ^ 0xff));
            consumer.consume(1033);
        }
        assert!(pushed > 20 * 4096);
    }

    #[test]
    fn a_full_ring_takes_nothing() {
        let (mut producer, mut consumer) = ring(4096).unwrap();
        assert!(producer.push(&[&[1; 4000]]));
        assert!(!producer.push(&[&[2; 97]]));
        assert!(producer.push(&[&[2; 96]]));
        assert_eq!(producer.room(), 0);
        assert!(consumer.front(4097).is_none());
        consumer.consume(9999);
        assert_eq!(producer.room(), producer.capacity());
    }

    #[test]
    fn two_threads_agree_on_every_byte() {
        let (mut producer, mut consumer) = ring(4096).unwrap();
        let writer = std::thread::spawn(move || {
            for number in 0..50_000_u64 {
                while !producer.push(&[&number.to_le_bytes()]) {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..50_000_u64 {
            let row = loop {
                if let Some((first, second)) = consumer.front(8) {
                    break [first, second].concat();
                }
                std::thread::yield_now();
            };
            assert_eq!(row, number.to_le_bytes());
            consumer.consume(8);
        }
        writer.join().unwrap();
    }
}
