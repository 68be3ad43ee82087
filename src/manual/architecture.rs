//! Structure of muster: layers, threads, and the paths that data takes.
//!
//! ```text
//!   device                                              server (one process)
//!   ┌───────────────────────────┐                       ┌──────────────────────────────────────────────────┐
//!   │ dpkg·rpm·apk·pkg   emit   │      TLS 1.3          │ reactors ── sessions ─┬─ nothing changed: answer │
//!   │       │             │     │   TCP 13000, mutual   │ (one a core)          ├─ changed: worker ─ store │
//!   │   collectors      spool ──┼──────────────────────▶│                       └─ event: journal          │
//!   │       └── agent ────┘     │◀──────────────────────┤   ▲                               │              │
//!   └───────────────────────────┘  ack once it is on    │   └── acks ── flusher: one durable write for all │
//!      checks the server's         the disk             │                                                  │
//!      certificate against its                          │ admin.sock ── HTTP/JSON ── musterctl             │
//!      stored copy, byte for byte                       └──────────────────────────────────────────────────┘
//! ```
//!
//! # Layers
//!
//! A module names only layers below its own, and folders on one layer never name each other; `tests/tidy.rs`
//! reads the sources and fails when one does.
//!
//! ```text
//! 0  wire/      bytes <-> values: frames, messages, tokens, ids, digests, limits. No IO, no clock
//! 1  fleet/     pure rules: policies and locks, schemas, tasks and their runs, status, pacing, presence, versions
//! 1  machine/   pure state machines: the endpoint of all links, its sessions, timers, calls of devices, agent
//! 1  record_layer/  the records of an established TLS 1.3 connection, from its secrets and numbers alone
//! 2  concurrency/  what passes between threads: bounded mailboxes with a notifier; counters
//! 2  memory     the process's memory: what is free is given back
//! 2  configuration  files that people write: read, and refused with line, key and what is allowed
//! 2  paths      paths that a configuration names, looked at before they are used
//! 3  journal/   the event log of the server and the spool of the agent; beside one call in `memory` the one module with unsafe
//! 3  store/     SQLite: devices, groups, tokens, inventory, policies, statistics; the device table in memory
//! 3  reactor/   mio: poll, links, the TLS channel, acceptor, the UDP port, buffers, the clock
//! 4  admin/     the API, the console      agent/  the device side    client/  what musterctl uses
//! 5  server/    assembly: configuration, identity, threads, start, drain; the embeddable server
//! 6  bin/       arguments in, one call, exit code out
//! ```
//!
//! `server` stands above `admin` because it starts it: an embedder gets the whole server from one call.
//!
//! # Threads of the server
//!
//! | thread (its name) | owns | hears from |
//! |---|---|---|
//! | the caller's; of `musterd` the main one | signals (SIGTERM, SIGINT, SIGHUP): start, reload, drain | the kernel; the first failure of any thread |
//! | reactor × R, default: cores (`reactor-0` …) | its listener (`SO_REUSEPORT` among the reactors of one server), its [`Endpoint`](crate::machine::endpoint) with all links, its timers | sockets; workers, store writer, journal, `datagrams` and `control` by a mailbox and a `mio::Waker` |
//! | flusher (`journal-flush`) | making the journal durable, unless a reactor leads the flush for a write that it would only wait for; another one that wants it meanwhile is told when it is free | reactors, by a notifier |
//! | preallocator (`journal-ahead`) | the next segment of the journal, one ahead; retention, and the copies of warnings that outlive it | appends that begin a segment, and its own clock |
//! | checker (`journal-check`) | reading full segments for damage, after the start and once a day | its own clock |
//! | store writer (`store-writer`) | the one write connection to SQLite | workers, `control`, scheduler, reactors (a new server epoch), all by one queue |
//! | checkpointer (`store-checkpoint`) | copying SQLite's write-ahead log back into the file | the store writer, when the log has grown |
//! | worker × W, default: cores (`worker-0` …) | nothing between jobs | reactors, by a bounded channel |
//! | `datagrams` | the UDP port; which device is called, and how far each call is | sockets; reactors, `control` and scheduler by two mailboxes |
//! | scheduler (`background`) | nothing but the clock: tasks that are due, statuses, devices that have another desired state to hear of | `control` and workers, by a notifier |
//! | `backup` | nothing but when the next backup is due; `backup-sent` while somebody receives one | its own clock; `control` |
//! | `control` | the administration API (tokio, one thread, and up to four that may wait for a disk); once a second the watch over the clock and presence, every ten the write-back of sequence numbers | administrators; its own clock; the durable position |
//! | `artifact`, while one is read | nothing: it hashes a file that devices ask for and that has changed, or was not read since the start | workers |
//! | `log` (of the programs, not of an embedded server) | standard error | all, by a queue |
//!
//! No thread waits for a thread that it feeds. A permit is taken before a frame is consumed, so that a queue
//! can't overflow: a link whose work has no room is not read, and TCP tells the peer. A thread on which
//! devices depend ends the server when it fails or panics, and the last line says which it was.
//!
//! # Queues
//!
//! ```text
//!     devices, TCP                                                            administrators, Unix socket
//!          │                                                                            │
//!     [1] backlog                                                                  [11] clients
//!          │                                                                            │
//!     [2] handshakes                                                     ┌──────── control ────────┐
//!          │                                                             │   [12] blocking threads │
//!          ▼             [5] jobs                    [6] operations      │                         │
//!    ┌─ reactor × R ──────────────▶ worker × W ──────────────▶ store writer                        │
//!    │     ▲    ▲                      │    │                    │   │                             │
//!    │     │    └────── [4] mailbox ◀──┴────│────────────────────┘   └─[7]─▶ checkpointer          │
//!    │     │                ▲               └─[8]─▶ scheduler ◀─────────────[8]────────────────────┤
//!    │     │                └──────────────────┐       │                                           │
//!    │     └── durable position ──┐            │       │                                           │
//!    │                            │        datagrams ◀─┴───────[9] calls───────────────────────────┘
//!    └──▶ [3] journal's window ─▶ flusher      ▲ │
//!         [13] acks wait meanwhile             │ └──▶ devices, UDP
//!                     reactors ──[10] steps────┘
//! ```
//!
//! Each bound is a constant; those that are no part of the API are named by their file, and a test looks
//! whether they are there.
//!
//! | | queue | bound | when it is full |
//! |---|---|---|---|
//! | 1 | connections in the kernel, of each listener | `net.core.somaxconn`, up to 65,535 (`reactor/listener.rs::BACKLOG_MAX`) | the SYN is dropped, and repeated after 1, 2, 4 … s |
//! | 2 | handshakes under way, of each reactor | 2,048 ([`HANDSHAKES_UNDER_WAY_MAX`](crate::machine::admission::HANDSHAKES_UNDER_WAY_MAX)); in all, 64 beside the links of devices ([`HANDSHAKES_BEYOND_MAX`](crate::reactor::HANDSHAKES_BEYOND_MAX)) | nothing is accepted, connections wait in the backlog; the oldest that says nothing gives its place up ([`storms`](super::storms)) |
//! | 3 | records that wait for the flush | 1 MiB ([`Options::server`](crate::journal::Options::server)) | the link is not read, and tried again when something has become durable; with a full disk the device is told to come later |
//! | 4 | messages to a reactor | 65,536 (`reactor/turn.rs::CONTROL_MESSAGES_MAX`), and one for each permit | the outcome of a job always has room. A device that could not be asked on its link is woken; a superseded link is found by its deadline; a removed device is refused with its next message; the end is told again |
//! | 5 | jobs for workers | 512 (`server/workers.rs::JOBS_MAX`), each with a permit, and 64 MiB (`server/workers.rs::JOBS_BYTES_MAX`) | an enrolment or a part is not read; a sync that differs hears `Later` from the last 32 permits on (`server/backend.rs::PERMITS_RESERVED`), as does one whose job finds no room |
//! | 6 | operations for the store writer | of devices 4,000 (`store/writer.rs::WAITING_OPERATIONS_MAX`) and 64 MiB (`store/writer.rs::WAITING_BYTES_MAX`); 256 (`store/writer.rs::RESERVED_OPERATIONS`) and 32 MiB (`store/writer.rs::RESERVED_BYTES`) more for administrators and the server itself | [`Busy`](crate::store::StoreError::Busy) at once: a device hears `Later`, an administrator `busy` |
//! | 7 | notifications of the checkpointer | 1 | the one that waits is enough |
//! | 8 | notifications of the scheduler, and the devices that it is to tell | 1; every device once | the one that waits is enough; a hundred devices are told in a round (`server/scheduler/notifications.rs::DEVICES_PER_ROUND`) |
//! | 9 | messages that call devices | 1,024 (`reactor/port.rs::ADMINISTRATION_MESSAGES_MAX`); behind them 1,000,000 devices ([`QUESTIONS_MAX`](crate::machine::wake_scheduler::QUESTIONS_MAX)), of which 4,096 are called at a time ([`CALLS_MAX`](crate::machine::wake_scheduler::CALLS_MAX)) | refused as `busy`; the scheduler tries again in its next round |
//! | 10 | what reactors saw of devices that are called, and probes | 65,536 (`reactor/port.rs::DEVICE_MESSAGES_MAX`); 4,096 probes to be sent (`server/calls.rs::PROBES_MAX`) | the call ends by its own deadline; the probe counts as lost |
//! | 11 | clients of the administration socket | 64 ([`CONNECTIONS_MAX`](crate::admin::capacity::CONNECTIONS_MAX)), of these 32 that follow ([`FOLLOWERS_MAX`](crate::admin::capacity::FOLLOWERS_MAX)) and 16 that wait for devices ([`WAITS_MAX`](crate::admin::capacity::WAITS_MAX)) | the next waits for 5 s and is refused, `busy`; one more that follows or waits is refused at once |
//! | 12 | requests on blocking threads | 4 (`admin/blocking.rs::THREADS_MAX`) | the next waits for 10 s (`admin/blocking.rs::WAIT_SECONDS_MAX`) and is refused, `busy` |
//! | 13 | acknowledgements that wait for the disk, of each reactor | 65,536 (`machine/acks.rs::ENTRIES_MAX`) | those of one link become one: there are never more than twice as many as links, or that number |
//! | | bytes that a link has not taken | 1 MiB ([`UNSENT_BYTES_MAX`](crate::reactor::channel::UNSENT_BYTES_MAX)); all links together `[links] buffer_size` ([`Holdings`](crate::machine::holdings::Holdings)) | closed as `slow_reader`; those that hold most for longest, as `held_most` |
//! | | parts of artifacts for devices | half of the jobs of 5, and half of `buffer_size`; one a link | the device asks again after some seconds |
//! | | uploads of artifacts | 4 ([`UPLOADS_MAX`](crate::admin::capacity::UPLOADS_MAX)), 256 KiB of each in memory (`admin/artifacts.rs::PIECE_BYTES`) | refused, `busy` |
//! | | devices whose status is judged soon | 16,384 that changed (`store/devices/table.rs::MARKED_MAX`), 1,024 that came or went (`server/presence.rs::MOVED_MAX`) | they are judged with all others, within a minute |
//! | | devices whose facts in lists have changed | 2,048 (`store/selection/mod.rs::CHANGED_MAX`), while somebody lists devices | all devices are read anew |
//! | | lines of the log | 256 KiB (`logging/queue.rs::QUEUE_BYTES_MAX`), of these 64 KiB for warnings and errors alone (`logging/queue.rs::RESERVE_BYTES`) | dropped, counted, and said; no thread waits for the log |
//!
//! # The core is pure
//!
//! [`machine`](crate::machine) and [`fleet`](crate::fleet) are told bytes, time and randomness, and answer
//! with commands. The gain: a whole server and hundreds of agents run in one thread under a seed, with a
//! simulated network, disk and clock ([`testing`](super::testing)).
//!
//! The server's half of its links is one object for each reactor, the [`Endpoint`](crate::machine::endpoint).
//! It owns the sessions, which link is a device's, the permits of jobs, the acknowledgements that wait for
//! the disk and the order in which links end when the server stops. The reactor hands it frames, outcomes,
//! the durable position and deadlines, and then asks what to send, which job to submit, which link to close:
//! what is left to the reactor are sockets, secrets and time. The simulation drives the same object; a
//! planted bug breaks one of its [`Rule`](crate::machine::endpoint::Rule)s there, and no copy of it. The
//! endpoint's view of journal, store and the rest is a trait,
//! [`Services`](crate::machine::endpoint::Services); a device's record is locked while its message is acted
//! on, so that an event is appended and noted there as one.
//!
//! # The paths
//!
//! - **An event**: link → TLS channel → endpoint → session → `append` into the journal's mapped tail, in the
//!   reactor's thread → one durable write for all that waits, by the reactor if it has nothing else to do,
//!   else by the flusher → the durable position is published → the reactors send the acknowledgements that it
//!   releases. [`delivery`](super::delivery) has the promises.
//! - **A sync in which nothing changed**: the session compares the device's digests with the record in memory
//!   and answers. No worker, no disk. The numbers that an agent brings beside it, once a minute at most, take
//!   another path, below.
//! - **A sync in which something changed**: session → job → worker → store writer → outcome → session → link.
//!   One transaction takes everything that waits.
//! - **Desired state** (settings and runs of tasks): whatever changes what a device is to have writes one
//!   digest of it into the device's row and record, in the transaction of the change. A sync names the digest
//!   of what the device has; when they differ, and the sections are in sync, a worker works out what to tell
//!   it, and it is told before the sync ends. The scheduler asks connected devices to sync, paced, and wakes
//!   others where that is wanted.
//! - **A report of a run**: link → session → job → worker → store writer → acknowledgement, which lets the
//!   device forget it.
//! - **Statistics**: with a sync, link → session → job → store; not acknowledged, the next ones come by
//!   themselves.
//! - **A rotation**: administration → the next contents of `identity/`, durable → the certificate that
//!   handshakes show, and the label that devices are to name → those that are connected are asked to sync → a
//!   device that names another label → job → worker → `trust` → its disk → its next sync names the label →
//!   job → store.
//! - **Enrolment**: a link without a certificate → job → worker checks the token, signs the request, stores
//!   the device → answer → the device connects anew with its certificate.
//! - **A renewal**: the scheduler marks the device whose certificate is due; its next sync says so → link →
//!   session → job → worker signs, stores the certificate beside the one in use → answer → the device connects
//!   anew with it, and the handshake that shows it has the other one forgotten.
//! - **A call**: control → the UDP port's thread → where is the device? Connected: a message to its reactor,
//!   a message on its link. Not: a datagram, repeated until the session says that its sync has begun, or
//!   given up with the reason. [`reach`](super::reach) has the rules.
//! - **A shutdown notice**: datagram → authentication → counter → the device's record → an event when the
//!   presence has changed. It never answers, whatever it receives.
//! - **Administration**: `musterctl` → HTTP over a Unix socket → the control thread, which reads SQLite and
//!   the journal on blocking threads of a bounded number. It never stands on a device's path.
