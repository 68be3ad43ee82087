//! Processes that hold locks on a file, as Linux tells them: an error that names one spares an administrator
//! the search.
#![forbid(unsafe_code)]

use std::fs::Metadata;
use std::ops::RangeInclusive;

/// Longest table of locks that is read: a machine with more of them names nobody.
const TABLE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Kind of a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Of a whole file, by flock(2).
    Whole,
    /// Of a range of bytes, by fcntl(2).
    Range,
}

/// Processes that hold a lock of this kind which touches `bytes` of the file, from `/proc/locks`
/// (proc_locks(5)), in the order of the table. Empty where the system does not tell: other systems than
/// Linux, other PID namespaces, some file systems.
#[must_use]
pub fn holders(file: &Metadata, kind: Kind, bytes: &RangeInclusive<u64>) -> Vec<u32> {
    let Ok(table) = std::fs::read_to_string("/proc/locks") else { return Vec::new() };
    if table.len() > TABLE_BYTES_MAX {
        return Vec::new();
    }
    let id = id(file);
    let mut found = Vec::new();
    for process in table.lines().filter_map(|line| holder(line, kind, &id, bytes)) {
        if !found.contains(&process) {
            found.push(process);
        }
    }
    found
}

/// The file, as the table names it.
#[cfg(target_os = "linux")]
fn id(file: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let device = file.dev();
    format!("{:02x}:{:02x}:{}", rustix::fs::major(device), rustix::fs::minor(device), file.ino())
}

/// Elsewhere there is no table.
#[cfg(not(target_os = "linux"))]
fn id(_: &Metadata) -> String {
    String::new()
}

/// A process, and what it is called: `process 4711 (sqlite3)`.
#[must_use]
pub fn process_name(process: u32) -> String {
    match std::fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(name) => format!("process {process} ({})", name.trim_end()),
        Err(_) => format!("process {process}"),
    }
}

/// `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`; one that waits has `->` for its kind.
fn holder(line: &str, kind: Kind, id: &str, bytes: &RangeInclusive<u64>) -> Option<u32> {
    let wanted = match kind {
        Kind::Whole => "FLOCK",
        Kind::Range => "POSIX",
    };
    let mut words = line.split_whitespace().skip(1);
    if words.next()? != wanted {
        return None;
    }
    let process = words.nth(2)?.parse().ok().filter(|process| *process != 0)?;
    if words.next()? != id {
        return None;
    }
    let from: u64 = words.next()?.parse().ok()?;
    let to = words.next()?.parse().unwrap_or(u64::MAX);
    (from <= *bytes.end() && to >= *bytes.start()).then_some(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_as_linux_writes_it() {
        let line = "7: POSIX  ADVISORY  READ 4711 08:01:1234 123 124";
        let of = |line, kind, bytes| holder(line, kind, "08:01:1234", &bytes);
        assert_eq!(of(line, Kind::Range, 124..=127), Some(4711));
        assert_eq!(of(line, Kind::Range, 125..=127), None);
        assert_eq!(of(line, Kind::Whole, 124..=127), None);
        assert_eq!(of("7: -> POSIX  ADVISORY  READ 4711 08:01:1234 123 124", Kind::Range, 124..=127), None);
        let whole = "12: FLOCK  ADVISORY  WRITE 9 08:01:1234 0 EOF";
        assert_eq!(of(whole, Kind::Whole, 0..=u64::MAX), Some(9));
        assert_eq!(
            of("12: FLOCK  ADVISORY  WRITE 0 08:01:1234 0 EOF", Kind::Whole, 0..=1),
            None,
            "elsewhere"
        );
        assert_eq!(of("12: FLOCK  ADVISORY  WRITE 9 08:01:1235 0 EOF", Kind::Whole, 0..=1), None);
        assert_eq!(of("", Kind::Whole, 0..=1), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_holder_of_a_lock_is_found() {
        let file = tempfile::tempfile().unwrap();
        let of_file = file.metadata().unwrap();
        assert!(holders(&of_file, Kind::Whole, &(0..=u64::MAX)).is_empty());
        file.try_lock().unwrap();
        let found = holders(&of_file, Kind::Whole, &(0..=u64::MAX));
        // Some file systems tell another device than stat(2) does.
        assert!(found == [std::process::id()] || found.is_empty(), "{found:?}");
        assert!(process_name(std::process::id()).contains('('));
    }
}
