//! The server at a glance.

use serde::{Deserialize, Serialize};

use super::{CertificateStage, Timestamp};
use crate::wire::id::Epoch;

/// The server at a glance.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Status {
    /// Version of the server.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Its uptime.
    pub uptime_seconds: u64,
    /// The server's unbroken history: another one after a restore from a copy.
    pub server_epoch: Epoch,
    /// SHA-256 of the server's certificate, in hexadecimal.
    pub certificate_sha256: String,
    /// Progress of a rotation of it.
    pub certificate_stage: CertificateStage,
    /// Addresses at which it listens for devices.
    pub addresses: Vec<String>,
    /// Address at which administrators are served over the network; null: nowhere.
    #[serde(default)]
    pub administration: Option<String>,
    /// Until when the certificate of the `[tls]` files is good; null: the server shows its own, which has no
    /// end.
    #[serde(default)]
    pub tls_files_until: Option<Timestamp>,
    /// Whether the server's wall clock is believed.
    #[serde(default)]
    pub clock: ClockStatus,
    /// Devices by presence.
    pub devices: DeviceCounts,
    /// Links, since the start.
    pub links: LinkTotals,
    /// Datagrams.
    pub datagrams: DatagramTotals,
    /// Events, since the start.
    pub events: EventTotals,
    /// The event log.
    pub journal: JournalStatus,
    /// The database.
    pub store: StoreStatus,
    /// The server's own log.
    #[serde(default)]
    pub log: LogStatus,
    /// Scheduled backups.
    #[serde(default)]
    pub backup: BackupStatus,
    /// The limits.
    pub limits: Vec<Limit>,
}

/// The server's own log, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct LogStatus {
    /// Lines that were dropped because nothing took them fast enough.
    pub lines_dropped: u64,
}

/// Whether the server's wall clock is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ClockStatus {
    /// Whether something is wrong with it.
    pub condition: ClockCondition,
    /// Distance by which it is ahead of what was expected; null when it is believed.
    pub ahead_seconds: Option<u64>,
    /// In how many seconds it is believed unless it steps again; null when it is.
    pub believed_in_seconds: Option<u64>,
}

/// Whether a wall clock is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClockCondition {
    /// It is.
    #[default]
    Ok,
    /// It was set forward, or is far ahead of when the server last ran: nothing is deleted or expires by age.
    Doubted,
}

/// Devices by presence and by status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct DeviceCounts {
    /// All that are enrolled and not removed: the sum of those by presence, and of those by status.
    pub known: u64,
    /// A link is open now.
    pub connected: u64,
    /// Not connected, not due yet.
    pub idle: u64,
    /// Those that said they go to sleep.
    pub asleep: u64,
    /// Those that said they shut down or reboot.
    pub shut_down: u64,
    /// Those whose agent said that it was stopped.
    pub agent_stopped: u64,
    /// Overdue.
    pub lost: u64,
    /// Enrolled and never heard of again.
    pub never_seen: u64,
    /// Those that wait for an administrator to approve them.
    #[serde(default)]
    pub waiting: u64,
    /// Those that have not yet stored the server's certificates as they are now.
    #[serde(default)]
    pub pins_missing: u64,
    /// Nothing is known against them.
    #[serde(default)]
    pub ok: u64,
    /// Somebody should look at them.
    #[serde(default)]
    pub warning: u64,
    /// Somebody must look at them.
    #[serde(default)]
    pub critical: u64,
}

/// Links, since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct LinkTotals {
    /// Open now, those included that have not said who they are.
    pub open: u64,
    /// Accepted.
    pub accepted: u64,
    /// Handshakes that were completed, resumed ones included.
    pub handshakes: u64,
    /// Handshakes that resumed an earlier session.
    pub handshakes_resumed: u64,
    /// Handshakes that are under way now.
    #[serde(default)]
    pub handshakes_under_way: u64,
    /// Processor time of the reactors that a handshake took on average; 0: there was none.
    #[serde(default)]
    pub handshake_microseconds: u64,
    /// Number of times that connections had to wait because no more handshakes may begin.
    #[serde(default)]
    pub held_back: u64,
    /// Connections that ended without a valid identity.
    #[serde(default)]
    pub strangers: u64,
    /// Why links ended, most frequent reason first.
    pub closes: Vec<CloseCount>,
}

/// Number of links that ended for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct CloseCount {
    /// Name of the reason.
    pub reason: String,
    /// Their number.
    pub count: u64,
}

/// Datagrams since the server started, and what became of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct DatagramTotals {
    /// Address at which notices are heard, and from which wakes come.
    pub address: String,
    /// Those that came in.
    pub received: u64,
    /// Notices that were believed.
    pub notices: u64,
    /// Those that came in and were dropped, most frequent reason first; reasons that did not occur are left
    /// out.
    pub dropped: Vec<CloseCount>,
    /// Those that were sent: wakes.
    pub sent: u64,
    /// Devices that somebody called.
    pub calls: u64,
}

