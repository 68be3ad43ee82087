//! The history of one device, and the points of each contradiction in it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use minicbor::{Decode, Encode};

use super::{Incarnation, Suspicion};
use crate::wire::time::{Now, WallTime};

/// Points from which on two machines are suspected.
pub(super) const POINTS_ENOUGH: u32 = 4;

/// Points of a life, or of a certificate, that comes back where one machine may do that: it was set back to a
/// snapshot.
pub(super) const POINTS_OF_RETURN: u32 = 2;

/// Points of a machine that comes back in a new boot: its disk may have been elsewhere for a while.
const POINTS_OF_MOVE: u32 = 1;

/// Lives that are remembered of one device, and certificates: as many copies of one disk are told apart in an
/// hour.
pub(super) const LIVES_MAX: usize = 16;

/// Addresses that are named of one device.
const ADDRESSES_MAX: usize = 4;

/// One life that was seen.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
struct Life {
    #[n(0)]
    incarnation: Incarnation,
    /// Its machine, whose first life this is, came back after another one.
    #[n(1)]
    has_returned: bool,
    /// It came back after another one on the same machine.
    #[n(2)]
    has_returned_here: bool,
}

/// History of one device, as far as it speaks of two machines.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub(super) struct History {
    /// In the order in which they appeared.
    #[n(0)]
    lives: Vec<Life>,
    /// Numbers of the certificates that were shown since one came behind its successor, the last one last.
    #[n(1)]
    certificates: Vec<u32>,
    #[n(2)]
    points: u32,
    #[n(3)]
    first_sign_at: WallTime,
    #[n(4)]
    addresses: BTreeSet<IpAddr>,
    /// Copies that were sent to enrol anew.
    #[n(5)]
    notified: Vec<Incarnation>,
    /// One of them came again all the same.
    #[n(6)]
    has_come_again: bool,
    /// Number of times that copies were sent to enrol anew, in an hour.
    #[n(7)]
    forks: u32,
}

/// Whether these are two machines, for certain.
fn differ(one: Incarnation, other: Incarnation) -> bool {
    one.machine != 0 && other.machine != 0 && one.machine != other.machine
}

/// Whether these are one boot of one machine, whatever the epoch.
fn are_one_boot(one: Incarnation, other: Incarnation) -> bool {
    one.boot != 0 && one.boot == other.boot && !differ(one, other)
}

impl History {
    /// The part that stays when its signs are over: of a machine that is off, it is remembered that it was
    /// the first, and of a certificate that it was shown.
    pub(super) fn without_signs(&self) -> Self {
        let lives = self.lives.iter().map(|life| Life::new(life.incarnation)).collect();
        Self { lives, certificates: self.certificates.clone(), ..Self::default() }
    }

    /// One life follows another; the points of the contradiction in it.
    pub(super) fn follow(&mut self, left: Incarnation, came: Incarnation) -> u32 {
        // Epochs tell lives apart in one boot; a boot that comes back does so in whatever epoch.
        let is_within = are_one_boot(left, came);
        let known = self.lives.iter().position(|life| {
            life.incarnation == came || (!is_within && are_one_boot(life.incarnation, came))
        });
        let known = known.map(|at| self.lives[at].incarnation);
        self.note(left);
        let is_elsewhere = differ(left, came);
        let first = self.lives.iter_mut().find(|life| life.incarnation.machine == came.machine);
        let has_returned = first.filter(|_| is_elsewhere).map(|first| first.has_returned = true).is_some();
        self.note(came);
        if let Some(known) = known.filter(|_| !is_elsewhere) {
            self.note(known).has_returned_here = true;
            return POINTS_OF_RETURN;
        }
        let has_boots = left.boot != 0 && came.boot != 0 && left.boot != came.boot;
        match (known, has_returned) {
            (Some(_), _) if has_boots => POINTS_ENOUGH,
            (Some(_), _) => POINTS_OF_RETURN,
            (None, true) => POINTS_OF_MOVE,
            (None, false) => 0,
        }
    }

    /// A certificate is shown, and another one, `in_use`, was before; the points of the contradiction in it.
    pub(super) fn show(&mut self, in_use: u32, number: u32) -> u32 {
        if self.certificates.is_empty() {
            self.certificates.push(in_use);
        }
        if self.certificates.last() == Some(&number) {
            return 0;
        }
        // One that was set back twice to one copy shows the same lower number twice.
        let is_higher = self.certificates.last().is_some_and(|last| number > *last);
        let known = self.certificates.iter().position(|shown| *shown == number);
        if let Some(at) = known.or((self.certificates.len() >= LIVES_MAX).then_some(0)) {
            self.certificates.remove(at);
        }
        self.certificates.push(number);
        if is_higher && known.is_some() { POINTS_OF_RETURN } else { 0 }
    }

