//! The start: what is opened, in which order, and why in that one.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::Builder;

use super::admin_parts::{Counted, OpenLinks, StoredEvents};
use super::backend::{BackendParts, LiveBackend};
use super::backup::{BackupService, ServiceParts, Source};
use super::calls::{CallThread, CallTools};
use super::clock_watch::ClockWatch;
use super::config::Config;
use super::control::{Control, ControlThread};
use super::data_directory::DataDirectory;
use super::event_log::{self, seconds};
use super::identity::Identity;
use super::jobs::{JOBS_MAX, jobs};
use super::limits::{allowed_links, allowed_persistent, link_settings};
use super::members::Issued;
use super::panic_guard::{Failures, PanicGuard};
use super::presence::{Announcer, Rounds};
use super::process::descriptors;
use super::running::Running;
use super::scheduler::{SchedulerThread, SchedulerTools};
use super::sequences::WriteBack;
use super::tickets::TicketRounds;
use super::trim::Trimmer;
use super::workers::{self, Tools};
use super::{Server, ServerError};
use crate::admin::{AdminContext, Calls, ServerInfo};
use crate::concurrency::counters::Counters;
use crate::concurrency::reactors::ReactorMailboxes;
use crate::journal::Opened;
use crate::machine::permits::Permits;
use crate::reactor::channel::ServerTls;
use crate::reactor::port::Port;
use crate::reactor::{Clock, Reactor, listener, random};
use crate::store::{FILE_NAME, Store};

/// Most reactors, in threads: a reactor's number is a byte.
const REACTORS_MAX: usize = 64;

