//! A small file that is replaced as a whole and survives being torn: two slots, `NAME.a` and `NAME.b`.
//!
//! A write goes to the slot that does not hold the newest valid content, so that the newest one stays
//! untouched until its successor is whole on the medium. Layout of a slot, integers big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | `muster\0\x01`: magic and version |
//! | 8..16 | generation, u64, rises with every write |
//! | 16..20 | length of the content, u32 |
//! | 20.. | content |
//! | then 32 | SHA-256 of everything before it |
//!
//! Bytes after that are left from an earlier, longer content and mean nothing. A reader takes the valid slot
//! of the higher generation.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use zeroize::Zeroizing;

use super::{checksummed, open};

const MAGIC: &[u8; 8] = b"muster\0\x01";
const HEADER_BYTES: usize = 20;

/// Largest content of a slot: the largest is an identity, whose certificates are bounded by the wire.
pub const SLOT_CONTENT_BYTES_MAX: usize = 64 * 1024;

/// Why slots could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// Both are there or one is, and none is valid.
    /// Names the path, without `.a` and `.b`.
    #[error("{path}.a and {path}.b are both damaged or missing a valid copy", path = .0.display())]
    Damaged(PathBuf),
    /// The system refused something of this file.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
    /// The content is larger than [`SLOT_CONTENT_BYTES_MAX`].
    #[error("{0} bytes do not fit into a slot of {SLOT_CONTENT_BYTES_MAX}")]
    TooLarge(usize),
}

impl SlotError {
    /// Whether it passes when there is room on the medium.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        let kind = if let Self::Io(_, error) = self { error.kind() } else { io::ErrorKind::Other };
        matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Two slots of one name.
#[derive(Debug, Clone)]
pub struct AbSlots {
    directory: PathBuf,
    name: &'static str,
}

/// Contents of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Counts the writes: of two valid slots the higher counts.
    pub generation: u64,
    /// The contents. Wiped when it is dropped: it may be a key.
    pub content: Zeroizing<Vec<u8>>,
}

impl AbSlots {
    /// The slots `name.a` and `name.b` in `directory`.
    #[must_use]
    pub fn new(directory: &Path, name: &'static str) -> Self {
        Self { directory: directory.to_owned(), name }
    }

    /// The newest valid content; `None` when nothing was ever written.
    ///
    /// # Errors
    /// When something was written and none of it is valid, or the system refuses.
    pub fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, SlotError> {
        let (a, b) = (self.load("a")?, self.load("b")?);
        if let (None, None) = (&a, &b) {
            return Ok(None);
        }
        let newest = newest([a.flatten(), b.flatten()]);
        newest
            .map(|(_, slot)| Some(slot.content))
            .ok_or_else(|| SlotError::Damaged(self.directory.join(self.name)))
    }

    /// Replaces the content. When this returns without an error the new content is on the medium; otherwise
    /// the old one still counts, or the new one does, never a mixture.
    ///
    /// # Errors
    /// When the content is too large or the system refuses.
    pub fn write(&self, content: &[u8]) -> Result<(), SlotError> {
        if content.len() > SLOT_CONTENT_BYTES_MAX {
            return Err(SlotError::TooLarge(content.len()));
        }
        let newest = newest([self.load("a")?.flatten(), self.load("b")?.flatten()]);
        let (index, generation) =
            newest.map_or((0, 1), |(index, slot)| (1 - index, slot.generation.saturating_add(1)));
        let path = self.path(["a", "b"][index]);
        let wrap = |source| SlotError::Io(path.clone(), source);
        let is_new = !path.exists();
        let bytes = Zeroizing::new(encode(generation, content));
        let file =
            File::options().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(wrap)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).map_err(wrap)?;
        file.sync_all().map_err(wrap)?;
        // The name of a file that was there is on the medium already.
        if is_new { sync_directory(&self.directory).map_err(wrap) } else { Ok(()) }
    }

    /// Removes what was written; durable when this returns. A crash on the way leaves what was there, or
    /// nothing.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(&self) -> Result<(), SlotError> {
        let newest = newest([self.load("a")?.flatten(), self.load("b")?.flatten()]);
        // The newest goes last: what it replaced must not come back.
        let order = if newest.is_some_and(|(index, _)| index == 0) { ["b", "a"] } else { ["a", "b"] };
        for slot in order {
            let path = self.path(slot);
            checksummed::remove(&path).map_err(|source| SlotError::Io(path, source))?;
        }
        Ok(())
    }

    fn path(&self, slot: &str) -> PathBuf {
        self.directory.join(format!("{}.{slot}", self.name))
    }

    /// `None`: no such file. `Some(None)`: not valid.
    fn load(&self, slot: &str) -> Result<Option<Option<Slot>>, SlotError> {
        let path = self.path(slot);
        let limit = (HEADER_BYTES + SLOT_CONTENT_BYTES_MAX + SHA256_OUTPUT_LEN) as u64;
        let bytes = open::if_there(open::beginning(&path, limit));
        let bytes = bytes.map_err(|source| SlotError::Io(path, source))?;
        Ok(bytes.map(|bytes| decode(&Zeroizing::new(bytes))))
    }
}

