//! The start: what is opened, in which order, and why in that one.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::Builder;

use crossbeam_channel::Receiver;

use super::admin_parts::{Counted, OpenLinks, StoredEvents};
use super::backend::{LiveBackend, Settings};
use super::backup::{BackupService, Source};
use super::calls::{CallThread, CallTools};
use super::clock_watch::ClockWatch;
use super::config::Config;
use super::control::{Control, ControlThread};
use super::data_directory::DataDirectory;
use super::event_log::{self, seconds};
use super::identity::{Identity, IdentityError};
use super::limits::Sizes;
use super::members::Issued;
use super::panic_guard::{Failures, PanicGuard, ServerFailure};
use super::ports::Ports;
use super::presence::{Announcer, Rounds};
use super::presented::Presented;
use super::running::Running;
use super::scheduler::SchedulerThread;
use super::sequences::WriteBack;
use super::tickets::TicketRounds;
use super::trim::Trimmer;
use super::trusted::Trusted;
use super::workers::{self, Tools};
use super::workers::{JOBS_MAX, JobReceiver, jobs};
use super::{Server, ServerError};
use crate::admin::network::Network;
use crate::admin::{AdminContext, Calls, ServerInfo};
use crate::concurrency::counters::Counters;
use crate::concurrency::reactors::ReactorMailboxes;
use crate::journal::{Archive, FileStorage, Flusher, Journal, Opened, Preallocator};
use crate::machine::permits::Permits;
use crate::machine::wall_clock::ClockChange;
use crate::reactor::channel::ServerTls;
use crate::reactor::port::Port;
use crate::reactor::{Clock, Reactor, random};
use crate::store::{Artifacts, FILE_NAME, Store};
use crate::wire::time::Now;

pub(super) fn start(config: Config) -> Result<Server, ServerError> {
    config.process.apply();
    // The first draw takes 128 KiB for good: now, before a fleet is loaded, so that they never stand in the
    // middle of what may be given back.
    let seed = random();
    let (failures, received) = Failures::new();
    // Before everything that it may hold: what is dropped on the way out of an error is dropped before it,
    // and it ends the rest.
    let mut running = Running::nothing(failures);
    let stored = Stored::open(&config, &mut running)?;
    let sizes = Sizes::of(&config);
    stored.store.devices().set_persistent_max(sizes.persistent_max)?;
    let ports = Ports::listen(&config, sizes.reactors, &stored.clock)?;
    let parts = Parts::build(&config, stored, ports, &sizes, &mut running)?;
    parts.spawn(config, &sizes, seed, running, received)
}

/// The open files of a server.
struct Stored {
    is_first_start: bool,
    identity: Arc<Identity>,
    store: Store,
    artifacts: Arc<Artifacts>,
    clock: Clock,
    clock_change: Option<ClockChange>,
    journal: Journal,
    flusher: Flusher<FileStorage>,
    preallocator: Preallocator<FileStorage>,
    archive: Archive,
}

impl Stored {
    fn open(config: &Config, running: &mut Running) -> Result<Self, ServerError> {
        let clock = Clock::new();
        let now = clock.now().wall;
        // Before anything is made.
        config.check_paths().map_err(ServerError::Paths)?;
        // Names of devices and what is installed on them are nobody else's business.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.data_directory).map_err(
            ServerError::when(format!("make the data directory {}", config.data_directory.display())),
        )?;
        // Before anything in it is opened: a newer server would bring the database of one that runs to its
        // own version.
        let failures = running.failures.clone();
        let lost = move |why| failures.tell(ServerFailure::Lease(why));
        running.data_directory =
            Some(DataDirectory::lock_to_serve(&config.data_directory, config.lease, lost)?);
        // Then the identity: without it nothing else may be made, or the next start would take the directory
        // for a damaged one.
        let identity_directory = config.identity_directory();
        let is_first_start = !identity_directory.exists();
        let database = config.store_directory().join(FILE_NAME);
        let place = config.identity_place().map_err(IdentityError::from)?;
        let identity = Arc::new(Identity::open_or_create(place, &[&database], now)?);
        let store = open_store(config)?;
        let bytes_max = config.artifacts.bytes_max;
        let artifacts = Artifacts::open(store.clone(), config.artifacts_directory(), bytes_max)?;
        let failures = running.failures.clone();
        store.on_panic(move |thread| failures.tell_panic(thread));
        let (clock, clock_change) = clock.watched(store.last_wall_time()?);
        let (opened, archive) = event_log::open(config, &store, clock.now().wall)?;
        let Opened { journal, flusher, preallocator, .. } = opened;
        Ok(Self {
            is_first_start,
            identity,
            store,
            artifacts,
            clock,
            clock_change,
            journal,
            flusher,
            preallocator,
            archive,
        })
    }
}

