//! To another server, and only once that one has proved itself.
//!
//! The new identity waits beside the one that counts, in slots of its own, until the new server has answered
//! it. The commit is one atomic write of the identity; what the device remembers of the old server is
//! forgotten after it. The waiting copy is removed last, so that the next start knows whether a commit was
//! interrupted: it equals the identity when it was, and means nothing otherwise.

use std::time::{Duration, Instant};

use super::ab_slots::{AbSlots, SlotError};
use super::address::ServerAddress;
use super::checksummed;
use super::datagram::counters::forget_wakes;
use super::directory::{BASE_FILE, Directory, STATE_SLOT};
use super::enroll::CONNECT_TIMEOUT;
use super::identity::{Candidate, Identity, IdentityError};
use super::talk::{Talk, TalkError, probed, tls_of};
use crate::wire::message::{ErrorCode, Probe, ToServer};

/// Slot of the identity that waits.
const STAGE_SLOT: &str = "identity-next";

/// Time of the new server from the first byte to its answer: it may be busy with others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens a link with the new identity and has the server answer on it; a device that waits for approval is
/// told so there, and nothing else.
///
/// # Errors
/// In words: why it may not be moved to.
pub fn verify(server: &ServerAddress, identity: &Identity, is_waiting: bool) -> Result<(), String> {
    let addresses = server.resolve()?;
    let tls = tls_of(identity).map_err(|error| error.to_string())?;
    let mut talk = Talk::with_any(&addresses, &tls, CONNECT_TIMEOUT, ANSWER_TIMEOUT)
        .map_err(|error| error.to_string())?;
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    // No wake is asked for: the port is the old server's until the move is done.
    let probe = ToServer::Probe(Probe { udp_port: 0 });
    let answer = talk.ask(&probe, deadline, probed);
    talk.close();
    match answer {
        Err(TalkError::Refused(report)) if is_waiting && report.code == ErrorCode::WaitingForApproval => {
            Ok(())
        }
        answer => answer.map(drop).map_err(|error| error.to_string()),
    }
}

/// Has the identity wait; durable when this returns.
///
/// # Errors
/// When the system refuses.
pub fn stage(directory: &Directory, identity: &Identity) -> Result<(), IdentityError> {
    identity.write_slots(directory.path(), STAGE_SLOT)
}

/// The identity that waits; `None` when there is none, or none that is whole.
///
/// # Errors
/// When the system refuses.
pub fn staged(directory: &Directory) -> Result<Option<Identity>, IdentityError> {
    match Identity::read_slots(directory.path(), STAGE_SLOT) {
        // Torn while it was written: nothing was committed.
        Err(IdentityError::Damaged(..)) => Ok(None),
        result => result,
    }
}

/// The identity that waits is not wanted any more.
///
/// # Errors
/// When the system refuses.
pub fn discard(directory: &Directory) -> Result<(), IdentityError> {
    AbSlots::new(directory.path(), STAGE_SLOT).remove().map_err(IdentityError::AbSlots)
}

/// From now on the device is `identity`, which was [staged](stage). The caller holds the directory's lock.
///
/// # Errors
/// When the system refuses. The device then has its old or its new identity, whole: [`Identity::read`] says
/// which.
pub fn commit(directory: &Directory, identity: &Identity) -> Result<(), IdentityError> {
    identity.write(directory.path())?;
    forget_former(directory, identity)?;
    discard(directory)
}

/// The identity of before is in neither slot any more, nor anything of its server elsewhere; the key that
/// asked for this one is its own.
fn forget_former(directory: &Directory, identity: &Identity) -> Result<(), IdentityError> {
    identity.write(directory.path())?;
    Candidate::forget(directory.path())
        .and_then(|()| forget_server(directory))
        .map_err(IdentityError::AbSlots)
}

/// Finishes a commit that was interrupted, and removes an identity that waits for nothing. The caller holds
/// the directory's lock.
///
/// # Errors
/// When the system refuses.
pub fn settle(directory: &Directory) -> Result<(), IdentityError> {
    let Some(waiting) = staged(directory)? else { return discard(directory) };
    if Identity::read(directory.path()).is_ok_and(|identity| identity.as_ref() == Some(&waiting)) {
        forget_former(directory, &waiting)?;
    }
    discard(directory)
}

