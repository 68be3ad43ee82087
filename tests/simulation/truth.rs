//! The reference model's word on where each device is, held against the server's when nothing is under way.

use muster::fleet::presence::{Presence, presence};
use muster::machine::reach::UdpReach;
use muster::store::table::signs_of;
use muster::wire::api::{CallOutcome, CallVia};
use muster::wire::datagram::NoticeKind;
use muster::wire::id::DeviceId;

use crate::device::{Device, Truth};
use crate::world::World;

const SECOND: u64 = 1_000_000;

/// A device that went without a word is not lost before its slot, which lies ahead, and the margin; less what
/// a message takes.
const LOST_SECONDS_MIN: u64 = 55;

/// And it is lost by then: the longest way to its slot (120 s), or to a reconnection, and the margin (60 s),
/// and a link that had to fall silent first.
const LOST_SECONDS_MAX: u64 = 245;

/// Within this time after a start of the server nobody is lost: the window (120 s) and the margin, less what
/// a message takes.
const WINDOW_SECONDS: u64 = 175;

/// Until a link on which nothing more comes is given up.
const LINK_SECONDS_MAX: u64 = 65;

impl World {
    /// Presence of the device, as the server says.
    pub(crate) fn presence_of(&self, device: DeviceId) -> Option<Presence> {
        let record = self.server.records.get(&device)?;
        let signs = signs_of(record, self.server.clock.present_since);
        Some(presence(&signs, self.server_now().wall))
    }

    /// Holds every device's presence against the truth. `is_settled`: everybody who runs has had the time to
    /// come.
    pub(crate) fn check_presence(&mut self, is_settled: bool) -> Result<(), String> {
        self.counts.quiet_points += 1;
        for (number, device) in self.devices.iter().enumerate() {
            let found = self.presence_of(device.id).ok_or("a device has no record")?;
            let allowed = self.allowed(number, is_settled);
            if !allowed.contains(&found) {
                let record = &self.server.records[&device.id];
                return Err(format!(
                    "{}: {:?}, kept {}: the server says {found}, {allowed:?} is true; {record:?}",
                    device.id, device.truth, device.persistent
                ));
            }
        }
        Ok(())
    }

    /// At any time: whose shutdown notice the server has taken is gone for it, until the device is back. Not
    /// for one that was rolled back, as its counters were used before.
    pub(crate) fn check_notices(&self) -> Result<(), String> {
        for device in self.devices.iter().filter(|device| !device.was_rolled_back) {
            let Truth::Said { kind, counter, .. } = device.truth else { continue };
            let Some(record) = self.server.records.get(&device.id) else { continue };
            if record.notice_counter == counter && record.departure != Some(kind) {
                return Err(format!("{}: {kind} was taken and is forgotten; {record:?}", device.id));
            }
        }
        Ok(())
    }

    fn allowed(&self, number: usize, is_settled: bool) -> Vec<Presence> {
        let device = &self.devices[number];
        let up = self.now - self.server.started.moment.0;
        match device.truth {
            Truth::Never => vec![Presence::NeverSeen],
            Truth::Runs if device.persistent && is_settled => vec![Presence::Connected],
            Truth::Runs if device.persistent || self.has_session(number) => {
                vec![Presence::Idle, Presence::Connected]
            }
            Truth::Runs => vec![Presence::Idle],
            Truth::Said { kind, is_heard: true, .. } => vec![match kind {
                NoticeKind::Suspend => Presence::Asleep,
                NoticeKind::AgentStopped => Presence::AgentStopped,
                NoticeKind::Shutdown | NoticeKind::Reboot | NoticeKind::Probe => Presence::ShutDown,
            }],
            Truth::Said { at, .. } | Truth::Silent { at } => {
                let away = self.now - at;
                if away > LOST_SECONDS_MAX * SECOND && up > (WINDOW_SECONDS + 10) * SECOND {
                    return vec![Presence::Lost];
                }
                let mut allowed = vec![Presence::Idle];
                if away < LINK_SECONDS_MAX * SECOND {
                    allowed.push(Presence::Connected);
                }
                if away >= LOST_SECONDS_MIN * SECOND && up >= WINDOW_SECONDS * SECOND {
                    allowed.push(Presence::Lost);
                }
                allowed
            }
        }
    }

