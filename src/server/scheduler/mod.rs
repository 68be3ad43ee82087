//! The scheduler: work for devices that time alone brings, on a thread of its own.
//!
//! Once a second, or sooner when it is woken, it works on [tasks], [judges devices](status) and their
//! [certificates](renewals), and lets those
//! know that have [another desired state](notifications) now. It may wait for the store, and nobody waits for
//! it.

mod notifications;
mod renewals;
mod status;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use self::notifications::Notifications;
use self::renewals::Renewals;
use self::status::Statuses;
use self::tasks::Tasks;
use super::ServerError;
use super::panic_guard::{Failures, PanicGuard};
use super::presence::Announcer;
use super::renewal::CertificateLife;
use crate::admin::{Calls, DeviceNotifier};
use crate::reactor::Clock;
use crate::store::Store;
use crate::wire::datagram::WakeReason;
use crate::wire::id::DeviceId;

/// Rest of the scheduler when nobody wakes it.
const REST_MILLISECONDS: u64 = 1_000;

/// Rest while devices wait to be notified.
const NOTIFY_REST_MILLISECONDS: u64 = 100;

/// The thread, running.
pub(super) struct SchedulerThread {
    waker: SchedulerWaker,
    is_stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Tells the scheduler that there is something to do. Cheap to clone.
#[derive(Clone)]
pub(super) struct SchedulerWaker {
    wakes: Sender<()>,
    notifications: Arc<Notifications>,
}

impl SchedulerWaker {
    pub(super) fn wake(&self) {
        // When one wake waits already, that is enough.
        let _ = self.wakes.try_send(());
    }
}

impl DeviceNotifier for SchedulerWaker {
    fn notify(&self, devices: &[DeviceId], wake: Option<WakeReason>) {
        self.notifications.add(devices, wake);
        self.wake();
    }

    fn tasks_changed(&self) {
        self.wake();
    }
}

impl SchedulerThread {
    pub(super) fn start(
        store: Store,
        calls: Arc<dyn Calls>,
        announcer: Announcer,
        clock: Clock,
        certificate_life: CertificateLife,
        failures: Failures,
    ) -> Result<Self, ServerError> {
        let (wakes, woken) = bounded(1);
        let notifications = Arc::new(Notifications::default());
        let waker = SchedulerWaker { wakes, notifications: notifications.clone() };
        let is_stopping = Arc::new(AtomicBool::new(false));
        let scheduler = Scheduler {
            statuses: Statuses::new(
                store.clone(),
                announcer,
                clock.clone(),
                Renewals::new(certificate_life, notifications.clone()),
            ),
            tasks: Tasks::new(store.clone(), clock.clone()),
            store,
            calls,
            clock,
            notifications,
            is_stopping: is_stopping.clone(),
        };
        let thread = Builder::new()
            .name("background".into())
            .spawn(move || {
                let _guard = PanicGuard::new("the scheduler", failures);
                scheduler.run(&woken);
            })
            .map_err(ServerError::when("start the scheduler"))?;
        Ok(Self { waker, is_stopping, thread })
    }

    /// The way to wake it.
    pub(super) fn waker(&self) -> SchedulerWaker {
        self.waker.clone()
    }

    /// Ends the thread behind what it is at.
    pub(super) fn stop(self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        // It rests a second at most, whether this wake reaches it or not.
        self.waker.wake();
        if self.thread.join().is_err() {
            log::error!("the scheduler panicked");
        }
    }
}

struct Scheduler {
    statuses: Statuses,
    tasks: Tasks,
    store: Store,
    calls: Arc<dyn Calls>,
    clock: Clock,
    notifications: Arc<Notifications>,
    is_stopping: Arc<AtomicBool>,
}

impl Scheduler {
    fn run(mut self, woken: &Receiver<()>) {
        while !self.is_stopping.load(Ordering::Relaxed) {
            let now = self.clock.now().wall;
            self.statuses.step(now, self.clock.ages());
            let has_more = self.tasks.step(&self.notifications);
            let rest = if has_more {
                0
            } else if self.notifications.send(self.store.table(), &*self.calls) {
                NOTIFY_REST_MILLISECONDS
            } else {
                REST_MILLISECONDS
            };
            match woken.recv_timeout(Duration::from_millis(rest)) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
