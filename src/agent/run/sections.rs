//! The sections: when they are collected, and what becomes of what was found.

use std::fs;
use std::sync::Arc;

use super::helper::Collected;
use super::{Agent, Now, Wait};
use crate::agent::application::check;
use crate::agent::collect::inventory;
use crate::agent::directory::{BASE_FILE, Directory};
use crate::machine::agent::SectionContent;
use crate::wire::bounded;
use crate::wire::inventory::Application;
use crate::wire::limits::INVENTORY_ENTRIES_MAX;
use crate::wire::section::ApplicationCondition;
use crate::wire::time::Moment;

/// How long after a package database was touched it is read, in milliseconds: an installation touches it several times.
const SETTLE_MILLISECONDS: u64 = 500;

/// How often conditions, host facts and the databases' states are looked at, in seconds: the only timer of an idle agent
/// beside the server's.
const CHECK_INTERVAL_SECONDS: u64 = 60;

/// What is known of the sections.
#[derive(Default)]
pub(super) struct Sections {
    /// Collected once at least.
    pub(super) is_known: bool,
    /// To be collected as soon as possible.
    pub(super) is_wanted: bool,
    is_collecting: bool,
    settle_at: Option<Moment>,
    check_at: Option<Moment>,
    /// The databases' states when they were read last.
    pub(super) fingerprint: Option<inventory::Fingerprint>,
    inventory: Arc<[Application]>,
    pub(super) conditions: Vec<ApplicationCondition>,
    /// What could not be read or is wrong.
    pub(super) problems: Vec<String>,
    inventory_problems: Vec<String>,
    pub(super) statistics_problem: Option<String>,
}

impl Sections {
    /// A watch has noticed something.
    pub(super) fn noticed(&mut self, any: bool, now: Moment) {
        if any {
            self.settle_at.get_or_insert(now.plus_milliseconds(SETTLE_MILLISECONDS));
        }
    }

    /// There is a new machine, which has been told nothing yet: everything is collected anew.
    pub(super) fn begin_anew(&mut self) {
        self.is_known = false;
        self.is_wanted = true;
        self.fingerprint = None;
    }

    pub(super) fn next_timeout(&self) -> Option<Moment> {
        if self.is_collecting {
            return None;
        }
        let wanted = self.is_wanted.then_some(Moment(0));
        [wanted, self.settle_at, self.check_at].into_iter().flatten().min()
    }
}

impl Agent {
    /// Starts a helper when it is time, one at a time.
    pub(super) fn collect_when_due(&mut self, now: &Now) {
        let sections = &mut self.sections;
        if sections.is_collecting || sections.next_timeout().is_none_or(|at| at > now.moment) {
            return;
        }
        sections.settle_at = None;
        sections.check_at = Some(now.moment.plus_seconds(CHECK_INTERVAL_SECONDS));
        sections.is_wanted = false;
        match self.helpers.collect(&self.settings, self.directory.path(), sections.fingerprint.clone()) {
            Ok(()) => {
                sections.is_collecting = true;
                // Who asked before it began gets what it finds.
                let looking = self.looking.as_mut().map(|(_, wait)| wait);
                let waits = self.waiting.iter_mut().map(|(_, wait)| wait).chain(looking);
                for wait in waits.filter(|wait| **wait == Wait::ToCollect) {
                    *wait = Wait::Collecting;
                }
            }
            Err(error) => log::warn!("no thread to collect: {error}"),
        }
    }

    /// Takes what a helper found to the machine.
    pub(super) fn collected(&mut self, now: &Now, collected: Collected) {
        let sections = &mut self.sections;
        sections.is_collecting = false;
        sections.is_known = true;
        if let Some(found) = collected.inventory {
            for problem in &found.problems {
                log::warn!("{problem}");
            }
            if found.problems.is_empty() {
                sections.fingerprint = Some(collected.fingerprint);
                sections.inventory = found.applications.into();
                self.machine.section_changed(SectionContent::Inventory(Arc::clone(&sections.inventory)));
            }
            // What could not be read whole is not reported: half a list would look like removed packages. It is tried again.
            sections.inventory_problems = found.problems;
        }
        for problem in collected.problems.iter().filter(|problem| !sections.problems.contains(problem)) {
            log::warn!("{problem}");
        }
        sections.problems = sections.inventory_problems.clone();
        sections.problems.extend(collected.problems);
        self.machine.section_changed(SectionContent::Host(Arc::new(collected.host)));
        sections.conditions = check::section(
            &collected.observed,
            &sections.inventory,
            self.started,
            now.wall,
            &sections.conditions,
        );
        let definitions: Vec<_> = collected.observed.into_iter().map(|(definition, _)| definition).collect();
        self.managed.defined(&definitions, now.wall);
        self.managed_changed(now);
        self.take_statistics(collected.own_statistics, collected.statistics);
        if let Some((reason, _)) = self.looking.take_if(|(_, wait)| *wait == Wait::Collecting) {
            self.machine.called(now, reason);
        }
        let mut is_asked = false;
        for (_, wait) in self.waiting.iter_mut().filter(|(_, wait)| *wait == Wait::Collecting) {
            *wait = Wait::Asked;
            is_asked = true;
        }
        if is_asked {
            self.machine.asked_to_sync(now);
        }
    }
}

/// The inventory that the server was said to have; `None` when that is not known (any more): then all of it travels once.
pub(super) fn read_base(directory: &Directory) -> Option<Arc<[Application]>> {
    let bytes = fs::read(directory.path().join(BASE_FILE)).ok()?;
    let mut decoder = minicbor::Decoder::new(&bytes);
    let base = bounded::list::<(), Application, INVENTORY_ENTRIES_MAX>(&mut decoder, &mut ()).ok()?;
    base.is_sorted().then(|| base.into())
}

/// Stores it; it may be lost.
pub(super) fn write_base(directory: &Directory, base: &[Application]) {
    let new = directory.path().join(format!("{BASE_FILE}.new"));
    let written = minicbor::to_vec(base)
        .map_err(std::io::Error::other)
        .and_then(|bytes| fs::write(&new, bytes))
        .and_then(|()| fs::rename(&new, directory.path().join(BASE_FILE)));
    if let Err(error) = written {
        log::warn!("{BASE_FILE} can't be written, the next change travels whole: {error}");
    }
}