pub(super) fn start(config: Config) -> Result<Server, ServerError> {
    config.process.apply();
    // The first draw takes 128 KiB for good: now, before a fleet is loaded, so that they never stand in the middle of what may be given back.
    let seed = random();
    let (failures, received) = Failures::new();
    // Before everything that it may hold: what is dropped on the way out of an error is dropped before it,
    // and it ends the rest.
    let mut running = Running::nothing(failures.clone());
    let clock = Clock::new();
    let now = clock.now().wall;
    // Before anything is made.
    config.check_paths().map_err(ServerError::Paths)?;
    // Names of devices and what is installed on them are nobody else's business.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_directory)
        .map_err(ServerError::when(format!("make the data directory {}", config.data_directory.display())))?;
    // Before anything in it is opened: a newer server would bring the database of one that runs to its own
    // version.
    running.data_directory = Some(DataDirectory::lock(&config.data_directory)?);
    // Then the identity: without it nothing else may be made, or the next start would take the directory for
    // a damaged one.
    let identity_directory = config.identity_directory();
    let is_first_start = !identity_directory.exists();
    let database = config.store_directory().join(FILE_NAME);
    let identity = Arc::new(Identity::open_or_create(&identity_directory, &[&database], now)?);
    let store = open_store(&config)?;
    let of_store = failures.clone();
    store.on_panic(move |thread| of_store.tell_panic(thread));
    let (clock, clock_change) = clock.watched(store.last_wall_time()?);
    let now = clock.now().wall;
    let (Opened { journal, flusher, preallocator, .. }, archive) = event_log::open(&config, &store, now)?;

    let counters = Counters::new();
    let permits = Permits::new(JOBS_MAX);
    let (jobs, assignments) = jobs();
    let descriptors = descriptors();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = config.reactors.unwrap_or(cores).clamp(1, REACTORS_MAX);
    let settings_links_max = allowed_links(&config.links, descriptors, count);
    let persistent_max = allowed_persistent(&config.links, settings_links_max);
    store.set_persistent_max(persistent_max)?;
    let (links_max, shown_persistent_max) =
        (Arc::new(AtomicU64::new(settings_links_max)), Arc::new(AtomicU64::new(persistent_max)));
    let settings = link_settings(&config.links, settings_links_max, count);
    let listeners = listener::bind(config.listen, count).map_err(|error| ServerError::Address {
        protocol: "TCP",
        address: config.listen,
        error,
    })?;
    let mut addresses = Vec::new();
    for listener in &listeners {
        let address =
            listener.local_addr().map_err(ServerError::when("ask for the address that is listened on"))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let tcp_port = addresses.first().map_or(0, |address: &SocketAddr| address.port());
    let port = open_port(config.udp_address(), tcp_port, &clock, &counters)?;
    let udp_address = port.address().map_err(ServerError::when("ask for the address of the UDP port"))?;
    let announcer = Announcer::new(journal.clone(), counters.clone(), clock.clone());
    running.announcer = Some(announcer.clone());
    let backend = Arc::new(LiveBackend::new(BackendParts {
        store: store.clone(),
        journal: journal.clone(),
        jobs,
        permits: permits.clone(),
        announcer: announcer.clone(),
        members: Arc::new(Issued::new(
            store.table().clone(),
            identity.clone(),
            announcer.clone(),
            clock.clone(),
        )),
        wake_scheduler: port.from_devices(),
        counters: counters.clone(),
        notice_port: Some(udp_address.port()).filter(|port| *port != tcp_port),
        server_epoch: store.server_epoch()?,
        reactors: count,
    }));
    backend.set_handshakes(config.links.handshakes_per_second);
    backend.set_event_rate(config.journal.event_rate);
    backend.set_keeping(seconds(config.links.keep_interval), config.links.keep_unreachable, persistent_max);
    let members = backend.members.clone();
    let tickets = TicketRounds::start(store.clone(), identity.clone(), clock.known())?;
    let tls = ServerTls::new(identity.server_certificate_der(), identity.server_private_key_der(), members)?
        .with_tickets(tickets.keys());
    let mut reactors = Vec::new();
    for (number, listener) in (0u8..).zip(listeners) {
        reactors.push(Reactor::new(
            number,
            listener,
            tls.clone(),
            settings,
            clock.clone(),
            backend.clone(),
            counters.clone(),
            permits.clone(),
        )?);
    }
    let mailboxes = ReactorMailboxes::new(reactors.iter().map(Reactor::mailbox).collect());
    (running.backend, running.mailboxes) = (Some(backend.clone()), Some(mailboxes.clone()));

    let ages = clock.clone();
    let preallocator = preallocator.with_clock(move || ages.ages());
    let (journal_threads, durable) =
        event_log::start(flusher, preallocator, journal.durable(), mailboxes.clone(), failures.clone())?;
    running.journal_threads = Some(journal_threads);
    let (call_thread, handle) = CallThread::start(
        port,
        CallTools {
            table: store.table().clone(),
            identity: identity.clone(),
            announcer: announcer.clone(),
            mailboxes: mailboxes.clone(),
            counters: counters.clone(),
            clock: clock.clone(),
            seed,
            failures: failures.clone(),
        },
    )?;
    running.call_thread = Some(call_thread);
    let calls: Arc<dyn Calls> = Arc::new(handle);
    store.serve_from(now);
    let scheduler = SchedulerThread::start(SchedulerTools {
        store: store.clone(),
        calls: calls.clone(),
        announcer: announcer.clone(),
        clock: clock.clone(),
        failures: failures.clone(),
    })?;
    let waker = scheduler.waker();
    running.scheduler = Some(scheduler);
    let tools = Tools {
        store: store.clone(),
        identity: identity.clone(),
        mailboxes: mailboxes.clone(),
        waker: waker.clone(),
        clock: clock.clone(),
    };
    let workers = config.workers.unwrap_or(cores);
    workers::spawn(workers, &assignments, &tools, &failures, &mut running.workers)
        .map_err(ServerError::when("start the workers"))?;
    let backups = Arc::new(BackupService::start(ServiceParts {
        source: Source::of_server(&config, store.clone(), journal.reader(), archive.clone()),
        config: config.backup.clone(),
        announcer: announcer.clone(),
        clock: || Clock::new().now().wall,
    })?);
    running.backups = Some(backups.clone());
    let context = AdminContext {
        backups,
        device_notifier: Arc::new(waker),
        calls: calls.clone(),
        store: store.clone(),
        links: Arc::new(OpenLinks(mailboxes.clone())),
        log: Arc::new(StoredEvents { journal: journal.clone(), archive: archive.clone() }),
        gauges: Arc::new(Counted {
            counters: counters.clone(),
            journal: journal.clone(),
            archive: archive.clone(),
            permits,
            links_max: links_max.clone(),
            persistent_max: shown_persistent_max.clone(),
            udp_address,
            store: store.clone(),
        }),
        info: ServerInfo {
            version: env!("CARGO_PKG_VERSION"),
            certificate: identity.certificate_hash(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            interval_seconds: seconds(config.sync.interval),
        },
        durable,
        keep_unreachable: backend.keep_unreachable.clone(),
        clock: clock.clone(),
    };
    let write_back = WriteBack::new(store.journal_position()?, now);
    running.control = Some(ControlThread::start(Control {
        socket: config.admin_socket(),
        context,
        journal: journal.clone(),
        write_back,
        clock_watch: ClockWatch::new(clock, store.clone(), announcer.clone(), clock_change),
        rounds: Rounds::new(announcer),
        counters: counters.clone(),
        trimmer: Trimmer::default(),
        gives_memory_back: config.process.keep_memory_small,
        tickets,
        failures: failures.clone(),
    })?);

    // Devices last: whoever connects finds everything there.
    for (number, reactor) in reactors.into_iter().enumerate() {
        let (mailboxes, failures) = (mailboxes.clone(), failures.clone());
        let thread = Builder::new().name(format!("reactor-{number}")).spawn(move || {
            let _guard = PanicGuard::new("a reactor", failures.clone());
            if let Err(error) = reactor.run(mailboxes) {
                failures.tell(format!("a reactor has failed: {error}"));
            }
        });
        running.reactors.push(thread.map_err(ServerError::when("start the reactors"))?);
    }
    Ok(Server {
        addresses,
        certificate: identity.certificate_hash(),
        is_first_start,
        store,
        backend,
        mailboxes,
        journal,
        archive,
        reactors: count,
        failures: received,
        counters,
        descriptors,
        links_max,
        persistent_max: shown_persistent_max,
        calls,
        udp_address,
        config,
        running,
    })
}

/// Opens the UDP port. When the system is to choose its number, it has that of TCP if possible.
fn open_port(
    address: SocketAddr,
    tcp_port: u16,
    clock: &Clock,
    counters: &Arc<Counters>,
) -> Result<Port, ServerError> {
    if address.port() == 0
        && let Ok(port) = Port::open(SocketAddr::new(address.ip(), tcp_port), clock.clone(), counters.clone())
    {
        return Ok(port);
    }
    Port::open(address, clock.clone(), counters.clone()).map_err(|error| ServerError::Address {
        protocol: "UDP",
        address,
        error,
    })
}

fn open_store(config: &Config) -> Result<Store, ServerError> {
    let directory = config.store_directory();
    std::fs::create_dir_all(&directory)
        .map_err(ServerError::when(format!("make {}", directory.display())))?;
    let store = Store::open(&directory)?;
    store.set_default_interval(seconds(config.sync.interval))?;
    Ok(store)
}
