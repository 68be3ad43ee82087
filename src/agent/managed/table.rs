//! Ordered settings, their states, and the next piece of work.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use super::journal::Undone;
use super::stored_settings::{self, StoredState};
use super::work::{Apply, Outcome, Work};
use crate::agent::application::check::AGENT_NAME;
use crate::agent::application::{Definition, SettingsAdapter};
use crate::agent::{checksummed, open};
use crate::wire::bounded::clip;
use crate::wire::digest::Digest;
use crate::wire::event::{Event, Severity};
use crate::wire::limits::{CONDITIONS_MAX, TEXT_BYTES_MAX};
use crate::wire::settings::{Drift, SettingsOrder, SettingsReport, SettingsState};
use crate::wire::time::WallTime;

/// Times that a file that somebody else changed is put right within [`REPAIRS_MILLISECONDS`].
pub(super) const REPAIRS_MAX: usize = 3;

/// See [`REPAIRS_MAX`]: two programs that both insist on a file must not keep a device busy.
pub(super) const REPAIRS_MILLISECONDS: u64 = 3_600_000;

/// Times in a row that an apply may be interrupted by the agent's end before it is given up: one that ends
/// the agent by itself must not do so forever.
pub(super) const INTERRUPTIONS_MAX: u32 = 3;

/// Message when a file was changed before an apply was done or undone.
const CHANGED_MEANWHILE: &str =
    "the settings file was changed by somebody else while settings were being put in place";

/// One application's order, and how far it is.
#[derive(Debug)]
struct Entry {
    order: SettingsOrder,
    /// As the disk has it.
    kept: StoredState,
    /// When it was put right, lately.
    repairs: VecDeque<WallTime>,
    /// Since the agent's start the settings have been put in place. A program that was just started has none
    /// of them, but for those in files.
    is_handed_over: bool,
}

/// An application's settings, by the device's files.
#[derive(Debug)]
enum Place {
    Here(SettingsAdapter),
    /// It is defined, and takes none.
    Nowhere,
    Undefined,
}

/// All ordered settings of a device. Decides; touches no settings file by itself.
#[derive(Debug)]
pub struct Managed {
    directory: PathBuf,
    entries: BTreeMap<String, Entry>,
    /// The definitions; `None`: not known yet.
    definitions: Option<BTreeMap<String, Option<SettingsAdapter>>>,
    /// Applies that the agent's last end interrupted.
    journals: Vec<PathBuf>,
    is_busy: bool,
    is_look_wanted: bool,
    events: Vec<Event>,
}

