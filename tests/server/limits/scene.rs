//! A server, an honest device, a hostile one, and how the server's memory and the honest device's service are
//! watched.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::kit::provider::{CLIENT, Provider};
use crate::kit::{Connection, Device, Musterd, wait_for};
use muster::wire::id::Epoch;
use muster::wire::message::ToAgent;
use muster::wire::token::JoinToken;

/// The peer that a row limits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Device,
    Stranger,
    /// While one of them uses up what they have together, no other one is served.
    Administrator,
}

/// Connections at most, so that the attacks that open many meet a limit of few.
pub(crate) const LINKS_MAX: usize = 40;

pub(crate) struct Scene {
    pub(crate) server: Musterd,
    pub(crate) hostile: Device,
    /// One that is valid.
    pub(crate) token: JoinToken,
    pub(crate) directory: tempfile::TempDir,
    /// The administrators' port, once there is an API token.
    pub(crate) port: SocketAddr,
    pub(crate) honest: Device,
    /// Comes by now and then, on a new link each time.
    visitor: Device,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let provider = Provider::start(directory.path(), false);
        let ca = directory.path().join("ca.pem");
        // More than the kernel holds for those who do not read.
        let agents = directory.path().join("agents");
        std::fs::create_dir(&agents).unwrap();
        let agent = std::fs::File::create(agents.join("muster-agent-x86_64")).unwrap();
        agent.set_len(64 << 20).unwrap();
        let settings = format!(
            "[admin]\nlisten = \"{port}\"\nagents = {agents:?}\n[admin.openid]\nname = \"Example\"\nissuer = \"{}\"\naddress = \"https://{port}\"\n\
             client_id = \"{CLIENT}\"\nca = {ca:?}\n[links]\nmax = {LINKS_MAX}\nbuffer_size = \"16MiB\"\n[journal]\nsegment_size = \"1MiB\"\n\
             device_burst = \"1MiB\"\n",
            provider.issuer,
        );
        let server = Musterd::start(directory.path(), &settings);
        let token = server.token(1_000);
        let enrol = |name| Device::enrol(&server, &token, name).unwrap();
        let (honest, visitor, hostile) = (enrol("honest"), enrol("visitor"), enrol("hostile"));
        Self { server, hostile, token, directory, port, honest, visitor }
    }

    /// A link of the hostile device.
    pub(crate) fn hostile(&self) -> Connection {
        self.hostile.connect(&self.server)
    }

    /// Delivers an event and waits until it is on disk.
    fn deliver(connection: &mut Connection, sequence: u64) {
        connection.send_events(Epoch(7), sequence..=sequence);
        loop {
            match connection.read() {
                ToAgent::Ack(ack) if ack.through >= sequence => return,
                ToAgent::Ack(_) | ToAgent::SyncNow(_) => {}
                other => panic!("the honest device is told {other:?}"),
            }
        }
    }
}

/// Service that the attack may not disturb, until it is over. Gives how often an event was acknowledged.
fn be_served(scene: &Scene, is_over: &AtomicBool, asks: bool) -> u64 {
    let mut kept = scene.honest.connect(&scene.server);
    let mut sequence = 0;
    while !is_over.load(Ordering::Relaxed) {
        sequence += 1;
        Scene::deliver(&mut kept, sequence);
        if sequence % 16 == 1 {
            scene.visitor.connect(&scene.server).greet();
            if asks {
                scene.server.status();
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    sequence
}

/// Lets somebody try to consume what a row limits.
pub(crate) fn consume(row: &str, by: By, mebibytes: u64, attack: fn(&Scene)) {
    let scene = Scene::new();
    let before = anonymous_bytes(&scene);
    let (is_over, most) = (AtomicBool::new(false), AtomicU64::new(before));
    let served = std::thread::scope(|scope| {
        let honest = scope.spawn(|| be_served(&scene, &is_over, by != By::Administrator));
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(anonymous_bytes(&scene), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let ends = SetAtEnd(&is_over);
        attack(&scene);
        drop(ends);
        honest.join().unwrap()
    });
    assert!(served > 0);
    wait_for("the administrator is served afterwards", || scene.server.try_status());
    let grown = most.into_inner() - before;
    println!("{row}: {} KiB more, {served} events of another device acknowledged meanwhile", grown >> 10);
    assert!(grown <= mebibytes << 20, "{row}: {} KiB more than {} KiB before", grown >> 10, before >> 10);
}

/// Ends the other threads, also when the attack panics.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Memory of the server that no file stands behind.
fn anonymous_bytes(scene: &Scene) -> u64 {
    scene.server.memory_bytes("RssAnon")
}

/// The first column of the handbook's table of limits.
pub(crate) fn rows() -> BTreeSet<&'static str> {
    let chapter = include_str!("../../../src/manual/security.rs");
    let table = chapter.split("# Limits").nth(1).unwrap();
    let lines = table.lines().skip(1).map_while(|line| line.strip_prefix("//!"));
    let rows = lines.filter_map(|line| line.trim().strip_prefix("| ")?.split(" | ").next());
    rows.filter(|first| !first.starts_with("--") && *first != "what").collect()
}
