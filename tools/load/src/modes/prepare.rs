//! Preparation of a load: a server, devices that it knows, and engines that simulate them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use muster::agent::address::ServerAddress;
use muster::agent::identity::Identity;
use muster::client::Client;
use muster::reactor::Clock;
use muster::wire::api::{Keep, NewGroup, NewToken};
use muster::wire::token::JoinToken;

use super::density;
use super::stage::{Stage, Started};
use super::watch::Watch;
use crate::arguments::Common;
use crate::engine::Setting;
use crate::failure::Failure;
use crate::fleet::{cache, enrol, template};
use crate::interrupt;
use crate::limits;
use crate::observe::machine::machine;
use crate::observe::process::ServerProcess;
use crate::report::model::Report;
use crate::report::progress::Progress;
use crate::subject::Subject;
use crate::subject::directory::Scratch;
use crate::subject::own::OwnServer;
use crate::workers::{Split, Workers};

/// Number of times that a server is started to see what it takes then.
const STARTS: usize = 3;

/// Life of the token of a run: a large fleet takes its time to enrol.
const TOKEN_SECONDS: u64 = 6 * 60 * 60;

/// Needs of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageRequest {
    /// Number of devices.
    pub(crate) devices: usize,
    /// The last of them, this many, visit: threads of their own simulate them, so that their handshakes keep
    /// nobody waiting.
    pub(crate) visitors: usize,
    /// Whether their links stay.
    pub(crate) is_persistent: bool,
    /// Whether they keep their tickets.
    pub(crate) resumes: bool,
    /// Bytes of one event.
    pub(crate) event_bytes: usize,
    /// Whether the memory of servers that know none, half and all of the devices is looked at first.
    pub(crate) wants_starts: bool,
    /// Whether the devices know the address of a standby, too.
    pub(crate) has_standby: bool,
}

impl Default for StageRequest {
    /// Devices that stay, come back with tickets, and have events of 200 bytes; how many is yet to be said.
    fn default() -> Self {
        Self {
            devices: 0,
            visitors: 0,
            is_persistent: true,
            resumes: true,
            event_bytes: 200,
            wants_starts: false,
            has_standby: false,
        }
    }
}

impl StageRequest {
    /// The group of the devices: whether links stay is said of groups.
    fn group(self) -> &'static str {
        if self.is_persistent { "kept" } else { "called" }
    }
}

/// Prepares a run.
pub(crate) fn prepare(common: &Common, request: StageRequest) -> Result<Stage, Failure> {
    let progress = Progress::new(common.quiet);
    interrupt::listen().map_err(Failure::when("listen for Ctrl-C"))?;
    let descriptors = limits::raise();
    let mut notes = Vec::new();
    let cache = match common.no_cache {
        true => None,
        false => common.cache.clone().or_else(cache::default_directory),
    };
    let prepared = match &common.server {
        None => {
            limits::check_own_server(request.devices, descriptors)?;
            own(common, request, cache.as_deref(), progress, &mut notes)?
        }
        Some(address) => other(common, address, request, cache.as_deref(), progress, &mut notes)?,
    };
    let Prepared { mut subject, identities, mut file, started } = prepared;
    if interrupt::requested() {
        return Err(Failure::refused("interrupted before anything was measured"));
    }
    let wanted = common.processes.unwrap_or(1);
    let processes = limits::processes(request.devices, descriptors, wanted);
    let split = Split { processes, threads: common.threads };
    if processes > 1 {
        let why = match processes > wanted {
            true => format!("one may have {descriptors} open files, and each link takes one"),
            false => "as --processes says".to_owned(),
        };
        notes.push(format!("{processes} client processes: {why}."));
    }
    let mut scratch = None;
    if processes > 1 && file.is_none() {
        // The processes read the identities from a file.
        let directory = scratch.insert(Scratch::make(common.data.as_deref())?);
        let path = directory.path().join("devices.identities");
        cache::write(&path, &identities)?;
        file = Some(path);
    }
    let mut servers = vec![subject.address];
    servers.extend(subject.own.as_ref().filter(|_| request.has_standby).map(OwnServer::standby_address));
    let setting = Setting {
        servers,
        event_bytes: request.event_bytes,
        resumes: request.resumes,
        hears_wakes: !request.is_persistent,
    };
    let mut devices = identities;
    let visiting = devices.split_off(devices.len().saturating_sub(request.visitors));
    let devices: Arc<[Identity]> = devices.into();
    let workers = Workers::start(&setting, &devices, split, file.as_deref())?;
    let visitors = match visiting.is_empty() {
        true => None,
        false => Some(Workers::start(&setting, &visiting.into(), Split { processes: 1, threads: 1 }, None)?),
    };
    let watch = Watch::open(subject.pid(), &mut notes);
    subject.check()?;
    let pids = workers.pids();
    let report = Report {
        started_at: Clock::new().now().wall.to_string(),
        machine: machine(),
        versions: vec![("muster-load".to_owned(), env!("CARGO_PKG_VERSION").to_owned())],
        notes,
        ..Report::default()
    };
    let mut stage = Stage {
        engines: common.threads * pids.len(),
        clients: pids.iter().filter_map(|pid| ServerProcess::open(*pid).ok()).collect(),
        workers,
        visitors,
        subject,
        devices,
        watch,
        steps: progress,
        started,
        report,
        starts_per_second: None,
        begun: Instant::now(),
        common: common.clone(),
        _scratch: scratch,
    };
    stage.parameter("devices", stage.devices.len());
    let server = match &stage.subject.own {
        Some(own) => format!(
            "its own, data in {}",
            own.directory.path().parent().unwrap_or(own.directory.path()).display()
        ),
        None => stage.subject.address.to_string(),
    };
    stage.parameter("server", server);
    if let Some(reactors) = common.reactors {
        stage.parameter("reactors", reactors);
    }
    stage.parameter("client threads", common.threads);
    Ok(stage)
}

