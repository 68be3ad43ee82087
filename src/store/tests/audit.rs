//! The chain of the audit: what it holds, and that no change of it stays unseen.

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::store::audit::{AUDIT_ROWS_MAX, delete_old};
use crate::store::page::PageRequest;
use crate::store::testing::Fleet;
use crate::store::{AUDIT_TEXT_BYTES_MAX, AuditEntry, FILE_NAME, GroupChange, Store};
use crate::wire::time::WallTime;

const YEAR_MILLISECONDS: u64 = 365 * 86_400 * 1_000;

fn entry(at: u64, target: &str) -> AuditEntry {
    AuditEntry {
        at: WallTime(at),
        actor: "uid 0".into(),
        origin: "unix".into(),
        action: "POST /v1/groups".into(),
        target: target.into(),
        before: None,
        after: Some(format!(r#"{{"path":"{target}"}}"#)),
    }
}

fn numbers(store: &Store, since: u64) -> Vec<u64> {
    let page = PageRequest { limit: 1_000, cursor: None };
    let rows = store.audit().list(WallTime(since), &page).unwrap();
    rows.items.iter().map(|row| row.number).collect()
}

#[test]
fn a_change_and_its_row_are_one_transaction() {
    let fleet = Fleet::new(0);
    let store = &fleet.store;
    let change = |path: &'static str| {
        Store::audited(entry(1_000, path), || store.devices().set_group(path, GroupChange::default()))
    };
    let before = store.counters().commits.load(std::sync::atomic::Ordering::Relaxed);
    let (done, is_written) = change("/a");
    assert!(done.is_ok() && is_written);
    assert_eq!(store.counters().commits.load(std::sync::atomic::Ordering::Relaxed) - before, 1);
    // Refused before the store is asked, and by it.
    let (refused, is_written) = change("//");
    assert!(refused.is_err() && !is_written);
    let (refused, is_written) =
        Store::audited(entry(1_000, "/b"), || store.devices().move_group("/b", "/c", false));
    assert!(refused.is_err() && !is_written);
    // A later change on this thread is no part of it.
    store.devices().set_group("/d", GroupChange::default()).unwrap();
    assert_eq!(numbers(store, 0), [1]);
    assert_eq!(store.audit().verify().unwrap().fault, None);
}

#[test]
fn rows_are_listed_newest_first_page_by_page_and_their_texts_are_cut() {
    let fleet = Fleet::new(0);
    for at in 1..=5 {
        fleet.store.audit().add(entry(at * 1_000, "/a"), "done".into()).unwrap();
    }
    fleet.store.audit().add(entry(6_000, &"ä".repeat(5_000)), "done".into()).unwrap();
    let first = PageRequest { limit: 4, cursor: None };
    let page = fleet.store.audit().list(WallTime(2_000), &first).unwrap();
    assert_eq!(page.items.iter().map(|row| row.number).collect::<Vec<_>>(), [6, 5, 4, 3]);
    assert_eq!(page.items[0].target.len(), AUDIT_TEXT_BYTES_MAX);
    assert!(page.items[0].after.as_ref().unwrap().as_str().unwrap().starts_with("{\"path\""));
    assert_eq!(page.items[1].after.as_ref().unwrap()["path"], "/a");
    let next = PageRequest { limit: 4, cursor: page.next_cursor };
    let page = fleet.store.audit().list(WallTime(2_000), &next).unwrap();
    assert_eq!(page.items.iter().map(|row| row.number).collect::<Vec<_>>(), [2]);
    assert_eq!(fleet.store.audit().verify().unwrap().rows, 6);
}

#[test]
fn old_rows_go_and_the_chain_goes_on_from_where_they_ended() {
    let fleet = Fleet::new(0);
    let audit = fleet.store.audit();
    for at in [1, 2, 3] {
        audit.add(entry(at * YEAR_MILLISECONDS, "/a"), "done".into()).unwrap();
    }
    assert_eq!(numbers(&fleet.store, 0), [3, 2, 1], "at two years, to the day, it is still there");
    audit.add(entry(4 * YEAR_MILLISECONDS, "/a"), "done".into()).unwrap();
    assert_eq!(numbers(&fleet.store, 0), [4, 3, 2]);
    fleet.store.database().call(|c| delete_old(c, AUDIT_ROWS_MAX + 2, WallTime(0))).unwrap();
    assert_eq!(numbers(&fleet.store, 0), [4, 3]);
    let check = audit.verify().unwrap();
    assert_eq!((check.fault, check.rows, check.first, check.head), (None, 2, 3, 4));
    // A clock that is far ahead deletes nothing: what goes must be old by the time that is known.
    fleet.store.remember_wall_time(WallTime(4 * YEAR_MILLISECONDS));
    audit.add(entry(400 * YEAR_MILLISECONDS, "/a"), "done".into()).unwrap();
    assert_eq!(numbers(&fleet.store, 0), [5, 4, 3]);
}

/// Whether the chain of the file is found broken after this.
fn is_found(fleet: &Fleet, connection: &Connection, change: &str, values: &[&dyn rusqlite::ToSql]) -> bool {
    connection.execute_batch("BEGIN").unwrap();
    let changed = connection.execute(change, values).unwrap();
    assert_eq!(changed, 1, "{change}");
    connection.execute_batch("COMMIT").unwrap();
    fleet.store.audit().verify().unwrap().fault.is_some()
}

#[test]
fn no_changed_byte_of_any_row_stays_unseen() {
    let fleet = Fleet::new(0);
    let mut with_before = entry(2_000, "/b");
    with_before.before = Some("{}".into());
    for entry in [entry(1_000, "/a"), with_before, entry(3_000, "/c")] {
        fleet.store.audit().add(entry, "done".into()).unwrap();
    }
    let other = Connection::open(fleet.directory.path().join(FILE_NAME)).unwrap();
    other.execute_batch("PRAGMA synchronous = OFF").unwrap();
    let columns =
        ["number", "at", "actor", "origin", "action", "target", "before", "after", "outcome", "hash"];
    let mut flipped = 0;
    for row in 1..=3i64 {
        for column in columns {
            let sql = format!("SELECT {column} FROM audit WHERE number = ?1");
            let whole: Value = other.query_row(&sql, [row], |row| row.get(0)).unwrap();
            let changed: Vec<Value> = match &whole {
                Value::Integer(number) => {
                    // Bits that make it another row's number are refused by the table itself.
                    (2..63).map(|bit| Value::Integer(number ^ (1 << bit))).collect()
                }
                Value::Text(text) => (0..text.len())
                    .map(|at| {
                        let mut bytes = text.clone().into_bytes();
                        bytes[at] ^= 1;
                        Value::Text(String::from_utf8(bytes).unwrap())
                    })
                    .chain([Value::Text(String::new())])
                    .collect(),
                Value::Blob(blob) => (0..blob.len())
                    .map(|at| {
                        let mut bytes = blob.clone();
                        bytes[at] ^= 1;
                        Value::Blob(bytes)
                    })
                    .collect(),
                _ => vec![Value::Text(String::new())],
            };
            for value in changed {
                let set = |to: &Value, at: &Value| {
                    let sql = format!("UPDATE audit SET {column} = ?1 WHERE number = ?2");
                    is_found(&fleet, &other, &sql, &[to, at])
                };
                let at = Value::Integer(row);
                assert!(set(&value, &at), "row {row}, {column}: {value:?}");
                let moved = if column == "number" { &value } else { &at };
                assert!(!set(&whole, moved), "row {row}, {column} as it was");
                flipped += 1;
            }
        }
    }
    assert!(flipped > 300, "{flipped}");
    // A row that is missing: the first, one between, the last.
    for row in [1i64, 2, 3] {
        let backup = "CREATE TABLE aside AS SELECT * FROM audit";
        other.execute_batch(backup).unwrap();
        assert!(is_found(&fleet, &other, "DELETE FROM audit WHERE number = ?1", &[&row]), "{row} is missing");
        other
            .execute_batch("DELETE FROM audit; INSERT INTO audit SELECT * FROM aside; DROP TABLE aside")
            .unwrap();
    }
    assert_eq!(fleet.store.audit().verify().unwrap().fault, None);
}
