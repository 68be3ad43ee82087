//! The start: what is opened, in which order, and why in that one.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::bounded;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;

use super::admin_parts::{Counted, OpenLinks, StoredEvents};
use super::alarm::Alarm;
use super::backend::{BackendParts, LiveBackend};
use super::calls::{CallThread, CallTools};
use super::config::{Config, JournalConfig, LinksConfig};
use super::control::{Control, ControlThread};
use super::data_directory::DataDirectory;
use super::identity::Identity;
use super::presence::{Announcer, Rounds};
use super::sequences::{self, WriteBack};
use super::steward::{StewardThread, StewardTools};
use super::tickets::TicketRounds;
use super::trim::Trimmer;
use super::workers::{self, Tools};
use super::{Server, ServerError};
use crate::admin::{AdminContext, Calls, ServerInfo};
use crate::journal::{FileStorage, Journal, Notice, Opened, Options, Position, Retention, Threads};
use crate::lane::counters::Counters;
use crate::lane::permits::Permits;
use crate::lane::reactors::{LinkSettings, ReactorLanes};
use crate::memory;
use crate::reactor::channel::ServerTls;
use crate::reactor::port::Port;
use crate::reactor::{Clock, HANDSHAKES_BEYOND_MAX, Reactor, listener, random};
use crate::store::{FILE_NAME, Store};
use crate::wire::time::WallTime;

/// Jobs that may be with workers and the store at a time, in jobs. Each holds an upload of up to a few megabytes; a device that
/// finds none free is told to come later.
const JOBS_MAX: usize = 512;

/// Most reactors, in threads: a reactor's number is a byte.
const REACTORS_MAX: usize = 64;

/// What a kept link takes, in bytes: half a kilobyte here, four of the kernel's for its socket, and what both have under way.
const KEPT_LINK_BYTES: u64 = 6 * 1024;

/// Descriptors that are not for links, in descriptors: database, event log, administration, libraries.
const DESCRIPTOR_RESERVE: u64 = 256 + HANDSHAKES_BEYOND_MAX;

