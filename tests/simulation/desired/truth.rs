//! The reference: what devices should have, worked out in the plainest way, and what may have become of runs.

use std::collections::{BTreeMap, BTreeSet};

use muster::wire::settings::SettingsState;

use super::Level;
use crate::world::World;

/// The settings that come of these levels, the outermost first.
fn effective(levels: &[&Level]) -> BTreeMap<String, u64> {
    let (mut values, mut locked) = (BTreeMap::new(), BTreeSet::new());
    for level in levels {
        let open = level.values.iter().filter(|(key, _)| !locked.contains(*key));
        values.extend(open.map(|(key, value)| (key.clone(), *value)));
        locked.extend(level.locks.iter().cloned());
    }
    values
}

impl World {
    /// Why the desired state is not reached yet; `None` when every device has what it should and every run
    /// has ended.
    pub(crate) fn desired_state_left(&self) -> Option<String> {
        if let Some(open) = self.server.book.open_run() {
            return Some(format!("{open} has not ended"));
        }
        self.devices.iter().filter(|device| !device.never_comes).find_map(|device| {
            let levels = self.server.book.levels_of(device.id);
            let wanted = effective(&levels);
            let text = serde_json::to_string(&wanted).unwrap_or_default();
            let has = device.disk.stored.applied.as_ref().map(|(_, text)| text.as_str());
            // Settings that nobody orders any more stay as they are.
            let is_ordered = levels.iter().any(|level| !level.values.is_empty());
            let is_right = !is_ordered || has == Some(text.as_str());
            // The server knows what the device says: the revision that is in place, of the order that it was
            // given last.
            let report = self.server.store.get(&device.id).and_then(|stored| stored.report());
            let says = report.map(|report| (report.state, report.applied_revision));
            let revision = device.disk.stored.applied.as_ref().map(|(revision, _)| *revision);
            let is_known = !is_ordered
                || revision.is_none_or(|revision| says == Some((SettingsState::Applied, revision)));
            (!is_right || !is_known || !device.disk.stored.is_idle())
                .then(|| format!("{}: has {has:?}, should have {text}, is said to have {says:?}", device.id))
        })
    }

    /// No run was begun twice that may not be, whatever went wrong; but a device that was rolled back knows
    /// nothing of what it did.
    pub(crate) fn check_runs(&self) -> Result<(), String> {
        for ((id, run), times) in &self.run_log.begun {
            let was_rolled_back =
                self.devices.iter().any(|device| device.id == *id && device.was_rolled_back);
            if *times > 1 && !was_rolled_back && !self.server.book.may_repeat(*run) {
                return Err(format!("{id}: run {run} was begun {times} times"));
            }
        }
        Ok(())
    }
}
