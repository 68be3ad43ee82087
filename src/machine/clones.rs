//! Whether two machines use one identity, as those do that were made from one copied disk, and which of them
//! is the copy.
//!
//! No message says so; the device's own history does. A machine that was followed by another one does not
//! come back in the same boot, a boot that was followed by another never comes back, nor does an agent epoch
//! that was given up; a section has one content in each revision; and a link is seldom taken over by another
//! one. Each contradiction counts by its weight: a machine that comes back in its old boot is proof, a boot
//! that comes back on one machine may be a virtual machine that was set back, and a disk may be put into
//! other hardware and back again.
//!
//! | contradiction | points |
//! |---|---|
//! | a life comes back after one on another machine in another boot | 4 |
//! | a life comes back after another one on the same machine, or in the same boot | 2 |
//! | a machine comes back after another one, in a boot that was not seen | 1 |
//! | a section has another content in a known revision | 2 |
//! | links take each other over, six times in an hour | 4 |
//!
//! Four points are two machines. The first of them is the one that came first among those that came back; it
//! keeps the record. Every other machine is a copy then, and so is, on the machine of the first, every other
//! life that came back. A disk that was moved for good never leads to a point.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::wire::id::{DeviceId, Epoch};
use crate::wire::time::{Moment, Now, WallTime};

/// Points from which on two machines are suspected.
const POINTS_ENOUGH: u32 = 4;

/// Points of a life that comes back where one machine may do that: it was set back to a snapshot.
const POINTS_OF_RETURN: u32 = 2;

/// Points of a machine that comes back in a new boot: its disk may have been elsewhere for a while.
const POINTS_OF_MOVE: u32 = 1;

/// Links that are taken over within [`TAKEN_OVER_SECONDS`] from which on the same is suspected, in links: an
/// agent stays away for a minute when that happens to it.
const TAKEN_OVER_MIN: usize = 6;

/// See [`TAKEN_OVER_MIN`]: an hour.
const TAKEN_OVER_SECONDS: u64 = 3_600;

/// Time that a suspicion lasts without another sign: a day.
pub const LASTS_SECONDS: u64 = 86_400;

/// Time for which a machine that was followed by another one is remembered: a month. A device that was
/// switched off meanwhile is still the first when it comes back.
const MACHINE_REMEMBERED_SECONDS: u64 = 30 * 86_400;

/// Lives that are remembered of one device: as many copies of one disk are told apart in an hour.
const LIVES_MAX: usize = 16;

/// Addresses that are named of one device.
const ADDRESSES_MAX: usize = 4;

/// Copies of one device that are sent to enrol anew within [`FORKS_SECONDS`], in copies: a fleet that was
/// made from one enrolled image gets through, and a thief of one key does not make devices without end.
const FORKS_MAX: u32 = 1_000;

/// See [`FORKS_MAX`]: an hour.
const FORKS_SECONDS: u64 = 3_600;

/// Devices that are watched: those that changed lately. Devices beyond it are not noticed until others have
/// been forgotten.
const DEVICES_MAX: usize = 8_192;

/// Treatment of a device that begins a sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Verdict {
    /// It is served.
    #[default]
    Serve,
    /// It is a copy, and is sent to enrol anew.
    Fork,
    /// It is a copy, and is not served.
    Refuse,
}

/// Marks of one life of a device that no other has: its machine, its boot, and the history in which its
/// revisions count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Incarnation {
    /// The machine ([`machine_mark`]); 0: not known.
    pub machine: u16,
    /// The boot ([`boot_mark`]); 0: not known.
    pub boot: u16,
    /// The agent epoch.
    pub agent_epoch: Epoch,
}

/// The part of a machine's hash that is kept in memory of each device: 16 bits, so that two machines look
/// alike in one of 65,536 cases, and are told apart by their boots then. 0 only when the hash is 0: not
/// known.
#[must_use]
pub fn machine_mark(machine: u64) -> u16 {
    match machine {
        0 => 0,
        known => u16::try_from(known >> 48).unwrap_or(1).max(1),
    }
}

/// The same of a boot ([`boot_of`](crate::wire::datagram::boot_of)).
#[must_use]
pub fn boot_mark(boot: u32) -> u16 {
    match boot {
        0 => 0,
        known => u16::try_from(known >> 16).unwrap_or(1).max(1),
    }
}

/// Two machines, as far as that can be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suspicion {
    /// Since when there are signs of it.
    pub since: WallTime,
    /// Addresses that the signs came from, sorted.
    pub addresses: Vec<IpAddr>,
}

/// Meaning of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// Two machines are suspected from now on.
    pub is_new: bool,
    /// The one that came is a copy of the first, as far as that can be told.
    pub is_copy: bool,
}

