//! State in memory of each device that the server knows, and the rule that makes an event stored once.

use std::net::Ipv6Addr;
use std::num::NonZeroU64;

use super::rate::Allowance;
use super::reach::UdpReach;
use crate::wire::datagram::NoticeKind;
use crate::wire::digest::Digest;
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::presence::Presence;
use crate::wire::section::{Section, SectionState};
use crate::wire::status::Status;
use crate::wire::time::WallTime;

/// Most slots of one reactor's slab: what [`LinkRef`] can name, and eight times what one process was ever
/// meant to hold.
pub const SLOTS_MAX: u32 = 1 << 24;

/// Names a link: which reactor, which slot of its slab, and the generation that tells it from an earlier link
/// there. Packed into 64 bits that are never all zero, as every device's record holds one or none: 8 bits
/// reactor, 24 bits slot, 32 bits generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkRef(NonZeroU64);

impl LinkRef {
    /// The name of a link; `None` when the slot is not below [`SLOTS_MAX`] or the generation, which counts
    /// from 1, is 0.
    #[must_use]
    pub fn new(reactor: u8, slot: u32, generation: u32) -> Option<Self> {
        if slot >= SLOTS_MAX || generation == 0 {
            return None;
        }
        let packed = u64::from(reactor) << 56 | u64::from(slot) << 32 | u64::from(generation);
        NonZeroU64::new(packed).map(Self)
    }

    /// Number of the reactor.
    #[must_use]
    pub fn reactor(self) -> u8 {
        (self.0.get() >> 56) as u8
    }

    /// Slot of its slab.
    #[must_use]
    pub fn slot(self) -> u32 {
        (self.0.get() >> 32) as u32 & (SLOTS_MAX - 1)
    }

    /// Counts the links that had the slot.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the generation")]
    pub fn generation(self) -> u32 {
        self.0.get() as u32
    }
}

impl std::fmt::Debug for LinkRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkRef({}/{}/{})", self.reactor(), self.slot(), self.generation())
    }
}

/// Status of a certificate at this server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CertificateStatus {
    /// It belongs to this device of the fleet.
    Known(DeviceId),
    /// It belonged to this device, which an administrator has removed.
    Removed(DeviceId),
    /// It belongs to this device, which waits for an administrator to approve it.
    Waiting(DeviceId),
    /// It was this device's, before another machine took the device's record over.
    Superseded(DeviceId),
    /// Nobody here has seen it.
    Unknown,
}

/// One device, in memory: a sync in which nothing changed and an event need nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceState {
    /// Its id.
    pub device: DeviceId,
    /// The history in which the sections' revisions count.
    pub agent_epoch: Epoch,
    /// The digests of what is stored of each section, by [`Section::index`].
    digests: [Digest; 3],
    /// All that the device should have been given, settings and runs of tasks, as one digest
    /// ([`Sync::desired_digest`](crate::wire::message::Sync::desired_digest)).
    pub desired_digest: Digest,
    /// The revisions that go with `digests`, in three bytes each, the lowest first.
    revisions: [[u8; 3]; 3],
    /// The history in which the sequence numbers count.
    pub spool_epoch: Epoch,
    /// The highest sequence number that was appended; 0 when there was none.
    pub last_sequence: u64,
    /// The journal position that must be durable before that event may be acknowledged, the lowest byte
    /// first.
    last_position: [u8; 6],
    /// When the last sync ended; zero when there was none.
    pub last_sync: WallTime,
    /// When anything was last heard; zero when nothing was.
    pub last_seen: WallTime,
    /// CRC-32C of the last appended event's bytes.
    pub last_crc: u32,
    /// Its sync interval: the effective value, the lowest byte first.
    interval_seconds: [u8; 3],
    /// Its link, when it is connected.
    pub link: Option<LinkRef>,
    /// Its allowance, on whatever link.
    pub allowance: Allowance,
    /// Its events' allowance of the log ([`EventRate`](super::rate::EventRate)).
    pub event_allowance: Allowance,
    /// In how many seconds after the last sync it was told to come again, the lowest byte first.
    due_seconds: [u8; 3],
    /// Mark of the boot that it last spoke of ([`boot_mark`](super::clones::boot_mark)).
    pub boot: u16,
    /// Mark of the machine that it last was ([`machine_mark`](super::clones::machine_mark)).
    pub machine: u16,
    /// The highest counter among the notices that were heard, or that it said it had sent.
    pub notice_counter: u32,
    /// The highest counter among the wakes that were sent to it, or that it said it had taken.
    pub wake_counter: u32,
    /// Address of its last sync, IPv4 addresses mapped (RFC 4291 section 2.5.5.2); unspecified before.
    pub address: Ipv6Addr,
    /// Port at which it hears wakes; 0: none.
    pub udp_port: u16,
    /// Whether wakes reach it.
    pub udp_reach: UdpReach,
    /// Its departure, by its last notice, until it syncs again.
    pub departure: Option<NoticeKind>,
    /// Its presence when that was last put into the log of events.
    pub announced: Presence,
    /// Whether it is well, as was last put into the log of events.
    pub status: Status,
    /// Distance by which its clock was ahead of the server's at its last sync; negative: behind. As far as
    /// the number goes.
    pub clock_ahead_minutes: i16,
    /// Whether its link is to stay after a sync.
    pub keep_connected: bool,
    marks: Marks,
    /// Whether there is news here, beside events and times, that is not in the store yet.
    pub has_news: bool,
}

