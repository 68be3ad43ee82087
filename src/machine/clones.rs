//! Whether two machines use one identity, as those do that were made from one copied disk, and which of them
//! is the copy.
//!
//! No message says so; the device's own history does. A machine that was followed by another one does not
//! come back in the same boot, a boot that was followed by another never comes back, nor does an agent epoch
//! that was given up; a section has one content in each revision; a certificate that was replaced is not
//! shown again; and a link is seldom taken over by another one. Each contradiction counts by its weight: a
//! machine that comes back in its old boot is proof, a boot that comes back on one machine may be a virtual
//! machine that was set back, and a disk may be put into other hardware and back again.
//!
//! | contradiction | points |
//! |---|---|
//! | a life comes back after one on another machine in another boot | 4 |
//! | a life comes back after another one on the same machine, or in the same boot | 2 |
//! | a machine comes back after another one, in a boot that was not seen | 1 |
//! | a section has another content in a known revision | 2 |
//! | a certificate comes back after an older one, which came after it | 2 |
//! | links take each other over, six times in an hour | 4 |
//!
//! Four points are two machines. The first of them is the one that came first among those that came back; it
//! keeps the record. Every other machine is a copy then, and so is, on the machine of the first, every other
//! boot that came back, and in one boot every other agent epoch. A disk that was moved for good never leads
//! to a point, nor does a device that was restored from a copy of before a renewal: it shows its old
//! certificate, renews that, and never shows the one that it has lost. Certificates say that there are two
//! machines, and nothing of which is the copy. Nor does anything else where virtual machines have one machine
//! id and the first of them has booted since, or the server was started: then either may be sent to enrol.
//!
//! The history of a device with a sign, or of one that was moved, outlives the server:
//! [`CloneWatch::take_unstored`] hands out what has to be stored, [`CloneWatch::restore`] takes it back. Of
//! all other devices the marks of the last life are enough ([`DeviceState`](super::device_state)).
#![forbid(unsafe_code)]

mod history;
mod judge;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use minicbor::{Decode, Encode};

use self::history::{History, POINTS_ENOUGH, POINTS_OF_RETURN};
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::time::{Moment, Now, WallTime};
pub use judge::{Change, Judged};

/// Links that are taken over within [`TAKEN_OVER_SECONDS`] from which on the same is suspected, in links: an
/// agent stays away for a minute when that happens to it.
const TAKEN_OVER_MIN: usize = 6;

/// See [`TAKEN_OVER_MIN`]: an hour.
const TAKEN_OVER_SECONDS: u64 = 3_600;

/// Time that a suspicion lasts without another sign, at least: a day.
const LASTS_SECONDS: u64 = 86_400;

/// Time for which a machine that was followed by another one is remembered, at least: a month. A device that
/// was switched off meanwhile is still the first when it comes back.
const MACHINE_REMEMBERED_SECONDS: u64 = 30 * 86_400;

/// Time by which both may be longer, so that a device that goes on giving signs is stored once an hour.
const TOUCHED_SECONDS: u64 = 3_600;

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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Incarnation {
    /// The machine ([`machine_mark`]); 0: not known.
    #[n(0)]
    pub machine: u16,
    /// The boot ([`boot_mark`]); 0: not known.
    #[n(1)]
    pub boot: u16,
    /// The agent epoch.
    #[n(2)]
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sighting {
    /// Two machines are suspected from now on.
    pub is_new: bool,
    /// The one that came is a copy of the first, as far as that can be told.
    pub is_copy: bool,
}

/// Meaning of a certificate that was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CertificateSighting {
    /// Two machines are suspected from now on.
    pub is_new: bool,
    /// It was shown before, and another one since.
    pub has_returned: bool,
}

/// The stored state of a device, so that the next server knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredWatch {
    /// Until when it is remembered, by the time that was known for certain when it was stored.
    pub remembered_until: WallTime,
    /// The hour in which its copies are counted that enrol anew ends then.
    pub forks_until: WallTime,
    /// Its history: CBOR.
    pub history: Vec<u8>,
}

/// One device that is watched.
#[derive(Debug, Default)]
struct Watched {
    history: History,
    /// The life that came last: the device's record may be behind it after a crash.
    last: Option<Incarnation>,
    taken_over_at: VecDeque<Moment>,
    /// Without another sign it is over then.
    remembered_until: Moment,
    /// The hour in which forks are counted ends then.
    forks_until: Moment,
    is_stored: bool,
}

/// Remembers what devices were, as far as that speaks of two machines.
#[derive(Debug, Default)]
pub struct CloneWatch {
    devices: BTreeMap<DeviceId, Watched>,
    /// Devices whose stored state is not what is known of them.
    unstored: BTreeSet<DeviceId>,
}

