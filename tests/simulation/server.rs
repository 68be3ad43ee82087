//! The server: real sessions, real records, the real journal on a disk that forgets; the store is a map.

use std::collections::{BTreeMap, BTreeSet};

use muster::journal::Storage as _;
use muster::journal::sim::LossyDisk;
use muster::journal::{AppendError, Journal, NoRoom, Opened, Options, Position, Record, Retention};
use muster::machine::acks::AckQueue;
use muster::machine::command::{SectionChange, SectionOutcome, SectionUpdate};
use muster::machine::device_state::{DeviceState, LinkRef};
use muster::machine::endpoint::AppendRefusal;
use muster::machine::permits::Permits;
use muster::machine::random::Random;
use muster::machine::record;
use muster::machine::replay::{self, FoundEvent};
use muster::machine::restored::RestoreWatch;
use muster::machine::task_clock::TaskTime;
use muster::machine::wake_scheduler::WakeScheduler;
use muster::wire::digest::Digest;
use muster::wire::id::{DeviceId, Epoch};
use muster::wire::inventory::{Application, digest_of};
use muster::wire::section::{ApplicationCondition, Section, SectionState};
use muster::wire::settings::SettingsReport;
use muster::wire::time::{Now, WallTime};

use crate::bug::Bug;
use crate::clock::{Known, ServerClock};
use crate::desired::OrderBook;
use crate::endpoint::{ENDPOINTS, Planted, ServerEndpoint};

pub(crate) const SEGMENT_BYTES: u64 = 64 * 1024;
/// Age beyond which records go: longer than any simulation lasts, so that nothing ever is.
const AGE_MILLISECONDS: u64 = 30 * 24 * 3_600_000;
/// Room for all that a run can produce.
pub(crate) const DISK_BYTES: u64 = 512 * SEGMENT_BYTES;

/// SQLite's part of a device. Commits are atomic and durable.
#[derive(Clone, Default)]
pub(crate) struct Stored {
    /// The number of an epoch.
    agent_epoch: u64,
    pub(crate) state: SectionState,
    pub(crate) content: BTreeMap<u64, Application>,
    pub(crate) conditions_state: SectionState,
    pub(crate) conditions: Vec<ApplicationCondition>,
}

impl Stored {
    /// Revisions of another history mean nothing any more.
    fn begin_epoch(&mut self, agent_epoch: Epoch) {
        if self.agent_epoch != agent_epoch.0 {
            self.agent_epoch = agent_epoch.0;
            self.state.revision = self.state.revision.min(1);
            self.conditions_state.revision = self.conditions_state.revision.min(1);
        }
    }

    pub(crate) fn report(&self) -> Option<&SettingsReport> {
        self.conditions.first()?.settings.as_ref()
    }
}

/// A key of an event in the journal.
pub(crate) type Key = (DeviceId, Epoch, u64);

pub(crate) struct Server {
    pub(crate) disk: LossyDisk,
    pub(crate) opened: Option<Opened<LossyDisk>>,
    pub(crate) store: BTreeMap<DeviceId, Stored>,
    pub(crate) book: OrderBook,
    pub(crate) records: BTreeMap<DeviceId, DeviceState>,
    /// The records in the store: up to ten seconds old.
    pub(crate) written: BTreeMap<DeviceId, DeviceState>,
    /// Every event before this position of the journal is in `written`.
    recorded: u64,
    /// Which history of the server this is; durable.
    pub(crate) server_epoch: Epoch,
    pub(crate) wake_scheduler: WakeScheduler,
    /// When this life began, by both clocks.
    pub(crate) started: Now,
    /// Notices up to these counters were over when a sync of this life began.
    pub(crate) over_through: BTreeMap<DeviceId, u32>,
    pub(crate) endpoints: Vec<ServerEndpoint>,
    /// The endpoints' names of the links that they have.
    pub(crate) names: BTreeMap<u32, LinkRef>,
    /// The link on which each device has spoken last.
    pub(crate) links: BTreeMap<DeviceId, LinkRef>,
    /// Links that have a job while the server tells others that it stops.
    pub(crate) busy: BTreeSet<u32>,
    /// Links that are to have ended, and since when.
    pub(crate) superseded: Vec<(LinkRef, u64)>,
    pub(crate) permits: Permits,
    pub(crate) planted: Planted,
    /// It stops: no link comes any more.
    pub(crate) is_draining: bool,
    /// Signs that others know more of the server than itself, in this life.
    pub(crate) restored: RestoreWatch,
    /// And by this model's own book.
    pub(crate) claimants: BTreeSet<DeviceId>,
    pub(crate) epochs_drawn: u32,
    /// Until when what each device has cost in this life pays for itself, in microseconds.
    pub(crate) paid_until: BTreeMap<DeviceId, u64>,
    /// Links that are gone since acknowledgements were last let go.
    pub(crate) links_gone: usize,
    /// Jobs of each link that are with workers.
    pub(crate) jobs: BTreeMap<u32, u32>,
    /// Records that were appended in this life or found by its recovery: position past it, CRC.
    pub(crate) appended: BTreeMap<Key, (u64, u32)>,
    /// Records that were on the medium and were damaged there, as the recovery told.
    pub(crate) damaged: BTreeSet<Key>,
    /// Since the last start somebody has changed the medium.
    is_damaged_anew: bool,
    /// Parts of the journal may be missing: it was damaged once, or restored without the store.
    may_be_damaged: bool,
    /// Counts lives, so that what comes back from an earlier one is not heard.
    pub(crate) life: u32,
    pub(crate) is_flush_due: bool,
    pub(crate) clock: ServerClock,
}

