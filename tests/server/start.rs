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

/// A stage of the start: what is in its way, and a piece of the error.
struct Stage {
    what: &'static str,
    /// Puts it there; what it returns is held while the server tries.
    hinder: fn(&Path, &mut Config) -> Box<dyn std::any::Any>,
    clear: fn(&Path),
}

fn nothing(_: &Path) {}

const STAGES: [Stage; 8] = [
    Stage {
        what: "identity",
        hinder: |data, _| {
            fs::rename(data.join("identity/ca-key.pem"), data.join("key")).unwrap();
            Box::new(())
        },
        clear: |data| fs::rename(data.join("key"), data.join("identity/ca-key.pem")).unwrap(),
    },
    Stage {
        what: "muster.db",
        hinder: |data, _| {
            fs::rename(data.join("store"), data.join("kept")).unwrap();
            fs::create_dir_all(data.join("store/muster.db")).unwrap();
            Box::new(())
        },
        clear: |data| {
            fs::remove_dir_all(data.join("store")).unwrap();
            fs::rename(data.join("kept"), data.join("store")).unwrap();
        },
    },
    Stage {
        what: "journal",
        hinder: |data, _| {
            fs::rename(data.join("journal"), data.join("kept")).unwrap();
            fs::write(data.join("journal"), "").unwrap();
            Box::new(())
        },
        clear: |data| {
            fs::remove_file(data.join("journal")).unwrap();
            fs::rename(data.join("kept"), data.join("journal")).unwrap();
        },
    },
    Stage {
        what: "listen on",
        hinder: |_, config| {
            let other = TcpListener::bind(LOOPBACK).unwrap();
            config.listen = other.local_addr().unwrap();
            Box::new(other)
        },
        clear: nothing,
    },
    Stage {
        what: "UDP",
        hinder: |_, config| {
            let other = UdpSocket::bind(LOOPBACK).unwrap();
            config.udp = Some(other.local_addr().unwrap());
            Box::new(other)
        },
        clear: nothing,
    },
    Stage {
        what: "no socket",
        hinder: |data, _| {
            fs::write(data.join("admin.sock"), "").unwrap();
            Box::new(())
        },
        clear: |data| fs::remove_file(data.join("admin.sock")).unwrap(),
    },
    Stage {
        what: "admin.socket",
        hinder: |data, config| {
            config.admin.socket = Some(data.join("not-there/admin.sock"));
            Box::new(())
        },
        clear: nothing,
    },
    Stage {
        what: "too long",
        hinder: |data, config| {
            config.admin.socket = Some(data.join("x".repeat(120)));
            Box::new(())
        },
        clear: nothing,
    },
];

#[test]
fn a_start_that_fails_leaves_nothing_and_the_next_one_works_at_once() {
    if alone::is_elsewhere("start::a_start_that_fails_leaves_nothing_and_the_next_one_works_at_once") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    Server::start(config(data)).unwrap().drain().unwrap();
    for Stage { what, hinder, clear } in STAGES {
        let before = threads();
        let mut hindered = config(data);
        let held = hinder(data, &mut hindered);
        let error = Server::start(hindered).err().unwrap().to_string();
        assert!(error.contains(what), "{what}: {error}");
        assert_eq!(threads(), before, "{what}: threads are left");
        clear(data);
        drop(held);
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