impl CloneWatch {
    /// Takes back what the server before has stored of a device. `now` has the time that is known for
    /// certain: while the server did not run, nothing was forgotten.
    ///
    /// # Errors
    /// When it can't be read. Then nothing is known of the device, and its stored state goes.
    pub fn restore(
        &mut self,
        device: DeviceId,
        stored: &StoredWatch,
        now: &Now,
    ) -> Result<(), minicbor::decode::Error> {
        let decoded = minicbor::decode::<(History, Option<Incarnation>)>(&stored.history);
        // Until all is well with it.
        self.unstored.insert(device);
        let (history, last) = decoded?;
        let moment = |wall: WallTime, seconds_max: u64| {
            now.moment.plus_milliseconds(wall.0.saturating_sub(now.wall.0).min(seconds_max * 1_000))
        };
        let watched = Watched {
            history,
            last,
            taken_over_at: VecDeque::new(),
            remembered_until: moment(stored.remembered_until, MACHINE_REMEMBERED_SECONDS + TOUCHED_SECONDS),
            forks_until: moment(stored.forks_until, FORKS_SECONDS),
            is_stored: true,
        };
        if !watched.is_over(now) && self.devices.len() < DEVICES_MAX {
            self.devices.insert(device, watched);
            self.unstored.remove(&device);
        }
        Ok(())
    }

    /// Takes out what has to be stored now, in place of what was stored of these devices; `None`: nothing.
    /// `now` has the time that is known for certain.
    pub fn take_unstored(&mut self, now: &Now) -> Vec<(DeviceId, Option<StoredWatch>)> {
        let wall = |moment: Moment| {
            let left_milliseconds = moment.microseconds_since(now.moment).div_ceil(1_000);
            WallTime(now.wall.0.saturating_add(left_milliseconds))
        };
        let unstored = std::mem::take(&mut self.unstored);
        let stored = unstored.into_iter().map(|device| {
            let stored = self.devices.get_mut(&device).and_then(|watched| {
                watched.is_stored = watched.history.is_worth_storing();
                watched.is_stored.then(|| StoredWatch {
                    remembered_until: wall(watched.remembered_until),
                    forks_until: wall(watched.forks_until),
                    history: minicbor::to_vec((&watched.history, watched.last)).unwrap_or_default(),
                })
            });
            (device, stored)
        });
        stored.collect()
    }

    /// Has these devices stored once more: what was taken out for them did not get there.
    pub fn not_stored(&mut self, devices: impl IntoIterator<Item = DeviceId>) {
        self.unstored.extend(devices);
    }

    /// Has all of them stored once more: the wall clock is another.
    pub fn store_all(&mut self) {
        let stored = self.devices.iter().filter(|(_, watched)| watched.is_stored);
        self.unstored.extend(stored.map(|(device, _)| *device));
    }

    /// The device was `left` before, by its record, and is `came` now, which is another life.
    pub fn changed(
        &mut self,
        device: DeviceId,
        left: Incarnation,
        came: Incarnation,
        peer: Option<IpAddr>,
        now: &Now,
    ) -> Sighting {
        let sighting = self.update(device, peer, now, |watched| {
            // The record knows nothing of one that was turned away, and keeps the epoch of other contents.
            let left = watched.last.replace(came).unwrap_or(left);
            let points = if left == came { 0 } else { watched.history.follow(left, came) };
            Sighting { is_new: watched.history.add(points, now), is_copy: watched.history.is_copy(came) }
        });
        sighting.unwrap_or_default()
    }

    /// The device has another content in a revision that is known. `true`: two machines are suspected from
    /// now on.
    pub fn contradicted(&mut self, device: DeviceId, peer: Option<IpAddr>, now: &Now) -> bool {
        let is_new = self.update(device, peer, now, |watched| watched.history.add(POINTS_OF_RETURN, now));
        is_new.unwrap_or(false)
    }

    /// The device has shown its certificate of this number, which is not the one that was `in_use`, 0 when
    /// that is not known. A lower number than that begins the watch; without one, renewals are nothing.
    pub fn certificate_shown(
        &mut self,
        device: DeviceId,
        in_use: u32,
        number: u32,
        peer: Option<IpAddr>,
        now: &Now,
    ) -> CertificateSighting {
        let is_watched = self.devices.get(&device).is_some_and(|watched| watched.history.has_certificates());
        if number >= in_use && !is_watched {
            return CertificateSighting::default();
        }
        let sighting = self.update(device, peer, now, |watched| {
            let points = watched.history.show(in_use, number);
            CertificateSighting { is_new: watched.history.add(points, now), has_returned: points > 0 }
        });
        sighting.unwrap_or_default()
    }

