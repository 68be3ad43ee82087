//! A device: the agent's machine, and its identity on a disk that may be cut off in a write and set back.

use std::collections::BTreeSet;
use std::path::Path;

use muster::agent::directory::Directory;
use muster::agent::identity::{Candidate, Identity, KeyType};
use muster::machine::agent::{AgentMachine, AgentStart, AgentState, SectionContent, SpoolState};
use muster::machine::random::Random;
use muster::wire::datagram::boot_of;
use muster::wire::id::{CertificateHash, Epoch};
use muster::wire::inventory::Application;
use muster::wire::message::{Reach, SyncIdentity, Trust};

use super::Fault;

/// Unit in which a medium writes.
const SECTOR_BYTES: usize = 512;

const SLOTS: [&str; 2] = ["identity.a", "identity.b"];

/// The disk's contents at a moment.
#[derive(Clone)]
pub(super) struct Image {
    slots: [Option<Vec<u8>>; 2],
    state: Option<Vec<u8>>,
    proved: Option<CertificateHash>,
}

pub(super) struct Device {
    directory: Directory,
    _files: tempfile::TempDir,
    pub(super) state: Option<Vec<u8>>,
    pub(super) machine: Option<AgentMachine>,
    /// As the agent has it in memory: the certificate that it shows, and the private key.
    pub(super) identity: Identity,
    pub(super) candidate: Option<Candidate>,
    /// The certificate with which a sync has ended well last.
    pub(super) proved: Option<CertificateHash>,
    /// Its disk was set back since it named what it trusts.
    pub(super) is_set_back: bool,
    /// It is switched off until this day.
    pub(super) away_until: u64,
    /// Distance of its clock from the truth, in milliseconds.
    pub(super) clock_offset: i64,
    pub(super) machine_id: u64,
    pub(super) boots: u32,
    /// The day on which it was in sync last.
    pub(super) synced_on: Option<u64>,
    /// The planted fault that names what is not stored: not on the disk yet.
    pub(super) unwritten: Option<Box<Trust>>,
    pub(super) images: Vec<Image>,
}

/// A write was cut off: the device has lost its power.
pub(super) struct PowerCut;

