//! The server as its administration sees it.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::warnings;
use crate::admin::{Deleted, EventLog, Gauges, Links, LogRecord, Visit};
use crate::concurrency::counters::Counters;
use crate::concurrency::reactors::ReactorMailboxes;
use crate::journal::{Archive, ArchiveStats, Damage, Item, Journal, Position, ReadError, State, Stats};
use crate::machine::close::CloseReason;
use crate::machine::device_state::LinkRef;
use crate::machine::permits::Permits;
use crate::store::Store;
use crate::wire::api::{
    CloseCount, DatagramTotals, EventTotals, JournalCondition, JournalDamage, JournalStatus, Limit,
    LinkTotals, Timestamp, WarningsStatus,
};
use crate::wire::datagram::DropReason;
use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;

/// The way to the open links.
pub(super) struct OpenLinks(pub(super) ReactorMailboxes);

impl Links for OpenLinks {
    /// Settings stand in the device's record, which every message is answered from: there is nobody to be
    /// told.
    fn settings_changed(&self, _device: DeviceId) {}

    fn device_removed(&self, device: DeviceId, link: LinkRef) {
        if !self.0.close_removed(link) {
            log::warn!(
                "device {device} was removed; its link could not be told now and is refused with its next message"
            );
        }
    }
}

/// The journal and its archive, to be read.
pub(super) struct StoredEvents {
    pub(super) journal: Journal,
    pub(super) archive: Archive,
}

impl EventLog for StoredEvents {
    fn oldest(&self) -> u64 {
        self.journal.reader().oldest().0
    }

    fn durable(&self) -> u64 {
        self.journal.durable().0
    }

    fn deleted(&self) -> Option<Deleted> {
        let (before, received_at) = warnings::complete_from(&self.journal.segments())?;
        let archived = self.archive.stats().journal;
        Some(Deleted {
            before: before.0,
            received_before: received_at,
            warnings_from: archived.and_then(|stats| stats.oldest_ms).map(WallTime),
        })
    }

