//! A device with a certificate that means no good, or is broken.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use muster::wire::digest::Digest;
use muster::wire::event::Severity;
use muster::wire::id::Epoch;
use muster::wire::inventory::Application;
use muster::wire::message::{
    NamedSection, Part, PartContent, Ping, Probe, Sync, SyncReason, ToAgent, ToServer,
};
use muster::wire::section::Section;
use muster::wire::time::WallTime;

use crate::common::Connection;
use crate::scene::{Scene, send_events};

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
}

pub(crate) fn pings(scene: &Scene) {
    flood(scene, &ToServer::Ping(Ping::default()));
}

pub(crate) fn events(scene: &Scene) {
    let mut connection = scene.hostile();
    let (begun, mut sequence) = (Instant::now(), 1);
    while begun.elapsed() < LASTS {
        send_events(&mut connection, Epoch(3), sequence..=sequence + 49, Severity::Info, 1_000);
        sequence += 50;
        if !connection.read_once() {
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

pub(crate) fn unread(scene: &Scene) {
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

/// A part of an inventory that has more.
fn part(index: u32) -> ToServer<'static> {
    let application = |number| Application {
        name: format!("application-{index}-{number}"),
        version: "1.0".into(),
        publisher: "x".repeat(200),
    };
    ToServer::Part(Box::new(Part {
        section: Section::Inventory,
        revision: 1,
        digest: Digest(5),
        base: None,
        index,
        is_last: false,
        content: PartContent { added: (0..100).map(application).collect(), ..PartContent::default() },
    }))
}

fn sync(server_epoch: Epoch, revision: Option<u64>) -> ToServer<'static> {
    let section = |revision| NamedSection {
        section: Section::Inventory.number(),
        digest: Digest(5),
        revision,
        confirmed_revision: None,
    };
    ToServer::Sync(Sync {
        agent_epoch: Epoch(1),
        server_epoch,
        reason: SyncReason::Started,
        clock: WallTime(1),
        sections: revision.map(section).into_iter().collect(),
        reach: None,
    })
}

pub(crate) fn uploads(scene: &Scene) {
    let begun = Instant::now();
    let mut connections: Vec<(Connection, u32)> = Vec::new();
    while begun.elapsed() < LASTS {
        if connections.len() < 30
            && let Ok(mut connection) = Connection::try_open(scene.server.address, &scene.hostile.tls)
        {
            connection.send(&sync(Epoch(0), Some(1)));
            let _ = connection.read_once();
            connections.push((connection, 0));
        }
        connections.retain_mut(|(connection, index)| {
            let mut frame = Vec::new();
            part(*index).write_to(&mut frame);
            *index += 1;
            connection.push(&frame)
        });
    }
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
    let epoch = || match scene.hostile().ask(&sync(Epoch(0), None)) {
        Ok(ToAgent::InSync(answer)) => answer.server_epoch,
        other => panic!("{other:?}"),
    };
    let before = epoch();
    for round in 0..200 {
        let _ = scene.hostile().ask(&sync(Epoch(1 << 40), Some(u64::from(u32::MAX) + round)));
    }
    assert!(epoch().0 <= before.0 + 1, "it changes once a start at most: {} became {}", before.0, epoch().0);
}

pub(crate) fn undecodable(scene: &Scene) {
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