impl Device {
    pub(super) fn new(scratch: &Path, identity: Identity, machine_id: u64) -> Self {
        let files = tempfile::tempdir_in(scratch).unwrap();
        let directory = Directory::open(files.path()).unwrap();
        identity.write(directory.path()).unwrap();
        Self {
            directory,
            _files: files,
            state: None,
            machine: None,
            identity,
            candidate: None,
            proved: None,
            is_set_back: false,
            away_until: 0,
            clock_offset: 0,
            machine_id,
            boots: 0,
            synced_on: None,
            unwritten: None,
            images: Vec::new(),
        }
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Its identity as the disk has it.
    pub(super) fn stored(&self) -> Identity {
        Identity::read_enrolled(self.directory.path()).unwrap()
    }

    /// Starts the agent on what the disk holds.
    pub(super) fn start(&mut self, seed: u64, key_type: KeyType) {
        self.identity = self.stored();
        (self.candidate, self.unwritten) = (None, None);
        let mut machine = AgentMachine::new(AgentStart {
            state: self.state.as_deref().and_then(AgentState::from_bytes),
            base: None,
            spool: SpoolState { epoch: Epoch(1), highest: 0, forgotten_through: 0 },
            reach: Reach {
                udp_port: 0,
                wake_counter: 0,
                notice_counter: 0,
                boot: boot_of(&format!("{} {}", self.machine_id, self.boots)),
            },
            seed,
        });
        machine.set_previous_certificate(self.identity.previous.is_some());
        let trust_label = self.identity.trust_label;
        machine.set_identity(SyncIdentity { trust_label, machine: self.machine_id });
        machine.set_key_outdated(self.identity.key_type() != key_type);
        let application = Application {
            name: "firmware".into(),
            version: self.identity.device.to_string(),
            publisher: String::new(),
        };
        machine.section_changed(SectionContent::Inventory([application].into()));
        self.machine = Some(machine);
    }

    /// The agent ends; the next start may be in another boot.
    pub(super) fn stop(&mut self, is_reboot: bool) {
        self.machine = None;
        self.boots += u32::from(is_reboot);
    }

    /// Writes its identity; with `cut`, any sectors of that reach the medium, and the device is off.
    pub(super) fn write(&mut self, identity: &Identity, cut: Option<&mut Random>) -> Result<(), PowerCut> {
        let before = self.slots();
        identity.write(self.directory.path()).unwrap();
        let Some(random) = cut else { return Ok(()) };
        // Of its own: some signatures are a byte longer than others, and so a file by a sector.
        let mut random = Random::new(random.next_u64());
        for (name, (old, new)) in SLOTS.iter().zip(before.into_iter().zip(self.slots())) {
            let Some(new) = new.filter(|new| old.as_ref() != Some(new)) else { continue };
            let mut torn = old.unwrap_or_default();
            torn.resize(torn.len().max(new.len()), 0);
            for (old, new) in torn.chunks_mut(SECTOR_BYTES).zip(new.chunks(SECTOR_BYTES)) {
                if random.up_to(1) == 0 {
                    old[..new.len()].copy_from_slice(new);
                }
            }
            std::fs::write(self.directory.path().join(name), torn).unwrap();
        }
        self.stop(true);
        Err(PowerCut)
    }

    fn slots(&self) -> [Option<Vec<u8>>; 2] {
        SLOTS.map(|slot| std::fs::read(self.directory.path().join(slot)).ok())
    }

    pub(super) fn image(&self) -> Image {
        Image { slots: self.slots(), state: self.state.clone(), proved: self.proved }
    }

    pub(super) fn set_back(&mut self, image: &Image) {
        self.stop(true);
        for (slot, content) in SLOTS.iter().zip(&image.slots) {
            let path = self.directory.path().join(slot);
            match content {
                Some(content) => std::fs::write(path, content).unwrap(),
                None => drop(std::fs::remove_file(path)),
            }
        }
        (self.state, self.proved, self.is_set_back) = (image.state.clone(), image.proved, true);
        self.identity = self.stored();
    }

    /// A machine with a copy of this disk.
    pub(super) fn copy(&self, scratch: &Path, machine_id: u64) -> Self {
        let mut copy = Self::new(scratch, self.stored(), machine_id);
        copy.set_back(&self.image());
        copy.boots = 1_000 + self.boots;
        copy
    }

    /// Private keys on its disk.
    pub(super) fn keys(&self) -> BTreeSet<Vec<u8>> {
        let stored = self.stored();
        let previous = stored.previous.as_ref().map(|previous| previous.private_key.clone());
        previous.into_iter().chain([stored.private_key.clone()]).collect()
    }

    /// Whatever happened, the certificate with which the last sync ended well is on the disk, and a server
    /// to trust.
    pub(super) fn judge_disk(&self) -> Result<(), String> {
        let stored = self.stored();
        if stored.pins.is_empty() {
            return Err("the device trusts nothing".into());
        }
        let previous = stored.previous.as_ref().map(|previous| &previous.certificate);
        let mut there = previous.into_iter().chain([&stored.certificate]);
        if self.proved.is_some_and(|proved| !there.any(|one| CertificateHash::of(one) == proved)) {
            return Err("the certificate with which the last sync ended well is not on the disk".into());
        }
        Ok(())
    }

    /// A certificate has come: the identity with it, as the agent makes it.
    pub(super) fn renewed(&mut self, certificate: Vec<u8>, fault: Fault) -> Option<Identity> {
        let mut renewed = self.stored().renewed(self.candidate.take()?, certificate);
        if fault == Fault::ForgetsBeforeProved {
            renewed.previous = None;
        }
        Some(renewed)
    }
}
