//! The audit: each change that an administrator made or was refused, as a row of a chain.
//!
//! A row's hash covers the row and the hash of the one before it; the first one's hash covers what stands for
//! the rows that retention has deleted. So no row can be changed, taken out or put in without all behind it
//! being written anew, and the hash of the last one, which goes out as an event every hour, tells that apart.
//!
//! A change that is one operation of the writer has its row in the same transaction ([`Store::audited`]):
//! both are durable or neither is.

use std::cell::RefCell;

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::{Connection, Row, params};

use super::error::StoreError;
use super::meta;
use super::page::{Page, PageRequest};
use super::sql::Sql as _;
use super::{Database, Store};
use crate::wire::api::{AuditCheck, AuditRecord};
use crate::wire::bounded::clip;
use crate::wire::id::CertificateHash;
use crate::wire::time::WallTime;

/// Most rows that are kept: with the longest texts in each about half a gigabyte.
pub(super) const AUDIT_ROWS_MAX: u64 = 100_000;

/// Time for which rows are kept: two years.
const AUDIT_AGE_MILLISECONDS: u64 = 730 * 86_400 * 1_000;

/// Rows that one new row may push out: more than one, so that what is too old goes by itself.
const DELETED_PER_ROW: u64 = 8;

/// Longest text of a row; a longer one is cut there.
pub const AUDIT_TEXT_BYTES_MAX: usize = 2_048;

/// Outcome of a change that was made.
pub const AUDIT_DONE: &str = "done";

/// The last row's number and hash.
const HEAD: &str = "audit_head";
/// The same of the last row that was deleted.
const START: &str = "audit_start";

/// A row before it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditEntry {
    /// When it was asked.
    pub at: WallTime,
    /// The one who asked.
    pub actor: String,
    /// Their address, or `unix`.
    pub origin: String,
    /// Method and route.
    pub action: String,
    /// The path that was asked for.
    pub target: String,
    /// The thing before, as JSON; `None`: there was none, or it is nothing that can be shown.
    pub before: Option<String>,
    /// The request, as JSON.
    pub after: Option<String>,
}

/// A place in the chain: the number of a row, and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditPlace {
    /// Counts rows from 1; 0: before the first one.
    pub number: u64,
    /// Covers this row and all before it.
    pub hash: [u8; 32],
}

thread_local! {
    /// The row of the change that this thread is about to make.
    static PENDING: RefCell<Pending> = const { RefCell::new(Pending::Nothing) };
}

enum Pending {
    Nothing,
    /// For the next operation that this thread hands to the writer and waits for.
    Entry(Box<AuditEntry>),
    Written,
}

/// Takes out the row of the change that this thread makes.
pub(super) fn take_pending() -> Option<Box<AuditEntry>> {
    PENDING.with_borrow_mut(|pending| match std::mem::replace(pending, Pending::Nothing) {
        Pending::Entry(entry) => Some(entry),
        other => {
            *pending = other;
            None
        }
    })
}

/// The row was committed with its change.
pub(super) fn note_written() {
    PENDING.set(Pending::Written);
}

impl Store {
    /// The audit.
    #[must_use]
    pub fn audit(&self) -> Audit<'_> {
        Audit { database: self.database() }
    }

    /// Does some work on this thread, the first waiting operation of which is the change that `entry` is
    /// about: the row is part of its transaction. With whether the row was written: not when the change was
    /// refused, or when there was none.
    pub fn audited<T>(entry: AuditEntry, work: impl FnOnce() -> T) -> (T, bool) {
        PENDING.set(Pending::Entry(Box::new(entry)));
        let done = work();
        let is_written = matches!(PENDING.replace(Pending::Nothing), Pending::Written);
        (done, is_written)
    }
}

/// The chain of rows. Owns the table `audit`, and its two values in `meta`.
pub struct Audit<'s> {
    database: &'s Database,
}