/// Events, since the start.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct EventTotals {
    /// Stored.
    pub stored: u64,
    /// Sent again by a device, and not stored again.
    pub duplicates: u64,
    /// Stored in a second: the mean of the last five to ten seconds, or of the time since the start when that
    /// is shorter.
    pub stored_per_second: f64,
}

/// Whether the journal takes events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JournalCondition {
    /// It does.
    Ok,
    /// The disk is full: devices keep their events until there is room.
    NoRoom,
    /// A write failed: the server stops.
    Failed,
    /// It does, but stored events are damaged or missing.
    Damaged,
}

/// A stretch of the event log that is damaged or missing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct JournalDamage {
    /// The first position of it.
    pub from: u64,
    /// The position behind it.
    pub to: u64,
    /// The fault.
    pub what: String,
}

/// The event log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct JournalStatus {
    /// Whether it takes events.
    pub condition: JournalCondition,
    /// Since when there is no room; null when there is.
    pub since: Option<Timestamp>,
    /// Why, when it takes none; null when it does.
    pub reason: Option<String>,
    /// Size on disk, without what was set aside.
    pub bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Number of them that were set aside because they are damaged: no rule deletes those, and no limit
    /// counts them.
    #[serde(default)]
    pub set_aside_segments: u64,
    /// Their size.
    #[serde(default)]
    pub set_aside_bytes: u64,
    /// Number of stretches that are damaged or missing, as far as is known.
    #[serde(default)]
    pub damages_total: u64,
    /// The first of them.
    #[serde(default)]
    pub damages: Vec<JournalDamage>,
    /// When all full segments were last looked through; null: not since the start.
    #[serde(default)]
    pub checked_at: Option<Timestamp>,
    /// When the oldest record was received; null: it is empty.
    pub oldest_at: Option<Timestamp>,
    /// When the newest record was received; null: it is empty.
    pub newest_at: Option<Timestamp>,
    /// Up to which position everything is durable, in bytes.
    pub durable_position: u64,
    /// Warnings and worse of segments that were deleted.
    #[serde(default)]
    pub warnings: WarningsStatus,
}

/// The journal of warnings: what of severity warning and worse outlives the event log.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct WarningsStatus {
    /// Size on disk.
    pub bytes: u64,
    /// Events in it, count.
    pub events: u64,
    /// When the oldest of them was received; null: it is empty.
    pub oldest_at: Option<Timestamp>,
    /// When the newest of them was received; null: it is empty.
    pub newest_at: Option<Timestamp>,
    /// Whether something in it is damaged: see `musterd journal verify`.
    pub is_damaged: bool,
    /// Segments of the event log that were deleted before their warnings could be copied, since the start.
    pub segments_lost: u64,
    /// Why warnings can't be copied now; null when they can.
    pub reason: Option<String>,
}

/// Whether the database takes changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StoreCondition {
    /// It does.
    #[default]
    Ok,
    /// Its disk is full: nothing is changed until there is room.
    Full,
    /// It fails for another reason.
    Failed,
}

/// The database.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct StoreStatus {
    /// Whether it takes changes.
    #[serde(default)]
    pub condition: StoreCondition,
    /// Since when it takes none; null when it does.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Why, when it takes none; null when it does.
    #[serde(default)]
    pub reason: Option<String>,
    /// Size on disk, write-ahead log included.
    pub bytes: u64,
    /// Size of the write-ahead log.
    #[serde(default)]
    pub log_bytes: u64,
    /// Since when the write-ahead log can't begin anew because somebody reads the database and does not end;
    /// null: it can.
    #[serde(default)]
    pub log_blocked_since: Option<Timestamp>,
    /// The processes that read, as far as the server can tell; null: none.
    #[serde(default)]
    pub log_blocked_by: Option<String>,
    /// Different applications (name, version, publisher) that are known.
    pub applications: u64,
    /// Groups.
    pub groups: u64,
}

/// Scheduled backups.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct BackupStatus {
    /// Their directory; null: none are scheduled.
    pub directory: Option<String>,
    /// When the last was made; null: there is none.
    pub last_at: Option<Timestamp>,
    /// Its file; null: there is none.
    pub last_file: Option<String>,
    /// Its size; null: there is none.
    pub last_bytes: Option<u64>,
    /// Since when none can be made; null: they can.
    pub failing_since: Option<Timestamp>,
    /// Why; null: they can.
    pub reason: Option<String>,
    /// When the next is due; null: none are scheduled.
    pub next_at: Option<Timestamp>,
}

/// A limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Limit {
    /// Its name, with its unit: `links`, `frame_bytes`.
    pub name: String,
    /// The most that is allowed.
    pub value: u64,
    /// The present use; null: not counted.
    pub used: Option<u64>,
}
