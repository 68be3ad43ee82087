//! An administrator's work in ten years, and the fate of the server.

use std::collections::BTreeSet;

use muster::agent::identity::{Identity, KeyType};
use muster::agent::talk::expected_of;
use muster::machine::device_state::CertificateStatus;
use muster::server::identity::{Recovery, Step, TrustFacts};
use muster::wire::id::CertificateHash;

use super::Fault;
use super::world::{DAY_SECONDS, Ghost, Thief, World};

/// Backups that are kept.
const BACKUPS_MAX: usize = 6;

impl World {
    pub(super) fn administer(&mut self) -> Result<(), String> {
        if self.server.clock_offset != 0 && self.one_in(3) {
            self.server.clock_offset = 0;
        }
        if self.happens(8) {
            self.server.clock_offset = self.odd_clock();
            self.counts.clock_steps += 1;
            self.say(|| "the server's clock is wrong".into());
        }
        self.server.observe(self.server_now(0));
        if self.happens(40) {
            self.server.restart(self.server_now(0));
        }
        if self.happens(60) {
            self.backups.push(self.server.back_up(self.server_now(0)));
            let surplus = self.backups.len().saturating_sub(BACKUPS_MAX);
            self.backups.drain(..surplus);
        }
        if self.happens(6) && !self.backups.is_empty() {
            self.restore()?;
        }
        if self.happens(40) {
            self.rotate()?;
        }
        if self.happens(4) {
            // Not while a former secret is in use.
            let _ = self.take(&Step::RotateSecret);
        }
        if self.happens(2) && self.all_know_recovery_key() {
            self.lose_keys();
        }
        if (self.happens(2) || (self.is_recovery_key_used && self.one_in(3))) && self.all_are_there() {
            self.replace_recovery_key();
        }
        if self.happens(3) {
            self.key_type = match self.key_type {
                KeyType::Ed25519 => KeyType::P256,
                KeyType::P256 => KeyType::Ed25519,
            };
        }
        self.change_members();
        Ok(())
    }

    fn take(&mut self, step: &Step<'_>) -> Result<(), String> {
        self.server.identity.take(step, self.server_now(0).wall).map_err(|error| error.to_string())?;
        self.server.begin();
        Ok(())
    }

    /// The next step of a rotation, if it may be taken.
    fn rotate(&mut self) -> Result<(), String> {
        let facts = self.server.identity.trust_facts();
        let step = match (facts.next, facts.former) {
            (None, None) => {
                let key = self.recovery_key.clone();
                self.say(|| "prepare".into());
                return self.take(&Step::Prepare(self.is_careful.then_some(key.as_str())));
            }
            (Some(_), _) => Step::Switch,
            (None, Some(_)) => Step::Retire,
        };
        if !self.may_go_on(&facts) {
            return Ok(());
        }
        self.judge_pins()?;
        self.say(|| if matches!(step, Step::Switch) { "switch".into() } else { "retire".into() });
        self.counts.rotations += u64::from(matches!(step, Step::Retire));
        self.take(&step)
    }

    /// By what the server says: each device has the pin, or comes back by the recovery key.
    fn may_go_on(&self, facts: &TrustFacts) -> bool {
        if self.fault == Fault::RetiresUnready {
            return true;
        }
        let is_vouched = if facts.next.is_some() { facts.is_next_vouched } else { facts.is_vouched };
        let labels: &[u64] = if is_vouched { &facts.recovery_labels } else { &[] };
        let counts = self.server.store.devices().trust_counts(facts.label, labels).unwrap();
        counts.devices == counts.ready + counts.recoverable && (self.is_careful || self.all_are_there())
    }

