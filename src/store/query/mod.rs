//! Reads of administration: pages of lists, one device whole, counts. Nothing here loads a whole list, but
//! for the ids of devices.

mod applications;
mod cursor;
mod devices;
mod fleet;
mod tasks;

pub use applications::{ApplicationFilter, ApplicationRow, InstallationRow, applications, installations};
pub use devices::{
    DeviceDetail, DeviceFilter, DeviceKey, DeviceRow, device, device_id, device_ids, devices, name_of,
};
pub(super) use devices::{conditions_in, devices_by_age};
pub use fleet::{FleetCounts, StatusCounts, counts, groups, status_counts, tokens};

pub use tasks::{RunDetail, RunFilter, RunRow, TaskFilter, TaskRow, open_runs, run, runs, task, tasks};

/// Most items of one page.
pub const PAGE_ITEMS_MAX: usize = 1_000;

/// A piece of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Begin of the next page; `None`: this is the last.
    pub next: Option<String>,
}

/// Which piece of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Most items, from 1 to [`PAGE_ITEMS_MAX`]; anything else is brought into these bounds.
    pub limit: usize,
    /// [`Page::next`] of the page before; `None`: from the beginning.
    pub cursor: Option<String>,
}

impl PageRequest {
    fn items(&self) -> usize {
        self.limit.clamp(1, PAGE_ITEMS_MAX)
    }

    /// The items of a page from a list that was read one item beyond it.
    fn page<T>(&self, mut items: Vec<T>, cursor_after: impl Fn(&T) -> String) -> Page<T> {
        let is_last = items.len() <= self.items();
        items.truncate(self.items());
        let next = if is_last { None } else { items.last().map(cursor_after) };
        Page { items, next }
    }
}