/// Forgets what was agreed with the old server: everything is sent whole to the next one. The spool stays.
fn forget_server(directory: &Directory) -> Result<(), SlotError> {
    AbSlots::new(directory.path(), STATE_SLOT).remove()?;
    forget_wakes(directory.path())?;
    let base = directory.path().join(BASE_FILE);
    checksummed::remove(&base).map_err(|source| SlotError::Io(base, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::identity::tests::example;
    use crate::wire::id::DeviceId;

    struct Device {
        _outer: tempfile::TempDir,
        directory: Directory,
        old: Identity,
        new: Identity,
    }

    impl Device {
        /// Of the old server, with something to remember of it, and with the new identity waiting.
        fn new() -> Self {
            let outer = tempfile::tempdir().unwrap();
            let directory = Directory::open_or_create(outer.path()).unwrap();
            let old = example();
            let mut new = example();
            (new.device, new.server) = (DeviceId(99), "new.example.org:13000".into());
            old.write(directory.path()).unwrap();
            AbSlots::new(directory.path(), STATE_SLOT).write(b"of the old server").unwrap();
            std::fs::write(directory.path().join(BASE_FILE), b"of the old server").unwrap();
            stage(&directory, &new).unwrap();
            Self { _outer: outer, directory, old, new }
        }

        fn identity(&self) -> Identity {
            Identity::read(self.directory.path()).unwrap().unwrap()
        }

        fn remembers(&self) -> bool {
            let state = AbSlots::new(self.directory.path(), STATE_SLOT).read().unwrap().is_some();
            assert_eq!(state, self.directory.path().join(BASE_FILE).exists());
            state
        }
    }

    #[test]
    fn a_commit_makes_the_new_device_and_forgets_the_old_server() {
        let device = Device::new();
        assert_eq!(staged(&device.directory).unwrap().as_ref(), Some(&device.new));
        commit(&device.directory, &device.new).unwrap();
        assert_eq!(device.identity(), device.new);
        assert!(!device.remembers());
        assert_eq!(staged(&device.directory).unwrap(), None);
        settle(&device.directory).unwrap();
        assert_eq!(device.identity(), device.new);
        // Whichever copy is damaged later: the former key is gone.
        for slot in ["identity.a", "identity.b"] {
            let path = device.directory.path().join(slot);
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, "damaged").unwrap();
            assert_eq!(device.identity(), device.new, "{slot}");
            std::fs::write(&path, whole).unwrap();
        }
    }

    #[test]
    fn before_the_commit_an_end_leaves_everything_as_it_was() {
        let device = Device::new();
        settle(&device.directory).unwrap();
        assert_eq!(device.identity(), device.old);
        assert!(device.remembers());
        assert_eq!(staged(&device.directory).unwrap(), None);
    }

    #[test]
    fn an_end_within_the_commit_is_made_good() {
        let device = Device::new();
        device.new.write(device.directory.path()).unwrap();
        settle(&device.directory).unwrap();
        assert_eq!(device.identity(), device.new);
        assert!(!device.remembers());
        assert_eq!(staged(&device.directory).unwrap(), None);
    }

    /// Whatever part of the identity's new slot reached the medium, the device is one of the two, whole, and
    /// remembers a server only when it still belongs to it.
    #[test]
    fn a_torn_commit_leaves_one_of_the_two_whole() {
        let device = Device::new();
        device.new.write(device.directory.path()).unwrap();
        let path = device.directory.path().join("identity.b");
        let whole = std::fs::read(&path).unwrap();
        for cut in (0..=whole.len()).step_by(7).chain([whole.len()]) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            AbSlots::new(device.directory.path(), STATE_SLOT).write(b"of the old server").unwrap();
            std::fs::write(device.directory.path().join(BASE_FILE), b"of the old server").unwrap();
            stage(&device.directory, &device.new).unwrap();
            settle(&device.directory).unwrap();
            let expected = if cut == whole.len() { &device.new } else { &device.old };
            assert_eq!(device.identity(), *expected, "cut at {cut}");
            assert_eq!(device.remembers(), cut < whole.len(), "cut at {cut}");
        }
    }

    #[test]
    fn a_torn_stage_means_nothing() {
        let device = Device::new();
        std::fs::write(device.directory.path().join("identity-next.a"), b"torn").unwrap();
        assert_eq!(staged(&device.directory).unwrap(), None);
        settle(&device.directory).unwrap();
        assert_eq!(device.identity(), device.old);
        assert!(!device.directory.path().join("identity-next.a").exists());
    }
}
