//! The steward: what is to be done for devices by time alone, on a thread of its own.
//!
//! Once a second, or sooner when it is rung, it works on [tasks], [judges devices](status), and lets those know that have
//! [other orders](nudge) now. It may wait for the store, and nobody waits for it.

mod nudge;
mod status;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use self::nudge::Nudges;
use self::status::Statuses;
use self::tasks::Tasks;
use super::ServerError;
use super::alarm::{Alarm, Failures};
use super::presence::Announcer;
use crate::admin::{Calls, Nudge};
use crate::reactor::Clock;
use crate::store::Store;
use crate::wire::datagram::WakeReason;
use crate::wire::id::DeviceId;

/// How long the steward rests when nobody rings, in milliseconds.
const REST_MILLISECONDS: u64 = 1_000;

/// How long it rests while devices wait to be told, in milliseconds.
const NUDGE_REST_MILLISECONDS: u64 = 100;

/// What the steward works on.
pub(super) struct StewardTools {
    pub(super) store: Store,
    pub(super) calls: Arc<dyn Calls>,
    pub(super) announcer: Announcer,
    pub(super) clock: Clock,
    pub(super) failures: Failures,
}

/// The thread, running.
pub(super) struct StewardThread {
    bell: Bell,
    is_stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Tells the steward that there is something to do. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bell {
    rings: Sender<()>,
    nudges: Arc<Nudges>,
}

impl Bell {
    pub(super) fn ring(&self) {
        // When one ring waits already, that is enough.
        let _ = self.rings.try_send(());
    }
}

impl Nudge for Bell {
    fn nudge(&self, devices: &[DeviceId], wake: Option<WakeReason>) {
        self.nudges.add(devices, wake);
        self.ring();
    }

    fn tasks_changed(&self) {
        self.ring();
    }
}

impl StewardThread {
    pub(super) fn start(tools: StewardTools) -> Result<Self, ServerError> {
        let (rings, rung) = bounded(1);
        let nudges = Arc::new(Nudges::default());
        let bell = Bell { rings, nudges: nudges.clone() };
        let is_stopping = Arc::new(AtomicBool::new(false));
        let steward = Steward {
            statuses: Statuses::new(tools.store.clone(), tools.announcer, tools.clock.clone()),
            tasks: Tasks::new(tools.store.clone(), tools.clock.clone()),
            store: tools.store,
            calls: tools.calls,
            clock: tools.clock,
            nudges,
            is_stopping: is_stopping.clone(),
        };
        let thread = Builder::new()
            .name("steward".into())
            .spawn(move || {
                let _alarm = Alarm::new("the steward", tools.failures);
                steward.run(&rung);
            })
            .map_err(ServerError::when("start the steward"))?;
        Ok(Self { bell, is_stopping, thread })
    }

    /// The way to ring.
    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Ends the thread behind what it is at.
    pub(super) fn stop(self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        // It rests a second at most, whether this ring reaches it or not.
        self.bell.ring();
        if self.thread.join().is_err() {
            log::error!("the steward panicked");
        }
    }
}

struct Steward {
    statuses: Statuses,
    tasks: Tasks,
    store: Store,
    calls: Arc<dyn Calls>,
    clock: Clock,
    nudges: Arc<Nudges>,
    is_stopping: Arc<AtomicBool>,
}

impl Steward {
    fn run(mut self, rung: &Receiver<()>) {
        while !self.is_stopping.load(Ordering::Relaxed) {
            let now = self.clock.now().wall;
            self.statuses.step(now, self.clock.ages());
            let has_more = self.tasks.step(&self.nudges);
            let rest = if has_more {
                0
            } else if self.nudges.send(self.store.table(), &*self.calls) {
                NUDGE_REST_MILLISECONDS
            } else {
                REST_MILLISECONDS
            };
            match rung.recv_timeout(Duration::from_millis(rest)) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
