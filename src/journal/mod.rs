//! Layer 3: the event log of the server and the spool of the agent.
//!
//! [`Journal::append`] copies a record into memory and returns at once; the [`Flusher`] writes all that waits
//! with one durable write and publishes how far it got; only then may anything be acknowledged. The
//! [`Preallocator`] makes segments one ahead, so that a full disk is a state (no room, until there is), never
//! a fault in the middle of an append. [`Reader`]s follow by position. A failed write ends the journal:
//! nothing is retried, the process restarts and reads what is there.
//!
//! The bytes are described in [`layout`], and only there.
//!
//! | file | what it does |
//! |---|---|
//! | [`layout`] | bytes to values and back |
//! | `scan` | walks through a segment; finds where its records end |
//! | `recovery`, `rescue` | the opening: what counts, what was torn, what is damaged, what is found again |
//! | `core`, `tail` | the state of an open journal; the append cursor, under the one mutex |
//! | `tail_writer`, `leader` | one durable write of all that waits; who does it |
//! | `preallocator`, `threads` | segments ahead, retention; the threads for both |
//! | `archive`, `archiver` | records that outlive their segments, in a second journal |
//! | `check` | full segments, looked through again while the journal runs |
//! | `catalog`, `reader`, `verify`, `status` | what can be asked, read and copied |
//! | `storage`, `files`, `direct`, `zeros` | the real disk behind a small interface |
//! | [`sim`] | a disk that forgets, lies and fills up, for tests |
//! | `region` | mapped memory: the journal's one file with `unsafe` |

mod age;
mod archive;
mod archiver;
mod catalog;
mod check;
mod core;
mod direct;
mod files;
mod handle;
pub mod layout;
mod leader;
mod preallocator;
mod reader;
mod recovery;
mod region;
mod rescue;
mod scan;
#[cfg(any(test, feature = "internals"))]
pub mod sim;
mod status;
mod storage;
mod tail;
mod tail_writer;
mod threads;
mod verify;
mod zeros;

pub use self::core::{OpenError, Options, Retention};
pub use crate::machine::commit_delay::Flushed;
pub use archive::{Archive, ArchiveBackward, ArchiveStats, original};
pub use archiver::{ArchiveError, ArchiveOptions, ArchiveTrouble, Archiver};
pub use catalog::{Damage, SegmentInfo, SegmentState};
pub use direct::PAGE_BYTES;
pub use files::{DirectoryError, FileStorage};
pub use handle::{Journal, Opened, Recovery};
pub use layout::{HEADER_BLOCK_BYTES, Position, Record, RecordView, SegmentHeader, Summary};
pub use leader::Flusher;
pub use preallocator::{Preallocated, Preallocator};
pub use reader::{Backward, Forward, Item, ReadError, Reader};
pub use recovery::RecoveryError;
pub use region::FileMap;
pub use status::{Notice, State, Stats, WithoutRoom};
pub use storage::{SegmentFile, Storage};
pub use tail::{AppendError, NoRoom};
pub use tail_writer::FlushError;
pub use threads::Threads;
pub use verify::{Image, ImageReport, Report, verify, verify_image, verify_reader};
