//! Preparation of a load: a server, devices that it knows, and engines that simulate them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use muster::agent::address::ServerAddress;
use muster::agent::identity::Identity;
use muster::client::Client;
use muster::wire::api::{Keep, NewGroup, NewToken};
use muster::wire::token::JoinToken;

use super::density;
use super::stage::{Parts, Stage, Started, look_at_start};
use super::watch::Watch;
use crate::arguments::Common;
use crate::failure::Failure;
use crate::fleet::{cache, enrol, template};
use crate::interrupt;
use crate::limits;
use crate::report::progress::Progress;
use crate::subject::Subject;
use crate::subject::directory::Scratch;
use crate::subject::own::OwnServer;
use crate::workers::{self, Split, Workers};

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
}

impl StageRequest {
    /// The group of the devices: whether links stay is said of groups.
    fn group(self) -> &'static str {
        if self.is_persistent { "kept" } else { "called" }
    }
}

/// Prepares a run.
pub(crate) fn prepare(common: &Common, request: StageRequest, progress: Progress) -> Result<Stage, Failure> {
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
    let wanted = common.processes.and_then(|count| usize::try_from(count).ok()).unwrap_or(1);
    let processes = limits::processes(request.devices, descriptors, wanted);
    let split = Split { processes, threads: usize::try_from(common.threads).unwrap_or(1) };
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
    let setting = workers::Common {
        server: subject.address,
        event_bytes: request.event_bytes,
        resumes: request.resumes,
        hears_wakes: !request.is_persistent,
        applications: super::stage::APPLICATIONS,
    };
    let mut devices = identities;
    let visiting = devices.split_off(devices.len().saturating_sub(request.visitors));
    let devices: Arc<[Identity]> = devices.into();
    let workers = Workers::start(&setting, &devices, split, file.as_deref())?;
    let visitors = match visiting.is_empty() {
        true => None,
        false => Some(Workers::start(&setting, &visiting.into(), Split { processes: 1, threads: 1 }, None)?),
    };
    let watch = Watch::open(subject.pid, &mut notes);
    subject.check()?;
    Ok(Stage::new(
        common,
        Parts { subject, devices, workers, visitors, watch, progress, notes, started, scratch },
    ))
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
    let reactors = common.reactors.and_then(|count| usize::try_from(count).ok());
    let start = || OwnServer::start(Scratch::make(common.data.as_deref())?, reactors);
    // Memory of few is less than what else moves in a process.
    let has_half = density::is_enough(request.devices);
    let mut started = Vec::new();
    if request.wants_starts && has_half {
        started.extend(started_again(&mut start()?, notes)?);
    }
    let folder = cache.map(|cache| template::folder(cache, request.group(), request.devices));
    if let Some(folder) = &folder {
        let directory = Scratch::make(common.data.as_deref())?;
        match template::take(folder, &directory.path().join("data")) {
            Some(identities) if identities.len() == request.devices => {
                let half = Scratch::make(common.data.as_deref())?;
                let is_whole = !has_half || template::take_half(folder, &half.path().join("data"));
                // A new server can do what a kept one can't, another version's for instance.
                if is_whole && let Ok(mut server) = OwnServer::start(directory, reactors) {
                    if request.wants_starts && has_half {
                        started.extend(started_again(&mut OwnServer::start(half, reactors)?, notes)?);
                        started.extend(started_again(&mut server, notes)?);
                    }
                    notes
                        .push(format!("The devices were enrolled in an earlier run ({}).", folder.display()));
                    return Ok(Prepared { subject: Subject::own(server), identities, file: None, started });
                }
                template::forget(folder);
            }
            _ => {}
        }
    }
    let mut subject = Subject::own(start()?);
    let address = common_address(&subject);
    let (mut identities, mut seconds) = (Vec::new(), 0.0);
    let half = Scratch::make(common.data.as_deref())?;
    if has_half {
        let first = StageRequest { devices: request.devices / 2, ..request };
        (identities, seconds) = enrol_all(&subject, &address, first, 0, progress)?;
        if let Some(own) = &mut subject.own {
            own.drain()?;
            template::note_half(half.path(), &own.directory.path().join("data"))?;
            own.start_again()?;
            if request.wants_starts {
                started.extend(started_again(own, notes)?);
            }
            subject.pid = Some(own.pid());
        }
    }
    let (more, more_seconds) = enrol_all(&subject, &address, request, identities.len(), progress)?;
    identities.extend(more);
    seconds += more_seconds;
    notes.push(format!("{} devices were enrolled in {seconds:.1} s.", identities.len()));
    if let (Some(folder), Some(own), false) = (&folder, &mut subject.own, interrupt::requested()) {
        own.drain()?;
        let data = own.directory.path().join("data");
        let half = has_half.then_some(half.path());
        if let Err(failure) = template::keep(folder, &data, half, &identities) {
            notes.push(format!("The devices are not kept for the next run: {failure}."));
        }
        own.start_again()?;
        subject.pid = Some(own.pid());
    } else {
        // A server that has just enrolled thousands is not what one that starts is.
        subject.refresh()?;
    }
    if let (Some(own), true, true) = (&mut subject.own, request.wants_starts, has_half) {
        started.extend(started_again(own, notes)?);
        subject.pid = Some(own.pid());
    }
    Ok(Prepared { subject, identities, file: None, started })
}

/// Memory of a server that has been started again: the first start makes keys and files, and is not what
/// later ones are. The least of some starts: what lies between the pieces of the tables differs by a hundred
/// kilobytes from one to the next, and comes on top.
fn started_again(server: &mut OwnServer, notes: &mut Vec<String>) -> Result<Option<Started>, Failure> {
    let mut least: Option<Started> = None;
    for _ in 0..STARTS {
        server.drain()?;
        server.start_again()?;
        let started = look_at_start(&server.admin, &mut Watch::open(Some(server.pid()), notes));
        if least.is_none_or(|least| started.is_some_and(|it| it.private_bytes < least.private_bytes)) {
            least = started;
        }
    }
    Ok(least)
}

fn common_address(subject: &Subject) -> ServerAddress {
    ServerAddress { host: subject.address.ip().to_string(), port: subject.address.port() }
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
        let (more, seconds) = enrol_all(&subject, address, request, kept, progress)?;
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
    let new = NewToken { ttl_seconds: Some(TOKEN_SECONDS), uses: Some(uses), group: Some(path) };
    let created = client.create_token(&new).map_err(Failure::refused)?;
    created.token.parse().map_err(Failure::refused)
}

/// Enrols the devices from `kept` on. They, and how long it took in seconds.
fn enrol_all(
    subject: &Subject,
    address: &ServerAddress,
    request: StageRequest,
    kept: usize,
    progress: Progress,
) -> Result<(Vec<Identity>, f64), Failure> {
    let token = token(&mut subject.client()?, request)?;
    let begun = Instant::now();
    let bar = progress.phase("enrolling", (request.devices - kept) as u64);
    let identities = enrol::enrol(address, &token, kept..request.devices, &|done| bar.set(done as u64))?;
    Ok((identities, begun.elapsed().as_secs_f64()))
}
