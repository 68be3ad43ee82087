//! A collection, piece by piece. A piece is a thread with a deadline: what hangs (a file system that does not
//! answer, say) is told and left behind, the other pieces go on, and it is not begun again before it has come
//! back.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::agent::application::adapter::SETTINGS_SECONDS_MAX;
use crate::agent::application::task_kind::own_kinds;
use crate::agent::application::{Definition, Definitions, Observed, Probe, StatisticsSource, check};
use crate::agent::collect::{host, inventory};
use crate::agent::managed::work::{look, work};
use crate::agent::managed::{Outcome, Work, declare, statistics};
use crate::agent::settings::Settings;
use crate::wire::section::{Condition, HostFacts};
use crate::wire::statistics::Statistic;

/// Stack of a thread that does slow work: the resolver of the C library wants some.
pub(super) const STACK_BYTES: usize = 256 * 1024;

/// Time of a piece that reads files, beside the time that its commands are given.
const FILES_TIMEOUT: Duration = Duration::from_secs(20);

/// Time of reading the package databases: rpm alone is given a minute.
const INVENTORY_TIMEOUT: Duration = Duration::from_secs(180);

/// Time of putting settings in place, beside the time that its commands are given: files are written to
/// disks.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(60);

/// Most time of a rollback command.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(SETTINGS_SECONDS_MAX);

/// Result of a collection.
pub(super) struct Collected {
    /// State of the databases before they were read.
    pub(super) fingerprint: inventory::Fingerprint,
    /// `None`: the databases are as they were.
    pub(super) inventory: Option<inventory::Collected>,
    /// `None`: it did not come back.
    pub(super) host: Option<HostFacts>,
    /// `None`: the definitions did not come back.
    pub(super) observed: Option<Vec<(Definition, Observed)>>,
    /// The numbers of the device, and those of the applications.
    pub(super) own_statistics: Vec<Statistic>,
    pub(super) statistics: Vec<Statistic>,
    /// Faults of the definitions, and pieces that hang.
    pub(super) problems: Vec<String>,
}

/// The pieces of work that have not come back.
#[derive(Clone, Default)]
pub(super) struct Pieces(Arc<Mutex<BTreeSet<String>>>);