/// Yes or no of a device, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Marks(u8);

impl Marks {
    const CALLED: u8 = 1;
    const RENEW: u8 = 4;
    const WAITING: u8 = 8;
    const TRUST: u8 = 2;

    fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    fn set(&mut self, mark: u8, value: bool) {
        self.0 = if value { self.0 | mark } else { self.0 & !mark };
    }
}

/// Highest revision of a section that is told from others: as many changes under one agent epoch as a section
/// has in five years that changes every ten seconds. Beyond it digests alone say what differs.
pub const REVISION_MAX: u64 = (1 << 24) - 1;

/// Latest journal position that is told from others, in bytes: 256 TiB. A later end counts as this one.
const POSITION_MAX: u64 = (1 << 48) - 1;

/// Longest interval that is kept: 194 days. A longer one counts as that.
pub const STORED_INTERVAL_SECONDS_MAX: u32 = (1 << 24) - 1;

/// Largest device state: a hundred thousand devices in 16 MB.
const DEVICE_STATE_BYTES_MAX: usize = 160;
const _: () = assert!(size_of::<DeviceState>() <= DEVICE_STATE_BYTES_MAX);

/// Times this little ahead of a change of the clock were noted by the new time: a reactor's turn is far
/// shorter, and the clock is looked at every second.
const NOTED_SINCE_MILLISECONDS: u64 = 10_000;

fn clamped(minutes: i64) -> i16 {
    let (least, most) = (i64::from(i16::MIN), i64::from(i16::MAX));
    i16::try_from(minutes.clamp(least, most)).unwrap_or_default()
}

/// Verdict on an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventVerdict {
    /// It is new: append it.
    Append,
    /// It is the last one again: acknowledge it, as soon as it is durable.
    Repeated,
    /// It lies before the last one. Not acknowledged until the last one has come again and proves the same
    /// history.
    Before,
    /// It has the last one's number and is another event: the device was rolled back.
    Conflict,
}

impl DeviceState {
    /// A device of which nothing is known but that it exists.
    #[must_use]
    pub fn new(device: DeviceId, interval_seconds: u32) -> Self {
        let mut record = Self {
            device,
            agent_epoch: Epoch(0),
            digests: [Digest::EMPTY; 3],
            desired_digest: Digest::EMPTY,
            revisions: [[0; 3]; 3],
            spool_epoch: Epoch(0),
            last_sequence: 0,
            last_position: [0; 6],
            last_sync: WallTime(0),
            last_seen: WallTime(0),
            last_crc: 0,
            interval_seconds: [0; 3],
            link: None,
            allowance: Allowance::default(),
            event_allowance: Allowance::default(),
            due_seconds: [0; 3],
            boot: 0,
            machine: 0,
            notice_counter: 0,
            wake_counter: 0,
            address: Ipv6Addr::UNSPECIFIED,
            udp_port: 0,
            udp_reach: UdpReach::Unknown,
            departure: None,
            announced: Presence::NeverSeen,
            status: Status::Ok,
            clock_ahead_minutes: 0,
            keep_connected: false,
            marks: Marks(0),
            has_news: false,
        };
        record.set_interval_seconds(interval_seconds);
        record
    }