impl Audit<'_> {
    /// Adds a row. Waits until it is durable.
    ///
    /// # Errors
    /// When it could not be stored.
    pub fn add(&self, entry: AuditEntry, outcome: String) -> Result<(), StoreError> {
        self.database.call(move |connection| append(connection, &entry, &outcome))
    }

    /// The end of the chain.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn head(&self) -> Result<AuditPlace, StoreError> {
        place(&*self.database.reader()?, HEAD)
    }

    /// Rows from `since` on, newest first.
    ///
    /// # Errors
    /// When the cursor is none, or the file cannot be read.
    pub fn list(&self, since: WallTime, page: &PageRequest) -> Result<Page<AuditRecord>, StoreError> {
        let before = page.after('u')?.map(|[number]| number.parse::<i64>()).transpose();
        let before = before.map_err(|_| page.bad_cursor())?;
        let sql = "SELECT number, at, actor, origin, action, target, before, after, outcome FROM audit
            WHERE (?1 IS NULL OR number < ?1) AND at >= ?2 ORDER BY number DESC LIMIT ?3";
        let reader = self.database.reader()?;
        let rows = reader.all(sql, params![before, since, page.limit()], from_row)?;
        Ok(page.page('u', rows, |row| [row.number.to_string()]))
    }

    /// Follows the chain from its start to its end.
    ///
    /// # Errors
    /// When the file cannot be read. A chain that is broken is no error: the answer says where.
    pub fn verify(&self) -> Result<AuditCheck, StoreError> {
        verify(&*self.database.reader()?)
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<AuditRecord> {
    // A row that was tampered with is shown as far as it can be: `verify` is there to say so.
    let text = |at: usize| -> rusqlite::Result<Option<String>> {
        let bytes = row.get_ref(at)?.as_bytes_or_null().unwrap_or_default();
        Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    };
    let json = |at: usize| -> rusqlite::Result<Option<serde_json::Value>> {
        Ok(text(at)?.map(|text| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))))
    };
    Ok(AuditRecord {
        number: row.get::<_, i64>(0)?.cast_unsigned(),
        at: row.get::<_, WallTime>(1)?.into(),
        actor: text(2)?.unwrap_or_default(),
        origin: text(3)?.unwrap_or_default(),
        action: text(4)?.unwrap_or_default(),
        target: text(5)?.unwrap_or_default(),
        before: json(6)?,
        after: json(7)?,
        outcome: text(8)?.unwrap_or_default(),
    })
}

fn place(connection: &Connection, key: &str) -> Result<AuditPlace, StoreError> {
    let Some(value) = meta::get(connection, key)? else { return Ok(AuditPlace::default()) };
    let damaged = || StoreError::Database(format!("meta '{key}' is damaged: 40 bytes expected"));
    let (number, hash) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
    let hash = hash.try_into().map_err(|_| damaged())?;
    Ok(AuditPlace { number: u64::from_be_bytes(*number), hash })
}

fn set_place(connection: &Connection, key: &str, place: &AuditPlace) -> Result<(), StoreError> {
    let mut value = place.number.to_be_bytes().to_vec();
    value.extend(place.hash);
    meta::set(connection, key, &value)
}