pub(super) fn start(config: Config) -> Result<Server, ServerError> {
    memory::forbid_core_dumps();
    memory::keep_little();
    // The first draw takes 128 KiB for good: now, before a fleet is loaded, so that they never stand in the middle of what may be given back.
    let seed = random();
    let clock = Clock::new();
    let now = clock.now().wall;
    // Names of devices and what is installed on them are nobody else's business.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_directory)
        .map_err(ServerError::when(format!("make {}", config.data_directory.display())))?;
    // Before anything in it is opened: a newer server would bring the database of one that runs to its own version.
    let data_directory = DataDirectory::lock(&config.data_directory)?;
    // Then the identity: without it nothing else may be made, or the next start would take the directory for a damaged one.
    let identity_directory = config.identity_directory();
    let is_first_start = !identity_directory.exists();
    let database = config.store_directory().join(FILE_NAME);
    let identity = Arc::new(Identity::open_or_create(&identity_directory, &[&database], now)?);
    let store = open_store(&config)?;
    let opened = open_journal(&config, &store, now)?;
    let Opened { journal, flusher, preparer, recovery } = opened;
    for damage in &recovery.damages {
        log::error!(
            "the journal is damaged: {damage}; the segment was set aside, see 'musterd journal verify'"
        );
    }

    let counters = Counters::new();
    let permits = Permits::new(JOBS_MAX);
    let (jobs, assignments) = bounded(JOBS_MAX);
    let descriptors = raise_descriptor_limit();
    let settings_links_max = allowed_links(&config.links, descriptors);
    let kept_max = allowed_kept(&config.links, settings_links_max);
    store.set_kept_max(kept_max)?;
    let (links_max, shown_kept_max) =
        (Arc::new(AtomicU64::new(settings_links_max)), Arc::new(AtomicU64::new(kept_max)));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = config.reactors.unwrap_or(cores).clamp(1, REACTORS_MAX);
    let settings = link_settings(&config.links, settings_links_max, count);
    let listeners = listener::bind(config.listen, count)
        .map_err(ServerError::when(format!("listen on {}", config.listen)))?;
    let mut addresses = Vec::new();
    for listener in &listeners {
        let address =
            listener.local_addr().map_err(ServerError::when("ask for the address that is listened on"))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let tcp_port = addresses.first().map_or(0, |address: &SocketAddr| address.port());
    let port = open_port(config.udp_address(), tcp_port, clock, &counters)?;
    let udp_address = port.address().map_err(ServerError::when("ask for the address of the UDP port"))?;
    let announcer = Announcer::new(journal.clone(), counters.clone(), now);
    let backend = Arc::new(LiveBackend::new(BackendParts {
        store: store.clone(),
        journal: journal.clone(),
        jobs,
        permits: permits.clone(),
        announcer: announcer.clone(),
        caller: port.mailbox(),
        counters: counters.clone(),
        notice_port: Some(udp_address.port()).filter(|port| *port != tcp_port),
        server_epoch: store.server_epoch()?,
        reactors: count,
    }));
    backend.set_handshakes(config.links.handshakes_per_second);
    backend.set_keeping(seconds(config.links.keep_interval), config.links.keep_unreachable, kept_max);
    let members = Arc::new(backend.members.clone());
    let tickets = TicketRounds::start(store.clone(), identity.clone(), now)?;
    let tls = ServerTls::new(identity.server_certificate_der(), identity.server_private_key_der(), members)?
        .with_tickets(tickets.keys());
    let mut reactors = Vec::new();
    for (number, listener) in (0u8..).zip(listeners) {
        reactors.push(Reactor::new(
            number,
            listener,
            tls.clone(),
            settings,
            clock,
            backend.clone(),
            counters.clone(),
            permits.clone(),
        )?);
    }
    let lanes = ReactorLanes::new(reactors.iter().map(Reactor::mailbox).collect());

    let (durable, durable_seen) = watch::channel(journal.durable().0);
    let (failed, failures) = bounded(1);
    let (rung, journal_failed) = (lanes.clone(), failed.clone());
    let journal_threads = Threads::spawn("journal", flusher, preparer, move |notice| match notice {
        Notice::Durable(position) => {
            rung.ring_waiting();
            durable.send_if_modified(|known| {
                let is_further = *known < position.0;
                *known = position.0.max(*known);
                is_further
            });
        }
        Notice::Failed(error) => {
            log::error!("the journal failed, nothing is acknowledged any more: {}", error.0);
            // A second failure would say nothing new.
            let _ = journal_failed.try_send(format!("the journal failed: {}", error.0));
        }
        Notice::NoRoom(why) => log::error!("no room for more events, devices keep them: {why}"),
        Notice::RoomAgain => {
            log::info!("there is room for events again");
            rung.ring_all();
        }
        Notice::Deleted(segments) => {
            log::info!("{} old segments of the journal were deleted", segments.len());
        }
        Notice::NotDeleted(error) => log::warn!("an old segment of the journal was not deleted: {error}"),
    })
    .map_err(ServerError::when("start the journal's threads"))?;

    let (call_thread, desk) = CallThread::start(
        port,
        CallTools {
            table: store.table().clone(),
            identity: identity.clone(),
            announcer: announcer.clone(),
            lanes: lanes.clone(),
            counters: counters.clone(),
            server_started: now,
            seed,
            failed: failed.clone(),
        },
    )?;
    let calls: Arc<dyn Calls> = Arc::new(desk);
    store.serve_from(now);
    let steward = StewardThread::start(StewardTools {
        store: store.clone(),
        calls: calls.clone(),
        announcer: announcer.clone(),
        clock,
        server_started: now,
        failed: failed.clone(),
    })?;
    let tools = Tools {
        store: store.clone(),
        identity: identity.clone(),
        lanes: lanes.clone(),
        bell: steward.bell(),
        clock,
    };
    let workers = workers::spawn(config.workers.unwrap_or(cores), &assignments, &tools, &failed)
        .map_err(ServerError::when("start the workers"))?;
    let context = AdminContext {
        nudge: Arc::new(steward.bell()),
        calls: calls.clone(),
        store: store.clone(),
        links: Arc::new(OpenLinks(lanes.clone())),
        log: Arc::new(StoredEvents(journal.clone())),
        gauges: Arc::new(Counted {
            counters: counters.clone(),
            journal: journal.clone(),
            permits,
            links_max: links_max.clone(),
            kept_max: shown_kept_max.clone(),
            udp_address,
            store: store.clone(),
        }),
        info: ServerInfo {
            version: env!("CARGO_PKG_VERSION"),
            started_at: now,
            certificate: identity.certificate_hash(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            interval_seconds: seconds(config.sync.interval),
        },
        durable: durable_seen,
        keep_unreachable: backend.keep_unreachable.clone(),
        clock: || Clock::new().now().wall,
    };
    let write_back = WriteBack::new(store.journal_position()?, now);
    let control = ControlThread::start(Control {
        socket: config.admin_socket(),
        context,
        journal: journal.clone(),
        write_back,
        rounds: Rounds::new(announcer),
        counters: counters.clone(),
        trimmer: Trimmer::default(),
        tickets,
        failed: failed.clone(),
    })?;

    // Devices last: whoever connects finds everything there.
    let spawn = |(number, reactor): (usize, Reactor<LiveBackend>)| {
        let (lanes, failed) = (lanes.clone(), failed.clone());
        Builder::new().name(format!("reactor-{number}")).spawn(move || {
            let _alarm = Alarm::new("a reactor", failed.clone());
            if let Err(error) = reactor.run(lanes) {
                // A second failure would say nothing new.
                let _ = failed.try_send(format!("a reactor has failed: {error}"));
            }
        })
    };
    let reactors: Result<Vec<_>, _> = reactors.into_iter().enumerate().map(spawn).collect();
    Ok(Server {
        addresses,
        certificate: identity.certificate_hash(),
        is_first_start,
        store,
        backend,
        reactors: reactors.map_err(ServerError::when("start the reactors"))?,
        lanes,
        workers,
        journal,
        journal_threads,
        control,
        failures,
        counters,
        descriptors,
        links_max,
        kept_max: shown_kept_max,
        call_thread,
        calls,
        steward,
        udp_address,
        config,
        _data_directory: data_directory,
    })
}

/// What reactors are told of the configuration.
pub(super) fn link_settings(links: &LinksConfig, links_max: u64, reactors: usize) -> LinkSettings {
    LinkSettings {
        links_max,
        // Each has its share of them: the kernel deals connections out evenly.
        handshake_interval_microseconds: links
            .handshakes_per_second
            .map_or(0, |rate| 1_000_000 * reactors as u64 / (rate as u64).max(1)),
        handshake_deadline: links.handshake_deadline,
        idle_deadline: links.idle_deadline,
        write_deadline: links.write_deadline,
    }
}

/// Asks for as many descriptors as the system gives (setrlimit(2)). How many those are.
fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        log::warn!("the limit of open files stays as it is: {error}");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many links there may be: what the configuration says, as far as there are descriptors.
pub(super) fn allowed_links(links: &LinksConfig, descriptors: u64) -> u64 {
    let (wanted, possible) = (links.max as u64, descriptors.saturating_sub(DESCRIPTOR_RESERVE).max(1));
    if wanted > possible {
        log::warn!(
            "links.max is {wanted}, but this process may have {descriptors} open files: {possible} links are allowed \
             (raise LimitNOFILE, or 'ulimit -n')"
        );
    }
    wanted.min(possible)
}

/// How many links may be asked to stay: what the configuration says, or what the links and half of the memory that is free allow.
pub(super) fn allowed_kept(links: &LinksConfig, links_max: u64) -> u64 {
    let free = memory::available_bytes();
    let by_memory = free.map_or(u64::MAX, |bytes| bytes / 2 / KEPT_LINK_BYTES);
    // Some links are always those of devices that come by.
    let possible = (links_max - links_max / 16).min(by_memory);
    let allowed = links.max_kept_connections.map_or(possible, |wanted| wanted as u64);
    if allowed > possible {
        log::warn!(
            "links.max_kept_connections is {allowed}, but links and memory allow about {possible} (links.max, LimitNOFILE)"
        );
    }
    log::info!(
        "max_kept_connections is {allowed}: {links_max} links are allowed, {} MiB of memory are free",
        free.map_or("unknown".into(), |bytes| (bytes >> 20).to_string())
    );
    allowed
}

/// Opens the UDP port. When the system is to choose its number, it has that of TCP if possible.
fn open_port(
    address: SocketAddr,
    tcp_port: u16,
    clock: Clock,
    counters: &Arc<Counters>,
) -> Result<Port, ServerError> {
    if address.port() == 0
        && let Ok(port) = Port::open(SocketAddr::new(address.ip(), tcp_port), clock, counters.clone())
    {
        return Ok(port);
    }
    Port::open(address, clock, counters.clone())
        .map_err(ServerError::when(format!("hear datagrams on UDP {address} (set another with --udp)")))
}

fn open_store(config: &Config) -> Result<Store, ServerError> {
    let directory = config.store_directory();
    std::fs::create_dir_all(&directory)
        .map_err(ServerError::when(format!("make {}", directory.display())))?;
    let store = Store::open(&directory)?;
    store.set_default_interval(seconds(config.sync.interval))?;
    Ok(store)
}

fn open_journal(config: &Config, store: &Store, now: WallTime) -> Result<Opened, ServerError> {
    let directory = config.journal_directory();
    let storage = FileStorage::open(&directory)?;
    let options = Options {
        segment_bytes: config.journal.segment_bytes,
        retention: Some(retention(&config.journal)),
        ..Options::server()
    };
    let from = Position(store.journal_position()?);
    let table = store.table().clone();
    let opened = Journal::open(storage, options, from, now.0, |found| {
        let record = found.record;
        sequences::replay(&table, record.device, record.sequence, record.payload, found.end().0);
    })?;
    Ok(opened)
}

/// A duration in whole seconds, as the wire counts them.
pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// What the journal keeps.
pub(super) fn retention(config: &JournalConfig) -> Retention {
    Retention { bytes: config.retention_bytes, age_ms: u64::try_from(config.retention_age.as_millis()).ok() }
}