/// A copy of the server's database.
#[derive(Clone)]
pub(crate) struct StoreCopy {
    store: BTreeMap<DeviceId, Stored>,
    book: OrderBook,
    written: BTreeMap<DeviceId, DeviceState>,
    recorded: u64,
    server_epoch: Epoch,
    clock: Known,
}

/// A copy of the journal's segments.
pub(crate) type JournalCopy = Vec<(u64, Vec<u8>)>;

impl Server {
    pub(crate) fn new(seed: u64, bug: Bug, honest: u64) -> Self {
        Self {
            disk: LossyDisk::new(seed, DISK_BYTES),
            opened: None,
            store: BTreeMap::new(),
            book: OrderBook::default(),
            records: BTreeMap::new(),
            written: BTreeMap::new(),
            recorded: 0,
            server_epoch: Epoch(5),
            wake_scheduler: WakeScheduler::new(seed),
            started: Now::default(),
            over_through: BTreeMap::new(),
            endpoints: Vec::new(),
            names: BTreeMap::new(),
            links: BTreeMap::new(),
            busy: BTreeSet::new(),
            superseded: Vec::new(),
            permits: Permits::new(PERMITS),
            planted: Planted { bug, honest },
            is_draining: false,
            restored: RestoreWatch::default(),
            claimants: BTreeSet::new(),
            epochs_drawn: 0,
            paid_until: BTreeMap::new(),
            links_gone: 0,
            jobs: BTreeMap::new(),
            appended: BTreeMap::new(),
            damaged: BTreeSet::new(),
            is_damaged_anew: false,
            may_be_damaged: false,
            life: 0,
            is_flush_due: false,
            clock: ServerClock::new(),
        }
    }

