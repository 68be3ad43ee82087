//! Changes of presence, put into the log of events: events of the server's own, each under the device that it
//! is about.

mod held;
mod identity;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::concurrency::counters::Counters;
use crate::fleet::presence::{Presence, notable_presence};
use crate::journal::{AppendError, Journal, Record};
use crate::machine::clones::CloneWatch;
use crate::machine::device_state::DeviceState;
use crate::machine::rate::HeldWatch;
use crate::machine::record::{self, OWN_EPOCH};
use crate::reactor::Clock;
use crate::store::table::{DeviceTable, SHARDS, signs_of};
use crate::wire::clone_policy::ClonePolicy;
use crate::wire::event::{Event, SERVER_NAME, Severity};
use crate::wire::id::DeviceId;
use crate::wire::status::Status;
use crate::wire::time::WallTime;

/// Name of the application in the events.
pub const APPLICATION: &str = SERVER_NAME;

/// Kind of the events.
pub const KIND: &str = "presence";

/// Kind of the events about a device's status.
pub const STATUS_KIND: &str = "status";

/// Most reasons that such an event names: with all of them it would be too long for a line.
const REASONS_IN_EVENT_MAX: usize = 5;

/// Shards of the device table that one round looks at: a round every second has seen everybody after eight.
const SHARDS_PER_ROUND: usize = SHARDS / 8;

/// Most devices that are remembered as having moved, in devices. When a whole fleet comes or goes, what is
/// beyond is judged with all others, within a minute.
const MOVED_MAX: usize = 1_024;

/// Notices when a device is elsewhere than where it was last said to be. Cheap to clone.
#[derive(Clone)]
pub struct Announcer {
    journal: Journal,
    counters: Arc<Counters>,
    clock: Clock,
    is_stopping: Arc<AtomicBool>,
    /// Devices whose records have news that are not in the store.
    news: Arc<Mutex<HashSet<DeviceId>>>,
    /// Devices that are elsewhere since somebody asked for them, each once, as far as there is room.
    moved: Arc<Mutex<HashSet<DeviceId>>>,
    pub(super) clones: Arc<Mutex<CloneWatch>>,
    clone_policy: Arc<Mutex<ClonePolicy>>,
    held: Arc<Mutex<HeldWatch>>,
}

/// Change of a device's status.
pub(super) struct StatusChange {
    pub(super) device: DeviceId,
    pub(super) to: Status,
    /// Why, in words.
    pub(super) reasons: Vec<String>,
}

impl Announcer {
    /// Announces in this journal. No device is lost before it could have come to a server that is there since
    /// the clock says so.
    #[must_use]
    pub fn new(journal: Journal, counters: Arc<Counters>, clock: Clock) -> Self {
        Self {
            journal,
            counters,
            clock,
            is_stopping: Arc::default(),
            news: Arc::default(),
            moved: Arc::default(),
            clones: Arc::default(),
            clone_policy: Arc::default(),
            held: Arc::default(),
        }
    }

    /// Says where the device is when that has changed. `true`: something was appended to the journal. Without
    /// room there, it is said later.
    pub fn settle(&self, now: WallTime, record: &mut DeviceState) -> bool {
        let has_appended = self.announce(now, record);
        if has_appended {
            self.note_moved(record.device);
        }
        if record.has_news {
            self.news.lock().insert(record.device);
        }
        has_appended
    }

    /// Marks the device for a judgement soon.
    fn note_moved(&self, device: DeviceId) {
        let mut moved = self.moved.lock();
        if moved.len() < MOVED_MAX {
            moved.insert(device);
        }
    }

    /// Takes out the devices whose records have news.
    pub(super) fn take_news(&self) -> HashSet<DeviceId> {
        std::mem::take(&mut *self.news.lock())
    }

    /// Takes out the devices that are elsewhere since this was asked last.
    pub(super) fn take_moved(&self) -> HashSet<DeviceId> {
        std::mem::take(&mut *self.moved.lock())
    }

    /// Says how well a device is when that is not what was said last. `true`: it is said now, or was. Without
    /// room in the journal it is said later.
    pub(super) fn say_status(&self, now: WallTime, table: &DeviceTable, change: &StatusChange) -> bool {
        let said = table.with(change.device, |record| {
            if record.status == change.to {
                return true;
            }
            match self.append(&status_event(record.status, change, now), now, record.device) {
                Appended::Yes | Appended::Never => {
                    record.status = change.to;
                    record.has_news = true;
                    true
                }
                Appended::NotNow => false,
            }
        });
        if said == Some(true) {
            self.news.lock().insert(change.device);
        }
        said.unwrap_or(true)
    }

    /// Puts an event of the server itself into the log of events, under device 0. `false`: there is no room
    /// now.
    pub(super) fn say_of_server(&self, event: &Event, now: WallTime) -> bool {
        match self.append(event, now, DeviceId(0)) {
            Appended::Yes => {
                self.flush();
                true
            }
            Appended::Never => true,
            Appended::NotNow => false,
        }
    }

