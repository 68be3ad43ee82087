//! A server of the test's own making that gives runs to one device: TLS with the real server's certificate,
//! and no store behind it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use muster::reactor::channel::PROTOCOL;
use muster::wire::artifact::{Artifact, ArtifactPart, Fetch};
use muster::wire::digest::Digest;
use muster::wire::frame;
use muster::wire::id::{ArtifactHash, Epoch, RunId};
use muster::wire::limits::ARTIFACT_PART_BYTES_MAX;
use muster::wire::message::{InSync, Probed, ToAgent, ToServer};
use muster::wire::task::{RUNS_SECTION, RunAck, RunList, RunOrder, RunUpdate, RunsStored, digest_of};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Site, eventually};

/// Bytes of a part, unless it is the last.
pub(crate) const PART_BYTES: u64 = ARTIFACT_PART_BYTES_MAX as u64;

/// The server's messages to come, and those that it has heard.
#[derive(Default)]
struct Book {
    /// Runs that the device is to have.
    runs: Vec<RunOrder>,
    /// To be sent on the open link at once.
    to_send: Vec<ToAgent>,
    heard: Vec<RunUpdate>,
    /// The last sync's digest of runs.
    digest: Digest,
    syncs: u32,
    links: u32,
    is_deaf: bool,
    artifacts: BTreeMap<ArtifactHash, Vec<u8>>,
    parts: Parts,
    /// Those that the device was given.
    given: Vec<Fetch>,
    is_cut: bool,
    /// All who connect are sent away.
    is_away: bool,
}