    /// Starts on what the disk holds. Gives an error when the journal breaks a promise of its own.
    pub(crate) fn start(
        &mut self,
        now: Now,
        seed: u64,
        devices: impl Iterator<Item = (DeviceId, bool)>,
    ) -> Result<(), String> {
        self.life += 1;
        self.started = now;
        // Jobs of the life before have its permits.
        self.permits = Permits::new(PERMITS);
        let endpoint = |number| {
            let acks = AckQueue::merging_above(acks_max(self.planted.bug));
            ServerEndpoint::new(number, self.permits.clone(), acks, seed, self.planted)
        };
        self.endpoints = (0..ENDPOINTS).map(endpoint).collect();
        self.clock.start(now, &mut self.book);
        self.wake_scheduler = WakeScheduler::new(seed);
        self.over_through.clear();
        self.restored = RestoreWatch::default();
        self.claimants.clear();
        self.epochs_drawn = 0;
        self.paid_until.clear();
        self.records = devices
            .map(|(device, persistent)| {
                let mut record = DeviceState::new(device, 120);
                if let Some(written) = self.written.get(&device) {
                    load(&mut record, written);
                }
                record.keep_connected = persistent;
                let stored = self.store.entry(device).or_default();
                record.agent_epoch = Epoch(stored.agent_epoch);
                record.set_section(Section::Inventory, stored.state);
                record.set_section(Section::Conditions, stored.conditions_state);
                record.desired_digest = self.book.digest(device);
                (device, record)
            })
            .collect();
        let before = std::mem::take(&mut self.appended);
        let options = Options {
            segment_bytes: SEGMENT_BYTES,
            window_bytes: 32 * 1024,
            retention: Some(Retention { bytes: u64::MAX / 2, age_ms: Some(AGE_MILLISECONDS) }),
            limit_bytes: None,
            keep_free_bytes: 0,
            remembered: Position(self.remembered()),
        };
        let (records, appended, recorded) = (&mut self.records, &mut self.appended, self.recorded);
        let mut wrong = None;
        let opened = Journal::open(self.disk.clone(), options, Position(0), 0, |view| {
            let record = &view.record;
            let found = FoundEvent::decode(record.device, record.sequence, record.payload, view.end().0);
            let Some(found) = found else {
                wrong = Some("a record without an epoch".to_owned());
                return;
            };
            let key = (found.device, found.spool_epoch, found.sequence);
            if let Some(problem) = out_of_order(appended, key) {
                wrong = Some(problem);
            }
            appended.insert(key, (found.end, found.crc));
            // Only the end of the journal is replayed; this model's own books want all of it.
            if view.position.0 >= recorded {
                replay::note(records, found);
            }
        })
        .map_err(|error| error.to_string())?;
        let recovery = &opened.recovery;
        if !recovery.damages.is_empty() && !self.may_be_damaged {
            wrong = Some(format!("damage: {:?}", recovery.damages));
        }
        if std::mem::take(&mut self.is_damaged_anew) {
            let is_damaged =
                |key: &Key, end: u64| !self.appended.contains_key(key) && recovery.is_lost(Position(end));
            let gone = before.iter().filter(|(key, (end, _))| is_damaged(key, *end)).map(|(key, _)| *key);
            self.damaged.extend(gone);
        }
        let distrusted = replay::distrust(&mut self.records, |end| recovery.is_lost(Position(end)));
        for (&(device, spool_epoch, sequence), &(end, crc)) in &self.appended {
            if distrusted.contains(&device) {
                replay::note(&mut self.records, FoundEvent { device, spool_epoch, sequence, crc, end });
            }
        }
        self.opened = Some(opened);
        wrong.map_or(Ok(()), Err)
    }

    /// Under which key that event of the device is in the journal: this one, or that of an epoch before.
    pub(crate) fn stored_as(&self, key: Key, crc: u32) -> Option<Key> {
        let (device, epoch, sequence) = key;
        let is_it = |(_, (_, stored)): &(&Key, &(u64, u32))| *stored == crc;
        let before = || self.appended.range((device, Epoch(0), 0)..(device, epoch, 0)).rev();
        let exactly = self.appended.get_key_value(&key).filter(is_it);
        exactly.or_else(|| before().filter(|(key, _)| key.2 == sequence).find(is_it)).map(|(key, _)| *key)
    }

    /// Dies. Whatever was in memory is gone.
    pub(crate) fn stop(&mut self) {
        self.opened = None;
        self.endpoints.clear();
        self.names.clear();
        self.links.clear();
        self.superseded.clear();
        self.is_draining = false;
        self.jobs.clear();
        self.is_flush_due = false;
    }

    /// Appends an event. `Ok(Err)`: it was not taken. `Err`: it is in the journal already, or in the wrong
    /// order.
    pub(crate) fn append(
        &mut self,
        key: Key,
        body: &[u8],
        crc: u32,
        wall: WallTime,
    ) -> Result<Result<u64, AppendRefusal>, String> {
        let Some(opened) = &self.opened else { return Ok(Err(AppendRefusal::Failed)) };
        let (device, epoch, sequence) = key;
        let mut payload = Vec::new();
        record::encode(epoch, body, &mut payload);
        let entry = Record { wall_ms: wall.0, device: device.0, sequence, payload: &payload };
        let end = match opened.journal.append(&entry) {
            Ok(end) => end,
            Err(AppendError::NoRoom(NoRoom::Full)) => return Ok(Err(AppendRefusal::Full)),
            Err(AppendError::NoRoom(_)) => return Ok(Err(AppendRefusal::Behind)),
            Err(AppendError::TooLarge { .. }) => return Ok(Err(AppendRefusal::TooLarge)),
            Err(AppendError::Failed) => return Ok(Err(AppendRefusal::Failed)),
        };
        let problem = out_of_order(&self.appended, key);
        self.appended.insert(key, (end.0, crc));
        problem.map_or(Ok(Ok(end.0)), Err)
    }

