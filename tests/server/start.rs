//! Remains of a server that could not start, and of one that was dropped: none. Each in a process of its own,
//! as threads are counted.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use crate::kit::alone;
use muster::server::Server;
use muster::server::config::Config;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The threads of this process, by number.
fn threads() -> BTreeSet<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|task| task.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn config(data: &Path) -> Config {
    let mut config = Config::in_directory(data);
    config.listen = LOOPBACK;
    config.journal.segment_bytes = 1 << 20;
    config.reactors = Some(2);
    config
}

/// Takes away what was put in the way.
type Undo = Box<dyn FnOnce()>;

type Hinder = fn(&Path, &mut Config) -> Undo;

/// Moves a file or directory of the data away; what stands there instead.
fn in_place_of(data: &Path, name: &str, stand_in: fn(&Path)) -> Undo {
    let (path, kept) = (data.join(name), data.join("kept"));
    fs::rename(&path, &kept).unwrap();
    stand_in(&path);
    Box::new(move || {
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        fs::rename(kept, path).unwrap();
    })
}

/// A piece of the error of each stage of the start, and what is put in its way.
const STAGES: [(&str, Hinder); 8] = [
    ("identity", |data, _| in_place_of(data, "identity/ca-key.pem", |_| {})),
    ("muster.db", |data, _| {
        in_place_of(data, "store", |store| fs::create_dir_all(store.join("muster.db")).unwrap())
    }),
    ("journal", |data, _| in_place_of(data, "journal", |journal| fs::write(journal, "").unwrap())),
    ("listen on", |_, config| {
        let other = TcpListener::bind(LOOPBACK).unwrap();
        config.listen = other.local_addr().unwrap();
        Box::new(|| drop(other))
    }),
    ("UDP", |_, config| {
        let other = UdpSocket::bind(LOOPBACK).unwrap();
        config.udp = Some(other.local_addr().unwrap());
        Box::new(|| drop(other))
    }),
    ("no socket", |data, _| {
        let path = data.join("admin.sock");
        fs::write(&path, "").unwrap();
        Box::new(|| fs::remove_file(path).unwrap())
    }),
    ("admin.socket", |data, config| {
        config.admin.socket = Some(data.join("not-there/admin.sock"));
        Box::new(|| {})
    }),
    ("too long", |data, config| {
        config.admin.socket = Some(data.join("x".repeat(120)));
        Box::new(|| {})
    }),
];

#[test]
fn a_start_that_fails_leaves_nothing_and_the_next_one_works_at_once() {
    if alone::is_elsewhere("start::a_start_that_fails_leaves_nothing_and_the_next_one_works_at_once") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    Server::start(config(data)).unwrap().drain().unwrap();
    for (what, hinder) in STAGES {
        let before = threads();
        let mut hindered = config(data);
        let undo = hinder(data, &mut hindered);
        let error = Server::start(hindered).err().unwrap().to_string();
        assert!(error.contains(what), "{what}: {error}");
        assert_eq!(threads(), before, "{what}: threads are left");
        undo();
        let server = Server::start(config(data));
        server.unwrap_or_else(|error| panic!("after {what}: {error}")).drain().unwrap();
        assert_eq!(threads(), before, "{what}: a drained server leaves threads");
    }
}

#[test]
fn a_server_that_is_dropped_ends() {
    if alone::is_elsewhere("start::a_server_that_is_dropped_ends") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let before = threads();
    let server = Server::start(config(directory.path())).unwrap();
    let address = server.addresses()[0];
    drop(server);
    assert_eq!(threads(), before);
    TcpListener::bind(address).unwrap();
    Server::start(config(directory.path())).unwrap().drain().unwrap();
}
