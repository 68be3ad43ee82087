//! Tasks: what is due of them.

use crate::store::Store;
use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;

/// Works on tasks.
pub(super) struct Tasks {
    _store: Store,
}

impl Tasks {
    pub(super) fn new(store: Store) -> Self {
        Self { _store: store }
    }

    /// Does what is due; the devices that have something to execute now, or are to end something.
    pub(super) fn step(&mut self, _now: WallTime) -> Vec<DeviceId> {
        Vec::new()
    }
}
