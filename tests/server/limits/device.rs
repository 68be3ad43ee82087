//! A device with a certificate that means no good, or is broken.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::kit::run_device::{RunDevice, offer};
use crate::kit::{Connection, event, eventually, part, sync, wait_for};
use muster::wire::artifact::{ArtifactUse, Fetch};
use muster::wire::digest::Digest;
use muster::wire::event::Severity;
use muster::wire::id::Epoch;
use muster::wire::inventory::{Application, digest_of};
use muster::wire::message::{Part, Ping, Probe, ToAgent, ToServer};
use muster::wire::task::{RunStage, RunUpdate};
use socket2::{Domain, Socket, Type};

use super::scene::Scene;

/// Length of an attack.
const LASTS: Duration = Duration::from_secs(4);

/// Sends frames again and again, as fast as they are taken, and reads nothing.
fn flood(scene: &Scene, message: &ToServer<'_>) {
    let mut frames = Vec::new();
    (0..1_000).for_each(|_| message.write_to(&mut frames));
    let begun = Instant::now();
    let mut connection = scene.hostile();
    while begun.elapsed() < LASTS {
        if !connection.push(&frames) {
            connection = scene.hostile();
        }
    }
}

pub(crate) fn probes(scene: &Scene) {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_port = target.local_addr().unwrap().port();
    flood(scene, &ToServer::Probe(Probe { udp_port }));
    target.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let datagrams = std::iter::from_fn(|| target.recv(&mut [0; 128]).ok()).count();
    assert!(datagrams <= 12, "{datagrams} datagrams to a port of its choosing");
    let mut connection = scene.hostile();
    let refused = connection.ask(&ToServer::Probe(Probe { udp_port })).unwrap();
    assert!(
        matches!(&refused, ToAgent::Error(report) if report.message.contains("6 wakes a minute")),
        "{refused:?}"
    );
}

/// Asks for what a check asks for, again and again, and reads the answers: each takes a hundredth of a second
/// of the device's allowance, of which 75 seconds may be used ahead.
pub(crate) fn messages(scene: &Scene) {
    flood(scene, &ToServer::Ping(Ping::default()));
    let mut frames = Vec::new();
    (0..1_000).for_each(|_| ToServer::Probe(Probe { udp_port: 0 }).write_to(&mut frames));
    let (begun, mut answers) = (Instant::now(), 0);
    let mut connection = scene.hostile();
    while begun.elapsed() < LASTS {
        if !(connection.push(&frames) && connection.read_once()) {
            connection = scene.hostile();
        }
        answers += connection.take_frames();
    }
    let allowed = 100 * (75 + begun.elapsed().as_secs() + LASTS.as_secs() + 2);
    assert!(answers <= allowed, "{answers} answers, {allowed} are allowed");
}

pub(crate) fn events(scene: &Scene) {
    let mut connection = scene.hostile();
    let (begun, mut sequence) = (Instant::now(), 1);
    let long = event(Severity::Info, "x".repeat(1_000));
    while begun.elapsed() < LASTS {
        connection.send_copies(Epoch(3), sequence..=sequence + 49, &long);
        sequence += 50;
        if !(connection.read_once() && connection.send_all()) {
            connection = scene.hostile();
        }
    }
    let stored: u64 = journal_bytes(scene);
    assert!(stored < 4 << 20, "{stored} bytes of a device that may bring 1 MiB at once");
}

/// Size of the event log. Segments are made whole: one may be begun, and one waits.
fn journal_bytes(scene: &Scene) -> u64 {
    let files = std::fs::read_dir(scene.directory.path().join("data/journal")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// A part that nobody has asked for is answered with more than a ping: a link of which little lies in the
/// kernel, as its segments and its window are short, soon has more than it may.
fn one_unread_link(scene: &Scene) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&scene.server.address.into()).unwrap();
    let mut connection = Connection::over(socket.into(), &scene.hostile.tls);
    let mut frames = Vec::new();
    (0..500).for_each(|_| part_with(0, Vec::new()).write_to(&mut frames));
    eventually("the link is closed", || {
        for _ in 0..20 {
            connection.push(&frames);
        }
        has_closed(scene, "slow_reader")
    });
}

pub(crate) fn unread(scene: &Scene) {
    one_unread_link(scene);
    let mut frames = Vec::new();
    (0..10_000).for_each(|_| ToServer::Ping(Ping::default()).write_to(&mut frames));
    let begun = Instant::now();
    let mut connections: Vec<Connection> = Vec::new();
    while begun.elapsed() < LASTS {
        connections.retain_mut(|connection| connection.push(&frames));
        if connections.len() < 60 {
            connections.extend(Connection::try_open(scene.server.address, &scene.hostile.tls));
        }
    }
}

