//! A device by hand that takes runs of tasks, fetches what they come with, and says what became of them: some
//! kilobytes each, so that a test has hundreds of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use muster::reactor::channel::ClientTls;
use muster::wire::artifact::{Artifact, ArtifactPart, ArtifactUse, Fetch};
use muster::wire::digest::Digest;
use muster::wire::id::{ArtifactHash, Epoch, RunId};
use muster::wire::message::{NamedSection, Part, PartContent, Sync, SyncReason, ToAgent, ToServer};
use muster::wire::section::{HostFacts, Section, digest_of};
use muster::wire::settings::{Declaration, SETTINGS_SECTION, TaskKind};
use muster::wire::task::{
    RUNS_SECTION, RunOrder, RunStage, RunUpdate, RunUpdates, digest_of as digest_of_run,
};
use muster::wire::time::WallTime;

use super::{Connection, Device, TIMEOUT};

/// An application with one kind of task.
pub(crate) fn offer(application: &str, kind: &str, artifact: ArtifactUse) -> Declaration {
    let kind = TaskKind {
        kind: kind.into(),
        schema: String::new(),
        timeout_seconds: 600,
        is_repeatable: true,
        artifact,
    };
    Declaration {
        application: application.into(),
        takes_settings: false,
        settings_schema: String::new(),
        kinds: vec![kind],
    }
}

pub(crate) struct RunDevice {
    server: SocketAddr,
    tls: ClientTls,
    connection: Option<Connection>,
    facts: HostFacts,
    /// Those that it has, and has not ended.
    runs: Vec<RunId>,
    /// Parts that it was told to ask for again later.
    pub(crate) put_off: u64,
}

impl RunDevice {
    pub(crate) fn new(device: &Device, server: impl Into<SocketAddr>, offers: Declaration) -> Self {
        let facts = HostFacts { declarations: vec![offers], ..HostFacts::default() };
        let (server, tls) = (server.into(), device.tls.clone());
        Self { server, tls, connection: None, facts, runs: Vec::new(), put_off: 0 }
    }