/// Everything that threads are made of, and no thread yet.
struct Parts {
    stored: Stored,
    addresses: Vec<SocketAddr>,
    udp: Port,
    udp_address: SocketAddr,
    counters: Arc<Counters>,
    permits: Permits,
    assignments: JobReceiver,
    announcer: Announcer,
    backend: Arc<LiveBackend>,
    tickets: TicketRounds,
    presented: Arc<Presented>,
    reactors: Vec<Reactor<LiveBackend>>,
    mailboxes: ReactorMailboxes,
}

impl Parts {
    fn build(
        config: &Config,
        stored: Stored,
        ports: Ports,
        sizes: &Sizes,
        running: &mut Running,
    ) -> Result<Self, ServerError> {
        let Stored { identity, store, clock, journal, .. } = &stored;
        let notice_port = ports.notice_port();
        let Ports { listeners, addresses, udp, udp_address, counters } = ports;
        let permits = Permits::new(JOBS_MAX);
        let (jobs, assignments) = jobs();
        let announcer = Announcer::new(journal.clone(), counters.clone(), clock.clone());
        running.announcer = Some(announcer.clone());
        announcer.restore_clones(store, &Now { wall: clock.known(), ..clock.now() })?;
        let members = Issued::new(store.clone(), identity.clone(), announcer.clone(), clock.clone());
        let backend = Arc::new(LiveBackend {
            store: store.clone(),
            journal: journal.clone(),
            jobs,
            permits: permits.clone(),
            announcer: announcer.clone(),
            members: Arc::new(members),
            wake_scheduler: udp.mailbox_of_devices(),
            counters: counters.clone(),
            notice_port,
            server_epoch: Arc::new(AtomicU64::new(store.server_epoch()?.0)),
            restored: Arc::default(),
            cores: sizes.cores,
            reactors: sizes.reactors,
            settings: Settings::default(),
        });
        backend.set(config, sizes.persistent_max);
        let tickets = TicketRounds::start(store.clone(), identity.clone(), clock.known())?;
        let (shown, key) = (identity.chain(), identity.server_private_key_der());
        let tls = ServerTls::new(&shown[0], &key, backend.members.clone())?.with_tickets(tickets.keys());
        let presented = Arc::new(Presented::new(identity.clone(), tls.clone(), config)?);
        let mut reactors = Vec::new();
        for (number, listener) in (0u8..).zip(listeners) {
            reactors.push(Reactor::new(
                number,
                listener,
                tls.clone(),
                sizes.links,
                clock.clone(),
                backend.clone(),
                counters.clone(),
                permits.clone(),
            )?);
        }
        let mailboxes = ReactorMailboxes::new(reactors.iter().map(Reactor::mailbox).collect());
        (running.backend, running.mailboxes) = (Some(backend.clone()), Some(mailboxes.clone()));
        Ok(Self {
            stored,
            addresses,
            udp,
            udp_address,
            counters,
            permits,
            assignments,
            announcer,
            backend,
            tickets,
            presented,
            reactors,
            mailboxes,
        })
    }

