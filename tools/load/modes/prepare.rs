//! What must be there before a load begins: a server, devices that it knows, and engines that simulate them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use muster::agent::address::ServerAddress;
use muster::agent::identity::Identity;
use muster::client::Client;
use muster::wire::api::{Keep, NewGroup, NewToken};
use muster::wire::token::JoinToken;

use super::stage::Stage;
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

/// How long the token of a run lives, in seconds: a large fleet takes its time to enrol.
const TOKEN_SECONDS: u64 = 6 * 60 * 60;

/// What a command needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    /// How many devices.
    pub(crate) devices: usize,
    /// Whether their links stay.
    pub(crate) is_kept: bool,
    /// Whether they keep their tickets.
    pub(crate) resumes: bool,
    /// Bytes of one event.
    pub(crate) event_bytes: usize,
    /// Whether the memory of a server without devices is looked at first.
    pub(crate) wants_empty: bool,
}

impl Wishes {
    /// The group of the devices: whether links stay is said of groups.
    fn group(self) -> &'static str {
        if self.is_kept { "kept" } else { "called" }
    }
}

/// Prepares a run.
pub(crate) fn prepare(common: &Common, wishes: Wishes, progress: Progress) -> Result<Stage, Failure> {
    interrupt::listen().map_err(Failure::when("listen for Ctrl-C"))?;
    let descriptors = limits::raise();
    let mut notes = Vec::new();
    let cache = match common.no_cache {
        true => None,
        false => common.cache.clone().or_else(cache::default_directory),
    };
    let prepared = match &common.server {
        None => {
            limits::check_own_server(wishes.devices, descriptors)?;
            own(common, wishes, cache.as_deref(), progress, &mut notes)?
        }
        Some(address) => other(common, address, wishes, cache.as_deref(), progress, &mut notes)?,
    };
    let Prepared { mut subject, identities, mut file, empty_bytes, scratch } = prepared;
    if interrupt::requested() {
        return Err(Failure::refused("interrupted before anything was measured"));
    }
    let wanted = common.processes.and_then(|count| usize::try_from(count).ok()).unwrap_or(1);
    let processes = limits::processes(wishes.devices, descriptors, wanted);
    let split = Split { processes, threads: usize::try_from(common.threads).unwrap_or(1) };
    if processes > 1 {
        notes.push(format!(
            "{processes} client processes: one may have {descriptors} open files, and each link takes one."
        ));
    }
    let scratch = match scratch {
        None if processes > 1 && file.is_none() => Some(Scratch::make(None)?),
        scratch => scratch,
    };
    if processes > 1 && file.is_none() {
        // The processes read the identities from a file.
        let directory =
            subject.own.as_ref().map(|own| own.directory.path()).or(scratch.as_ref().map(Scratch::path));
        let path = directory.map(|directory| directory.join("devices.identities"));
        if let Some(path) = &path {
            cache::write(path, &identities)?;
        }
        file = path;
    }
    let devices: Arc<[Identity]> = identities.into();
    let setting = workers::Common {
        server: subject.address,
        event_bytes: wishes.event_bytes,
        resumes: wishes.resumes,
        hears_wakes: !wishes.is_kept,
        applications: super::stage::APPLICATIONS,
    };
    let workers = Workers::start(&setting, &devices, split, file)?;
    let watch = Watch::open(subject.pid, &mut notes);
    subject.check()?;
    Ok(Stage::new(common, subject, devices, workers, watch, progress, notes, empty_bytes, scratch))
}

struct Prepared {
    subject: Subject,
    identities: Vec<Identity>,
    /// Where the identities are, when they are in a file.
    file: Option<PathBuf>,
    /// Private memory of the server before it knew a device.
    empty_bytes: Option<u64>,
    scratch: Option<Scratch>,
}