    /// The link, which is opened when there is none.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        let Self { server, tls, connection, .. } = self;
        connection.get_or_insert_with(|| Connection::open(*server, tls))
    }

    /// The server is at another address now.
    pub(crate) fn move_to(&mut self, server: impl Into<SocketAddr>) {
        self.server = server.into();
        self.hang_up();
    }

    /// The link is lost.
    pub(crate) fn hang_up(&mut self) {
        self.connection = None;
    }

    /// Syncs; the runs that it is to begin. One whose link has ended meanwhile comes on another.
    pub(crate) fn sync(&mut self) -> Vec<RunOrder> {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < TIMEOUT, "no sync comes to its end");
            if let Some(runs_to_begin) = self.try_sync() {
                return runs_to_begin;
            }
            self.hang_up();
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn try_sync(&mut self) -> Option<Vec<RunOrder>> {
        let named = |section: u32, digest, revision| NamedSection {
            section,
            digest,
            revision,
            confirmed_revision: None,
        };
        let runs = self.runs.iter().fold(Digest::EMPTY, |sum, run| sum.with(digest_of_run(*run)));
        let digest = digest_of(&self.facts);
        let sync = ToServer::Sync(Sync {
            agent_epoch: Epoch(1),
            server_epoch: Epoch(0),
            reason: SyncReason::Scheduled,
            clock: WallTime(1),
            sections: vec![
                named(Section::Host.number(), digest, 1),
                named(SETTINGS_SECTION, Digest::EMPTY, 1),
                named(RUNS_SECTION, runs, 1),
            ],
            reach: None,
            identity: None,
        });
        let facts = self.facts.clone();
        let connection = self.connection();
        connection.try_send(&sync).ok()?;
        let mut runs_to_begin = Vec::new();
        loop {
            match connection.receive().ok()? {
                ToAgent::Want(_) => {
                    let content = PartContent { host: Some(facts.clone()), ..PartContent::default() };
                    let (section, revision, index) = (Section::Host, 1, 0);
                    let part = Part { section, revision, digest, base: None, index, is_last: true, content };
                    connection.send(&ToServer::Part(Box::new(part)));
                }
                ToAgent::Run(order) => runs_to_begin.push(*order),
                ToAgent::InSync(_) => break,
                ToAgent::Later(_) | ToAgent::Error(_) => return None,
                _ => {}
            }
        }
        self.runs.extend(runs_to_begin.iter().map(|order| order.run));
        Some(runs_to_begin)
    }

    /// Says what became of a run, and waits until that is stored.
    pub(crate) fn report(&mut self, update: RunUpdate) {
        if update.stage.is_last() {
            self.runs.retain(|run| *run != update.run);
        }
        let (run, serial) = (update.run, update.serial);
        let updates = ToServer::Runs(RunUpdates { updates: vec![update] });
        let connection = self.connection();
        connection.send(&updates);
        let is_stored = |message: &ToAgent| match message {
            ToAgent::RunsStored(stored) => {
                stored.acks.iter().any(|ack| ack.run == run && ack.serial >= serial)
            }
            _ => false,
        };
        while !is_stored(&connection.read()) {}
    }

    /// The answer to one question for a part.
    pub(crate) fn ask(&mut self, fetch: Fetch) -> ArtifactPart {
        let connection = self.connection();
        connection.send(&ToServer::Fetch(fetch));
        loop {
            if let ToAgent::ArtifactPart(part) = connection.read() {
                assert_eq!((part.hash, part.offset), (fetch.hash, fetch.offset));
                return part;
            }
        }
    }

    /// All of an artifact, part by part.
    ///
    /// # Errors
    /// Why it can't be had.
    pub(crate) fn fetch(&mut self, artifact: &Artifact) -> Result<Vec<u8>, String> {
        let (mut whole, begun) = (Vec::new(), Instant::now());
        while (whole.len() as u64) < artifact.bytes {
            assert!(begun.elapsed() < TIMEOUT, "{} of {} bytes came", whole.len(), artifact.bytes);
            let part = self.ask(Fetch { hash: artifact.hash, offset: whole.len() as u64 });
            match part {
                ArtifactPart { refusal: Some(refusal), .. } => return Err(refusal),
                ArtifactPart { again_seconds: Some(_), .. } => {
                    self.put_off += 1;
                    std::thread::sleep(Duration::from_millis(200));
                }
                ArtifactPart { bytes, .. } if bytes.is_empty() => return Err("it ends too early".into()),
                ArtifactPart { bytes, .. } => whole.extend(bytes),
            }
        }
        if ArtifactHash::of(&whole) == artifact.hash { Ok(whole) } else { Err("it has another hash".into()) }
    }

    /// Takes the runs that there are, fetches what they come with, and does as `execute` says.
    pub(crate) fn work(&mut self, execute: impl Fn(&RunOrder, &[u8]) -> Result<(), String>) {
        let runs_to_begin = self.sync();
        for order in &runs_to_begin {
            self.report(RunUpdate::new(order.run, 1, RunStage::Accepted));
            let artifact = order.artifact.as_ref();
            let fetched = artifact.map_or_else(|| Ok(Vec::new()), |artifact| self.fetch(artifact));
            let done = fetched.and_then(|content| {
                self.report(RunUpdate::new(order.run, 2, RunStage::Running));
                execute(order, &content)
            });
            let (stage, message) = match done {
                Ok(()) => (RunStage::Succeeded, String::new()),
                Err(why) => (RunStage::Failed, why),
            };
            self.report(RunUpdate { message, ..RunUpdate::new(order.run, 3, stage) });
        }
    }
}

/// Lets devices work, several at a time, until `is_over`.
pub(crate) fn work_until(
    devices: &mut [RunDevice],
    execute: &(impl Fn(&RunOrder, &[u8]) -> Result<(), String> + std::marker::Sync),
    is_over: impl Fn() -> bool,
) {
    const THREADS: usize = 4;
    let (begun, share) = (Instant::now(), devices.len().div_ceil(THREADS));
    while !is_over() {
        assert!(begun.elapsed() < TIMEOUT, "the task has no end");
        std::thread::scope(|scope| {
            for devices in devices.chunks_mut(share) {
                scope.spawn(move || devices.iter_mut().for_each(|device| device.work(execute)));
            }
        });
    }
}
