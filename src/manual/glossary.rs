//! muster's own terms, each in one sentence, and the name that the code has for it.
//!
//! Everything else is called as the field calls it: TLS (RFC 8446), epoll(7), SQLite, group commit. One word
//! means one thing; a type whose name would mean two carries what it is of (`DeviceStatus`, `RunState`).
//!
//! # Connections
//!
//! | term | in the code | meaning |
//! |---|---|---|
//! | **reactor** | `Reactor` | A thread that waits for its sockets with epoll and does all work of their links that needs no disk. |
//! | **link** | `LinkRef` | One TLS connection of a device, named by reactor, slot and generation. |
//! | **persistent link** | `keep_connected` | A link that stays open after its sync, because an administrator wants it or wakes do not reach the device. |
//! | **extra link** | `ExtraLinks` | A second link of a device beside its own, which may take over or ends. |
//! | **session** | `Session` | The state machine of one link at the server: messages in, commands out, no socket. |
//! | **slab** | `Slab` | A table whose places are used again, so that an entry is found by its number. |
//! | **mailbox** | `Mailbox` | A bounded queue that wakes its reader once for all messages that were sent since it looked. |
//! | **permit** | `Permits` | The right to have a job done, taken before the job is accepted, so that no queue overflows. |
//! | **admission** | `Admission` | The rule that decides how many handshakes a reactor begins and which of them lose their place. |
//! | **stranger** | `Strangers` | A peer without a valid identity, which may only enrol. |
//! | **allowance** | `Allowance` | The work that a device may still ask for, refilled with time. |
//! | **slim link** | `SlimLink` | The record layer of an established connection: two traffic secrets and two numbers, without the TLS library. |
//! | **handover** | `handover` | The step from the TLS library to the slim link at the end of a handshake. |
//! | **drain** | `drain_all` | The orderly end of a server: no new links, those that are there finish, then the reactors stop. |
//!
//! # Devices
//!
//! | term | in the code | meaning |
//! |---|---|---|
//! | **device state** | `DeviceState` | The server's memory of one device, 160 bytes: enough for a sync without changes and for an event. |
//! | **sync** | `Sync` | The exchange in which a device names its digests, uploads what differs, and hears its next time. |
//! | **section** | `Section` | A part of a device's report that is synced on its own: inventory, host, conditions. |
//! | **digest** | `Digest` | A sum over the entries of a section or of a desired state, equal on both sides when they are in sync. |
//! | **epoch** | `Epoch` | A random number that names one history of counters, so that a restored disk is not taken for the old one. |
//! | **presence** | `Presence` | The server's statement of whether a device is connected, idle, asleep, shut down, lost or waiting for approval. |
//! | **filter** | `Filter` | A line of terms that says which devices are meant. |
//! | **selection** | `Selection` | The devices that a filter lets through at a moment. |
//! | **tag** | `Tag` | A name that devices are given, or have by a rule, which is a filter. |
//! | **view** | `View` | A filter with a name. |
//! | **reach** | `UdpReach` | Whether datagrams from the server arrive at the device, as its probes have shown. |
//! | **slot** | `next_slot_at` | The time at which a device was told to come again. |
//! | **pacing** | `pacing` | The rule that spreads devices over time when many come back at once. |
//! | **notice** | `Notice` | A device's datagram that it shuts down, reboots, sleeps or stops; also called shutdown notice. |
//! | **goodbye** | `Goodbye` | The same as a notice, said on the link. |
//! | **wake** | `Wake` | The server's authenticated datagram that asks a device to connect. |
//! | **wake scheduler** | `WakeScheduler` | The state machine that calls devices, on their link or by wakes, at a bounded rate. |
//! | **pin** | `pins` | A stored copy of the server's certificate, against which the agent compares it byte for byte. |
//! | **renewal** | `renew` | The exchange of a device's certificate for another one long before its end, over its link; proved by a sync that shows the new one. |
//! | **voucher** | `voucher` | A certificate by which a key that a device trusts speaks for another key of the server. |
//! | **recovery key** | `recovery_key` | The key whose private part is kept off the server, and whose vouchers bring devices back. |
//! | **trust label** | `trust_label` | A number that names what a device is to trust: pins, the lowest voucher, datagram keys. |
//! | **join token** | `JoinToken` | The secret with which a new device enrols, bounded in time and uses. |
//! | **copy** | `Verdict`, `ForkOutcome` | A machine that uses the identity of another one, as one made from a copy of its disk does; to fork it is to have it enrol as a device of its own. |
//! | **approval** | `approve` | An administrator's word that lets a device in that has enrolled with a token that asks for it. |
//! | **take-over** | `take_over` | A machine's enrolment as a device that is there: it gets the record, and the device's old certificates die. |
//! | **status** | `DeviceStatus` | A device's level (ok to critical) with its reasons, judged by the rules of its group. |
//! | **spool** | `Spool` | The agent's durable queue of events, one journal for each severity. |
//!
//! # Events
//!
//! | term | in the code | meaning |
//! |---|---|---|
//! | **journal** | `Journal` | The append-only log of events in segments, on the server and under the spool. |
//! | **position** | `Position` | A byte offset in the journal since its beginning, which never names another record. |
//! | **flush leadership** | `Leader` | The right to flush: its holder makes durable what all have appended (group commit with a leader). |
//! | **commit delay** | `CommitDelay` | The wait before a flush for more to write at once, as long as it proves worth it. |
//! | **preallocator** | `Preallocator` | The thread that makes the next segment before it is needed and deletes those that retention lets go. |
//! | **set aside** | `SetAside` | State of a damaged segment that is kept for people and read by no rule of age or size. |
//! | **standby** | `StandbyStart` | A server that waits while another one holds the data directory, and takes its place. |
//! | **directory lease** | `Lease` | A file in a data directory on a shared disk that its server keeps writing, so that no other machine takes it for free. |
//! | **archive** | `Archiver` | The second journal, for warnings and worse, which outlives the first. |
//!
//! # Settings and tasks
//!
//! | term | in the code | meaning |
//! |---|---|---|
//! | **desired state** | `DesiredState` | The settings and runs that a device should have; the device keeps the orders for them under `orders/`. |
//! | **declaration** | `Declaration` | A device's offer: which applications take settings, which tasks they execute, by which schema. |
//! | **lock** | `locks` | A key of a group's policy that levels below can't change. |
//! | **drift** | `Drift` | A settings file that somebody else has changed, and the rule whether it is repaired or only reported. |
//! | **scheduler** | `Scheduler` | The server's background thread: judges devices, makes and releases runs, notifies devices of a new desired state. |
//! | **run** | `Run` | One execution of a task on one device, retries being runs of their own. |
//! | **artifact** | `StoredArtifact` | A file that runs come with, kept by the server under the SHA-256 of its content, and fetched by devices in *parts*. |
//! | **lease** | `lease_until` | The time until which a device must be heard of, or its run counts as lost. |
//! | **tombstone** | `Tombstone` | The device's memory of a run that is over, so that it is never executed again. |
//!
//! # Clocks
//!
//! | term | in the code | meaning |
//! |---|---|---|
//! | **doubt** | `Doubt` | The time after a step of the wall clock in which nothing is done by age that can't be undone. |
#![forbid(unsafe_code)]
