//! Signs in a device's sync that another machine uses its identity, and what is done about it.

use std::net::IpAddr;

use super::{Announcer, own_event};
use crate::machine::clones::{Change, Judged, Verdict};
use crate::machine::device_state::DeviceState;
use crate::store::{Store, StoreError};
use crate::wire::clone_policy::ClonePolicy;
use crate::wire::event::Severity;
use crate::wire::id::DeviceId;
use crate::wire::message::Sync;
use crate::wire::time::{Now, WallTime};

/// Kind of the event that two devices seem to use one identity.
const SHARED_KIND: &str = "identity_shared";

/// Kind of the event that a device's record was taken over.
const TAKEN_OVER_KIND: &str = "record_taken_over";

/// Kind of the event that a copy of a device was sent to enrol anew.
const FORKED_KIND: &str = "identity_forked";

impl Announcer {
    /// Sets the treatment of copies of a device.
    pub(in crate::server) fn set_clone_policy(&self, policy: ClonePolicy) {
        *self.clone_policy.lock() = policy;
    }

    /// The treatment of copies of a device.
    pub(in crate::server) fn clone_policy(&self) -> ClonePolicy {
        *self.clone_policy.lock()
    }

    /// A device syncs; `record` is what was known of it before. Costs nothing while it is what it was.
    pub(in crate::server) fn note_sync(
        &self,
        now: &Now,
        record: &DeviceState,
        sync: &Sync,
        peer: Option<IpAddr>,
    ) -> Verdict {
        let Some(change) = Change::of(record, sync) else { return Verdict::Serve };
        let policy = self.clone_policy();
        let Judged { verdict, is_new } = self.clones.lock().judge(record.device, &change, policy, peer, now);
        if is_new {
            self.say_shared(now, record.device);
        }
        if verdict == Verdict::Fork {
            self.say_forked(now, record.device, peer);
        }
        verdict
    }

    /// The device has shown its certificate of this number for the first time since another one was shown;
    /// `in_use` was until now, 0 when that is not known. Returns whether it is one that comes back, and no
    /// renewed one.
    pub(in crate::server) fn note_certificate(
        &self,
        now: &Now,
        device: DeviceId,
        in_use: u32,
        number: u32,
        peer: Option<IpAddr>,
    ) -> bool {
        let sighting = self.clones.lock().certificate_shown(device, in_use, number, peer, now);
        if sighting.is_new {
            self.say_shared(now, device);
        }
        sighting.has_returned
    }

    /// Takes back what the server before has stored of devices that two machines may use.
    ///
    /// # Errors
    /// When the store can't be read.
    pub(in crate::server) fn restore_clones(&self, store: &Store, known: &Now) -> Result<(), StoreError> {
        let mut clones = self.clones.lock();
        for (device, stored) in store.devices().clone_watch()? {
            if let Err(error) = clones.restore(device, &stored, known) {
                log::warn!(
                    "device {device}: what is stored of its copies can't be read and is forgotten: {error}"
                );
            }
        }
        Ok(())
    }

    /// Stores what is new of them.
    pub(in crate::server) fn store_clones(&self, store: &Store, known: &Now) {
        let rows = self.clones.lock().take_unstored(known);
        if rows.is_empty() {
            return;
        }
        let (clones, devices) = (self.clones.clone(), rows.iter().map(|row| row.0).collect::<Vec<_>>());
        store.devices().set_clone_watch(rows, move |result| {
            if let Err(error) = result {
                log::warn!(
                    "what is known of copies of devices was not stored, it will be in a second: {error}"
                );
                clones.lock().not_stored(devices);
            }
        });
    }

    /// A link of the device was taken over by another one.
    pub(in crate::server) fn note_taken_over(&self, now: &Now, device: DeviceId, peer: Option<IpAddr>) {
        if self.clones.lock().taken_over(device, peer, now) {
            self.say_shared(now, device);
        }
    }

    /// Another machine has taken the device's record over.
    pub(in crate::server) fn say_record_taken_over(&self, now: WallTime, device: DeviceId) {
        self.clones.lock().forget(device);
        let message = "another machine has taken the record of this device over".to_owned();
        let event = own_event(Severity::Info, TAKEN_OVER_KIND, message, now, []);
        // Without room it stands in the log all the same.
        self.append(&event, now, device);
        self.flush();
    }

    fn say_shared(&self, now: &Now, device: DeviceId) {
        let suspicion = self.clones.lock().suspicion(device, now);
        let addresses = suspicion.into_iter().flat_map(|suspicion| suspicion.addresses);
        let addresses = addresses.map(|one| one.to_string()).collect::<Vec<_>>().join(", ");
        let from = if addresses.is_empty() { "addresses that are not known" } else { &addresses };
        let (message, advice) = match self.clone_policy() {
            ClonePolicy::Warn => (
                "two devices seem to use this identity",
                "enrol one of them anew with 'muster-agent enroll --force'",
            ),
            ClonePolicy::Fork => (
                "two devices seem to use this identity: the copy is sent to enrol as a device of its own",
                "[identity] clones is \"fork\", so the copy enrols anew by itself",
            ),
            ClonePolicy::Refuse => (
                "two devices seem to use this identity: the copy is refused",
                "[identity] clones is \"refuse\", so the copy is not served: enrol it anew with 'muster-agent enroll --force'",
            ),
        };
        log::warn!(
            "device {device}: two devices seem to use this identity, as those made from one copied disk do (heard from {from}): {advice}"
        );
        let event = own_event(
            Severity::Warning,
            SHARED_KIND,
            message.to_owned(),
            now.wall,
            [("addresses", addresses)],
        );
        // Without room it stands in the status all the same.
        self.append(&event, now.wall, device);
        self.flush();
        self.note_moved(device);
    }

    fn say_forked(&self, now: &Now, device: DeviceId, peer: Option<IpAddr>) {
        let from = peer.map_or_else(|| "an address that is not known".to_owned(), |peer| peer.to_string());
        log::warn!(
            "device {device}: a copy of it, heard from {from}, is sent to enrol as a device of its own"
        );
        let message =
            format!("a copy of this device, heard from {from}, was sent to enrol as a device of its own");
        let event = own_event(Severity::Warning, FORKED_KIND, message, now.wall, [("address", from)]);
        self.append(&event, now.wall, device);
        self.flush();
        self.note_moved(device);
    }
}
