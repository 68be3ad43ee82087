//! The spool: whether it can be read, what waits in it, and whether something in it is damaged.

use std::path::Path;

use super::line::{Line, Subject};
use crate::agent::local::protocol::Status;
use crate::agent::spool::SpoolError;
use crate::agent::spool::state::{StateFile, StateStore as _};
use crate::journal::{Item, Position, Reader};
use crate::wire::event::Severity;

/// As the running agent tells of it.
pub(super) fn of_agent(status: &Status) -> Line {
    let Some(spool) = &status.spool else {
        return Line::failed(
            Subject::Spool,
            "the running agent says nothing of its spool (are its version and this command's alike?)",
        );
    };
    let waiting = spool.severities.iter().map(|severity| severity.events).sum();
    let is_damage = |problem: &&String| problem.starts_with("spool of ");
    let damages: Vec<String> = status.problems.iter().filter(is_damage).cloned().collect();
    line(waiting, &damages)
}

/// As it is on the disk. Reads it through and changes nothing; the caller holds the directory's lock.
pub(super) fn of_directory(directory: &Path) -> Line {
    match read(directory) {
        Ok((waiting, damages)) => line(waiting, &damages),
        Err(why) => Line::failed(
            Subject::Spool,
            format!("{why} (look at the permissions of {} and at the disk)", directory.display()),
        ),
    }
}

fn read(directory: &Path) -> Result<(u64, Vec<String>), String> {
    let state = StateFile::new(directory).read().map_err(|error| SpoolError::from(error).to_string())?;
    let acked = state.map_or(0, |state| state.acked_through);
    let (mut waiting, mut damages) = (0, Vec::new());
    for severity in Severity::ALL {
        let directory = directory.join(severity.name());
        if !directory.exists() {
            // Nothing was ever emitted.
            continue;
        }
        let wrap = |error: &dyn std::fmt::Display| format!("the spool of {severity} events: {error}");
        let reader = Reader::open(&directory).map_err(|error| wrap(&error))?;
        let mut found = reader.damages();
        let mut records = reader.forward(Position(0));
        while let Some(item) = records.next().map_err(|error| wrap(&error))? {
            match item {
                Item::Record(view) => waiting += u64::from(view.record.sequence > acked),
                Item::Damage(damage) if found.contains(&damage) => {}
                Item::Damage(damage) => found.push(damage),
            }
        }
        damages.extend(found.iter().map(|damage| format!("spool of {severity} events: {damage}")));
    }
    Ok((waiting, damages))
}

fn line(waiting: u64, damages: &[String]) -> Line {
    let said = match waiting {
        0 => "readable, no event waits".to_owned(),
        1 => "readable, 1 event waits".to_owned(),
        _ => format!("readable, {waiting} events wait"),
    };
    if damages.is_empty() {
        return Line::ok(Subject::Spool, said);
    }
    let why = format!(
        "{said}, but events were lost to damage: {}; what is whole is still delivered, look at the disk",
        damages.join("; ")
    );
    Line::failed(Subject::Spool, why)
}

#[cfg(test)]
mod tests {
    use super::super::line::Verdict;
    use super::*;
    use crate::agent::settings::SpoolSettings;
    use crate::agent::spool::Spool;
    use crate::wire::id::Epoch;
    use crate::wire::time::WallTime;

    #[test]
    fn what_waits_is_counted_and_damage_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(of_directory(path), Line::ok(Subject::Spool, "readable, no event waits"));
        let mut spool =
            Spool::open_directory(path, &SpoolSettings::default(), Epoch(1), WallTime(1)).unwrap();
        for severity in [Severity::Info, Severity::Error, Severity::Info] {
            spool.append(severity, b"body", WallTime(2)).unwrap();
        }
        spool.flush().unwrap();
        spool.forget_through(1).unwrap();
        spool.close().unwrap();
        drop(spool);
        assert_eq!(of_directory(path), Line::ok(Subject::Spool, "readable, 2 events wait"));
        // A header that was overwritten: what was behind it is lost.
        let segment = std::fs::read_dir(path.join("info"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| std::fs::metadata(path).unwrap().len() > 4096)
            .min()
            .unwrap();
        let file = std::fs::File::options().write(true).open(segment).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], 0).unwrap();
        let line = of_directory(path);
        assert_eq!(line.verdict, Verdict::Failed, "{line}");
        std::fs::remove_dir_all(path.join("error")).unwrap();
        std::fs::write(path.join("error"), b"no directory").unwrap();
        assert_eq!(of_directory(path).verdict, Verdict::Failed);
    }

    #[test]
    fn a_running_agent_tells_of_its_own() {
        let status = Status { problems: vec!["spool of info events: damage".into()], ..Status::default() };
        assert_eq!(of_agent(&status).verdict, Verdict::Failed);
    }
}