impl Sighting {
    const NOTHING: Self = Self { is_new: false, is_copy: false };
}

/// One life that was seen.
#[derive(Debug)]
struct Life {
    incarnation: Incarnation,
    /// It, or its machine, came back after one on another machine.
    has_returned: bool,
    /// It came back after another one on the same machine.
    has_returned_here: bool,
}

#[derive(Debug, Default)]
struct Seen {
    /// In the order in which they appeared.
    lives: Vec<Life>,
    taken_over_at: VecDeque<Moment>,
    points: u32,
    first_sign_at: WallTime,
    last_at: Moment,
    addresses: BTreeSet<IpAddr>,
    is_suspected: bool,
    /// Copies that were sent to enrol anew.
    told: Vec<Incarnation>,
    /// One of them came again all the same.
    is_stuck: bool,
    forks: u32,
    forks_since: Moment,
}

/// Remembers what devices were, as far as that speaks of two machines.
#[derive(Debug, Default)]
pub struct CloneWatch {
    devices: BTreeMap<DeviceId, Seen>,
}

impl CloneWatch {
    /// The device was `left` before and is `came` now, which is another life.
    pub fn changed(
        &mut self,
        device: DeviceId,
        left: Incarnation,
        came: Incarnation,
        peer: Option<IpAddr>,
        now: &Now,
    ) -> Sighting {
        let Some(seen) = self.seen(device, now) else { return Sighting::NOTHING };
        seen.hear_from(peer);
        let points = seen.turn(left, came);
        Sighting { is_new: seen.sign(points, now), is_copy: seen.is_copy(came) }
    }

    /// The device has another content in a revision that is known. `true`: two machines are suspected from
    /// now on.
    pub fn contradicted(&mut self, device: DeviceId, peer: Option<IpAddr>, now: &Now) -> bool {
        let Some(seen) = self.seen(device, now) else { return false };
        seen.hear_from(peer);
        seen.sign(POINTS_OF_RETURN, now)
    }

    /// A link of the device was taken over by another one. `true`: two machines are suspected from now on.
    pub fn taken_over(&mut self, device: DeviceId, peer: Option<IpAddr>, now: &Now) -> bool {
        let Some(seen) = self.seen(device, now) else { return false };
        seen.hear_from(peer);
        seen.taken_over_at.push_back(now.moment);
        if seen.taken_over_at.len() > TAKEN_OVER_MIN {
            seen.taken_over_at.pop_front();
        }
        let first = seen.taken_over_at.front().copied().unwrap_or(now.moment);
        let is_often = seen.taken_over_at.len() == TAKEN_OVER_MIN
            && now.moment <= first.plus_seconds(TAKEN_OVER_SECONDS);
        is_often && seen.sign(POINTS_ENOUGH, now)
    }

    /// Another machine is the device from now on: the signs that there were say nothing of it.
    pub fn forget(&mut self, device: DeviceId) {
        self.devices.remove(&device);
    }

    /// A copy is about to be sent to enrol anew. `false`: too many were lately.
    #[must_use]
    pub fn fork(&mut self, device: DeviceId, copy: Incarnation, now: &Now) -> bool {
        let Some(seen) = self.seen(device, now) else { return false };
        if now.moment > seen.forks_since.plus_seconds(FORKS_SECONDS) {
            (seen.forks, seen.forks_since) = (0, now.moment);
        }
        seen.forks += 1;
        match seen.told.iter().any(|told| told.machine == copy.machine && told.boot == copy.boot) {
            true => seen.is_stuck = true,
            false if seen.told.len() < LIVES_MAX => seen.told.push(copy),
            false => {}
        }
        seen.forks <= FORKS_MAX
    }

    /// The suspicion of a device. None any more when each copy was sent to enrol anew and stays away.
    #[must_use]
    pub fn suspicion(&self, device: DeviceId, now: &Now) -> Option<Suspicion> {
        let seen = self.devices.get(&device)?;
        let is_settled = !seen.told.is_empty() && !seen.is_stuck;
        (seen.is_suspected && !is_settled && !seen.is_quiet(now)).then(|| Suspicion {
            since: seen.first_sign_at,
            addresses: seen.addresses.iter().copied().collect(),
        })
    }

