//! The console in Chromium, over TLS, with a real server: `browser.mjs` drives it.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::kit::{Device, Musterd, event, eventually, skipped};
use muster::wire::event::Severity;
use muster::wire::id::Epoch;

/// Places of Chromium.
const CHROMIUM: [&str; 3] =
    ["/usr/bin/chromium", "/usr/bin/chromium-headless-shell", "/usr/lib/chromium/chromium"];

/// Devices of a fleet that fills several pages.
const MANY: usize = 230;

/// Names that try what a page can hold.
const NAMES: [&str; 5] = [
    "kiosk-17",
    "kiosk-18",
    "spare-1",
    "\"><script>alert(1)</script>",
    "a very long name of a device that somebody chose without thinking of narrow screens",
];

/// A server with a port for administrators.
pub(crate) struct Scene {
    directory: tempfile::TempDir,
    port: SocketAddr,
    pub(crate) token: String,
    link: Option<String>,
    server: Option<Musterd>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut scene = Self { directory, port, token: String::new(), link: None, server: None };
        scene.start();
        let made = scene.server().ctl(&["api-token", "create", "anna", "--role", "administrator"]);
        made["token"].as_str().unwrap().clone_into(&mut scene.token);
        eventually("the port opens", || TcpStream::connect(scene.port).is_ok());
        scene
    }

    fn start(&mut self) {
        let configuration = format!("[admin]\nlisten = \"{}\"\n", self.port);
        self.server = Some(Musterd::start(self.directory.path(), &configuration));
    }

    pub(crate) fn server(&self) -> &Musterd {
        self.server.as_ref().unwrap()
    }

    /// Runs a part of the script; what it asks for on its standard output is done by `answer`.
    pub(crate) fn browse(&mut self, part: &str, mut answer: impl FnMut(&mut Self, &str)) {
        let (token, link) = (self.token.clone(), self.link.clone());
        browse(part, self.port, &token, link.as_deref(), |line| answer(self, line));
    }
}

/// A port that is free, for administrators.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Runs a part of the script, for somebody with this API token, or who comes by this link.
pub(crate) fn browse(
    part: &str,
    port: SocketAddr,
    token: &str,
    link: Option<&str>,
    mut answer: impl FnMut(&str),
) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console");
    let chromium = CHROMIUM.into_iter().find(|path| Path::new(path).exists()).unwrap();
    let mut node = Command::new("node")
        .arg(here.join("browser.mjs"))
        .arg(part)
        .env("CHROMIUM", chromium)
        .env("CONSOLE", format!("https://{port}"))
        .env("TOKEN", token)
        .envs(link.map(|link| ("LINK", link)))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for line in BufReader::new(node.stdout.take().unwrap()).lines() {
        answer(&line.unwrap());
    }
    assert!(node.wait().unwrap().success(), "{part}: see above");
}

/// Whether a browser can be driven here.
pub(crate) fn can_browse() -> bool {
    let has_node = Command::new("node").arg("--version").output().is_ok_and(|said| said.status.success());
    let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/console/node_modules/playwright-core");
    if !has_node {
        skipped("node is not installed");
    } else if !CHROMIUM.iter().any(|path| Path::new(path).exists()) {
        skipped("chromium is not installed");
    } else if !Path::new(modules).exists() {
        skipped("run 'npm ci' in tests/console");
    } else {
        return true;
    }
    false
}

#[test]
fn every_page_is_usable_at_two_widths_with_no_device_few_and_many() {
    if !can_browse() {
        return;
    }
    let mut scene = Scene::new();
    scene.browse("empty", |_, line| panic!("{line}"));
    for (number, name) in NAMES.into_iter().enumerate() {
        let device = Device::enrol(scene.server(), &scene.server().token(1), name).unwrap();
        let mut connection = device.connect(scene.server());
        connection.sync_inventory(3);
        let severity = Severity::ALL[number % Severity::ALL.len()];
        connection.send_copies(Epoch(7), 1..=1, &event(severity, format!("{name}: an event")));
        connection.wait_for_ack(1);
    }
    scene.server().run_ctl(&["group", "create", "/shops/berlin", "--interval", "5m"]);
    scene.server().run_ctl(&["device", "set", "kiosk-17", "--group", "/shops/berlin"]);
    scene.server().run_ctl(&["tag", "set", "spare", "--device", "spare-1"]);
    scene.server().run_ctl(&["view", "save", "kiosks", "name:kiosk-*"]);
    scene.browse("few", |_, line| panic!("{line}"));
    scene.server().enrol_many(MANY);
    scene.browse("many", |_, line| panic!("{line}"));
}

#[test]
fn somebody_signs_in_and_out_in_a_browser() {
    if !can_browse() {
        return;
    }
    let mut scene = Scene::new();
    let made = scene.server().ctl(&["user", "create", "anna", "--role", "administrator"]);
    scene.link = made["link"].as_str().map(str::to_owned);
    scene.browse("sign-in", |_, line| panic!("{line}"));
}

/// Has the device deliver its next events.
fn deliver(device: &Device, server: &Musterd, sequences: RangeInclusive<u64>) {
    let mut connection = device.connect(server);
    let last = *sequences.end();
    let event = event(Severity::Error, format!("event number {last}"));
    connection.send_copies(Epoch(7), sequences, &event);
    connection.wait_for_ack(last);
}

#[test]
fn more_tabs_than_connections_follow_the_events_in_a_browser() {
    if !can_browse() {
        return;
    }
    let mut scene = Scene::new();
    let device = Device::enrol(scene.server(), &scene.server().token(1), "kiosk-17").unwrap();
    scene.browse("tabs", |scene, line| match line {
        "event" => deliver(&device, scene.server(), 1..=1),
        "many events" => deliver(&device, scene.server(), 2..=500),
        other => panic!("{other}"),
    });
}

#[test]
fn people_do_their_work_in_a_browser() {
    if !can_browse() {
        return;
    }
    let mut scene = Scene::new();
    let device = Device::enrol(scene.server(), &scene.server().token(1), "kiosk-17").unwrap();
    let mut sequence = 0;
    scene.browse("work", |scene, line| match line {
        "event" => {
            sequence += 1;
            deliver(&device, scene.server(), sequence..=sequence);
        }
        "restart" => {
            scene.server.take().unwrap().stop();
            scene.start();
        }
        other => panic!("{other}"),
    });
}
