//! Every limit of the wire, with its unit and its reason. Relations between them are asserted at compile
//! time.

/// Largest frame body. A link never needs a larger buffer; larger things travel in parts.
pub const FRAME_BODY_BYTES_MAX: usize = 64 * 1024;

/// Length prefix of a frame (u32, big-endian).
pub const FRAME_HEADER_BYTES: usize = 4;

/// Longest name (application, version, publisher, device, host fact), in bytes of UTF-8. The longest version
/// string in Debian 12's archive is 62 bytes; 255 is what file systems allow a name.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest text of an event's message or of an error shown to people, in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 4096;

/// Most fields of one event, in entries.
pub const EVENT_FIELDS_MAX: usize = 32;

/// Largest encoded event. A frame holds at least seven of them.
pub const EVENT_BYTES_MAX: usize = 8 * 1024;

/// Most events in one message, in entries. Bounds what one frame can ask of the journal in one turn.
pub const EVENTS_PER_MESSAGE_MAX: usize = 512;

/// Most addresses among the host facts, in entries.
pub const HOST_ADDRESSES_MAX: usize = 32;

/// Most applications in one device's inventory. A Debian desktop has about 2,500, a full build host 8,000.
pub const INVENTORY_ENTRIES_MAX: usize = 50_000;

/// Most entries (added or removed) in one part of an inventory.
pub const PART_ENTRIES_MAX: usize = 1_000;

/// Bytes of content that a sender puts into one part; leaves room for the frame's other keys.
pub const PART_CONTENT_BYTES_TARGET: usize = 32 * 1024;

/// Most parts of one section's upload.
pub const PARTS_PER_UPLOAD_MAX: usize = 1_000;

/// Most managed applications whose condition one device reports, in entries.
pub const CONDITIONS_MAX: usize = 500;

/// Most sections named in one sync, in entries. Five exist; the rest is room for later ones.
pub const SECTIONS_MAX: usize = 16;

/// Largest certificate or certificate signing request on the wire, in bytes of DER. Ours are below 700.
pub const CERTIFICATE_BYTES_MAX: usize = 4 * 1024;

/// Most server certificates (pins) that a device stores, in entries: current, next, offline recovery, one
/// spare.
pub const PINS_MAX: usize = 4;

/// Length of a datagram key (HMAC-SHA-256 key, RFC 2104).
pub const DATAGRAM_KEY_BYTES: usize = 32;

/// Secret of a join token: 192 bits can't be guessed at any rate.
pub const TOKEN_SECRET_BYTES: usize = 24;

/// Largest settings of one application on one device, in bytes of JSON. One order fits a frame with room to
/// spare.
pub const SETTINGS_BYTES_MAX: usize = 32 * 1024;

/// Largest settings of a task, in bytes of JSON.
pub const TASK_SETTINGS_BYTES_MAX: usize = 16 * 1024;

/// Largest JSON Schema of an application's settings or a kind of task.
pub const SCHEMA_BYTES_MAX: usize = 8 * 1024;

/// Most kinds of task that one application offers.
pub const TASK_KINDS_MAX: usize = 64;

/// Bytes of all that a device declares, in bytes of names and schemas. It travels with the host facts, in one
/// frame.
pub const DECLARATIONS_BYTES_MAX: usize = 40 * 1024;

/// Most runs that a device has at a time. More wait at the server.
pub const RUNS_PER_DEVICE_MAX: usize = 64;

/// Most updates of runs in one message, in updates.
pub const RUNS_PER_MESSAGE_MAX: usize = 64;

/// Bytes of output in one update of a run: a run's output is kept to twice this, its beginning and its end.
pub const RUN_OUTPUT_PART_BYTES_MAX: usize = 32 * 1024;

/// Bytes of updates that a device puts into one message; leaves room for one more of the largest.
pub const RUN_UPDATES_BYTES_TARGET: usize = 16 * 1024;

/// Most bytes of an artifact in one part; leaves room for the frame's other keys.
pub const ARTIFACT_PART_BYTES_MAX: usize = 48 * 1024;

/// Largest artifact: what a device may have to find room for. A firmware image is below it.
pub const ARTIFACT_BYTES_MAX: u64 = 4 << 30;

/// Longest text of a signature: minisign's four lines, with a comment of 700 bytes.
pub const SIGNATURE_BYTES_MAX: usize = 1024;

/// Most numbers among a device's statistics, in entries.
pub const STATISTICS_MAX: usize = 256;

/// Bytes of names and units among a device's statistics. They travel in one frame.
pub const STATISTICS_BYTES_MAX: usize = 32 * 1024;

/// Bytes of settings and runs that a device is told at a time; one more of the largest may go beyond it. The
/// next follow when the socket has taken these.
pub const DESIRED_STATE_BYTES_TARGET: usize = 128 * 1024;

/// Over how many seconds agents that lost their server spread at least when they come back. Both sides go by
/// it: the agent draws its delay, the server calls nobody lost before.
pub const RECONNECT_SECONDS_MIN: u64 = 30;

/// And at most. Between the two it is their interval: in that time a server can take all its devices.
pub const RECONNECT_SECONDS_MAX: u64 = 900;

const _: () = assert!(RECONNECT_SECONDS_MIN <= RECONNECT_SECONDS_MAX);

/// Longest time of a reboot before the device counts as lost: a server's firmware takes minutes.
pub const REBOOT_SECONDS_MAX: u64 = 900;
const _: () = assert!(EVENT_BYTES_MAX * 7 < FRAME_BODY_BYTES_MAX);
const _: () = assert!(TEXT_BYTES_MAX + 4 * NAME_BYTES_MAX < EVENT_BYTES_MAX);
const _: () = assert!(PART_CONTENT_BYTES_TARGET + 4 * NAME_BYTES_MAX < FRAME_BODY_BYTES_MAX);
const _: () = assert!(CERTIFICATE_BYTES_MAX * (PINS_MAX + 2) < FRAME_BODY_BYTES_MAX);
const _: () = assert!(SETTINGS_BYTES_MAX + 4 * NAME_BYTES_MAX < FRAME_BODY_BYTES_MAX);
const _: () =
    assert!(TASK_SETTINGS_BYTES_MAX + SIGNATURE_BYTES_MAX + 4 * NAME_BYTES_MAX < FRAME_BODY_BYTES_MAX);
const _: () = assert!(
    RUN_UPDATES_BYTES_TARGET + RUN_OUTPUT_PART_BYTES_MAX + TEXT_BYTES_MAX + 4 * NAME_BYTES_MAX
        < FRAME_BODY_BYTES_MAX
);
const _: () =
    assert!(DECLARATIONS_BYTES_MAX + (HOST_ADDRESSES_MAX + 16) * NAME_BYTES_MAX < FRAME_BODY_BYTES_MAX);
const _: () = assert!(ARTIFACT_PART_BYTES_MAX + TEXT_BYTES_MAX + 4 * NAME_BYTES_MAX < FRAME_BODY_BYTES_MAX);
const _: () = assert!(STATISTICS_BYTES_MAX + 4 * NAME_BYTES_MAX < FRAME_BODY_BYTES_MAX);
const _: () = assert!(PARTS_PER_UPLOAD_MAX * PART_ENTRIES_MAX > 2 * INVENTORY_ENTRIES_MAX);