/// Asks for parts as fast as they can be asked for, on many links of which none is read, and on one that is.
pub(crate) fn parts(scene: &Scene) {
    let file = scene.directory.path().join("large.bin");
    std::fs::write(&file, vec![7; 4 << 20]).unwrap();
    let hash =
        scene.server.ctl(&["artifact", "add", file.to_str().unwrap()])["hash"].as_str().unwrap().to_owned();
    let hostile = scene.hostile.id.to_string();
    let create = ["task", "create", "--application", "kiosk", "--kind", "flash", "--device", &hostile];
    let mut device = RunDevice::new(&scene.hostile, &scene.server, offer("kiosk", "flash", ArtifactUse::Any));
    device.sync();
    scene.server.ctl(&[&create[..], &["--artifact", &hash]].concat());
    let order = wait_for("the run", || device.sync().pop());
    device.report(RunUpdate::new(order.run, 1, RunStage::Accepted));
    let fetch = Fetch { hash: hash.parse().unwrap(), offset: 0 };
    assert!(!device.ask(fetch).bytes.is_empty());
    let mut frames = Vec::new();
    (0..1_000).for_each(|_| ToServer::Fetch(fetch).write_to(&mut frames));
    let (begun, mut answers) = (Instant::now(), 0);
    let mut connections: Vec<Connection> = Vec::new();
    let mut read = scene.hostile();
    while begun.elapsed() < LASTS {
        connections.retain_mut(|connection| connection.push(&frames));
        if connections.len() < 30 {
            connections.extend(Connection::try_open(scene.server.address, &scene.hostile.tls));
        }
        if !(read.push(&frames) && read.read_once()) {
            read = scene.hostile();
        }
        answers += read.take_frames();
    }
    assert!(answers > 0);
}

/// A part of an inventory that has more.
fn part_with(index: u32, added: Vec<Application>) -> ToServer<'static> {
    ToServer::Part(Box::new(part(1, Digest(5), index, added)))
}

/// Parts of the largest inventory that there may be, but for the last: as long as a frame, with the longest
/// names.
pub(crate) fn uploads(scene: &Scene) {
    let application = |number| Application {
        name: format!("{number:0>250}"),
        version: "x".repeat(250),
        publisher: "x".repeat(250),
    };
    // One link: what it held is given back by and by, and another one would hold as much again beside it.
    let mut connection = scene.hostile();
    let wanted = connection.ask(&ToServer::Sync(sync(Epoch(0), Some((1, Digest(5)))))).unwrap();
    assert!(matches!(wanted, ToAgent::Want(_)), "{wanted:?}");
    for index in 0..600 {
        let numbers = index * 80..(index + 1) * 80;
        connection.send(&part_with(index, numbers.map(application).collect()));
        if !connection.send_all() {
            break;
        }
    }
    eventually("the link is closed", || has_closed(scene, "held_most"));
}

/// Whether the server has closed a link for this reason.
fn has_closed(scene: &Scene, reason: &str) -> bool {
    scene.server.status().links.closes.iter().any(|close| close.reason == reason)
}

pub(crate) fn links(scene: &Scene) {
    let connections: Vec<Connection> = (0..200)
        .filter_map(|_| {
            let mut connection = Connection::try_open(scene.server.address, &scene.hostile.tls).ok()?;
            connection.push(&[]);
            Some(connection)
        })
        .collect();
    std::thread::sleep(LASTS);
    drop(connections);
}

pub(crate) fn epochs(scene: &Scene) {
    let epoch = || match scene.hostile().ask(&ToServer::Sync(sync(Epoch(0), None))) {
        Ok(ToAgent::InSync(answer)) => answer.server_epoch,
        other => panic!("{other:?}"),
    };
    let before = epoch();
    // Something is stored of it: a revision above that is one of which the server does not know any more.
    let application = Application { name: "a".into(), version: "1".into(), publisher: String::new() };
    let digest = digest_of(std::slice::from_ref(&application));
    let mut connection = scene.hostile();
    let wanted = connection.ask(&ToServer::Sync(sync(Epoch(0), Some((1, digest))))).unwrap();
    assert!(matches!(wanted, ToAgent::Want(_)), "{wanted:?}");
    let part = Part { is_last: true, ..part(1, digest, 0, vec![application]) };
    let stored = connection.ask(&ToServer::Part(Box::new(part))).unwrap();
    assert!(matches!(stored, ToAgent::InSync(_)), "{stored:?}");
    for round in 0..200 {
        let claim = (u64::from(u32::MAX) + round, Digest(5));
        let _ = scene.hostile().ask(&ToServer::Sync(sync(Epoch(1 << 40), Some(claim))));
    }
    assert_eq!(epoch(), before, "one device draws none");
}

/// Sends these, and reads until the server hangs up: how often it has answered before.
fn answers_until_hung_up(scene: &Scene, bytes: &[u8]) -> usize {
    let mut connection = scene.hostile();
    connection.send_bytes(bytes);
    let mut answers = 0;
    while let Ok(answer) = connection.receive() {
        assert!(matches!(answer, ToAgent::Error(_)), "{answer:?}");
        answers += 1;
    }
    answers
}

pub(crate) fn undecodable(scene: &Scene) {
    let mut frame = 16_u32.to_be_bytes().to_vec();
    frame.resize(20, 0xa5);
    assert_eq!(answers_until_hung_up(scene, &frame.repeat(20)), 8);
    let mut endless = 65_537_u32.to_be_bytes().to_vec();
    endless.resize(20, 0xa5);
    assert_eq!(answers_until_hung_up(scene, &endless), 1, "a longer frame is not waited for");
    let begun = Instant::now();
    let mut frame = 60_000_u32.to_be_bytes().to_vec();
    frame.resize(60_004, 0xa5);
    let mut connection = scene.hostile();
    while begun.elapsed() < LASTS {
        if !connection.push(&frame) {
            connection = scene.hostile();
        }
    }
}