impl Managed {
    /// Opens the settings that are kept in `directory`, made when it is not there. Settings that had failed
    /// are tried once more.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(directory: &Path, now: WallTime) -> io::Result<Self> {
        stored_settings::make(directory)?;
        let mut managed = Self {
            directory: directory.to_owned(),
            entries: BTreeMap::new(),
            definitions: None,
            journals: open::list(directory, "journal")?,
            is_busy: false,
            is_look_wanted: false,
            events: Vec::new(),
        };
        for order in stored_settings::ordered(directory)? {
            let application = order.application.clone();
            let mut entry = Entry::new(order, now);
            if let Ok(Some(stored)) = stored_settings::read(&managed.path(&application, "state")) {
                entry.take_up(stored);
            }
            if managed.journals.contains(&managed.path(&application, "journal")) {
                entry.kept.interrupted += 1;
                entry.kept.state = SettingsState::Pending;
            }
            managed.entries.insert(application.clone(), entry);
            managed.keep_state(&application);
        }
        Ok(managed)
    }

    /// The sum of the digests of the settings that are stored.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.entries.values().fold(Digest::EMPTY, |sum, entry| sum.with(entry.kept.order))
    }

    /// Keeps an order; durable when this returns. The same settings again are not put in place again.
    ///
    /// # Errors
    /// When the system refuses, or there are too many: the order is not kept then, and the server will order
    /// it again.
    pub fn take(&mut self, order: &SettingsOrder, now: WallTime) -> io::Result<()> {
        let application = &order.application;
        if order.settings.is_none() {
            checksummed::remove(&self.path(application, "order"))?;
            checksummed::remove(&self.path(application, "state"))?;
            self.entries.remove(application);
            return Ok(());
        }
        let known = self.entries.get(application);
        if known.is_none() && self.entries.len() >= CONDITIONS_MAX {
            return Err(io::Error::other(format!(
                "settings of {CONDITIONS_MAX} applications are kept already"
            )));
        }
        let is_same = known.is_some_and(|entry| entry.kept.order == order.digest());
        checksummed::write(&self.path(application, "order"), order)?;
        match self.entries.get_mut(application) {
            Some(entry) if is_same => {
                entry.order.revision = order.revision;
                if entry.is_in_place() {
                    entry.kept.applied_revision = order.revision;
                }
            }
            Some(entry) => {
                entry.order = order.clone();
                entry.kept.order = order.digest();
                entry.kept.interrupted = 0;
                entry.repairs.clear();
                entry.set(SettingsState::Pending, "", now);
                entry.kept.since = now;
            }
            None => {
                self.entries.insert(application.clone(), Entry::new(order.clone(), now));
            }
        }
        self.keep_state(application);
        Ok(())
    }

    /// The device's files say this now. Settings that failed under another definition are tried again, and so
    /// are those that were put elsewhere.
    pub fn defined(&mut self, definitions: &[Definition], now: WallTime) {
        let places = definitions.iter().map(|known| (known.name.clone(), known.settings.clone()));
        self.definitions = Some(places.collect());
        self.is_look_wanted = true;
        for application in self.applications() {
            let place = self.place(&application);
            let fingerprint = place.fingerprint();
            let Some(entry) = self.entries.get_mut(&application) else { continue };
            if let Some(reason) = place.lack() {
                entry.kept.definition = fingerprint;
                self.fail(&application, reason, now);
            } else if entry.kept.definition != fingerprint {
                entry.kept.definition = fingerprint;
                entry.set(SettingsState::Pending, "", now);
                self.keep_state(&application);
            }
        }
    }

    /// Returns the next piece of work, one at a time: [`Self::done`] must be told its outcome.
    pub fn next_work(&mut self, now: WallTime) -> Option<Work> {
        if self.is_busy {
            return None;
        }
        let work = match self.journals.pop() {
            Some(journal) => Some(Work::Recover(journal)),
            None => self.next_apply(now).or_else(|| self.next_look()),
        };
        self.is_busy = work.is_some();
        work
    }

    /// Work that [`Self::next_work`] returned could not be begun: it comes again with the next look at the
    /// definitions.
    pub fn put_off(&mut self, work: Work) {
        self.is_busy = false;
        match work {
            Work::Recover(journal) => self.journals.push(journal),
            Work::Look(_) => self.is_look_wanted = true,
            // It is pending still.
            Work::Apply(_) => {}
        }
    }

    fn next_apply(&mut self, now: WallTime) -> Option<Work> {
        self.definitions.as_ref()?;
        for application in self.applications() {
            let (place, journal) = (self.place(&application), self.path(&application, "journal"));
            let Some(entry) = self.entries.get_mut(&application) else { continue };
            let is_new_program = matches!(&place, Place::Here(SettingsAdapter::Embedded(_)))
                && entry.is_in_place()
                && !entry.is_handed_over;
            if entry.kept.state != SettingsState::Pending && !is_new_program {
                continue;
            }
            // It may have been ordered after the definitions were read.
            entry.kept.definition = place.fingerprint();
            let Place::Here(adapter) = place else {
                let reason = place.lack().unwrap_or_default();
                self.fail(&application, reason, now);
                continue;
            };
            if entry.kept.interrupted >= INTERRUPTIONS_MAX {
                entry.kept.interrupted = 0;
                let reason = format!(
                    "the agent ended {INTERRUPTIONS_MAX} times while they were put in place; the old ones are in place again"
                );
                self.fail(&application, &reason, now);
                continue;
            }
            return Some(Work::Apply(Box::new(Apply {
                application,
                order: entry.kept.order,
                revision: entry.order.revision,
                definition: entry.kept.definition,
                settings: entry.order.settings.clone().unwrap_or_default(),
                adapter,
                journal,
            })));
        }
        None
    }

    fn next_look(&mut self) -> Option<Work> {
        if !std::mem::take(&mut self.is_look_wanted) {
            return None;
        }
        let files: Vec<(String, PathBuf)> = self
            .applications()
            .into_iter()
            .filter(|application| self.entries.get(application).is_some_and(Entry::is_in_place))
            .filter_map(|application| match self.place(&application) {
                Place::Here(adapter) => match adapter {
                    SettingsAdapter::File(place) => Some((application, place.file)),
                    SettingsAdapter::Embedded(_) => None,
                },
                Place::Nowhere | Place::Undefined => None,
            })
            .collect();
        (!files.is_empty()).then_some(Work::Look(files))
    }

    /// Work is over.
    pub fn done(&mut self, outcome: Outcome, now: WallTime) {
        self.is_busy = false;
        match outcome {
            Outcome::Recovered(journal, result) => {
                let mut applications = self.applications().into_iter();
                let found = applications.find(|name| self.path(name, "journal") == journal);
                match (result, found) {
                    (Ok(Undone::Restored), _) => {}
                    (Ok(Undone::LeftAlone), None) => log::warn!("{}: {CHANGED_MEANWHILE}", journal.display()),
                    (Ok(Undone::LeftAlone), Some(application)) => {
                        self.drifted(&application, CHANGED_MEANWHILE, now);
                    }
                    (Err(reason), found) => {
                        log::error!("{}: {reason}", journal.display());
                        // After the old file is back, the order is tried again all the same.
                        if let Some(application) = found.filter(|_| journal.exists()) {
                            self.fail(&application, &reason, now);
                        }
                    }
                }
            }
            Outcome::Applied(job, result) => {
                let Some(entry) = self.entries.get_mut(&job.application) else { return };
                if let Ok(placed) = &result {
                    entry.kept.placed = Some(placed.digest);
                    entry.kept.applied_revision = job.revision;
                }
                // Also when they were refused: that is told, and not asked again and again.
                entry.is_handed_over = true;
                let is_current = entry.kept.order == job.order
                    && entry.kept.definition == job.definition
                    && (entry.kept.state == SettingsState::Pending || result.is_err());
                if let Err(failure) = &result
                    && failure.is_changed
                {
                    let what = CHANGED_MEANWHILE.to_owned();
                    self.event(&job.application, Severity::Warning, "settings_drift", what, now);
                }
                if is_current {
                    let result = result.map(|placed| placed.note).map_err(|failure| failure.reason);
                    self.settle(&job.application, result, now);
                } else {
                    self.keep_state(&job.application);
                }
            }
            Outcome::Looked(files) => {
                for (application, found) in files {
                    self.looked(&application, found, now);
                }
            }
        }
    }

    /// The order for an application has been put in place, or could not be. With the place goes what people
    /// should know of it; may be empty.
    pub fn settle(&mut self, application: &str, result: Result<String, String>, now: WallTime) {
        match result {
            Ok(note) => self.applied(application, &note, now),
            Err(reason) => self.fail(application, &reason, now),
        }
    }

    fn applied(&mut self, application: &str, note: &str, now: WallTime) {
        let Some(entry) = self.entries.get_mut(application) else { return };
        entry.kept.interrupted = 0;
        entry.kept.applied_revision = entry.order.revision;
        entry.set(SettingsState::Applied, note, now);
        let mut message = format!("settings of revision {} are in place", entry.order.revision);
        if !note.is_empty() {
            message = format!("{message}; {note}");
        }
        self.keep_state(application);
        self.event(application, Severity::Info, "settings_applied", message, now);
    }

    /// Settings of the agent itself that were ordered and wait.
    #[must_use]
    pub fn own_pending(&self) -> Option<&str> {
        let entry =
            self.entries.get(AGENT_NAME).filter(|entry| entry.kept.state == SettingsState::Pending)?;
        entry.order.settings.as_deref()
    }

    /// Report of each order, by application.
    pub fn reports(&self) -> impl Iterator<Item = (&str, SettingsReport)> {
        self.entries.iter().map(|(application, entry)| (application.as_str(), entry.report()))
    }

    /// Events since this was asked last.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn looked(&mut self, application: &str, found: Result<Option<Digest>, String>, now: WallTime) {
        let Some(entry) = self.entries.get_mut(application).filter(|entry| entry.is_in_place()) else {
            return;
        };
        let what = match found {
            Ok(found) if found == entry.kept.placed => {
                if entry.kept.state == SettingsState::Drifted {
                    entry.set(SettingsState::Applied, "", now);
                    self.keep_state(application);
                }
                return;
            }
            Ok(Some(_)) => "the settings file was changed by somebody else".to_owned(),
            Ok(None) => "the settings file was removed by somebody else".to_owned(),
            Err(error) => format!("the settings file can't be read any more: {error}"),
        };
        self.drifted(application, &what, now);
    }

    /// The file is not what was put in place: it is put right, or only told, as the order says.
    fn drifted(&mut self, application: &str, what: &str, now: WallTime) {
        let Some(entry) = self.entries.get_mut(application) else { return };
        let is_new = entry.kept.state != SettingsState::Drifted;
        entry.repairs.retain(|at| at.0.saturating_add(REPAIRS_MILLISECONDS) > now.0);
        let (state, detail) = if entry.order.drift == Drift::Report {
            (SettingsState::Drifted, what.to_owned())
        } else if entry.repairs.len() < REPAIRS_MAX {
            entry.repairs.push_back(now);
            (SettingsState::Pending, format!("{what}; it is put right"))
        } else {
            (SettingsState::Drifted, format!("{what} again and again: it is left alone for a while"))
        };
        entry.set(state, &detail, now);
        self.keep_state(application);
        if is_new || state == SettingsState::Pending {
            self.event(application, Severity::Warning, "settings_drift", detail, now);
        }
    }

    fn fail(&mut self, application: &str, reason: &str, now: WallTime) {
        let Some(entry) = self.entries.get_mut(application) else { return };
        let reason = clipped(reason);
        if entry.kept.state == SettingsState::Failed && entry.kept.detail == reason {
            return;
        }
        entry.kept.interrupted = 0;
        entry.set(SettingsState::Failed, &reason, now);
        self.keep_state(application);
        self.event(application, Severity::Error, "settings_failed", reason, now);
    }

    fn event(&mut self, application: &str, severity: Severity, kind: &str, message: String, now: WallTime) {
        let level = match severity {
            Severity::Info => log::Level::Info,
            Severity::Warning => log::Level::Warn,
            Severity::Error | Severity::Critical => log::Level::Error,
        };
        log::log!(level, "{application}: {message}");
        let revision = self.entries.get(application).map_or(0, |entry| entry.order.revision);
        self.events.push(Event {
            severity,
            application: application.to_owned(),
            kind: kind.to_owned(),
            message,
            occurred_at: now,
            fields: vec![("revision".to_owned(), revision.to_string())],
        });
    }

    /// All but the agent itself, which has no file.
    fn applications(&self) -> Vec<String> {
        self.entries.keys().filter(|name| *name != AGENT_NAME).cloned().collect()
    }

    fn place(&self, application: &str) -> Place {
        match self.definitions.as_ref().and_then(|known| known.get(application)) {
            Some(Some(adapter)) => Place::Here(adapter.clone()),
            Some(None) => Place::Nowhere,
            None => Place::Undefined,
        }
    }

    fn path(&self, application: &str, ending: &str) -> PathBuf {
        self.directory.join(format!("{}.{ending}", stored_settings::name_of(application)))
    }

    /// State that a crash loses is found out again.
    fn keep_state(&self, application: &str) {
        let Some(entry) = self.entries.get(application) else { return };
        let path = self.path(application, "state");
        if let Err(error) = checksummed::write(&path, &entry.kept) {
            log::warn!("{}: {error}", path.display());
        }
    }
}

