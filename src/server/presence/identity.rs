//! Signs in a device's sync that another one uses its identity.

use std::net::IpAddr;

use super::{Announcer, own_event};
use crate::machine::clones::Incarnation;
use crate::machine::device_state::DeviceState;
use crate::wire::event::Severity;
use crate::wire::id::DeviceId;
use crate::wire::message::Sync;
use crate::wire::time::WallTime;

/// Kind of the event that two devices seem to use one identity.
const SHARED_KIND: &str = "identity_shared";

/// Kind of the event that a device's record was taken over.
const TAKEN_OVER_KIND: &str = "record_taken_over";

impl Announcer {
    /// A device syncs; `record` is what was known of it before. Costs nothing while it is what it was.
    pub(in crate::server) fn note_sync(
        &self,
        now: WallTime,
        record: &DeviceState,
        sync: &Sync,
        peer: Option<IpAddr>,
    ) {
        if record.last_sync == WallTime(0) {
            return;
        }
        let boot = sync.reach.map_or(0, |reach| reach.boot);
        let came = Incarnation { boot, agent_epoch: sync.agent_epoch };
        let left = Incarnation { boot: record.boot, agent_epoch: record.agent_epoch };
        let is_another = came != left && boot != 0 && left.boot != 0;
        let contradicts = contradicts(record, sync);
        if !is_another && !contradicts {
            return;
        }
        let mut clones = self.clones.lock();
        let mut is_new = is_another && clones.changed(record.device, left, came, peer, now);
        is_new |= contradicts && clones.contradicted(record.device, peer, now);
        drop(clones);
        if is_new {
            self.say_shared(now, record.device);
        }
    }

    /// A link of the device was taken over by another one.
    pub(in crate::server) fn note_taken_over(&self, now: WallTime, device: DeviceId, peer: Option<IpAddr>) {
        if self.clones.lock().taken_over(device, peer, now) {
            self.say_shared(now, device);
        }
    }

    /// Another machine has taken the device's record over.
    pub(in crate::server) fn say_record_taken_over(&self, now: WallTime, device: DeviceId) {
        let message = "another machine has taken the record of this device over".to_owned();
        let event = own_event(Severity::Info, TAKEN_OVER_KIND, message, now, []);
        // Without room it stands in the log all the same.
        self.append(&event, now, device);
        self.flush();
    }

    fn say_shared(&self, now: WallTime, device: DeviceId) {
        let suspicion = self.clones.lock().suspicion(device, now);
        let addresses = suspicion.into_iter().flat_map(|suspicion| suspicion.addresses);
        let addresses = addresses.map(|one| one.to_string()).collect::<Vec<_>>().join(", ");
        log::warn!(
            "device {device}: two devices seem to use this identity, as those made from one copied disk do (heard from {}): enrol one \
             of them anew with 'muster-agent enroll --force'",
            if addresses.is_empty() { "addresses that are not known" } else { &addresses }
        );
        let message = "two devices seem to use this identity".to_owned();
        let event = own_event(Severity::Warning, SHARED_KIND, message, now, [("addresses", addresses)]);
        // Without room it stands in the status all the same.
        self.append(&event, now, device);
        self.flush();
        self.note_moved(device);
    }
}

/// Whether a section has another content in a revision that is stored: one device never says that.
fn contradicts(record: &DeviceState, sync: &Sync) -> bool {
    sync.agent_epoch == record.agent_epoch
        && sync.sections.iter().any(|named| {
            named.known().is_some_and(|section| {
                let stored = record.section(section);
                stored.revision > 0 && named.revision == stored.revision && named.digest != stored.digest
            })
        })
}