    /// Starts the threads, each behind those that it needs; devices come last.
    fn spawn(
        self,
        config: Config,
        sizes: &Sizes,
        seed: u64,
        mut running: Running,
        received: Receiver<ServerFailure>,
    ) -> Result<Server, ServerError> {
        let Self { stored, addresses, udp, udp_address, counters, permits, .. } = self;
        let Self { assignments, announcer, backend, tickets, presented, reactors, mailboxes, .. } = self;
        let Stored { is_first_start, identity, store, artifacts, clock, clock_change, .. } = stored;
        let Stored { journal, flusher, preallocator, archive, .. } = stored;
        let failures = running.failures.clone();
        let now = clock.now().wall;
        let ages = clock.clone();
        let preallocator = preallocator.with_clock(move || ages.ages());
        let (journal_threads, durable) =
            event_log::start(flusher, preallocator, journal.durable(), mailboxes.clone(), failures.clone())?;
        running.journal_threads = Some(journal_threads);
        let tools = CallTools {
            table: store.table().clone(),
            identity: identity.clone(),
            announcer: announcer.clone(),
            mailboxes: mailboxes.clone(),
            counters: counters.clone(),
            clock: clock.clone(),
        };
        let (call_thread, handle) = CallThread::start(udp, tools, seed, failures.clone())?;
        running.call_thread = Some(call_thread);
        let calls: Arc<dyn Calls> = Arc::new(handle);
        store.tasks().serve_from(now);
        let scheduler = SchedulerThread::start(
            store.clone(),
            calls.clone(),
            announcer.clone(),
            clock.clone(),
            backend.settings.certificate_life.clone(),
            failures.clone(),
        )?;
        let waker = scheduler.waker();
        running.scheduler = Some(scheduler);
        let tools = Tools {
            store: store.clone(),
            identity: identity.clone(),
            mailboxes: mailboxes.clone(),
            waker: waker.clone(),
            clock: clock.clone(),
            announcer: announcer.clone(),
            certificate_life: backend.settings.certificate_life.clone(),
            artifacts: artifacts.clone(),
        };
        workers::spawn(sizes.workers, &assignments, &tools, &failures, &mut running.workers)
            .map_err(ServerError::when("start the workers"))?;
        let source = Source::of_server(
            &config,
            identity.place().clone(),
            store.clone(),
            journal.reader(),
            archive.clone(),
        );
        let wall = || Clock::new().now().wall;
        let backups = BackupService::start(source, config.backup.clone(), announcer.clone(), wall)?;
        let backups = Arc::new(backups);
        running.backups = Some(backups.clone());
        let trusted = Trusted {
            identity: identity.clone(),
            presented: presented.clone(),
            store: store.clone(),
            notifier: Arc::new(waker.clone()),
            announcer: announcer.clone(),
            clock: clock.clone(),
        };
        trusted.begin()?;
        let links_max = Arc::new(AtomicU64::new(sizes.links_max));
        let persistent_max = Arc::new(AtomicU64::new(sizes.persistent_max));
        let to_network = |address| Network { address, tls: presented.to_administrators() };
        let network = config.admin.listen.map(to_network);
        let context = AdminContext {
            backups,
            network,
            openid: config.admin.openid.is_on().then(|| config.admin.openid.clone()),
            certificates: Arc::new(trusted),
            device_notifier: Arc::new(waker),
            calls: calls.clone(),
            store: store.clone(),
            artifacts: artifacts.clone(),
            links: Arc::new(OpenLinks(mailboxes.clone())),
            log: Arc::new(StoredEvents { journal: journal.clone(), archive: archive.clone() }),
            gauges: Arc::new(Counted {
                counters: counters.clone(),
                journal: journal.clone(),
                archive: archive.clone(),
                permits,
                links_max: links_max.clone(),
                persistent_max: persistent_max.clone(),
                udp_address,
                store: store.clone(),
            }),
            info: ServerInfo {
                version: env!("CARGO_PKG_VERSION"),
                addresses: addresses.iter().map(ToString::to_string).collect(),
                interval_seconds: seconds(config.sync.interval),
                device_port: addresses.first().map_or(config.listen.port(), SocketAddr::port),
                host_name: config.host_names.first().cloned(),
                agents: config.admin.agents(),
            },
            durable,
            keep_unreachable: backend.settings.keep_unreachable.clone(),
            clock: clock.clone(),
        };
        let write_back = WriteBack::new(store.devices().journal_position()?, now);
        running.control = Some(ControlThread::start(Control {
            socket: config.admin_socket(),
            context: context.clone(),
            journal: journal.clone(),
            write_back,
            clock_watch: ClockWatch::new(clock, store.clone(), announcer.clone(), clock_change),
            rounds: Rounds::new(announcer.clone()),
            announcer,
            counters: counters.clone(),
            trimmer: Trimmer::default(),
            gives_memory_back: config.process.keep_memory_small,
            tickets,
            presented: presented.clone(),
            failures: failures.clone(),
        })?);

        // Devices last: one that connects finds everything there.
        for (number, reactor) in reactors.into_iter().enumerate() {
            let (mailboxes, failures) = (mailboxes.clone(), failures.clone());
            let thread = Builder::new().name(format!("reactor-{number}")).spawn(move || {
                let _guard = PanicGuard::new("a reactor", failures.clone());
                if let Err(error) = reactor.run(mailboxes) {
                    failures.tell(ServerFailure::Reactor(error.to_string()));
                }
            });
            running.reactors.push(thread.map_err(ServerError::when("start the reactors"))?);
        }
        Ok(Server {
            addresses,
            identity,
            presented,
            is_first_start,
            context,
            store,
            backend,
            mailboxes,
            #[cfg(feature = "internals")]
            calls,
            journal,
            archive,
            reactors: sizes.reactors,
            failures: received,
            descriptors: sizes.descriptors,
            links_max,
            persistent_max,
            udp_address,
            config,
            running,
        })
    }
}

fn open_store(config: &Config) -> Result<Store, ServerError> {
    let directory = config.store_directory();
    std::fs::create_dir_all(&directory)
        .map_err(ServerError::when(format!("make {}", directory.display())))?;
    let store = Store::open(&directory)?;
    store.devices().set_default_interval(seconds(config.sync.interval))?;
    Ok(store)
}
