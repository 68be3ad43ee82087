//! Somebody who may use the administration socket, and uses it without end.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use muster::admin::capacity::{CONNECTIONS_MAX, FOLLOWERS_MAX, UPLOADS_MAX, WAITS_MAX};
use muster::wire::event::Severity;
use muster::wire::id::Epoch;

use super::scene::Scene;
use crate::kit::{Connection, event, eventually};

fn open(scene: &Scene) -> Option<UnixStream> {
    UnixStream::connect(scene.directory.path().join("data/admin.sock")).ok()
}

/// Sends the head of a request, and what is there of its body.
fn ask(scene: &Scene, head: &str, announced: usize, body: &[u8]) -> Option<UnixStream> {
    let mut stream = open(scene)?;
    let head = format!("{head} HTTP/1.1\r\nhost: x\r\ncontent-length: {announced}\r\n\r\n");
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
    Some(stream)
}

/// The number of those that were answered, and of those that were refused because there is no place.
fn served_and_refused(streams: &[UnixStream]) -> (usize, usize) {
    let status = |mut stream: &UnixStream| {
        let mut head = [0; 12];
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        stream.read_exact(&mut head).ok().map(|()| head)
    };
    let heads: Vec<_> = streams.iter().filter_map(status).collect();
    let count = |code: &[u8]| heads.iter().filter(|head| head.ends_with(code)).count();
    (count(b"200"), count(b"503"))
}

/// Connections that stay when they have had their answer.
pub(crate) fn connections(scene: &Scene) {
    let streams: Vec<UnixStream> =
        (0..CONNECTIONS_MAX + 40).filter_map(|_| ask(scene, "GET /v1/status", 0, b"")).collect();
    // The first that finds no place waits for one, and is refused before those that have one lose it.
    std::thread::sleep(Duration::from_secs(6));
    let (served, refused) = served_and_refused(&streams);
    assert!((1..=CONNECTIONS_MAX).contains(&served) && refused > 0, "{served} served, {refused} refused");
}

pub(crate) fn followers(scene: &Scene) {
    let streams: Vec<UnixStream> =
        (0..100).filter_map(|_| ask(scene, "GET /v1/events/follow?from=0", 0, b"")).collect();
    let mut connection = scene.hostile();
    much_happens(&mut connection);
    std::thread::sleep(Duration::from_secs(3));
    let (followed, refused) = served_and_refused(&streams);
    assert!((1..=FOLLOWERS_MAX).contains(&followed) && refused > 0, "{followed} follow, {refused} refused");
}

/// Ten thousand events of a kilobyte.
pub(crate) fn much_happens(connection: &mut Connection) {
    let long = event(Severity::Info, "x".repeat(1_000));
    for batch in 0..200 {
        let first = batch * 50 + 1;
        connection.send_copies(Epoch(3), first..=first + 49, &long);
        assert!(connection.send_all());
    }
}

pub(crate) fn waits(scene: &Scene) {
    let body = br#"{"all":true,"wait":true,"timeout_seconds":3600}"#;
    let streams: Vec<UnixStream> =
        (0..100).filter_map(|_| ask(scene, "POST /v1/syncs", body.len(), body)).collect();
    std::thread::sleep(Duration::from_secs(3));
    let (waiting, refused) = served_and_refused(&streams);
    assert!((1..=WAITS_MAX).contains(&waiting) && refused > 40, "{waiting} wait, {refused} refused");
}

/// Uploads that never end, more of them than there may be, and one after the other that is cut off.
pub(crate) fn artifacts(scene: &Scene) {
    let (head, piece) = ("POST /v1/artifacts?name=x", vec![7; 64 << 10]);
    let streams: Vec<UnixStream> = (0..20).filter_map(|_| ask(scene, head, 1 << 30, &piece)).collect();
    std::thread::sleep(Duration::from_secs(2));
    let (added, refused) = served_and_refused(&streams);
    assert!(added == 0 && refused >= 20 - UPLOADS_MAX, "{added} added, {refused} refused");
    drop(streams);
    for _ in 0..200 {
        let _ = ask(scene, head, 1 << 30, &piece);
    }
    let kept = scene.directory.path().join("data/artifacts");
    eventually("nothing is left", || std::fs::read_dir(&kept).unwrap().next().is_none());
}

/// Bodies far above what is taken, and bodies that never end.
pub(crate) fn bodies(scene: &Scene) {
    let large = vec![b' '; 8 << 20];
    for _ in 0..8 {
        drop(ask(scene, "POST /v1/groups", large.len(), &large));
    }
    let streams: Vec<UnixStream> =
        (0..60).filter_map(|_| ask(scene, "POST /v1/groups", 60_000, &large[..50_000])).collect();
    std::thread::sleep(Duration::from_secs(3));
    drop(streams);
}