impl Pieces {
    /// Does a piece of work in a thread of its own and waits for it, for `timeout` at most.
    ///
    /// # Errors
    /// When it takes longer, or has not come back since an earlier time: says so, with its name.
    pub(super) fn run<T: Send + 'static>(
        &self,
        name: &str,
        timeout: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        if !self.lock().insert(name.to_owned()) {
            return Err(format!("{name} still hangs: it is not begun again before it has come back"));
        }
        let (sender, receiver) = sync_channel(1);
        let (pieces, own_name) = (self.clone(), name.to_owned());
        let builder = std::thread::Builder::new().name("piece".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            pieces.lock().remove(&own_name);
            // When nobody waits any more it is of no use.
            let _ = sender.send(result);
        });
        if let Err(error) = thread {
            self.lock().remove(name);
            return Err(format!("{name}: no thread for it: {error}"));
        }
        match receiver.recv_timeout(timeout) {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(format!(
                "{name} has not come back within {} s, and the rest goes on without it",
                timeout.as_secs()
            )),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        // A set of names is whole whatever happened.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Collects everything. Takes as long as commands may, and no longer.
pub(super) fn collect(
    settings: &Settings,
    data: &Path,
    known: Option<&inventory::Fingerprint>,
    pieces: &Pieces,
) -> Collected {
    let mut problems = Vec::new();
    let (of, before) = (settings.collect.clone(), known.cloned());
    let embedded = settings.embedded.clone().unwrap_or_default();
    let databases = pieces.run("reading the package databases", INVENTORY_TIMEOUT, move || {
        let fingerprint = inventory::fingerprint(&of);
        let inventory = (before.as_ref() != Some(&fingerprint)).then(|| inventory::collect(&of, &embedded));
        (fingerprint, inventory)
    });
    let (fingerprint, inventory) = databases.unwrap_or_else(|problem| {
        (Vec::new(), Some(inventory::Collected { problems: vec![problem], ..Default::default() }))
    });
    let of = settings.clone();
    let definitions =
        pieces.run("reading the applications' files", FILES_TIMEOUT, move || Definitions::of(&of));
    let definitions = definitions.map_err(|problem| problems.push(problem)).ok();
    let (root, data) = (settings.collect.root.clone(), data.to_owned());
    let of_host = pieces.run("reading the host's facts", FILES_TIMEOUT, move || {
        (host::collect(&root), statistics::own(&data, &root))
    });
    let (host, own_statistics) = of_host.map_err(|problem| problems.push(problem)).ok().unzip();
    let declared = definitions.as_ref().map(|definitions| {
        let (declarations, left_out) = declare::declarations(&definitions.applications, &own_kinds(settings));
        problems.extend(definitions.problems.iter().cloned().chain(left_out));
        declarations
    });
    let host =
        host.zip(declared).map(|(host, declarations): (HostFacts, _)| HostFacts { declarations, ..host });
    let mut statistics = Vec::new();
    let observed = definitions.map(|definitions| {
        let look_at = |definition: Definition| {
            let (observed, numbers) = look_at_one(&definition, pieces);
            statistics.extend(numbers.unwrap_or_else(|problem| {
                problems.push(problem);
                Vec::new()
            }));
            (definition, observed)
        };
        definitions.applications.into_iter().map(look_at).collect()
    });
    Collected {
        fingerprint,
        inventory,
        host,
        observed,
        own_statistics: own_statistics.unwrap_or_default(),
        statistics,
        problems,
    }
}

/// Works on settings: an application whose files hang holds up no other's.
pub(super) fn manage(job: Work, pieces: &Pieces) -> Outcome {
    let piece = |application: &str| format!("the settings of '{application}'");
    match job {
        Work::Look(files) => {
            let each = files.into_iter().map(|(application, path)| {
                let found = pieces.run(&piece(&application), FILES_TIMEOUT, move || look(&path));
                (application, found.flatten())
            });
            Outcome::Looked(each.collect())
        }
        Work::Apply(apply) => {
            let (name, again) = (piece(&apply.application), apply.clone());
            let timeout = apply.timeout() + SETTINGS_TIMEOUT;
            pieces
                .run(&name, timeout, || work(Work::Apply(apply)))
                .unwrap_or_else(|problem| Outcome::Applied(again, Err(problem.into())))
        }
        Work::Recover(journal) => {
            let (name, again) = (format!("undoing {}", journal.display()), journal.clone());
            pieces
                .run(&name, ROLLBACK_TIMEOUT + SETTINGS_TIMEOUT, || work(Work::Recover(journal)))
                .unwrap_or_else(|problem| Outcome::Recovered(again, Err(problem)))
        }
    }
}

/// One application: its condition, and its numbers or why there are none.
fn look_at_one(definition: &Definition, pieces: &Pieces) -> (Observed, Result<Vec<Statistic>, String>) {
    let own = definition.clone();
    let name = format!("looking at '{}'", definition.name);
    let seen = pieces.run(&name, timeout_of(definition), move || (check(&own), statistics::ask(&own)));
    match seen {
        Ok(seen) => seen,
        Err(problem) => (Observed::new(Condition::Unknown, problem.clone()), Err(problem)),
    }
}

/// As long as the application's commands may take, and its files.
fn timeout_of(definition: &Definition) -> Duration {
    let probe = match &definition.probe {
        Probe::Command(program) => Some(program),
        Probe::SystemdUnit(_) | Probe::PidFile(_) | Probe::Embedded(_) => None,
    };
    let numbers = match &definition.statistics {
        Some(StatisticsSource::Command(program)) => Some(program),
        Some(StatisticsSource::File(_) | StatisticsSource::Embedded(_)) | None => None,
    };
    let programs = [probe, definition.version.as_ref(), numbers].into_iter().flatten();
    programs.map(|program| program.timeout).sum::<Duration>() + FILES_TIMEOUT
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_hangs_is_told_and_not_begun_again_before_it_has_come_back() {
        let pieces = Pieces::default();
        let (release, held) = channel::<()>();
        let job = move || held.recv().is_ok();
        let error = pieces.run("a look", Duration::from_millis(20), job).unwrap_err();
        assert!(error.starts_with("a look has not come back within 0 s"), "{error}");
        let again = pieces.run("a look", Duration::from_secs(60), || panic!("begun twice"));
        assert!(again.unwrap_err().contains("still hangs"));
        assert_eq!(pieces.run("another", Duration::from_secs(60), || 7), Ok(7), "the others go on");
        release.send(()).unwrap();
        let begun = std::time::Instant::now();
        while pieces.run("a look", Duration::from_secs(60), || 8) != Ok(8) {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_panic_of_a_piece_is_one_of_the_collection() {
        let pieces = Pieces::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = pieces.run("a look", Duration::from_secs(60), || panic!("of the test"));
        }));
        assert!(panicked.is_err());
    }
}