    /// Whether devices can come.
    pub(crate) fn is_serving(&self) -> bool {
        self.opened.is_some() && !self.is_draining
    }

    /// Acknowledgements that wait.
    pub(crate) fn acks(&self) -> usize {
        self.endpoints.iter().map(|endpoint| endpoint.acks().len()).sum()
    }

    pub(crate) fn durable(&self) -> u64 {
        self.opened.as_ref().map_or(0, |opened| opened.journal.durable().0)
    }

    /// The store's outcome of a section.
    pub(crate) fn apply(&mut self, update: SectionUpdate) -> SectionOutcome {
        let stored = self.store.entry(update.device).or_default();
        let state = SectionState { digest: update.digest, revision: update.revision };
        match update.change {
            SectionChange::Inventory(change) => {
                let mut content = match update.base {
                    None => BTreeMap::new(),
                    Some(base) if base == stored.state.digest => stored.content.clone(),
                    Some(_) => return SectionOutcome::BaseUnknown,
                };
                content.retain(|digest, _| !change.removed.contains(&Digest(*digest)));
                content.extend(change.added.into_iter().map(|one| (one.digest().0, one)));
                if content_digest(&content) != update.digest {
                    return SectionOutcome::DigestMismatch;
                }
                stored.begin_epoch(update.agent_epoch);
                (stored.state, stored.content) = (state, content);
            }
            SectionChange::Conditions(conditions) => {
                stored.begin_epoch(update.agent_epoch);
                (stored.conditions, stored.conditions_state) = (conditions, state);
            }
            SectionChange::Host(_) => return SectionOutcome::Failed,
        }
        if let Some(record) = self.records.get_mut(&update.device) {
            if record.agent_epoch != update.agent_epoch {
                record.begin_epoch(update.agent_epoch);
            }
            record.set_section(update.section, state);
        }
        SectionOutcome::Stored(state)
    }

    /// The journal position that the store remembers.
    fn remembered(&self) -> u64 {
        self.written.values().map(DeviceState::last_position).max().unwrap_or(0).max(self.recorded)
    }

    /// A bit of a segment turns over, its file is cut short, or it is gone. While nobody has it open.
    pub(crate) fn damage_journal(&mut self, random: &mut Random) -> bool {
        let files = self.disk.list().unwrap_or_default();
        // Not the one being written, whose end can not be told from a write that the power cut, nor the next.
        let Some(last) = files.len().checked_sub(3) else { return false };
        let number = usize::try_from(random.up_to(last as u64)).unwrap_or(0);
        let file = files[number];
        let offset = usize::try_from(random.up_to(file.bytes.saturating_sub(1))).unwrap_or(0);
        (self.is_damaged_anew, self.may_be_damaged) = (true, true);
        match random.up_to(3) {
            // The oldest one, beside those that were set aside, may have been deleted as old for all that
            // anybody can tell.
            0 => number > 0 && !files[number - 1].set_aside && self.disk.lose(file.base),
            1 => self.disk.cut(file.base, offset),
            2 => self.disk.flip_bit(file.base, offset % 64, 3),
            _ => self.disk.flip_bit(file.base, offset, 5),
        }
    }

    pub(crate) fn copy_journal(&self) -> JournalCopy {
        let files = self.disk.list().unwrap_or_default().into_iter();
        files.filter_map(|file| Some((file.base, self.disk.view(file).ok()?.to_vec()))).collect()
    }

    pub(crate) fn copy_store(&self) -> StoreCopy {
        StoreCopy {
            store: self.store.clone(),
            book: self.book.clone(),
            written: self.written.clone(),
            recorded: self.recorded,
            server_epoch: self.server_epoch,
            clock: self.clock.known(),
        }
    }

    pub(crate) fn restore_journal(&mut self, copy: &JournalCopy, seed: u64) {
        self.may_be_damaged = true;
        self.disk = LossyDisk::new(seed, DISK_BYTES);
        for (base, bytes) in copy {
            self.disk.plant(*base, bytes.clone());
        }
    }