    fn seen(&mut self, device: DeviceId, now: &Now) -> Option<&mut Seen> {
        if !self.devices.contains_key(&device) && self.devices.len() >= DEVICES_MAX {
            self.devices.retain(|_, seen| !seen.is_over(now) && (seen.is_suspected || seen.has_moved()));
            if self.devices.len() >= DEVICES_MAX {
                self.devices.retain(|_, seen| seen.is_suspected && !seen.is_quiet(now));
            }
            if self.devices.len() >= DEVICES_MAX {
                return None;
            }
        }
        let seen = self.devices.entry(device).or_default();
        if seen.is_over(now) {
            *seen = Seen::default();
        } else if seen.is_quiet(now) {
            // Of a machine that is off, it is remembered that it was the first, and nothing else.
            *seen = Seen { lives: std::mem::take(&mut seen.lives), ..Seen::default() };
            seen.lives
                .iter_mut()
                .for_each(|life| (life.has_returned, life.has_returned_here) = (false, false));
        }
        seen.last_at = now.moment;
        Some(seen)
    }
}

/// Whether these are two machines, for certain.
fn differ(one: Incarnation, other: Incarnation) -> bool {
    one.machine != 0 && other.machine != 0 && one.machine != other.machine
}

impl Seen {
    fn is_quiet(&self, now: &Now) -> bool {
        now.moment > self.last_at.plus_seconds(LASTS_SECONDS)
    }

    fn is_over(&self, now: &Now) -> bool {
        let seconds = if self.has_moved() { MACHINE_REMEMBERED_SECONDS } else { LASTS_SECONDS };
        now.moment > self.last_at.plus_seconds(seconds)
    }

    /// Whether it was on more than one machine.
    fn has_moved(&self) -> bool {
        let first = self.lives.first();
        first.is_some_and(|first| self.lives.iter().any(|life| differ(first.incarnation, life.incarnation)))
    }

    fn hear_from(&mut self, peer: Option<IpAddr>) {
        if self.addresses.len() < ADDRESSES_MAX {
            self.addresses.extend(peer);
        }
    }

    fn note(&mut self, incarnation: Incarnation) -> &mut Life {
        let known = self.lives.iter().position(|life| life.incarnation == incarnation);
        let at = known.unwrap_or_else(|| {
            if self.lives.len() >= LIVES_MAX {
                self.lives.remove(self.least_needed());
            }
            self.lives.push(Life { incarnation, has_returned: false, has_returned_here: false });
            self.lives.len() - 1
        });
        &mut self.lives[at]
    }

    /// The life that says least: one whose machine has a later one, so that the order of machines stays.
    fn least_needed(&self) -> usize {
        let is_quiet = |life: &Life| !life.has_returned && !life.has_returned_here;
        let mut quiet = (0..self.lives.len()).filter(|at| is_quiet(&self.lives[*at]));
        let machine = |at: usize| self.lives[at].incarnation.machine;
        let has_later =
            |at: &usize| self.lives[at + 1..].iter().any(|life| life.incarnation.machine == machine(*at));
        quiet.clone().find(has_later).or_else(|| quiet.find(|at| *at > 0)).unwrap_or(1)
    }

    /// One life follows another; the points of the contradiction in it.
    fn turn(&mut self, left: Incarnation, came: Incarnation) -> u32 {
        let is_known = self.lives.iter().any(|life| life.incarnation == came);
        self.note(left);
        let is_elsewhere = differ(left, came);
        if is_known {
            let life = self.note(came);
            if !is_elsewhere {
                life.has_returned_here = true;
                return POINTS_OF_RETURN;
            }
            life.has_returned = true;
            let has_boots = left.boot != 0 && came.boot != 0 && left.boot != came.boot;
            return if has_boots { POINTS_ENOUGH } else { POINTS_OF_RETURN };
        }
        let same = |life: &&mut Life| life.incarnation.machine == came.machine;
        let returned = self.lives.iter_mut().find(same).filter(|_| is_elsewhere);
        let points = returned.map_or(0, |life| {
            life.has_returned = true;
            POINTS_OF_MOVE
        });
        self.note(came);
        points
    }

    fn is_copy(&self, came: Incarnation) -> bool {
        if !self.is_suspected {
            return false;
        }
        let first = self.lives.iter().find(|life| life.has_returned);
        if first.is_some_and(|first| differ(first.incarnation, came)) {
            return true;
        }
        let mut here =
            self.lives.iter().filter(|life| life.has_returned_here && !differ(life.incarnation, came));
        here.next().is_some_and(|first| first.incarnation != came)
            && here.any(|life| life.incarnation == came)
    }

    fn sign(&mut self, points: u32, now: &Now) -> bool {
        if points == 0 {
            return false;
        }
        if self.points == 0 {
            self.first_sign_at = now.wall;
        }
        self.points = self.points.saturating_add(points);
        self.points >= POINTS_ENOUGH && !std::mem::replace(&mut self.is_suspected, true)
    }
}

#[cfg(test)]
mod tests;
