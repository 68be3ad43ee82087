//! Work on its way to the workers, bounded in number by permits and in memory here; and the workers, who do
//! what a sync or an enrolment needs of the disk. They own nothing between jobs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::enrolment;
use super::identity::{Identity, Wanted};
use super::panic_guard::{Failures, PanicGuard};
use super::presence::Announcer;
use super::renewal::{self, CertificateLife};
use super::scheduler::SchedulerWaker;
use crate::concurrency::reactors::{ReactorMailboxes, ToReactor};
use crate::machine::command::{DesiredStateAfter, EnrolmentOutcome, ForkOutcome, Job, JobOutcome};
use crate::machine::device_state::LinkRef;
use crate::machine::permits::Permit;
use crate::reactor::Clock;
use crate::store::{Artifacts, Store};
use crate::wire::id::DeviceId;
use crate::wire::message::Fork;

/// The parts that every worker has.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) store: Store,
    pub(super) identity: Arc<Identity>,
    pub(super) mailboxes: ReactorMailboxes,
    pub(super) waker: SchedulerWaker,
    pub(super) clock: Clock,
    pub(super) announcer: Announcer,
    pub(super) certificate_life: CertificateLife,
    pub(super) artifacts: Arc<Artifacts>,
}

/// Starts workers, and puts each of them into `started` at once. They end when nobody can send them work any
/// more.
pub(super) fn spawn(
    count: usize,
    assignments: &JobReceiver,
    tools: &Tools,
    failures: &Failures,
    started: &mut Vec<JoinHandle<()>>,
) -> io::Result<()> {
    for number in 0..count.max(1) {
        let (assignments, tools, failures) = (assignments.clone(), tools.clone(), failures.clone());
        started.push(Builder::new().name(format!("worker-{number}")).spawn(move || {
            // The job's device would wait for its outcome.
            let _guard = PanicGuard::new("a worker", failures);
            for (link, job, permit) in assignments {
                tools.work(link, job, permit);
            }
        })?);
    }
    Ok(())
}

impl Tools {
    fn work(&self, link: LinkRef, job: Job, permit: Permit) {
        let mailboxes = self.mailboxes.clone();
        let done = move |outcome| answer(&mailboxes, link, outcome, permit);
        match job {
            Job::Section(update) => {
                let section = update.section;
                self.store
                    .inventory()
                    .apply(update, move |outcome| done(JobOutcome::Section(section, outcome)));
            }
            Job::DesiredState(device) => done(self.desired_state(device, None)),
            Job::MoreDesiredState(device, after) => done(self.desired_state(device, Some(after))),
            Job::Runs(device, updates) => {
                let (waker, now) = (self.waker.clone(), self.clock.ages().wall);
                self.store.tasks().take_runs(device, updates, now, move |outcome| {
                    // A run that has ended may be the last of its task, or one too many that failed.
                    waker.wake();
                    done(JobOutcome::Runs(outcome));
                });
            }
            Job::Statistics(device, statistics) => {
                let done = move |outcome| done(JobOutcome::Statistics(outcome));
                self.store.inventory().take_statistics(device, statistics, self.clock.ages(), done);
            }
            Job::Fork(device) => {
                self.store.devices().create_copy_token(device, self.clock.ages().wall, move |created| {
                    done(JobOutcome::Fork(match created {
                        Ok(created) => {
                            ForkOutcome::Token(Fork { token: created.token.id, secret: created.secret })
                        }
                        Err(error) => {
                            log::error!("no token for a copy of device {device}: {error}");
                            ForkOutcome::Failed
                        }
                    }));
                });
            }
            Job::Renew(device, request) => {
                // The time by which ages are judged: a step of the clock makes nobody's certificate old.
                let now = self.clock.ages().wall;
                let done = move |outcome| done(JobOutcome::Renewal(outcome));
                let (identity, life) = (&self.identity, &self.certificate_life);
                renewal::renew(&self.store, identity, device, &request, life, now, done);
            }
            Job::Fetch(device, fetch) => done(JobOutcome::Fetch(self.artifacts.part(device, fetch))),
            Job::Trust(device) => done(JobOutcome::Trust(Some(Box::new(self.identity.trust(device))))),
            Job::NoteTrust(device, label) => {
                self.store.devices().note_trust(device, label, move |stored| {
                    if let Err(error) = stored {
                        log::debug!("device {device}: what it trusts is stored when it comes again: {error}");
                    }
                    done(JobOutcome::TrustNoted);
                });
            }
            Job::Enrol(request) => match enrolment::new_device_id() {
                Ok(device) => {
                    // The time by which a token's life is judged: a step of the clock does not end it.
                    let now = self.clock.ages().wall;
                    let done = move |outcome| done(JobOutcome::Enrolment(outcome));
                    let life_milliseconds = self.certificate_life.milliseconds();
                    let wanted = Wanted { device, counter: 1, life_milliseconds };
                    let taken_over = self.ending_of_taken_over();
                    let (store, identity) = (&self.store, &self.identity);
                    enrolment::enrol(store, identity, request, wanted, now, taken_over, done);
                }
                Err(_) => {
                    log::error!("the system gives no randomness: an enrolment was put off");
                    done(JobOutcome::Enrolment(EnrolmentOutcome::Failed));
                }
            },
        }
    }

    /// Ends the links of the machine that a device was, once another one has taken its record over.
    fn ending_of_taken_over(&self) -> impl FnOnce(DeviceId) + Send + 'static {
        let (table, mailboxes) = (self.store.table().clone(), self.mailboxes.clone());
        let (announcer, clock) = (self.announcer.clone(), self.clock.clone());
        move |device| {
            mailboxes.end_taken_over(device, || table.with(device, |record| record.link).flatten());
            announcer.say_record_taken_over(clock.now().wall, device);
        }
    }

    fn desired_state(&self, device: DeviceId, after: Option<DesiredStateAfter>) -> JobOutcome {
        JobOutcome::DesiredState(self.store.desired_state(device, after, self.clock.ages().wall))
    }
}

/// The mailbox has room for the outcome of every job that has a permit, so it is refused only when the
/// reactor is gone.
fn answer(mailboxes: &ReactorMailboxes, link: LinkRef, outcome: JobOutcome, permit: Permit) {
    if !mailboxes.send(link, ToReactor::JobDone(link, outcome, permit)) {
        log::debug!("the outcome of a job found no reactor any more");
    }
}

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

/// Both ends. There are as many jobs as there are permits, at most: each has one.
pub(super) fn jobs() -> (JobSender, JobReceiver) {
    let ((sender, receiver), bytes) = (unbounded(), Arc::<AtomicUsize>::default());
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
        let is_sent = has_room && self.jobs.send((link, job, permit)).is_ok();
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