    fn has_session(&self, number: usize) -> bool {
        self.server.names.keys().any(|link| self.device_of(*link).is_some_and(|(of, _)| of == number))
    }

    /// After a few syncs the server knows whom wakes reach.
    pub(crate) fn check_reach(&self) -> Result<(), String> {
        for device in self.devices.iter().filter(|device| matches!(device.truth, Truth::Runs)) {
            let expected = if device.is_nated { UdpReach::Unreached } else { UdpReach::Reached };
            let record = &self.server.records[&device.id];
            if record.udp_reach != expected {
                return Err(format!("{}: wakes are {expected} in truth; {record:?}", device.id));
            }
        }
        Ok(())
    }

    /// Whether the device has taken a wake that the attacker had withheld, and of which the server knows
    /// nothing, as a restore or a crash undid it and its clock went back behind it. Until the next sync the
    /// server's wakes seem to have been seen before.
    pub(crate) fn is_ahead(&self, device: &Device) -> bool {
        let record = self.server.records.get(&device.id);
        record.is_some_and(|record| device.disk.wake_counter > record.wake_counter)
    }

    /// Holds what an operation was told of every device against the truth, as it was when they were asked and
    /// as it is now: a notice that was lost may have come in between, from the attacker.
    pub(crate) fn check_outcomes(
        &mut self,
        operation: u64,
        asked: u64,
        then: &[(Truth, bool)],
    ) -> Result<(), String> {
        let outcomes = self.outcomes(operation)?;
        for (device, (then, was_ahead)) in self.devices.iter().zip(then) {
            let outcome = outcomes.get(&device.id).ok_or("a device was not asked")?;
            let is_ahead = *was_ahead || device.ahead_at.is_some_and(|at| at >= asked);
            let is_right = |truth| is_right(device, truth, is_ahead, outcome);
            if !is_right(*then) && !is_right(device.truth) {
                let (id, truth, persistent, is_nated) =
                    (device.id, device.truth, device.persistent, device.is_nated);
                return Err(format!(
                    "{id}: {truth:?}, kept {persistent}, behind a box {is_nated}: the operation was told {outcome:?}"
                ));
            }
        }
        Ok(())
    }
}

/// `is_ahead`: as [`World::is_ahead`] says, when it was called or since.
fn is_right(device: &Device, truth: Truth, is_ahead: bool, outcome: &CallOutcome) -> bool {
    let (by, has_slot) = match outcome {
        CallOutcome::Synced { by, .. } => (Some(*by), false),
        CallOutcome::Unreachable { next_slot_at, .. } => (None, next_slot_at.is_some()),
        _ => (None, false),
    };
    match truth {
        Truth::Never => !has_slot && matches!(outcome, CallOutcome::Unreachable { attempts: 0, .. }),
        Truth::Runs if !device.is_nated => by.is_some() || (is_ahead && has_slot),
        Truth::Runs if device.persistent => by.is_some_and(|by| by != CallVia::Wake),
        // It may have been on its way.
        Truth::Runs => has_slot || by.is_some_and(|by| by != CallVia::Wake),
        Truth::Said { kind, is_heard: true, .. } => match kind {
            NoticeKind::Suspend => *outcome == CallOutcome::Asleep,
            NoticeKind::AgentStopped => *outcome == CallOutcome::AgentStopped,
            NoticeKind::Shutdown | NoticeKind::Reboot | NoticeKind::Probe => {
                *outcome == CallOutcome::ShutDown
            }
        },
        Truth::Said { .. } | Truth::Silent { .. } => has_slot,
    }
}