    /// A device that counts as ready has stored all of it.
    fn judge_pins(&self) -> Result<(), String> {
        let table = self.server.store.table();
        for (number, device) in self.devices.iter().enumerate().filter(|(_, device)| !device.is_set_back) {
            let stored = device.stored();
            let is_ready = table.get(stored.device).is_some_and(|record| record.has_trust());
            if is_ready && !self.trusts_all(&stored) {
                return Err(format!(
                    "device {number} counts as ready, and has not stored what it is to trust"
                ));
            }
        }
        Ok(())
    }

    /// Whether this is the set of certificates that devices are to trust.
    pub(super) fn trusts_all(&self, stored: &Identity) -> bool {
        let set = |pins: &[Vec<u8>]| pins.iter().cloned().collect::<BTreeSet<_>>();
        set(&stored.pins) == set(&self.server.identity.pins())
    }

    fn all_know_recovery_key(&self) -> bool {
        let recovery = self.server.identity.trust_facts().recovery;
        self.is_careful
            && self.devices.iter().all(|device| {
                let known = device.stored().pin_hashes();
                recovery.is_some_and(|recovery| known.contains(&recovery))
            })
    }

    /// After a restore from before an enrolment a device is not known until it has come.
    fn all_are_there(&self) -> bool {
        let table = self.server.store.table();
        self.devices
            .iter()
            .all(|device| table.get(device.identity.device).is_some_and(|record| !record.is_waiting()))
    }

    /// A certificate that each device has on its disk is known: needed before the authority is made anew.
    fn all_are_known(&self) -> bool {
        let table = self.server.store.table();
        self.devices.iter().all(|device| {
            let stored = device.stored();
            let previous = stored.previous.as_ref().map(|previous| &previous.certificate);
            let mut there = previous.into_iter().chain([&stored.certificate]);
            there.any(|one| {
                matches!(table.by_certificate(&CertificateHash::of(one)), CertificateStatus::Known(_))
            })
        })
    }

    fn lose_keys(&mut self) {
        let (is_stolen, loses_files) = (self.one_in(2), self.one_in(2));
        // The authority is another one then.
        if (is_stolen || loses_files) && !self.all_are_known() {
            return;
        }
        self.lose_keys_as(is_stolen, loses_files);
    }

    /// The keys are stolen, or only lost, and replaced by the recovery key; the files may be gone, too.
    pub(super) fn lose_keys_as(&mut self, is_stolen: bool, loses_files: bool) {
        self.say(|| format!("the keys are {}", if is_stolen { "stolen" } else { "lost" }));
        if is_stolen {
            let (files, identity) = self.server.thief();
            let mut labels = self.labels.clone();
            labels.insert(identity.trust_facts().label);
            self.thief = Some(Thief { _files: files, identity, labels });
            self.counts.thefts += 1;
        } else {
            self.counts.losses += 1;
        }
        self.recover(is_stolen, loses_files);
        if is_stolen || loses_files {
            // It signed no certificate that was forgotten: copies of before would lock devices out.
            self.forget_copies();
        }
    }

    fn recover(&mut self, is_stolen: bool, loses_files: bool) {
        let recovery = Recovery { is_stolen, above: self.highest_voucher };
        self.server.recover(&self.recovery_key, recovery, loses_files, self.server_now(0));
        self.is_recovery_key_used = true;
    }

    fn forget_copies(&mut self) {
        self.backups.clear();
        self.devices.iter_mut().for_each(|device| device.images.clear());
    }

    fn replace_recovery_key(&mut self) {
        self.say(|| "another recovery key".into());
        let made = self.server.identity.create_recovery_key(self.server_now(0).wall).unwrap();
        self.recovery_key = made.to_string();
        self.is_recovery_key_used = false;
        self.server.begin();
        // Those of before know the other one.
        self.forget_copies();
        self.counts.recovery_keys += 1;
    }