/// The hash of a row: of the one before it, of its numbers, and of each text with its length before it, so
/// that nothing can move from one text into the next.
fn hash_of(before: &[u8; 32], numbers: [i64; 2], texts: [Option<&[u8]>; 7]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(before);
    numbers.iter().for_each(|number| context.update(&number.to_be_bytes()));
    for text in texts {
        let length = text.map_or(u64::MAX, |text| text.len() as u64);
        context.update(&length.to_be_bytes());
        context.update(text.unwrap_or_default());
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn cut(text: &str) -> &str {
    clip(text, AUDIT_TEXT_BYTES_MAX)
}

/// Adds a row behind the last one, inside the caller's transaction.
pub(super) fn append(connection: &Connection, entry: &AuditEntry, outcome: &str) -> Result<(), StoreError> {
    let head = place(connection, HEAD)?;
    let number = head.number + 1;
    let at = i64::try_from(entry.at.0).unwrap_or(i64::MAX);
    let (before, after) = (entry.before.as_deref().map(cut), entry.after.as_deref().map(cut));
    let [actor, origin] = [&entry.actor, &entry.origin].map(|text| cut(text));
    let [action, target, outcome] = [&entry.action, &entry.target, outcome].map(cut);
    let texts = [Some(actor), Some(origin), Some(action), Some(target), before, after, Some(outcome)];
    let hash = hash_of(&head.hash, [number.cast_signed(), at], texts.map(|text| text.map(str::as_bytes)));
    let sql = "INSERT INTO audit (number, at, actor, origin, action, target, before, after, outcome, hash)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let values =
        params![number.cast_signed(), at, actor, origin, action, target, before, after, outcome, hash];
    connection.run(sql, values)?;
    set_place(connection, HEAD, &AuditPlace { number, hash })?;
    // By the clock that was right last: what goes is gone.
    let known = meta::wall_time(connection)?.unwrap_or(entry.at).min(entry.at);
    delete_old(connection, number, WallTime(known.0.saturating_sub(AUDIT_AGE_MILLISECONDS)))
}

/// Deletes rows beyond age and number, oldest first. The place where they ended is kept: the chain goes on
/// from there.
pub(super) fn delete_old(connection: &Connection, last: u64, oldest: WallTime) -> Result<(), StoreError> {
    let start = place(connection, START)?;
    let sql = "SELECT number, at, hash FROM audit WHERE number > ?1 AND number < ?2 ORDER BY number LIMIT ?3";
    let values = (start.number.cast_signed(), last.cast_signed(), DELETED_PER_ROW.cast_signed());
    let rows: Vec<(i64, WallTime, [u8; 32])> = connection.all(sql, values, |row| row.try_into())?;
    let goes = |number: u64, at: WallTime| at < oldest || number + AUDIT_ROWS_MAX <= last;
    let mut rows = rows.into_iter().map(|(number, at, hash)| (number.cast_unsigned(), at, hash));
    let mut end = None;
    while let Some((number, at, hash)) = rows.next()
        && goes(number, at)
    {
        end = Some(AuditPlace { number, hash });
    }
    let Some(end) = end else { return Ok(()) };
    connection.run("DELETE FROM audit WHERE number <= ?1", [end.number.cast_signed()])?;
    set_place(connection, START, &end)
}

fn verify(connection: &Connection) -> Result<AuditCheck, StoreError> {
    let unreadable = |_| StoreError::Database("the audit's table can't be read".to_owned());
    let (start, head) = (place(connection, START)?, place(connection, HEAD)?);
    let (mut reached, mut rows) = (start, 0);
    let mut fault = None;
    let sql = "SELECT number, at, actor, origin, action, target, before, after, outcome, hash FROM audit ORDER BY number";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let number = row.get_ref(0)?.as_i64().map_err(|_| unreadable(()))?;
        let expected = reached.number + 1;
        if number != expected.cast_signed() {
            fault = Some(format!("row {expected} is missing: row {number} follows"));
            break;
        }
        let texts: [Option<&[u8]>; 7] = std::array::from_fn(|at| {
            row.get_ref(at + 2).ok().and_then(|value| value.as_bytes_or_null().ok()).flatten()
        });
        let at = row.get_ref(1)?.as_i64().map_err(|_| unreadable(()))?;
        let hash = hash_of(&reached.hash, [number, at], texts);
        if row.get_ref(9)?.as_bytes().ok() != Some(&hash) {
            fault = Some(format!("row {number} is not as it was written, or the one before it is not"));
            break;
        }
        reached = AuditPlace { number: expected, hash };
        rows += 1;
    }
    if fault.is_none() && reached != head {
        fault = Some(format!(
            "the rows end with {}, the last that was written is {}",
            reached.number, head.number
        ));
    }
    let head_sha256 = CertificateHash(head.hash).to_string();
    Ok(AuditCheck { rows, first: start.number + 1, head: head.number, head_sha256, fault })
}