/// The answer to a device that asks for a part of an artifact.
#[derive(Clone, Copy, Default)]
pub(crate) enum Parts {
    #[default]
    Given,
    /// Up to this byte; behind it the device is to ask again in a second.
    Below(u64),
    /// With another byte at the beginning.
    Damaged,
    Refused(&'static str),
}

impl Book {
    fn is_over(&self, run: RunId) -> bool {
        self.heard.iter().any(|update| update.run == run && update.stage.is_last())
    }
}

pub(crate) struct TaskServer {
    book: Arc<Mutex<Book>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TaskServer {
    /// Enrols the site's device at the real server, and takes that server's place.
    pub(crate) fn open(site: &Site) -> Self {
        let server = site.server();
        site.enrol();
        assert!(server.end().success());
        let config = config(&site.path("server"));
        let listener = TcpListener::bind(site.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (book, is_over) = (Arc::<Mutex<Book>>::default(), Arc::<AtomicBool>::default());
        let (shared, end) = (Arc::clone(&book), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                match listener.accept() {
                    // One device has one link at a time.
                    Ok(_) if shared.lock().unwrap().is_away => {}
                    Ok((stream, _)) => serve(stream, &config, &shared, &end),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self { book, is_over, thread: Some(thread) }
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// Orders a run: on the open link at once, and with each sync that does not name it until it is over or
    /// cancelled.
    pub(crate) fn order(&self, order: &RunOrder) {
        let mut book = self.book();
        book.runs.push(order.clone());
        book.to_send.push(ToAgent::Run(Box::new(order.clone())));
    }

    /// Says which runs the device is to have.
    pub(crate) fn want_only(&self, runs: &[RunId]) {
        let mut book = self.book();
        book.runs.retain(|order| runs.contains(&order.run));
        book.to_send.push(ToAgent::Runs(RunList { runs: runs.to_vec() }));
    }

    /// Keeps an artifact, and says what an order of it has.
    pub(crate) fn artifact(&self, name: &str, content: Vec<u8>) -> Artifact {
        let (hash, bytes) = (ArtifactHash::of(&content), content.len() as u64);
        self.book().artifacts.insert(hash, content);
        Artifact { hash, bytes, name: name.into(), signature: None }
    }

    /// From now on parts are answered so.
    pub(crate) fn set_parts(&self, parts: Parts) {
        self.book().parts = parts;
    }

    /// Offsets of the parts that the device was given since this was last asked.
    pub(crate) fn take_given(&self) -> Vec<u64> {
        std::mem::take(&mut self.book().given).into_iter().map(|fetch| fetch.offset).collect()
    }

    /// Waits until the device was given all that it is given of an artifact.
    pub(crate) fn wait_until_given(&self, below: u64) {
        eventually("the first parts have come", || {
            self.book().given.last().is_some_and(|fetch| fetch.offset + PART_BYTES >= below)
        });
    }

    /// Whether the server can't be reached from now on; a link that is open ends.
    pub(crate) fn set_away(&self, is_away: bool) {
        let mut book = self.book();
        (book.is_away, book.is_cut) = (is_away, is_away);
    }

    /// Ends the open link.
    pub(crate) fn cut(&self) {
        self.book().is_cut = true;
    }

    /// Whether reports are left without an answer.
    pub(crate) fn set_deaf(&self, is_deaf: bool) {
        self.book().is_deaf = is_deaf;
    }

    /// Updates of a run, in the order in which they came.
    pub(crate) fn heard(&self, run: RunId) -> Vec<RunUpdate> {
        self.book().heard.iter().filter(|update| update.run == run).cloned().collect()
    }

    pub(crate) fn digest(&self) -> Digest {
        self.book().digest
    }

    pub(crate) fn links(&self) -> u32 {
        self.book().links
    }

    pub(crate) fn syncs(&self) -> u32 {
        self.book().syncs
    }

    /// The final report of a run, once it is said.
    pub(crate) fn final_report(&self, site: &Site, run: RunId) -> RunUpdate {
        let mut last = None;
        eventually(&format!("run {run} is over ({})", site.log("agent.log")), || {
            last = self.heard(run).into_iter().rfind(|update| update.stage.is_last());
            last.is_some()
        });
        last.unwrap()
    }

    /// Waits until something was said of a run.
    pub(crate) fn wait_for(&self, run: RunId, what: &str, said: impl Fn(&RunUpdate) -> bool) {
        eventually(what, || self.heard(run).iter().any(&said));
    }
}

impl Drop for TaskServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn config(server: &Path) -> Arc<ServerConfig> {
    let mut found = (None, None);
    let mut open = vec![server.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.ends_with("server-certificate.pem") {
            found.0 = Some(CertificateDer::from_pem_file(&path).unwrap());
        } else if path.ends_with("server-key.pem") {
            found.1 = Some(PrivateKeyDer::from_pem_file(&path).unwrap());
        }
    }
    let mut config =
        ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![found.0.unwrap()], found.1.unwrap())
            .unwrap();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Arc::new(config)
}

fn serve(stream: TcpStream, config: &Arc<ServerConfig>, book: &Mutex<Book>, is_over: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut link = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream);
    book.lock().unwrap().links += 1;
    book.lock().unwrap().to_send.clear();
    let (mut received, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    while !is_over.load(Ordering::Relaxed) {
        match link.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => received.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        let mut book = book.lock().unwrap();
        if std::mem::take(&mut book.is_cut) {
            return;
        }
        let mut answers = Vec::new();
        while let Some((body, length)) = frame::split(&received).unwrap() {
            answer(&mut book, ToServer::from_body(body).unwrap(), &mut answers);
            received.drain(..length);
        }
        answers.append(&mut book.to_send);
        let mut out = Vec::new();
        answers.iter().for_each(|answer| answer.write_to(&mut out));
        if !out.is_empty() && link.write_all(&out).and_then(|()| link.flush()).is_err() {
            return;
        }
    }
}

fn answer(book: &mut Book, message: ToServer<'_>, answers: &mut Vec<ToAgent>) {
    match message {
        ToServer::Sync(sync) => {
            let runs = sync.sections.iter().find(|named| named.section == RUNS_SECTION);
            book.digest = runs.map(|named| named.digest).unwrap_or_default();
            book.syncs += 1;
            // As the real server does: who names what it is to have is told nothing.
            let wanted: Vec<&RunOrder> = book.runs.iter().filter(|order| !book.is_over(order.run)).collect();
            let digest = wanted.iter().fold(Digest::EMPTY, |sum, order| sum.with(digest_of(order.run)));
            if digest != book.digest {
                answers.extend(wanted.into_iter().map(|order| ToAgent::Run(Box::new(order.clone()))));
            }
            let in_sync = InSync {
                server_epoch: Epoch(1),
                next_seconds: 3_600,
                interval_seconds: 30,
                keep_seconds: Some(1_000),
                notice_port: None,
                notice_counter: None,
                reconnect_seconds: None,
            };
            answers.push(ToAgent::InSync(in_sync));
        }
        ToServer::Runs(runs) if !book.is_deaf => {
            let acks = runs.updates.iter().map(|update| RunAck { run: update.run, serial: update.serial });
            answers.push(ToAgent::RunsStored(RunsStored { acks: acks.collect() }));
            book.heard.extend(runs.updates);
        }
        ToServer::Ping(_) => answers.push(ToAgent::Pong),
        ToServer::Probe(_) => answers.push(ToAgent::Probed(Probed {
            clock: super::now(),
            notice_counter: 0,
            wake_counter: None,
            address: "127.0.0.1".into(),
            notice_port: None,
        })),
        ToServer::Fetch(fetch) => answers.push(ToAgent::ArtifactPart(part(book, fetch))),
        _ => {}
    }
}

fn part(book: &mut Book, fetch: Fetch) -> ArtifactPart {
    let Fetch { hash, offset } = fetch;
    let mut part = ArtifactPart { hash, offset, bytes: Vec::new(), again_seconds: None, refusal: None };
    match book.parts {
        Parts::Refused(why) => part.refusal = Some(why.into()),
        Parts::Below(end) if offset >= end => part.again_seconds = Some(1),
        Parts::Given | Parts::Below(_) | Parts::Damaged => {
            let content = &book.artifacts[&hash];
            let rest = &content[usize::try_from(offset).unwrap()..];
            part.bytes = rest[..rest.len().min(ARTIFACT_PART_BYTES_MAX)].to_vec();
            if matches!(book.parts, Parts::Damaged) {
                part.bytes[0] ^= 1;
            }
            book.given.push(fetch);
        }
    }
    part
}