    fn forward(&self, from: u64, visit: Visit<'_>) -> Result<(), ReadError> {
        let mut records = self.journal.reader().forward(Position(from));
        while let Some(item) = records.next()? {
            if show(item, visit).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn backward(&self, before: u64, since: WallTime, visit: Visit<'_>) -> Result<(), ReadError> {
        warnings::backward(&self.journal, &self.archive, before, since, &mut |item| show(item, visit))
    }
}

fn show(item: Item<'_>, visit: Visit<'_>) -> ControlFlow<()> {
    match item {
        Item::Record(record) => visit(LogRecord {
            position: record.position.0,
            next_position: record.end().0,
            received_at: WallTime(record.record.wall_ms),
            device: DeviceId(record.record.device),
            sequence: record.record.sequence,
            payload: record.record.payload,
        }),
        Item::Damage(damage) => {
            log::error!("the journal is damaged: {damage}");
            ControlFlow::Continue(())
        }
    }
}

/// Places of the journal that `status` names one by one, in places.
const DAMAGES_SHOWN_MAX: usize = 16;

/// The server's counters, as administration reads them.
pub(super) struct Counted {
    pub(super) counters: Arc<Counters>,
    pub(super) journal: Journal,
    pub(super) archive: Archive,
    pub(super) permits: Permits,
    pub(super) links_max: Arc<AtomicU64>,
    pub(super) persistent_max: Arc<AtomicU64>,
    pub(super) store: Store,
    pub(super) udp_address: SocketAddr,
}

/// The reasons that occurred, the most frequent first.
fn time(milliseconds: Option<u64>) -> Option<Timestamp> {
    milliseconds.map(|milliseconds| WallTime(milliseconds).into())
}

fn counted<R: Copy>(counts: Vec<(R, u64)>, name: impl Fn(R) -> &'static str) -> Vec<CloseCount> {
    let occurred = counts.into_iter().filter(|(_, count)| *count > 0);
    let mut counted: Vec<_> =
        occurred.map(|(reason, count)| CloseCount { reason: name(reason).to_owned(), count }).collect();
    counted.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    counted
}

impl Counted {
    fn warnings(&self) -> WarningsStatus {
        let ArchiveStats { journal, segments_lost, failure } = self.archive.stats();
        let is_damaged = |stats: &Stats| !stats.damages.is_empty() || stats.set_aside > 0;
        WarningsStatus {
            bytes: journal.as_ref().map_or(0, |stats| stats.bytes),
            events: journal.as_ref().map_or(0, |stats| stats.records),
            oldest_at: time(journal.as_ref().and_then(|stats| stats.oldest_ms)),
            newest_at: time(journal.as_ref().and_then(|stats| stats.newest_ms)),
            is_damaged: journal.as_ref().is_some_and(is_damaged),
            segments_lost,
            reason: failure,
        }
    }
}

impl Gauges for Counted {
    fn events_stored(&self) -> u64 {
        self.counters.events_appended.get()
    }

    fn events(&self) -> EventTotals {
        EventTotals {
            stored: self.counters.events_appended.get(),
            duplicates: self.counters.events_repeated.get(),
            stored_per_second: 0.0,
        }
    }

    fn links(&self) -> LinkTotals {
        let closes = counted(self.counters.all_closes(), CloseReason::name);
        let handshakes = self.counters.handshakes_full.get() + self.counters.handshakes_resumed.get();
        let microseconds = self.counters.handshake_microseconds.get();
        LinkTotals {
            open: self.counters.links_open.get(),
            accepted: self.counters.links_accepted.get(),
            handshakes,
            handshakes_under_way: self.counters.handshakes_under_way.get(),
            handshake_microseconds: microseconds.checked_div(handshakes).unwrap_or_default(),
            held_back: self.counters.handshakes_held_back.get(),
            strangers: self.counters.strangers.total(),
            handshakes_resumed: self.counters.handshakes_resumed.get(),
            closes,
        }
    }

    fn datagrams(&self) -> DatagramTotals {
        DatagramTotals {
            address: self.udp_address.to_string(),
            received: self.counters.datagrams_received.get(),
            notices: self.counters.notices.get(),
            dropped: counted(self.counters.all_drops(), DropReason::name),
            sent: self.counters.datagrams_sent.get(),
            calls: self.counters.calls.get(),
        }
    }

    fn journal(&self) -> JournalStatus {
        let stats = self.journal.stats();
        let (condition, since, reason) = match stats.state {
            State::Ok if stats.damages.is_empty() && stats.set_aside == 0 => {
                (JournalCondition::Ok, None, None)
            }
            State::Ok => (JournalCondition::Damaged, None, None),
            State::NoRoom(no_room) => {
                (JournalCondition::NoRoom, Some(WallTime(no_room.since_ms).into()), Some(no_room.why))
            }
            State::Failed(why) => (JournalCondition::Failed, None, Some(why)),
        };
        let damage = |damage: &Damage| JournalDamage {
            from: damage.from.0,
            to: damage.to.0,
            what: damage.what.to_owned(),
        };
        JournalStatus {
            condition,
            since,
            reason,
            bytes: stats.bytes,
            segments: stats.segments as u64,
            set_aside_segments: stats.set_aside as u64,
            set_aside_bytes: stats.set_aside_bytes,
            damages_total: stats.damages.len() as u64,
            damages: stats.damages.iter().take(DAMAGES_SHOWN_MAX).map(damage).collect(),
            checked_at: time(stats.checked_ms),
            oldest_at: time(stats.oldest_ms),
            newest_at: time(stats.newest_ms),
            durable_position: stats.durable.0,
            warnings: self.warnings(),
        }
    }

    fn limits(&self) -> Vec<Limit> {
        let limit = |name: &str, value, used| Limit { name: name.to_owned(), value, used: Some(used) };
        vec![
            limit("links", self.links_max.load(Ordering::Relaxed), self.counters.links_of_devices.get()),
            limit(
                "persistent links",
                self.persistent_max.load(Ordering::Relaxed),
                self.store.table().persistent(),
            ),
            limit("jobs", self.permits.total() as u64, self.permits.taken() as u64),
        ]
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}