    /// Whether somebody waits for it to come ([`wake_scheduler`](super::wake_scheduler)).
    #[must_use]
    pub fn is_called(&self) -> bool {
        self.marks.has(Marks::CALLED)
    }

    /// Notes that.
    pub fn set_called(&mut self, is_called: bool) {
        self.marks.set(Marks::CALLED, is_called);
    }

    /// Whether it waits for an administrator to approve it.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.marks.has(Marks::WAITING)
    }

    /// Notes that.
    pub fn set_waiting(&mut self, is_waiting: bool) {
        self.marks.set(Marks::WAITING, is_waiting);
    }

    /// Whether its certificate is due: the answer to its next sync says so.
    #[must_use]
    pub fn is_to_renew(&self) -> bool {
        self.marks.has(Marks::RENEW)
    }

    /// Notes that.
    pub fn set_to_renew(&mut self, is_to_renew: bool) {
        self.marks.set(Marks::RENEW, is_to_renew);
    }

    /// Whether it has stored what it is to trust now ([`Trust`](crate::wire::message::Trust)).
    #[must_use]
    pub fn has_trust(&self) -> bool {
        self.marks.has(Marks::TRUST)
    }

    /// Notes that.
    pub fn set_trust(&mut self, has_trust: bool) {
        self.marks.set(Marks::TRUST, has_trust);
    }

    /// The journal position that must be durable before the last event may be acknowledged.
    #[must_use]
    pub fn last_position(&self) -> u64 {
        let [a, b, c, d, e, f] = self.last_position;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// Notes that position.
    pub fn set_last_position(&mut self, position: u64) {
        let [a, b, c, d, e, f, ..] = position.min(POSITION_MAX).to_le_bytes();
        self.last_position = [a, b, c, d, e, f];
    }

    /// Its sync interval: the effective value.
    #[must_use]
    pub fn interval_seconds(&self) -> u32 {
        seconds_of(self.interval_seconds)
    }

    /// Notes how often it syncs, at most every [`STORED_INTERVAL_SECONDS_MAX`].
    pub fn set_interval_seconds(&mut self, seconds: u32) {
        self.interval_seconds = clamped_seconds(seconds);
    }

    /// In how many seconds after the last sync it was told to come again.
    #[must_use]
    pub fn due_seconds(&self) -> u32 {
        seconds_of(self.due_seconds)
    }

    /// Notes in how many seconds it was told to come again, at most in [`STORED_INTERVAL_SECONDS_MAX`].
    pub fn set_due_seconds(&mut self, seconds: u32) {
        self.due_seconds = clamped_seconds(seconds);
    }

    /// The device has said what time it has.
    pub fn note_clock(&mut self, theirs: WallTime, ours: WallTime) {
        let minutes = |wall: WallTime| i64::try_from(wall.0 / 1_000).unwrap_or(i64::MAX);
        let ahead = minutes(theirs).saturating_sub(minutes(ours)) / 60;
        self.clock_ahead_minutes = clamped(ahead);
    }

    /// The server's clock has moved against the monotonic one: the device's times go along by
    /// `carried_milliseconds`. Those from `now` to a few seconds later were noted by the new time already.
    pub fn follow_clock(&mut self, moved_milliseconds: i64, carried_milliseconds: i64, now: WallTime) {
        for time in [&mut self.last_sync, &mut self.last_seen] {
            let is_new = time.0 >= now.0 && time.0 - now.0 < NOTED_SINCE_MILLISECONDS;
            if *time != WallTime(0) && !is_new {
                *time = WallTime(time.0.saturating_add_signed(carried_milliseconds).max(1));
            }
        }
        self.clock_ahead_minutes =
            clamped(i64::from(self.clock_ahead_minutes).saturating_sub(moved_milliseconds / 60_000));
    }

    /// Takes back times that are ahead of now: they were noted, or stored, while the clock was ahead.
    pub fn forget_future(&mut self, now: WallTime) {
        for time in [&mut self.last_sync, &mut self.last_seen] {
            if time.0.saturating_sub(now.0) > NOTED_SINCE_MILLISECONDS {
                *time = now;
            }
        }
    }

    /// Stored state of a section.
    #[must_use]
    pub fn section(&self, section: Section) -> SectionState {
        let index = section.index();
        let [low, middle, high] = self.revisions[index];
        let revision = u64::from(u32::from_le_bytes([low, middle, high, 0]));
        SectionState { digest: self.digests[index], revision }
    }

    /// Stored state of each section, by [`Section::index`].
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn sections(&self) -> [SectionState; 3] {
        Section::ALL.map(|section| self.section(section))
    }

    /// Notes what is stored of a section. A revision beyond [`REVISION_MAX`] counts as that.
    pub fn set_section(&mut self, section: Section, state: SectionState) {
        self.digests[section.index()] = state.digest;
        let [low, middle, high, ..] = state.revision.min(REVISION_MAX).to_le_bytes();
        self.revisions[section.index()] = [low, middle, high];
    }

    /// The device has begun another history: the revisions mean nothing any more, beyond that there is
    /// content.
    pub fn begin_epoch(&mut self, agent_epoch: Epoch) {
        self.agent_epoch = agent_epoch;
        for revision in &mut self.revisions {
            *revision = if *revision == [0; 3] { [0; 3] } else { [1, 0, 0] };
        }
    }

    /// The digest that a difference may start from; `None` when nothing is stored.
    #[must_use]
    pub fn base(&self, section: Section) -> Option<Digest> {
        let state = self.section(section);
        (state.revision > 0).then_some(state.digest)
    }

    /// Whether the device's epoch or highest number contradicts what is stored: it was rolled back to an
    /// older image.
    ///
    /// Spool epochs rise: a lower one was left for the one that is known here. Were it taken for a new one,
    /// its events would be stored a second time under the same key.
    #[must_use]
    pub fn is_rolled_back(&self, spool_epoch: Epoch, highest: u64) -> bool {
        spool_epoch < self.spool_epoch || (spool_epoch == self.spool_epoch && highest < self.last_sequence)
    }

    /// The highest sequence number of a history that is accounted for: every event up to it is stored, or was
    /// dropped by the device.
    #[must_use]
    pub fn known_through(&self, spool_epoch: Epoch) -> u64 {
        if spool_epoch == self.spool_epoch { self.last_sequence } else { 0 }
    }

    /// Judges an event. See the handbook's chapter on delivery.
    #[must_use]
    pub fn judge(&self, spool_epoch: Epoch, sequence: u64, crc: u32) -> EventVerdict {
        if spool_epoch < self.spool_epoch {
            return EventVerdict::Conflict;
        }
        if spool_epoch > self.spool_epoch || sequence > self.last_sequence {
            return EventVerdict::Append;
        }
        match (sequence == self.last_sequence, crc == self.last_crc) {
            (false, _) => EventVerdict::Before,
            (true, true) => EventVerdict::Repeated,
            (true, false) => EventVerdict::Conflict,
        }
    }

    /// An event was found in the journal at a start: by the rule for events that arrive.
    pub fn note_found(&mut self, spool_epoch: Epoch, sequence: u64, crc: u32, position: u64) {
        if self.judge(spool_epoch, sequence, crc) == EventVerdict::Append {
            self.note_appended(spool_epoch, sequence, crc, position);
        }
    }

    /// The event behind the last sequence number is not in the journal: a part of it is gone, or it was
    /// restored from an older copy than this record. Nothing of the history is known until
    /// [`DeviceState::note_found`] tells of it, and the device is asked for what it still has. The epoch
    /// stays: an earlier one was left all the same.
    pub fn distrust_events(&mut self) {
        (self.last_sequence, self.last_crc, self.last_position) = (0, 0, [0; 6]);
        self.has_news = true;
    }

    /// An event was appended and is durable once the journal's durable position reaches `position`.
    pub fn note_appended(&mut self, spool_epoch: Epoch, sequence: u64, crc: u32, position: u64) {
        self.spool_epoch = spool_epoch;
        self.last_sequence = sequence;
        self.last_crc = crc;
        self.set_last_position(position);
    }
}