    fn restore(&mut self) -> Result<(), String> {
        let backup = usize::try_from(self.random.up_to(self.backups.len() as u64 - 1)).unwrap();
        let has_identity = self.all_know_recovery_key() && self.one_in(2);
        let backup = self.backups.remove(backup);
        let label = self.server.identity.trust_facts().label;
        self.say(|| format!("restored, {}", if has_identity { "keys and all" } else { "the database" }));
        self.server.restore(&backup, has_identity, self.server_now(0));
        self.counts.restores += 1;
        self.restored_on = self.day();
        if has_identity && backup.label != label {
            // Devices may know later keys alone.
            self.recover(false, false);
        }
        for device in self.removed.keys() {
            if self.server.store.table().get(*device).is_some() {
                self.server.store.devices().remove(*device, self.server_now(0).wall).unwrap();
            }
        }
        if !self.is_careful {
            // Nobody counts who is not known: before the next rotation all must have come.
            for number in 0..self.devices.len() {
                self.come_back(number)?;
            }
        }
        Ok(())
    }

    /// The device is on, and comes in sync whatever that takes.
    pub(super) fn come_back(&mut self, number: usize) -> Result<(), String> {
        self.devices[number].away_until = 0;
        for _ in 0..4 {
            if self.visit(number, true)? {
                return Ok(());
            }
            for device in std::mem::take(&mut self.waiting) {
                self.server.approve(device);
            }
            // Later than any time that it was told to stay away.
            self.seconds += 7_200;
        }
        Err(format!("device {number} does not come back"))
    }

    pub(super) fn set_back(&mut self, number: usize, image: usize) -> Result<(), String> {
        let image = self.devices[number].images[image].clone();
        let current = self.devices[number].image();
        self.devices[number].set_back(&image);
        let chain = self.server.identity.chain();
        let behind: Vec<&[u8]> = chain[1..].iter().map(Vec::as_slice).collect();
        let recovery = self.server.identity.trust_facts().recovery;
        let knows_recovery_key =
            recovery.is_some_and(|recovery| self.devices[number].stored().pin_hashes().contains(&recovery));
        let is_accepted = expected_of(&self.devices[number].identity).check(&chain[0], &behind).is_ok();
        let is_issued = self.server.identity.issued(&self.devices[number].identity.certificate).is_some();
        if !is_accepted || !is_issued || (self.is_careful && !knows_recovery_key) {
            // A copy is of no use that is older than a rotation without the recovery key, or than the
            // authority.
            self.devices[number].set_back(&current);
            return Ok(());
        }
        self.say(|| format!("device {number} is set back"));
        self.counts.set_backs += 1;
        if self.is_careful { Ok(()) } else { self.come_back(number) }
    }

    /// Devices join, are reimaged, and are removed.
    fn change_members(&mut self) {
        let count = self.devices.len() as u64;
        if self.happens(4) {
            let device = self.enrolled(None);
            self.devices.push(device);
        }
        let number = usize::try_from(self.random.up_to(count - 1)).unwrap();
        let id = self.devices[number].identity.device;
        let is_there = self.server.store.table().get(id).is_some_and(|record| !record.is_waiting());
        // A take-over is told from an earlier one that a restore has undone by its day.
        let (ages, truth) = (self.server.ages(&self.server_now(0)).0, self.truth().wall.0);
        if is_there && ages.abs_diff(truth) < DAY_SECONDS * 1_000 && self.happens(6) {
            let successor = self.enrolled(Some(id));
            let former = std::mem::replace(&mut self.devices[number], successor);
            let certificate = former.stored().certificate.clone();
            self.ghosts.push(Ghost { device: id, certificate });
            self.say(|| format!("another machine is device {number}"));
            self.counts.take_overs += 1;
        } else if is_there && count > 3 && self.happens(2) {
            self.server.store.devices().remove(id, self.server_now(0).wall).unwrap();
            let removed = self.devices.swap_remove(number);
            self.removed.insert(id, removed.stored().certificate.clone());
            self.ghosts.retain(|ghost| ghost.device != id);
            self.counts.removals += 1;
        }
    }
}
