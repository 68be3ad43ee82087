//! Structure of muster: layers, threads, and the paths that data takes.
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
//! 2  paths      paths that a configuration names, looked at before they are used
//! 3  journal/   the event log of the server and the spool of the agent; beside one call in `memory` the one module with unsafe
//! 3  store/     SQLite: devices, groups, tokens, inventory, policies, statistics; the device table in memory
//! 3  reactor/   mio: poll, links, the TLS channel, acceptor, the UDP port, buffers, the clock
//! 4  admin/     the administration API    agent/  the device side    client/  what musterctl uses
//! 5  server/    assembly: configuration, identity, threads, start, drain; the embeddable server
//! 6  bin/       arguments in, one call, exit code out
//! ```
//!
//! `server` stands above `admin` because it starts it: an embedder gets the whole server from one call.
//!
//! # Threads of the server
//!
//! | thread | owns | hears from |
//! |---|---|---|
//! | reactor × R (default: cores) | its listener (`SO_REUSEPORT` among the reactors of one server), its slab of links and their sessions, its timers | sockets; workers, flusher and control through a mailbox and a `mio::Waker` |
//! | flusher | making the journal durable, which a reactor takes over for a write that it would only wait for; another one that wants it meanwhile is told when it is free | reactors, by a notifier |
//! | preallocator | the next segment of the journal, one ahead; retention, and the copies of warnings that outlive it | the flusher, and its own clock |
//! | store writer | the one write connection to SQLite | workers, control |
//! | worker × W | nothing between jobs | reactors, through a bounded channel |
//! | datagrams | the UDP port; who is called, and how far each call is | sockets; reactors and control through a mailbox |
//! | background (the scheduler) | nothing but the clock: statuses, devices that have another desired state to hear of | control, by a notifier |
//! | backup | nothing but when the next backup is due; another thread while somebody receives one | its own clock; control |
//! | control | the administration API, signals, reload | administrators |
//!
//! No thread waits for a thread that it feeds. A permit is taken before a frame is consumed, so that a queue
//! can't overflow: a link whose work has no room is not read, and TCP tells the peer.
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
//! - **Enrolment**: a link without a certificate → job → worker checks the token, signs the request, stores
//!   the device → answer → the device connects anew with its certificate.
//! - **A call**: control → the UDP port's thread → where is the device? Connected: a message to its reactor,
//!   a message on its link. Not: a datagram, repeated until the session says that its sync has begun, or
//!   given up with the reason. [`reach`](super::reach) has the rules.
//! - **A shutdown notice**: datagram → authentication → counter → the device's record → an event when the
//!   presence has changed. It never answers, whatever it receives.
//! - **Administration**: `musterctl` → HTTP over a Unix socket → the control thread, which reads SQLite and
//!   the journal on blocking threads of a bounded number. It never stands on a device's path.
