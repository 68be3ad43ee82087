//! The sections: when they are collected, and what becomes of what was found.

use std::sync::Arc;

use super::collecting::Collected;
use super::{Agent, Now, Wait, Waiter};
use crate::agent::application::check;
use crate::agent::collect::inventory;
use crate::agent::directory::{BASE_FILE, Directory};
use crate::agent::{checksummed, open};
use crate::machine::agent::SectionContent;
use crate::wire::bounded;
use crate::wire::inventory::Application;
use crate::wire::limits::{INVENTORY_ENTRIES_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::wire::section::{ApplicationCondition, Condition};
use crate::wire::time::{Moment, WallTime};

/// Time after which a package database is read that was touched: an installation touches it several times.
const SETTLE_MILLISECONDS: u64 = 500;

/// Interval at which conditions, host facts and the databases' states are looked at: the only timer of an
/// idle agent beside the server's.
const CHECK_INTERVAL_SECONDS: u64 = 60;

/// Time of the first collection before the agent connects and delivers events without it.
const LATE_SECONDS: u64 = 10;

/// Time that a sync that was asked for waits for a collection: then it goes with what is known.
const OVERDUE_SECONDS: u64 = 60;

/// Largest stored inventory: each entry has three names.
const BASE_BYTES_MAX: u64 = (INVENTORY_ENTRIES_MAX * (3 * NAME_BYTES_MAX + 32)) as u64;

/// Known state of the sections.
#[derive(Default)]
pub(super) struct Sections {
    /// Collected once at least, the applications' conditions among them.
    pub(super) is_known: bool,
    /// To be collected as soon as possible.
    pub(super) is_wanted: bool,
    /// The collection that is under way, if any: since when.
    collecting_since: Option<Moment>,
    /// The first one takes long: links and events don't wait for it.
    pub(super) is_late: bool,
    /// It takes very long: no sync waits for it any more.
    is_overdue: bool,
    settle_at: Option<Moment>,
    check_at: Option<Moment>,
    /// The databases' states when they were read last.
    pub(super) fingerprint: Option<inventory::Fingerprint>,
    inventory: Arc<[Application]>,
    pub(super) conditions: Vec<ApplicationCondition>,
    /// Sources that could not be read or are wrong.
    pub(super) problems: Vec<String>,
    inventory_problems: Vec<String>,
    pub(super) statistics_problem: Option<String>,
    /// Since when the disk has no room for events, and until when that is held against the device unless it
    /// shows again.
    full: Option<(WallTime, Moment)>,
}

/// Time that a full disk is told of after the last event that found no room.
const FULL_SECONDS: u64 = 600;

impl Sections {
    /// An event was taken, or the disk had no room for it. Whether that is news.
    pub(super) fn note_room(&mut self, has_room: bool, now: &Now) -> bool {
        let was_full = self.full.is_some();
        self.full = (!has_room).then(|| {
            let since = self.full.map_or(now.wall, |(since, _)| since);
            (since, now.moment.plus_seconds(FULL_SECONDS))
        });
        was_full == has_room
    }

    /// A fault of the agent itself stands with its own condition, so that an administrator sees it.
    pub(super) fn add_own_problems(&self, own: &mut ApplicationCondition, other: Option<String>) {
        let full = self.full.map(|(since, _)| {
            (own.condition, own.since) = (Condition::Failed, since);
            "the device's disk is full: events are refused until there is room".to_owned()
        });
        let problems: Vec<String> =
            full.into_iter().chain(other).chain(self.problems.iter().cloned()).collect();
        own.detail = bounded::clip(&problems.join("; "), TEXT_BYTES_MAX).to_owned();
    }

    /// A watch has noticed something.
    pub(super) fn noticed(&mut self, any: bool, now: Moment) {
        if any {
            self.settle_at.get_or_insert(now.plus_milliseconds(SETTLE_MILLISECONDS));
        }
    }

    /// There is a new machine, which has been told nothing yet: everything is collected anew.
    pub(super) fn begin_anew(&mut self) {
        (self.is_known, self.is_late) = (false, false);
        self.is_wanted = true;
        self.fingerprint = None;
    }

    pub(super) fn next_timeout(&self) -> Option<Moment> {
        if let Some(since) = self.collecting_since {
            let seconds = if self.is_known || self.is_late { OVERDUE_SECONDS } else { LATE_SECONDS };
            return (!self.is_overdue).then(|| since.plus_seconds(seconds));
        }
        let wanted = self.is_wanted.then_some(Moment(0));
        [wanted, self.settle_at, self.check_at].into_iter().flatten().min()
    }
}

impl Agent {
    /// Starts a helper when it is time, one at a time.
    pub(super) fn collect_when_due(&mut self, now: &Now) {
        if self.sections.is_overdue {
            return self.release_waiting(now, |_| true);
        }
        let sections = &mut self.sections;
        if sections.next_timeout().is_none_or(|at| at > now.moment) {
            return;
        }
        if let Some(since) = sections.collecting_since {
            log::warn!("collecting takes long: the agent goes on with what it knows");
            sections.is_late = true;
            sections.is_overdue = now.moment >= since.plus_seconds(OVERDUE_SECONDS);
            return;
        }
        sections.settle_at = None;
        sections.check_at = Some(now.moment.plus_seconds(CHECK_INTERVAL_SECONDS));
        sections.is_wanted = false;
        match self.helpers.collect(&self.settings, self.directory.path(), sections.fingerprint.clone()) {
            Ok(()) => {
                sections.collecting_since = Some(now.moment);
                // A question from before it began gets its findings.
                let looking = self.looking.as_mut().map(|(_, wait)| wait);
                let waits = self.waiting.iter_mut().map(|waiter| &mut waiter.wait).chain(looking);
                for wait in waits.filter(|wait| **wait == Wait::ToCollect) {
                    *wait = Wait::Collecting;
                }
            }
            Err(error) => log::warn!("no thread to collect: {error}"),
        }
    }

    /// Takes what a helper found to the machine.
    pub(super) fn collected(&mut self, now: &Now, collected: Collected) {
        // It may have been started after us, or anew.
        if let Some(watch) = &mut self.shutdown_watch {
            watch.connect(self.poll.registry());
        }
        let sections = &mut self.sections;
        sections.full.take_if(|(_, until)| now.moment >= *until);
        (sections.collecting_since, sections.is_overdue) = (None, false);
        sections.is_late = true;
        sections.is_known |= collected.observed.is_some();
        if let Some(found) = collected.inventory {
            for problem in &found.problems {
                log::warn!("{problem}");
            }
            if found.problems.is_empty() {
                sections.fingerprint = Some(collected.fingerprint);
                sections.inventory = found.applications.into();
                self.machine.section_changed(SectionContent::Inventory(Arc::clone(&sections.inventory)));
            }
            // A list that could not be read whole is not reported: half of one would look like removed
            // packages. It is tried again.
            sections.inventory_problems = found.problems;
        }
        for problem in collected.problems.iter().filter(|problem| !sections.problems.contains(problem)) {
            log::warn!("{problem}");
        }
        sections.problems = sections.inventory_problems.clone();
        sections.problems.extend(collected.problems);
        if let Some(host) = collected.host {
            self.machine.section_changed(SectionContent::Host(Arc::new(host)));
        }
        // While the definitions hang, the last report of the applications stands.
        if let Some(observed) = collected.observed {
            sections.conditions =
                check::section(&observed, &sections.inventory, self.started, now.wall, &sections.conditions);
            let definitions: Vec<_> = observed.into_iter().map(|(definition, _)| definition).collect();
            self.managed.defined(&definitions, now.wall);
        }
        self.managed_changed(now);
        self.take_statistics(collected.own_statistics, collected.statistics);
        self.release_waiting(now, |wait| wait == Wait::Collecting);
    }

    /// Syncs that waited for a collection go with what is known.
    fn release_waiting(&mut self, now: &Now, is_due: fn(Wait) -> bool) {
        if let Some((reason, _)) = self.looking.take_if(|(_, wait)| is_due(*wait)) {
            self.machine.called(now, reason);
        }
        let mut is_asked = false;
        let is_waiting = |waiter: &&mut Waiter| waiter.wait != Wait::Asked && is_due(waiter.wait);
        for waiter in self.waiting.iter_mut().filter(is_waiting) {
            waiter.wait = Wait::Asked;
            is_asked = true;
        }
        if is_asked {
            self.machine.asked_to_sync(now);
        }
    }
}

/// The inventory that the server was said to have; `None` when that is not known (any more): then all of it
/// travels once.
pub(super) fn read_base(directory: &Directory) -> Option<Arc<[Application]>> {
    let bytes = open::bytes(&directory.path().join(BASE_FILE), BASE_BYTES_MAX).ok()?;
    let mut decoder = minicbor::Decoder::new(&bytes);
    let base = bounded::list::<(), Application, INVENTORY_ENTRIES_MAX>(&mut decoder, &mut ()).ok()?;
    base.is_sorted().then(|| base.into())
}

/// Stores it; it may be lost.
pub(super) fn write_base(directory: &Directory, base: &[Application]) {
    let bytes = minicbor::to_vec(base).map_err(std::io::Error::other);
    let written =
        bytes.and_then(|bytes| checksummed::replace(&directory.path().join(BASE_FILE), &bytes, false));
    if let Err(error) = written {
        log::warn!("{BASE_FILE} can't be written, the next change travels whole: {error}");
    }
}
