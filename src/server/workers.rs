//! Workers: what a sync or an enrolment needs of the disk. They own nothing between jobs.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::enrolment;
use super::identity::Identity;
use super::jobs::JobReceiver;
use super::panic_guard::{Failures, PanicGuard};
use super::scheduler::SchedulerWaker;
use crate::concurrency::reactors::{ReactorMailboxes, ToReactor};
use crate::machine::command::{DesiredStateAfter, EnrolmentOutcome, Job, JobOutcome};
use crate::machine::device_state::LinkRef;
use crate::machine::permits::Permit;
use crate::reactor::Clock;
use crate::store::Store;
use crate::wire::id::DeviceId;

/// The parts that every worker has.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) store: Store,
    pub(super) identity: Arc<Identity>,
    pub(super) mailboxes: ReactorMailboxes,
    pub(super) waker: SchedulerWaker,
    pub(super) clock: Clock,
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
            Job::Enrol(request) => match enrolment::new_device_id() {
                Ok(device) => {
                    // The time by which a token's life is judged: a step of the clock does not end it.
                    let now = self.clock.ages().wall;
                    let done = move |outcome| done(JobOutcome::Enrolment(outcome));
                    enrolment::enrol(&self.store, &self.identity, request, device, now, done);
                }
                Err(_) => {
                    log::error!("the system gives no randomness: an enrolment was put off");
                    done(JobOutcome::Enrolment(EnrolmentOutcome::Failed));
                }
            },
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