    /// Adds up points. `true`: two machines are suspected from now on.
    pub(super) fn add(&mut self, points: u32, now: &Now) -> bool {
        if points == 0 {
            return false;
        }
        if self.points == 0 {
            self.first_sign_at = now.wall;
        }
        let was_suspected = self.is_suspected();
        self.points = self.points.saturating_add(points).min(POINTS_ENOUGH);
        self.is_suspected() && !was_suspected
    }

    pub(super) fn hear_from(&mut self, peer: Option<IpAddr>) {
        if self.addresses.len() < ADDRESSES_MAX {
            self.addresses.extend(peer);
        }
    }

    /// A copy is sent to enrol anew; how many were in this hour.
    pub(super) fn fork(&mut self, copy: Incarnation, is_another_hour: bool) -> u32 {
        self.forks = if is_another_hour { 1 } else { self.forks.saturating_add(1) };
        match self.notified.iter().any(|other| other.machine == copy.machine && other.boot == copy.boot) {
            true => self.has_come_again = true,
            false if self.notified.len() < LIVES_MAX => self.notified.push(copy),
            false => {}
        }
        self.forks
    }

    pub(super) fn is_copy(&self, came: Incarnation) -> bool {
        if !self.is_suspected() {
            return false;
        }
        let first = self.lives.iter().find(|life| life.has_returned);
        if first.is_some_and(|first| differ(first.incarnation, came)) {
            return true;
        }
        let is_here = |life: &&Life| life.has_returned_here && !differ(life.incarnation, came);
        let here: Vec<_> = self.lives.iter().filter(is_here).map(|life| life.incarnation).collect();
        let Some(first) = here.first() else { return false };
        let is_one_boot = here.iter().all(|other| are_one_boot(*first, *other));
        let is = |one: Incarnation| one == came || (!is_one_boot && are_one_boot(one, came));
        !is(*first) && here.iter().any(|other| is(*other))
    }

    /// Two machines, unless each copy was sent to enrol anew and stays away.
    pub(super) fn suspicion(&self) -> Option<Suspicion> {
        let is_settled = !self.notified.is_empty() && !self.has_come_again;
        (self.is_suspected() && !is_settled).then(|| Suspicion {
            since: self.first_sign_at,
            addresses: self.addresses.iter().copied().collect(),
        })
    }

    pub(super) fn is_suspected(&self) -> bool {
        self.points >= POINTS_ENOUGH
    }

    pub(super) fn has_certificates(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// Whether it is remembered for a month: it was on more than one machine, or has shown a certificate
    /// behind its successor.
    pub(super) fn outlasts_signs(&self) -> bool {
        let first = self.lives.first();
        let has_moved =
            |first: &Life| self.lives.iter().any(|life| differ(first.incarnation, life.incarnation));
        self.has_certificates() || first.is_some_and(has_moved)
    }

    /// Whether the next server has to know it: not that of a device that boots now and then.
    pub(super) fn is_worth_storing(&self) -> bool {
        self.points > 0 || self.outlasts_signs()
    }

    #[cfg(test)]
    pub(super) fn lives(&self) -> usize {
        self.lives.len()
    }

    fn note(&mut self, incarnation: Incarnation) -> &mut Life {
        let known = self.lives.iter().position(|life| life.incarnation == incarnation);
        let at = known.unwrap_or_else(|| {
            if self.lives.len() >= LIVES_MAX {
                self.lives.remove(self.least_needed());
            }
            self.lives.push(Life::new(incarnation));
            self.lives.len() - 1
        });
        &mut self.lives[at]
    }

    /// The life that says least: one whose machine has an earlier and a later one, so that the order of
    /// machines stays. The very first is needed.
    fn least_needed(&self) -> usize {
        let worth = |at: &usize| {
            let life = &self.lives[*at];
            let is_of_it = |other: &Life| other.incarnation.machine == life.incarnation.machine;
            let is_between =
                self.lives[..*at].iter().any(is_of_it) && self.lives[at + 1..].iter().any(is_of_it);
            (!is_between, life.has_returned || life.has_returned_here)
        };
        (1..self.lives.len()).min_by_key(worth).unwrap_or(0)
    }
}

impl Life {
    fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, has_returned: false, has_returned_here: false }
    }
}
