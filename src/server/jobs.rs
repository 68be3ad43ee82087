//! Work on its way to the workers: bounded in number by permits, and in memory here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::machine::command::Job;
use crate::machine::device_state::LinkRef;
use crate::machine::permits::Permit;

/// Most jobs with workers and the store at a time. A device that finds none free is told to come later.
pub(super) const JOBS_MAX: usize = 512;

/// Most memory of jobs that wait for a worker: as much as waits for the store. One that has more by itself
/// waits alone.
pub(super) const JOBS_BYTES_MAX: usize = 64 << 20;

/// The end at which jobs are handed in.
pub(super) struct JobSender {
    jobs: Sender<(LinkRef, Job, Permit)>,
    bytes: Arc<AtomicUsize>,
}

/// The end from which workers take them.
#[derive(Clone)]
pub(super) struct JobReceiver {
    jobs: Receiver<(LinkRef, Job, Permit)>,
    bytes: Arc<AtomicUsize>,
}

/// Both ends. As many jobs fit as there are permits.
pub(super) fn jobs() -> (JobSender, JobReceiver) {
    let ((sender, receiver), bytes) = (bounded(JOBS_MAX), Arc::<AtomicUsize>::default());
    (JobSender { jobs: sender, bytes: bytes.clone() }, JobReceiver { jobs: receiver, bytes })
}

impl JobSender {
    /// Hands one in, with its permit. `false`: too much waits, or no worker is there any
    /// more.
    #[must_use]
    pub(super) fn send(&self, link: LinkRef, job: Job, permit: Permit) -> bool {
        let bytes = job.memory_bytes();
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let has_room = before == 0 || before.saturating_add(bytes) <= JOBS_BYTES_MAX;
        let is_sent = has_room && self.jobs.try_send((link, job, permit)).is_ok();
        if !is_sent {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_sent
    }
}

impl Iterator for JobReceiver {
    type Item = (LinkRef, Job, Permit);

    fn next(&mut self) -> Option<Self::Item> {
        let (link, job, permit) = self.jobs.recv().ok()?;
        self.bytes.fetch_sub(job.memory_bytes(), Ordering::Relaxed);
        Some((link, job, permit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::command::{SectionChange, SectionUpdate};
    use crate::machine::permits::Permits;
    use crate::wire::digest::Digest;
    use crate::wire::id::{DeviceId, Epoch};
    use crate::wire::inventory::{Application, InventoryChange};
    use crate::wire::section::Section;

    fn upload(bytes: usize) -> Job {
        let application =
            Application { name: "x".repeat(bytes), version: String::new(), publisher: String::new() };
        Job::Section(SectionUpdate {
            device: DeviceId(1),
            section: Section::Inventory,
            agent_epoch: Epoch(1),
            revision: 1,
            digest: Digest(1),
            base: None,
            change: SectionChange::Inventory(InventoryChange { added: vec![application], removed: vec![] }),
        })
    }

    #[test]
    fn large_jobs_wait_outside_when_they_take_too_much_together_and_go_on_when_some_are_taken() {
        let (sender, mut receiver) = jobs();
        let link = LinkRef::new(0, 1, 1).unwrap();
        let permits = Permits::new(32);
        let mut taken = std::iter::from_fn(|| permits.try_take());
        let mut permit = || taken.next().unwrap();
        assert!(sender.send(link, upload(2 * JOBS_BYTES_MAX), permit()), "alone, however large");
        assert!(!sender.send(link, upload(1), permit()));
        receiver.next().unwrap();
        let sent = (0..20).filter(|_| sender.send(link, upload(JOBS_BYTES_MAX / 8), permit())).count();
        assert_eq!(sent, 7, "each takes a little more than its text");
        receiver.next().unwrap();
        assert!(sender.send(link, upload(JOBS_BYTES_MAX / 8), permit()));
        assert!(!sender.send(link, upload(JOBS_BYTES_MAX / 8), permit()));
    }
}
