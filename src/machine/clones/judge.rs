//! A sync of a device that is not what it was, and what is done about it.

use std::net::IpAddr;

use super::{CloneWatch, Incarnation, Verdict, boot_mark, machine_mark};
use crate::machine::device_state::DeviceState;
use crate::wire::clone_policy::ClonePolicy;
use crate::wire::id::DeviceId;
use crate::wire::message::Sync;
use crate::wire::time::Now;

/// Difference between what a device was and what it says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    left: Incarnation,
    came: Incarnation,
    is_another: bool,
    /// A section has another content in a revision that is stored: one device never says that.
    contradicts: bool,
}

/// Outcome of judging it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judged {
    /// Treatment of the device.
    pub verdict: Verdict,
    /// Two machines are suspected from now on.
    pub is_new: bool,
}

impl Change {
    /// The difference; `None`: the device is what it was, or has not synced before. Costs next to nothing.
    #[must_use]
    pub fn of(record: &DeviceState, sync: &Sync) -> Option<Self> {
        if record.last_sync.0 == 0 {
            return None;
        }
        let boot = sync.reach.map_or(0, |reach| boot_mark(reach.boot));
        let left =
            Incarnation { machine: record.machine, boot: record.boot, agent_epoch: record.agent_epoch };
        // Named once a link; what is said behind it comes from the same machine.
        let machine = sync.identity.map_or(0, |identity| machine_mark(identity.machine));
        let machine = if machine == 0 { left.machine } else { machine };
        let came = Incarnation { machine, boot, agent_epoch: sync.agent_epoch };
        let is_known = boot != 0 && left.boot != 0;
        let is_moved = left.machine != 0 && left.machine != machine;
        let is_another = is_moved || (is_known && came != left);
        let contradicts = contradicts(record, sync);
        (is_another || contradicts).then_some(Self { left, came, is_another, contradicts })
    }
}

fn contradicts(record: &DeviceState, sync: &Sync) -> bool {
    sync.agent_epoch == record.agent_epoch
        && sync.sections.iter().any(|named| {
            named.known().is_some_and(|section| {
                let stored = record.section(section);
                stored.revision > 0 && named.revision == stored.revision && named.digest != stored.digest
            })
        })
}

impl CloneWatch {
    /// Takes note of it, and says how the device is treated.
    #[must_use]
    pub fn judge(
        &mut self,
        device: DeviceId,
        change: &Change,
        policy: ClonePolicy,
        peer: Option<IpAddr>,
        now: &Now,
    ) -> Judged {
        let (mut is_new, mut is_copy) = (false, false);
        if change.is_another {
            let sighting = self.changed(device, change.left, change.came, peer, now);
            (is_new, is_copy) = (sighting.is_new, sighting.is_copy);
        }
        is_new |= change.contradicts && self.contradicted(device, peer, now);
        let verdict = match policy {
            ClonePolicy::Fork if is_copy && self.fork(device, change.came, now) => Verdict::Fork,
            ClonePolicy::Refuse | ClonePolicy::Fork if is_copy => Verdict::Refuse,
            _ => Verdict::Serve,
        };
        Judged { verdict, is_new }
    }
}