    /// Puts an event of the server about a device into the log of events; without room it is lost.
    pub(super) fn say_of(&self, device: DeviceId, event: &Event, now: WallTime) {
        if matches!(self.append(event, now, device), Appended::Yes) {
            self.flush();
        }
    }

    fn append(&self, event: &Event, now: WallTime, device: DeviceId) -> Appended {
        let Ok(event) = event.to_bytes() else { return Appended::Never };
        let mut payload = Vec::new();
        record::encode(OWN_EPOCH, &event, &mut payload);
        let record = Record { wall_ms: now.0, device: device.0, sequence: 0, payload: &payload };
        match self.journal.append(&record) {
            Ok(_) => Appended::Yes,
            Err(AppendError::NoRoom(_) | AppendError::Failed) => Appended::NotNow,
            Err(AppendError::TooLarge { .. }) => Appended::Never,
        }
    }

    fn announce(&self, now: WallTime, record: &mut DeviceState) -> bool {
        let presence = notable_presence(&signs_of(record, self.clock.present_since()), now);
        let before = record.announced;
        if presence == before {
            return false;
        }
        let has_come = record.last_seen >= self.clock.started_at();
        // A start of the server brings no lost device back.
        if !has_come && before == Presence::Lost {
            return false;
        }
        // When the server ends or starts nobody is connected: that says nothing of a device whose link is to
        // stay, unless it does not come back.
        let is_own_restart = !has_come || self.is_stopping.load(Ordering::Relaxed);
        if is_own_restart && (before, presence) == (Presence::Connected, Presence::Idle) {
            return false;
        }
        match self.append(&event_of(before, presence, now), now, record.device) {
            Appended::Yes => {
                record.announced = presence;
                record.has_news = true;
                self.counters.presence_changes.add_one();
                true
            }
            Appended::NotNow => false,
            Appended::Never => {
                record.announced = presence;
                false
            }
        }
    }

    /// The server ends: that links end says nothing of their devices any more.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Makes what was appended durable.
    pub fn flush(&self) {
        self.journal.notify();
    }
}

/// Outcome of putting an event into the journal.
enum Appended {
    Yes,
    NotNow,
    Never,
}

/// Walks over the table, so that what changes by time alone is noticed.
pub(super) struct Rounds {
    pub(super) announcer: Announcer,
    next_shard: usize,
}

impl Rounds {
    pub(super) fn new(announcer: Announcer) -> Self {
        Self { announcer, next_shard: 0 }
    }

    /// Devices whose records have news that are to be written now, and not with the times.
    pub(super) fn take_news(&self) -> HashSet<DeviceId> {
        self.announcer.take_news()
    }

    /// One round over a slice of the table.
    pub(super) fn step(&mut self, table: &DeviceTable, now: WallTime) {
        let mut has_appended = false;
        for _ in 0..SHARDS_PER_ROUND {
            table.for_each_in(self.next_shard, |record| {
                record.forget_future(now);
                has_appended |= self.announcer.settle(now, record);
            });
            self.next_shard = (self.next_shard + 1) % SHARDS;
        }
        if has_appended {
            self.announcer.flush();
        }
    }
}

/// An event of the server itself.
pub(super) fn own_event<const N: usize>(
    severity: Severity,
    kind: &str,
    message: String,
    occurred_at: WallTime,
    fields: [(&str, String); N],
) -> Event {
    let (application, kind) = (APPLICATION.to_owned(), kind.to_owned());
    let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Event { severity, application, kind, message, occurred_at, fields }
}

fn event_of(from: Presence, to: Presence, now: WallTime) -> Event {
    let severity = if to == Presence::Lost { Severity::Warning } else { Severity::Info };
    let words = |presence: Presence| presence.name().replace('_', " ");
    let message = format!("{} (was {})", words(to), words(from));
    own_event(severity, KIND, message, now, [("from", from.name().to_owned()), ("to", to.name().to_owned())])
}

fn status_event(from: Status, change: &StatusChange, now: WallTime) -> Event {
    let severity = match change.to {
        Status::Ok => Severity::Info,
        Status::Warning => Severity::Warning,
        Status::Critical => Severity::Critical,
    };
    let mut message = format!("{} (was {from})", change.to);
    let mut separator = ": ";
    for reason in change.reasons.iter().take(REASONS_IN_EVENT_MAX) {
        message.push_str(separator);
        message.push_str(reason);
        separator = "; ";
    }
    if change.reasons.len() > REASONS_IN_EVENT_MAX {
        message.push_str(&format!("; and {} more", change.reasons.len() - REASONS_IN_EVENT_MAX));
    }
    let fields = [("from", from.name().to_owned()), ("to", change.to.name().to_owned())];
    own_event(severity, STATUS_KIND, message, now, fields)
}
