//! Statuses: whether devices are well.

use crate::server::presence::Announcer;
use crate::store::Store;
use crate::wire::time::WallTime;

/// Judges devices.
pub(super) struct Statuses {
    _store: Store,
    _announcer: Announcer,
    _server_started: WallTime,
}

impl Statuses {
    pub(super) fn new(store: Store, announcer: Announcer, server_started: WallTime) -> Self {
        Self { _store: store, _announcer: announcer, _server_started: server_started }
    }

    /// Judges those devices of which something is new, and a slice of the others.
    pub(super) fn step(&mut self, _now: WallTime) {}
}