    /// A link of the device was taken over by another one. `true`: two machines are suspected from now on.
    pub fn taken_over(&mut self, device: DeviceId, peer: Option<IpAddr>, now: &Now) -> bool {
        let is_new = self.update(device, peer, now, |watched| {
            watched.taken_over_at.push_back(now.moment);
            if watched.taken_over_at.len() > TAKEN_OVER_MIN {
                watched.taken_over_at.pop_front();
            }
            let first = watched.taken_over_at.front().copied().unwrap_or(now.moment);
            let is_often = watched.taken_over_at.len() == TAKEN_OVER_MIN
                && now.moment <= first.plus_seconds(TAKEN_OVER_SECONDS);
            is_often && watched.history.add(POINTS_ENOUGH, now)
        });
        is_new.unwrap_or(false)
    }

    /// Another machine is the device from now on: the signs that there were say nothing of it.
    pub fn forget(&mut self, device: DeviceId) {
        if self.devices.remove(&device).is_some_and(|watched| watched.is_stored) {
            self.unstored.insert(device);
        }
    }

    /// A copy is about to be sent to enrol anew. `false`: too many were lately.
    #[must_use]
    pub fn fork(&mut self, device: DeviceId, copy: Incarnation, now: &Now) -> bool {
        let is_allowed = self.update(device, None, now, |watched| {
            let is_another_hour = now.moment > watched.forks_until;
            if is_another_hour {
                watched.forks_until = now.moment.plus_seconds(FORKS_SECONDS);
            }
            watched.history.fork(copy, is_another_hour) <= FORKS_MAX
        });
        is_allowed.unwrap_or(false)
    }

    /// The suspicion of a device. None any more when each copy was sent to enrol anew and stays away.
    #[must_use]
    pub fn suspicion(&self, device: DeviceId, now: &Now) -> Option<Suspicion> {
        self.devices.get(&device).filter(|watched| !watched.is_quiet(now))?.history.suspicion()
    }

    /// Works on what is known of a device that gives a sign; `None` when it can't be remembered.
    fn update<T>(
        &mut self,
        device: DeviceId,
        peer: Option<IpAddr>,
        now: &Now,
        work: impl FnOnce(&mut Watched) -> T,
    ) -> Option<T> {
        let watched = self.watched(device, now)?;
        let before = (watched.history.clone(), watched.remembered_until);
        watched.touch(now);
        watched.history.hear_from(peer);
        let outcome = work(watched);
        let has_changed = before != (watched.history.clone(), watched.remembered_until);
        if has_changed && (watched.is_stored || watched.history.is_worth_storing()) {
            self.unstored.insert(device);
        }
        Some(outcome)
    }

    fn watched(&mut self, device: DeviceId, now: &Now) -> Option<&mut Watched> {
        if !self.devices.contains_key(&device) && self.devices.len() >= DEVICES_MAX {
            self.keep(|watched| !watched.is_over(now) && watched.history.is_worth_storing());
            if self.devices.len() >= DEVICES_MAX {
                self.keep(|watched| watched.history.is_suspected() && !watched.is_quiet(now));
            }
            if self.devices.len() >= DEVICES_MAX {
                return None;
            }
        }
        let watched = self.devices.entry(device).or_default();
        let is_stored = watched.is_stored;
        if watched.is_over(now) {
            *watched = Watched { is_stored, ..Watched::default() };
        } else if watched.is_quiet(now) {
            let history = watched.history.without_signs();
            *watched = Watched { history, is_stored, ..Watched::default() };
        }
        Some(watched)
    }

    /// Forgets the other devices.
    fn keep(&mut self, is_kept: impl Fn(&Watched) -> bool) {
        let unstored = &mut self.unstored;
        self.devices.retain(|device, watched| {
            let is_kept = is_kept(watched);
            // More than this can't have been stored since: what is left over goes when its time is over.
            if !is_kept && watched.is_stored && unstored.len() < 2 * DEVICES_MAX {
                unstored.insert(*device);
            }
            is_kept
        });
    }
}

impl Watched {
    /// There is a sign of it.
    fn touch(&mut self, now: &Now) {
        let least = now.moment.plus_seconds(MACHINE_REMEMBERED_SECONDS);
        if self.remembered_until < least {
            self.remembered_until = least.plus_seconds(TOUCHED_SECONDS);
        }
    }

    fn is_quiet(&self, now: &Now) -> bool {
        now.moment.plus_seconds(MACHINE_REMEMBERED_SECONDS - LASTS_SECONDS) > self.remembered_until
    }

    fn is_over(&self, now: &Now) -> bool {
        if self.history.outlasts_signs() { now.moment > self.remembered_until } else { self.is_quiet(now) }
    }
}

#[cfg(test)]
mod tests;