impl Entry {
    fn new(order: SettingsOrder, now: WallTime) -> Self {
        let kept = StoredState {
            order: order.digest(),
            state: SettingsState::Pending,
            applied_revision: 0,
            since: now,
            detail: String::new(),
            placed: None,
            definition: Digest::EMPTY,
            interrupted: 0,
        };
        Self { order, kept, repairs: VecDeque::new(), is_handed_over: false }
    }

    /// Goes on where the disk says it was.
    fn take_up(&mut self, stored: StoredState) {
        let kept = &mut self.kept;
        kept.applied_revision = stored.applied_revision;
        kept.placed = stored.placed;
        kept.definition = stored.definition;
        if stored.order == kept.order {
            kept.interrupted = stored.interrupted;
            kept.since = stored.since;
            if stored.state != SettingsState::Failed {
                (kept.state, kept.detail) = (stored.state, stored.detail);
            }
        }
    }

    fn set(&mut self, state: SettingsState, detail: &str, now: WallTime) {
        if self.kept.state != state {
            self.kept.since = now;
        }
        (self.kept.state, self.kept.detail) = (state, clipped(detail));
    }

    fn is_in_place(&self) -> bool {
        matches!(self.kept.state, SettingsState::Applied | SettingsState::Drifted)
    }

    fn report(&self) -> SettingsReport {
        SettingsReport {
            revision: self.order.revision,
            digest: self.kept.order,
            state: self.kept.state,
            applied_revision: self.kept.applied_revision,
            since: self.kept.since,
            detail: self.kept.detail.clone(),
        }
    }
}

impl Place {
    /// Fingerprint of a place: settings that failed there may do elsewhere.
    fn fingerprint(&self) -> Digest {
        Digest::of_bytes(format!("{self:?}").as_bytes())
    }

    /// Why nothing can be put there.
    fn lack(&self) -> Option<&'static str> {
        match self {
            Self::Here(_) => None,
            Self::Nowhere => Some("it takes no settings: its definition has no [settings]"),
            Self::Undefined => Some("it is not defined on this device"),
        }
    }
}

/// As much as a report may hold.
fn clipped(text: &str) -> String {
    clip(text, TEXT_BYTES_MAX).to_owned()
}