/// Makes a created, renamed or removed entry of a directory durable.
///
/// # Errors
/// When the system refuses.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    open::directory(directory)?.sync_all()
}

fn newest(slots: [Option<Slot>; 2]) -> Option<(usize, Slot)> {
    slots
        .into_iter()
        .enumerate()
        .filter_map(|(index, slot)| Some((index, slot?)))
        .max_by_key(|(_, slot)| slot.generation)
}

/// The bytes of a slot.
#[must_use]
pub fn encode(generation: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + content.len() + SHA256_OUTPUT_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&generation.to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(content);
    let check = digest(&SHA256, &bytes);
    bytes.extend_from_slice(check.as_ref());
    bytes
}

/// Decodes a slot; `None` when the bytes are torn, changed, or never were a slot.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Slot> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (generation, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let content = rest.get(..length)?;
    let check = rest.get(length..length + SHA256_OUTPUT_LEN)?;
    let valid = magic == MAGIC && digest(&SHA256, &bytes[..HEADER_BYTES + length]).as_ref() == check;
    valid.then(|| Slot {
        generation: u64::from_be_bytes(*generation),
        content: Zeroizing::new(content.to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slots() -> (tempfile::TempDir, AbSlots) {
        let directory = tempfile::tempdir().unwrap();
        let slots = AbSlots::new(directory.path(), "thing");
        (directory, slots)
    }

    #[test]
    fn nothing_was_written_and_then_the_last_write_counts() {
        let (_directory, slots) = slots();
        assert_eq!(slots.read().unwrap(), None);
        for content in [&b"one"[..], b"two, longer", b"", b"four"] {
            slots.write(content).unwrap();
            assert_eq!(slots.read().unwrap().as_ref().map(|content| &content[..]), Some(content));
        }
    }

    #[test]
    fn a_slot_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_directory, slots) = slots();
        slots.write(b"secret").unwrap();
        assert_eq!(std::fs::metadata(slots.path("a")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// A write that is torn at any byte, over what was there or over a file that ends there, leaves the
    /// content before it, or the new one when it was whole.
    #[test]
    fn a_torn_write_leaves_the_content_before_it() {
        let (_directory, slots) = slots();
        slots.write(b"the oldest content").unwrap();
        slots.write(b"the content before").unwrap();
        let old = std::fs::read(slots.path("a")).unwrap();
        let new = encode(3, b"the newest content of all");
        for cut in 0..=new.len() {
            let mut over = new[..cut].to_vec();
            over.extend_from_slice(old.get(cut..).unwrap_or_default());
            for torn in [&new[..cut], &over] {
                std::fs::write(slots.path("a"), torn).unwrap();
                let expected: &[u8] =
                    if cut == new.len() { b"the newest content of all" } else { b"the content before" };
                assert_eq!(
                    slots.read().unwrap().as_ref().map(|content| &content[..]),
                    Some(expected),
                    "cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn after_a_torn_write_the_next_one_goes_to_the_torn_slot() {
        let (_directory, slots) = slots();
        slots.write(b"one").unwrap();
        slots.write(b"two").unwrap();
        std::fs::write(slots.path("a"), b"torn").unwrap();
        slots.write(b"three").unwrap();
        assert_eq!(slots.read().unwrap().as_ref().map(|content| &content[..]), Some(&b"three"[..]));
        assert_eq!(slots.load("b").unwrap().flatten().unwrap().content[..], b"two"[..]);
    }

    #[test]
    fn what_is_removed_does_not_come_back() {
        let (_directory, slots) = slots();
        slots.remove().unwrap();
        for writes in 1..4 {
            for write in 0..writes {
                slots.write(&[write]).unwrap();
            }
            slots.remove().unwrap();
            assert_eq!(slots.read().unwrap(), None);
        }
        std::fs::write(slots.path("a"), b"torn").unwrap();
        slots.remove().unwrap();
        assert_eq!(slots.read().unwrap(), None);
    }

    #[test]
    fn both_damaged_is_an_error_and_not_nothing() {
        let (_directory, slots) = slots();
        slots.write(b"one").unwrap();
        slots.write(b"two").unwrap();
        for slot in ["a", "b"] {
            std::fs::write(slots.path(slot), b"x").unwrap();
        }
        assert!(matches!(slots.read(), Err(SlotError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_passes(content in prop::collection::vec(any::<u8>(), 0..80), at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = encode(7, &content);
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert_eq!(decode(&bytes), None);
        }

        #[test]
        fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = decode(&bytes);
            let mut bytes = bytes;
            bytes.splice(0..0, *MAGIC);
            let _ = decode(&bytes);
        }
    }
}