    pub(crate) fn restore_store(&mut self, copy: StoreCopy) {
        (self.store, self.book) = (copy.store, copy.book);
        (self.written, self.recorded) = (copy.written, copy.recorded);
        self.clock.restore(copy.clock);
        self.server_epoch = copy.server_epoch;
    }

    pub(crate) fn draw_epoch(&mut self, random: &mut Random) {
        self.server_epoch = Epoch(random.next_u64() | 1);
    }

    /// A device has cost this much.
    pub(crate) fn spend(&mut self, now: u64, device: DeviceId, microseconds: u64) {
        let until = self.paid_until.entry(device).or_default();
        *until = now.max(*until) + microseconds;
    }

    pub(crate) fn job_has_ended(&mut self, link: u32) {
        if let Some(jobs) = self.jobs.get_mut(&link) {
            *jobs -= 1;
        }
    }

    /// Looks at the wall clock, as the real server does about once a second.
    pub(crate) fn watch_clock(&mut self, now: Now) {
        let Some(change) = self.clock.observe(now, &mut self.book) else { return };
        let moved = change.moved_milliseconds;
        for record in self.records.values_mut() {
            record.follow_clock(moved, moved, change.now);
            record.forget_future(change.now);
        }
    }

    /// The time that tasks go by; stored times are right by it.
    pub(crate) fn task_time(&mut self, now: Now) -> TaskTime {
        self.clock.task_time(now, self.started, self.planted.bug, &mut self.book)
    }

    /// Deletes what is too old. Returns the journal's begin then.
    pub(crate) fn retain(&mut self, now: Now) -> Result<Option<u64>, String> {
        let ages = self.clock.ages(now, self.planted.bug);
        let Some(opened) = &mut self.opened else { return Ok(None) };
        let deleted = opened.preallocator.retain(ages).map_err(|error| error.to_string())?;
        let end = deleted.iter().map(|segment| segment.end.0).max();
        if let Some(end) = end {
            let gone = self.appended.iter().filter(|(_, (at, _))| *at <= end).map(|(key, _)| *key);
            self.damaged.extend(gone);
        }
        Ok(end)
    }

    /// News in memory goes to the store, once the events behind it are durable; whether they are.
    pub(crate) fn write_back(&mut self, now: Now) -> bool {
        let durable = self.durable();
        if self.records.values().any(|record| record.last_position() > durable) {
            return false;
        }
        for (device, record) in &mut self.records {
            let written = self.written.get(device);
            let is_new = written.is_none_or(|written| {
                (written.last_seen, written.last_position()) != (record.last_seen, record.last_position())
            });
            if std::mem::take(&mut record.has_news) || is_new {
                self.written.insert(*device, *record);
            }
        }
        self.recorded = durable;
        self.clock.remember(now, &mut self.book);
        true
    }
}

/// Jobs that may be with workers at a time.
const PERMITS: usize = 16;

/// Waiting acknowledgements from which on they are merged, in entries.
pub(crate) const ACKS_MERGED_ABOVE: usize = 12;

fn acks_max(bug: Bug) -> usize {
    if bug == Bug::AcksPileUp { usize::MAX } else { ACKS_MERGED_ABOVE }
}

/// Contents of the store at a start, without sections and events.
fn load(record: &mut DeviceState, written: &DeviceState) {
    record.last_sync = written.last_sync;
    record.last_seen = written.last_seen;
    record.set_due_seconds(written.due_seconds());
    (record.boot, record.machine) = (written.boot, written.machine);
    record.notice_counter = written.notice_counter;
    record.wake_counter = written.wake_counter;
    record.address = written.address;
    record.udp_port = written.udp_port;
    record.udp_reach = written.udp_reach;
    record.departure = written.departure;
    record.skip_wake_counters();
    record.note_appended(
        written.spool_epoch,
        written.last_sequence,
        written.last_crc,
        written.last_position(),
    );
}

pub(crate) fn content_digest(content: &BTreeMap<u64, Application>) -> Digest {
    digest_of(&content.values().cloned().collect::<Vec<_>>())
}

/// Numbers rise in each history of a device: a repeated one is stored twice, a lower one is out of order.
fn out_of_order(appended: &BTreeMap<Key, (u64, u32)>, key: Key) -> Option<String> {
    let above = appended.range(key..=(key.0, key.1, u64::MAX)).next()?;
    Some(format!("{key:?} was appended behind {:?}", above.0))
}