/// A server of the tool's own: with the devices of an earlier run, if there was one.
fn own(
    common: &Common,
    wishes: Wishes,
    cache: Option<&std::path::Path>,
    progress: Progress,
    notes: &mut Vec<String>,
) -> Result<Prepared, Failure> {
    let reactors = common.reactors.and_then(|count| usize::try_from(count).ok());
    let start = || OwnServer::start(Scratch::make(common.data.as_deref())?, reactors, wishes.devices.max(1));
    let mut empty_bytes = None;
    if wishes.wants_empty {
        let mut server = start()?;
        // The first start makes keys and files, and is not what later ones are.
        server.drain()?;
        server.start_again()?;
        empty_bytes = Watch::open(Some(server.pid()), notes).quiet_bytes();
    }
    let folder = cache.map(|cache| template::folder(cache, wishes.group()));
    if let Some(folder) = &folder {
        let directory = Scratch::make(common.data.as_deref())?;
        match template::take(folder, &directory.path().join("data")) {
            Some(mut identities) if identities.len() >= wishes.devices => {
                identities.truncate(wishes.devices);
                // What a kept server can't do, another version's for instance, a new one can.
                if let Ok(server) = OwnServer::start(directory, reactors, wishes.devices.max(1)) {
                    notes
                        .push(format!("The devices were enrolled in an earlier run ({}).", folder.display()));
                    return Ok(Prepared {
                        subject: Subject::own(server),
                        identities,
                        file: None,
                        empty_bytes,
                        scratch: None,
                    });
                }
                template::forget(folder);
            }
            _ => {}
        }
    }
    let mut subject = Subject::own(start()?);
    let (identities, seconds) = enrol_all(&subject, &common_address(&subject), wishes, 0, progress)?;
    notes.push(format!("{} devices were enrolled in {seconds:.1} s.", identities.len()));
    if let (Some(folder), Some(own), false) = (&folder, &mut subject.own, interrupt::requested()) {
        own.drain()?;
        if let Err(failure) = template::keep(folder, &own.directory.path().join("data"), &identities) {
            notes.push(format!("The devices are not kept for the next run: {failure}."));
        }
        own.start_again()?;
        subject.pid = Some(own.pid());
    } else {
        // A server that has just enrolled thousands is not what one that starts is.
        subject.refresh()?;
    }
    Ok(Prepared { subject, identities, file: None, empty_bytes, scratch: None })
}

fn common_address(subject: &Subject) -> ServerAddress {
    ServerAddress { host: subject.address.ip().to_string(), port: subject.address.port() }
}

/// A server that is there: with the identities that are kept for it.
fn other(
    common: &Common,
    address: &ServerAddress,
    wishes: Wishes,
    cache: Option<&std::path::Path>,
    progress: Progress,
    notes: &mut Vec<String>,
) -> Result<Prepared, Failure> {
    let admin = common.admin.clone().unwrap_or_default();
    let subject = Subject::other(address, admin, common.pid)?;
    let mut client = subject.client()?;
    let token = token(&mut client, wishes)?;
    let file = cache.map(|cache| cache::file(cache, &token.server_certificate, wishes.group()));
    let mut identities = file.as_deref().and_then(cache::read).unwrap_or_default();
    if identities.len() < wishes.devices {
        let kept = identities.len();
        let (more, seconds) = enrol_all(&subject, address, wishes, kept, progress)?;
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
    identities.truncate(wishes.devices);
    let file = file.filter(|file| file.exists());
    Ok(Prepared { subject, identities, file, empty_bytes: None, scratch: None })
}

/// A token with which devices come into the run's group.
fn token(client: &mut Client, wishes: Wishes) -> Result<JoinToken, Failure> {
    let path = format!("/muster-load/{}", wishes.group());
    let keep_connected = Some(Keep::from(wishes.is_kept));
    client
        .create_group(&NewGroup { path: path.clone(), interval_seconds: None, keep_connected })
        .map_err(Failure::refused)?;
    let uses = u32::try_from(wishes.devices).unwrap_or(u32::MAX);
    let new = NewToken { ttl_seconds: Some(TOKEN_SECONDS), uses: Some(uses), group: Some(path) };
    let created = client.create_token(&new).map_err(Failure::refused)?;
    created.token.parse().map_err(Failure::refused)
}

/// Enrols the devices from `kept` on. They, and how long it took in seconds.
fn enrol_all(
    subject: &Subject,
    address: &ServerAddress,
    wishes: Wishes,
    kept: usize,
    progress: Progress,
) -> Result<(Vec<Identity>, f64), Failure> {
    let token = token(&mut subject.client()?, wishes)?;
    let begun = Instant::now();
    let bar = progress.phase("enrolling", (wishes.devices - kept) as u64);
    let identities = enrol::enrol(address, &token, kept..wishes.devices, &|done| bar.set(done as u64))?;
    Ok((identities, begun.elapsed().as_secs_f64()))
}
