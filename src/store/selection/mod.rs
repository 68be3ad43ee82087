//! Selections: which devices a filter lets through, in whatever order, page by page or all of them.
//!
//! The facts by which devices are selected and listed are in memory while somebody asks ([`index`]), beside
//! the device table, which has what changes with every sync. Facts that few ask for (applications, groups)
//! are looked up in the file, once for a question ([`matching`]). Tags and views are names for selections
//! ([`labels`]).

mod facets;
mod index;
mod labels;
mod matching;
mod order;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;

use super::devices::Devices;
use super::devices::list::DeviceRow;
use super::error::StoreError;
use super::page::{Page, PageRequest};
use crate::fleet::filter::Filter;
use crate::wire::api::DeviceSort;
use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;
use index::Index;
pub use labels::LABELS_MAX;
use matching::{Question, Scope};
use order::Cursor;

/// For how long the index stays when nobody asks: somebody who works through a list comes back within it.
const UNUSED_SECONDS_MAX: u64 = 300;

/// Most devices that are read anew one by one; when more have changed, all are read.
const CHANGED_MAX: usize = 2_048;

/// Devices whose listed facts have changed since the index was brought up to date.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// `None`: there is no index, so nobody has to know.
    since: Mutex<Option<Changed>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Changed {
    These(BTreeSet<DeviceId>),
    /// More than are noted, or groups.
    All,
}

impl Changes {
    /// Facts of this device are others, or it came or went. Called after the commit.
    pub(super) fn note(&self, device: DeviceId) {
        if let Some(changed) = &mut *self.since.lock()
            && let Changed::These(devices) = changed
        {
            devices.insert(device);
            if devices.len() > CHANGED_MAX {
                *changed = Changed::All;
            }
        }
    }

    /// Facts of many devices are others. Called after the commit.
    pub(super) fn note_all(&self) {
        if let Some(changed) = &mut *self.since.lock() {
            *changed = Changed::All;
        }
    }

    /// The changes since this was asked last. Others are noted from now on.
    fn take(&self) -> Changed {
        self.since.lock().replace(Changed::These(BTreeSet::new())).unwrap_or(Changed::All)
    }
}

/// The time of a question, and since when the server is there: presence hangs on both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time.
    pub now: WallTime,
    /// Before, no device could come.
    pub present_since: WallTime,
}

/// Which of the devices that a filter lets through are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// Those that don't wait for approval: they alone are called, and given tasks and other settings.
    Approved,
    /// Those that do.
    Waiting,
    /// All of them.
    All,
}

/// Selections of devices.
pub struct Selection {
    devices: Devices,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    index: Index,
    used_at: Instant,
}

impl Selection {
    pub(super) fn new(devices: Devices) -> Self {
        Self { devices, kept: Mutex::default() }
    }

    /// A page of the devices that the filter lets through. One that changes between two pages may be in both
    /// or in neither.
    ///
    /// # Errors
    /// When the filter names a group that is not there, the cursor is none of this order, or the file cannot
    /// be read.
    pub fn page(
        &self,
        filter: &Filter,
        sort: DeviceSort,
        moment: Moment,
        page: &PageRequest,
    ) -> Result<Page<DeviceRow>, StoreError> {
        let after =
            page.after('d')?.map(|cursor| Cursor::read(sort, cursor).ok_or_else(|| page.bad_cursor()));
        let after = after.transpose()?;
        self.ask(|index, connection| {
            let question = Question::new(self.scope(index, connection, moment), filter)?;
            let places = order::first(&question, sort, after.as_ref(), page.items() + 1)?;
            let found = page.page('d', places, |place| place.cursor(sort));
            let rows = rows(index, connection, found.items.iter().map(|place| place.entry))?;
            Ok(Page::new(rows, found.next_cursor))
        })
    }

    /// The numbers of all devices that the filter lets through, for [`Selection::rows`].
    ///
    /// # Errors
    /// As [`Selection::page`].
    pub fn numbers(&self, filter: &Filter, sort: DeviceSort, moment: Moment) -> Result<Vec<i64>, StoreError> {
        self.ask(|index, connection| {
            let question = Question::new(self.scope(index, connection, moment), filter)?;
            let places = order::first(&question, sort, None, usize::MAX)?;
            Ok(places.into_iter().map(|place| place.entry.number).collect())
        })
    }

    /// Rows of these devices. Those that are gone are left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn rows(&self, numbers: &[i64]) -> Result<Vec<DeviceRow>, StoreError> {
        self.ask(|index, connection| {
            rows(index, connection, numbers.iter().filter_map(|number| index.entry(*number)))
        })
    }

    /// The ids of the devices that the filter lets through, in order of enrolment.
    ///
    /// # Errors
    /// As [`Selection::page`].
    pub fn ids(&self, filter: &Filter, among: Among, moment: Moment) -> Result<Vec<DeviceId>, StoreError> {
        self.ask(|index, connection| {
            let question = Question::new(self.scope(index, connection, moment), filter)?;
            let found = question.found().filter(|candidate| match among {
                Among::Approved => !candidate.record().is_waiting(),
                Among::Waiting => candidate.record().is_waiting(),
                Among::All => true,
            });
            let mut found: Vec<_> =
                found.map(|candidate| (candidate.entry.number, candidate.entry.device)).collect();
            found.sort_unstable();
            Ok(found.into_iter().map(|(_, device)| device).collect())
        })
    }

    /// Frees what is kept for questions when nobody has asked for long. Not when somebody is asking.
    pub fn free_unused(&self) {
        if let Some(mut kept) = self.kept.try_lock()
            && kept
                .as_ref()
                .is_some_and(|kept| kept.used_at.elapsed() > Duration::from_secs(UNUSED_SECONDS_MAX))
        {
            *kept = None;
            *self.devices.memory().listed.since.lock() = None;
        }
    }

    fn scope<'i>(&'i self, index: &'i Index, connection: &'i Connection, moment: Moment) -> Scope<'i> {
        Scope { index, connection, table: self.devices.table(), moment }
    }

    /// Has a question answered, from one state of the file and an index that is as new.
    fn ask<T>(
        &self,
        work: impl FnOnce(&Index, &Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut kept = self.kept.lock();
        // Before the file is looked at, so that a change that it does not show is noted for the next
        // question.
        let changed = self.devices.memory().listed.take();
        let old = kept.take();
        let reader = self.devices.database().reader()?;
        let snapshot = reader.unchecked_transaction()?;
        let index = match (old, changed) {
            (Some(Kept { mut index, .. }), Changed::These(devices)) => {
                index.read_anew(&snapshot, &devices)?;
                index
            }
            _ => Index::load(&snapshot)?,
        };
        let kept = kept.insert(Kept { index, used_at: Instant::now() });
        work(&kept.index, &snapshot)
    }
}

fn rows<'i>(
    index: &'i Index,
    connection: &Connection,
    entries: impl Iterator<Item = &'i index::Entry>,
) -> Result<Vec<DeviceRow>, StoreError> {
    entries.map(|entry| index.row(connection, entry)).collect()
}