struct Prepared {
    subject: Subject,
    identities: Vec<Identity>,
    /// File of the identities, when they are in one.
    file: Option<PathBuf>,
    /// Observations of servers that know fewer devices.
    started: Vec<Started>,
}

/// A server of the tool's own: with the devices of an earlier run, if there was one.
fn own(
    common: &Common,
    request: StageRequest,
    cache: Option<&std::path::Path>,
    progress: Progress,
    notes: &mut Vec<String>,
) -> Result<Prepared, Failure> {
    let scratch = || Scratch::make(common.data.as_deref());
    let start = || OwnServer::start(scratch()?, common.reactors);
    // Memory of few is less than what else moves in a process.
    let has_half = density::is_enough(request.devices);
    let looks_at_starts = request.wants_starts && has_half;
    let mut started = Vec::new();
    if looks_at_starts {
        started.extend(started_again(&mut start()?, notes)?);
    }
    let folder = cache.map(|cache| template::folder(cache, request.group(), request.devices));
    if let Some(folder) = &folder {
        let directory = scratch()?;
        let kept = template::take(folder, &directory.path().join("data"));
        if let Some(identities) = kept.filter(|identities| identities.len() == request.devices) {
            let half = scratch()?;
            let is_whole = !has_half || template::take_half(folder, &half.path().join("data"));
            // A new server can do what a kept one can't, another version's for instance.
            if is_whole && let Ok(mut server) = OwnServer::start(directory, common.reactors) {
                if looks_at_starts {
                    started.extend(started_again(&mut OwnServer::start(half, common.reactors)?, notes)?);
                    started.extend(started_again(&mut server, notes)?);
                }
                notes.push(format!("The devices were enrolled in an earlier run ({}).", folder.display()));
                return Ok(Prepared { subject: Subject::own(server), identities, file: None, started });
            }
            template::forget(folder);
        }
    }
    let mut server = start()?;
    let address = ServerAddress::from(server.address);
    let (mut identities, mut seconds) = (Vec::new(), 0.0);
    let half = scratch()?;
    if has_half {
        let first = StageRequest { devices: request.devices / 2, ..request };
        (identities, seconds) = enrol_all(&mut server.client()?, &address, first, 0, progress)?;
        server.drain()?;
        template::note_half(half.path(), server.data())?;
        server.start_again()?;
        if looks_at_starts {
            started.extend(started_again(&mut server, notes)?);
        }
    }
    let kept = identities.len();
    let (more, more_seconds) = enrol_all(&mut server.client()?, &address, request, kept, progress)?;
    identities.extend(more);
    seconds += more_seconds;
    notes.push(format!("{} devices were enrolled in {seconds:.1} s.", identities.len()));
    // A server that has just enrolled thousands is not what one that starts is.
    server.drain()?;
    if let Some(folder) = folder.filter(|_| !interrupt::requested()) {
        let half = has_half.then_some(half.path());
        if let Err(failure) = template::keep(&folder, server.data(), half, &identities) {
            notes.push(format!("The devices are not kept for the next run: {failure}."));
        }
    }
    server.start_again()?;
    if looks_at_starts {
        started.extend(started_again(&mut server, notes)?);
    }
    Ok(Prepared { subject: Subject::own(server), identities, file: None, started })
}