fn seconds_of([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}

fn clamped_seconds(seconds: u32) -> [u8; 3] {
    let [low, middle, high, _] = seconds.min(STORED_INTERVAL_SECONDS_MAX).to_le_bytes();
    [low, middle, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> DeviceState {
        let mut record = DeviceState::new(DeviceId(1), 900);
        record.note_appended(Epoch(7), 10, 0xabc, 640);
        record
    }

    #[test]
    fn a_link_survives_its_name() {
        let link = LinkRef::new(255, SLOTS_MAX - 1, u32::MAX).unwrap();
        assert_eq!((link.reactor(), link.slot(), link.generation()), (255, SLOTS_MAX - 1, u32::MAX));
        assert_eq!((LinkRef::new(0, SLOTS_MAX, 1), LinkRef::new(0, 0, 0)), (None, None));
        assert_eq!(size_of::<Option<LinkRef>>(), 8);
    }

    #[test]
    fn times_keep_their_age_when_the_servers_clock_steps_and_none_stays_in_the_future() {
        const HOUR: u64 = 3_600_000;
        let (before, ahead) = (WallTime(1_000 * HOUR), WallTime(1_200 * HOUR));
        let step = i64::try_from(ahead.0 - before.0).unwrap();
        let mut record = record();
        (record.last_sync, record.last_seen) = (WallTime(before.0 - 2 * HOUR), WallTime(ahead.0 + 900));
        record.note_clock(before, before);
        record.follow_clock(step, step, ahead);
        assert_eq!((record.last_sync.0, record.last_seen.0), (ahead.0 - 2 * HOUR, ahead.0 + 900));
        assert_eq!(record.clock_ahead_minutes, -200 * 60);
        record.follow_clock(-step, -step, before);
        assert_eq!((record.last_sync.0, record.last_seen.0), (before.0 - 2 * HOUR, before.0 + 900));
        assert_eq!(record.clock_ahead_minutes, 0);
        record.last_sync = ahead;
        record.forget_future(before);
        assert_eq!((record.last_sync, record.last_seen.0), (before, before.0 + 900));
        let mut never = DeviceState::new(DeviceId(1), 900);
        never.follow_clock(step, step, ahead);
        assert_eq!(never.last_seen, WallTime(0));
        never.note_clock(WallTime(0), before);
        assert_eq!(never.clock_ahead_minutes, i16::MIN);
    }

    #[test]
    fn an_event_is_appended_once() {
        let record = record();
        assert_eq!(record.judge(Epoch(7), 11, 0), EventVerdict::Append);
        assert_eq!(record.judge(Epoch(7), 10, 0xabc), EventVerdict::Repeated);
        assert_eq!(record.judge(Epoch(7), 9, 0xabc), EventVerdict::Before);
        assert_eq!(record.judge(Epoch(8), 1, 0), EventVerdict::Append, "another history counts anew");
    }

    #[test]
    fn a_device_that_was_rolled_back_is_noticed() {
        let record = record();
        assert_eq!(record.judge(Epoch(7), 10, 0xdef), EventVerdict::Conflict);
        assert!(record.is_rolled_back(Epoch(7), 9));
        assert!(!record.is_rolled_back(Epoch(7), 10));
        assert!(!record.is_rolled_back(Epoch(8), 1));
    }

    #[test]
    fn an_epoch_that_was_left_is_not_taken_for_a_new_one() {
        let record = record();
        assert!(record.is_rolled_back(Epoch(6), 100));
        assert_eq!(record.judge(Epoch(6), 100, 0), EventVerdict::Conflict);
    }
}
