//! Promises about an event, from the device's disk to the server's.
//!
//! # The promises
//!
//! 1. `emit` returns when the event is durable in the device's spool. An event for which it returned survives
//!    a power cut. One whose agent is killed (SIGKILL) before it answers tries again, and that event may be
//!    there twice; an agent that is stopped or restarted answers before.
//! 2. The server acknowledges an event when it is durable in the journal, and not before. The agent deletes
//!    nothing that was not acknowledged.
//! 3. An event that comes again, because an acknowledgement was lost or a peer restarted, is acknowledged
//!    again and not stored again.
//! 4. The events of one device are stored in the order in which they occurred.
//! 5. An event that is no text or too long is kept: what is not UTF-8 is replaced, what is too long is cut,
//!    and a field `muster.mended` says so.
//! 6. Dropped events are counted. A spool has a quota for each severity; when one is full, the oldest events
//!    *of that severity* go, and an event of kind `spool.dropped` says how many.
//!
//! # Mechanism
//!
//! An event has a sequence number, counted by the device from 1 under a **spool epoch**. For each device the
//! server keeps the epoch, the highest sequence number that it has appended, the CRC-32C of that event, and
//! the journal position that has to be durable before it may be acknowledged. Acknowledgements are
//! cumulative.
//!
//! | the event's number is | the server |
//! |---|---|
//! | above the highest | appends it |
//! | the highest, same CRC | acknowledges it once its position is durable |
//! | the highest, other CRC | answers `SpoolEpochConflict` |
//! | below the highest | stores nothing, acknowledges nothing: the acknowledgement goes out when the highest is reached |
//!
//! Contents of an event are not looked at when it comes: the server stores the bytes that the device's spool
//! held. One that this version can't read, as of a newer agent, is listed as a warning of kind `unreadable`
//! until a newer server reads it. Were it refused, the device would bring it again for ever, and everything
//! behind it would wait.
//!
//! An event has a **source**: `device` or `server` (`source` of `event list --json`, the column SOURCE). It
//! does not come of what the event says. The server's own are stored under spool epoch 0, which no session
//! takes from a device. An event of a device whose application is `muster` or `musterd`, also in another
//! case, with spaces or with characters that are not seen, is kept as it came, and listed with `device:`
//! before its application. A device that declares an application `muster` gets none of the settings that
//! devices are judged by.
//!
//! The last two rows are for devices that were rolled back to an older image. Their numbers begin again where
//! the image was made, and would be taken for repetitions: new events would be acknowledged and lost. So a
//! repetition has to end in the very event that the server has last stored before anything is acknowledged;
//! and a device whose highest number lies below the server's is told at once. It draws a new epoch and sends
//! everything that it still has under it. That may store an event a second time, under another epoch: of a
//! device that was rolled back nobody can know what it had sent, and twice is better than never. Epochs rise:
//! one below the epoch that the server knows was left for it, by an image that is older still, and is
//! answered with a conflict as well.
//!
//! A repetition that never ends in that event is a conflict too. A device that was rolled back may have given
//! out its old numbers again and dropped, for want of room, just the one that the server stored last: events
//! before it are in doubt until it comes, and one behind it without it, or the device's word that no more
//! will come, ends the link with `SpoolEpochConflict`. This has a price. A device that was *not* rolled back,
//! lost its link with events under way (256 KiB at most), and then ran out of room so that the last of those
//! was dropped and earlier ones of another severity were not, sends these earlier ones a second time, under a
//! new epoch.
//!
//! # Events that a server has lost
//!
//! An acknowledgement covers every number up to it, so a server must account for each: the event is stored,
//! or the device dropped it and says so. A server that was restored from a copy, or has lost a part of its
//! journal, can't do that for what it acknowledged since. So each message of events names the highest number
//! that the device was told is durable in this epoch. A server that knows less takes nothing of the message
//! and answers `Resend` with the number up to which it knows the device. The device then forgets that
//! anything behind it was acknowledged, and sends all that it still has: its spool deletes whole segments, so
//! that most of what was acknowledged last is still there. An event that is gone on both sides is gone, also
//! when the device is put back later to an image that has it again: the server has passed its numbers by
//! then.
//!
//! A hole in the middle of the journal is told (`musterctl status`, `musterd journal verify`) and not asked
//! for: behind it the server knows the device, and would store again what it has.
//!
//! A device that knows more of the server than is stored, as its sync says, is brought over whole, alone: its
//! sections without a difference, its events by a `Resend`. That costs the others nothing, whether it is
//! right or not. When three devices say so, the server takes itself for restored and draws a new epoch, at
//! most one after each start: no single device can have one drawn.
//!
//! A device that hears of a new server epoch in a sync, which `musterd restore` begins, names what was
//! acknowledged at once, without waiting for the next event. An event that another server acknowledged,
//! before a move, or that was acknowledged under an earlier spool epoch, is never claimed of this one and not
//! sent again.
//!
//! After a restart the server knows the highest numbers from its store, which writes them down now and then
//! together with a journal position, and from the journal behind that position. The store also has, for each
//! device, the position behind the last event. If the journal does not reach that far, or has a hole there,
//! because the two were restored from different moments or a part is lost, the store's number is not
//! believed: the device is known only as far as the journal goes.
//!
//! # One device's share of the log
//!
//! The log keeps `[journal] retention_size` for the whole fleet. So that one device that says the same thing
//! without end does not wash away what all others have said, the events of each have a rate
//! ([`rate`](crate::machine::rate)), whatever the number of its links:
//!
//! | `[journal]` | default | why so much |
//! |---|---|---|
//! | `device_burst` | 64 MiB | four times what a spool holds by default: a device that was away for weeks brings everything at once |
//! | `device_rate` | 8 KiB a second | forty events of 200 bytes, day and night; one device alone takes 24 days to fill 16 GiB |
//!
//! An event counts with its bytes and 64 for what the log adds. Events above the rate are answered with
//! `Later`, which names events alone: the link stays, and syncs, tasks and everything else go on. The device
//! keeps its events and sends them again when it was told, after 5 seconds to 5 minutes, when there is room
//! for as much as it has under way. Nothing is lost that its spool has room for; what has none is dropped and
//! counted as ever. Behind an event that was put off none is taken that was under way on the same link,
//! though there be room again: an acknowledgement covers all numbers before it. The first message after the
//! time says that it is that. An agent of before knows none of this: it waits with everything, and comes on
//! another link.
//!
//! Warnings and worse count as well: how bad an event is, is the device's word. They have a reserve of a
//! quarter of the burst above it: a message with a warning in it is taken up to that warning while info
//! waits. Far behind info in the spool a warning waits nevertheless, as events are stored in their order; by
//! default that is 4 MiB of info at most, nine minutes.
//!
//! The device's status has the reason 'it sends more events than it may' while this lasts, `musterctl device
//! why` and `muster-agent status` say it too, and `events_held` among the counters says how often it was said
//! to anybody. A server that was started anew has forgotten what was used of the burst.
//!
//! # When the server's disk is full
//!
//! That is a state, not a failure. The journal prepares its segments one ahead, so a full disk is noticed
//! while there is still room for what is under way. Then nothing is appended and nothing acknowledged; the
//! agents keep their events; `musterctl status` says since when and why. When there is room again it goes on
//! by itself. The link on which an event found no room is told to come later and is closed, so that no later
//! event overtakes the one that was refused.
//!
//! A *failed* write is another matter: after it nobody knows what the disk holds, and a later sync that
//! succeeds proves nothing. The server stops acknowledging, exits, and reads the journal anew when it is
//! started.