/// Memory of a server that has been started again: the first start makes keys and files, and is not what
/// later ones are. The least of some starts: what lies between the pieces of the tables differs by a hundred
/// kilobytes from one to the next, and comes on top.
fn started_again(server: &mut OwnServer, notes: &mut Vec<String>) -> Result<Option<Started>, Failure> {
    let mut least: Option<Started> = None;
    for _ in 0..STARTS {
        server.drain()?;
        server.start_again()?;
        let started = look_at_start(server, notes);
        if least.is_none_or(|least| started.is_some_and(|it| it.private_bytes < least.private_bytes)) {
            least = started;
        }
    }
    Ok(least)
}

/// Looks at a server that has just been started. `None` when there is nothing to be seen of it.
fn look_at_start(server: &OwnServer, notes: &mut Vec<String>) -> Option<Started> {
    let sample = Watch::open(Some(server.pid()), notes).quiet()?;
    let devices = server.client().ok()?.status().ok()?.devices.known;
    Some(Started { devices, private_bytes: sample.private_bytes, resident_bytes: sample.resident_bytes })
}

/// A server that is there: with the identities that are kept for it.
fn other(
    common: &Common,
    address: &ServerAddress,
    request: StageRequest,
    cache: Option<&std::path::Path>,
    progress: Progress,
    notes: &mut Vec<String>,
) -> Result<Prepared, Failure> {
    let admin = common.admin.clone().unwrap_or_default();
    let subject = Subject::other(address, admin, common.pid)?;
    let mut client = subject.client()?;
    let token = token(&mut client, request)?;
    let file = cache.map(|cache| cache::file(cache, &token.server_certificate, request.group()));
    let mut identities = file.as_deref().and_then(cache::read).unwrap_or_default();
    if identities.len() < request.devices {
        let kept = identities.len();
        let (more, seconds) = enrol_all(&mut client, address, request, kept, progress)?;
        notes.push(format!("{} devices were enrolled in {seconds:.1} s, {kept} were kept.", more.len()));
        identities.extend(more);
        if let Some(file) = &file
            && let Err(failure) = cache::write(file, &identities)
        {
            notes.push(format!("The devices are not kept for the next run: {failure}."));
        }
    } else if let Some(file) = &file {
        notes.push(format!("The devices were enrolled in an earlier run ({}).", file.display()));
    }
    // Not more than were made, and the file may hold more than this run wants.
    identities.truncate(request.devices);
    let file = file.filter(|file| file.exists());
    Ok(Prepared { subject, identities, file, started: Vec::new() })
}

/// A token with which devices come into the run's group.
fn token(client: &mut Client, request: StageRequest) -> Result<JoinToken, Failure> {
    let path = format!("/muster-load/{}", request.group());
    let keep_connected = Some(Keep::from(request.is_persistent));
    client
        .create_group(&NewGroup { path: path.clone(), interval_seconds: None, keep_connected })
        .map_err(Failure::refused)?;
    let uses = u32::try_from(request.devices).unwrap_or(u32::MAX);
    let new = NewToken {
        ttl_seconds: Some(TOKEN_SECONDS),
        uses: Some(uses),
        group: Some(path),
        ..NewToken::default()
    };
    let created = client.create_token(&new).map_err(Failure::refused)?;
    created.token.parse().map_err(Failure::refused)
}

/// Enrols the devices from `kept` on. They, and how long it took in seconds.
fn enrol_all(
    client: &mut Client,
    address: &ServerAddress,
    request: StageRequest,
    kept: usize,
    progress: Progress,
) -> Result<(Vec<Identity>, f64), Failure> {
    let token = token(client, request)?;
    let begun = Instant::now();
    let bar = progress.phase("enrolling", (request.devices - kept) as u64);
    let identities = enrol::enrol(address, &token, kept..request.devices, &|done| bar.set(done as u64))?;
    Ok((identities, begun.elapsed().as_secs_f64()))
}
