//! Fleets in Chromium: a task that a real agent executes, a device that is lost, one that waits, people who
//! may less, and the picture of the README.

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;

use crate::browser::{Scene, browse, can_browse, free_port};
use crate::kit::{Connection, Device, Fixture, Site, event, eventually, now, sync};
use muster::client::{Address, Client};
use muster::machine::command::{SectionChange, SectionUpdate};
use muster::store::{GroupChange, NewToken};
use muster::wire::api::NewApiToken;
use muster::wire::digest::Digest;
use muster::wire::event::Severity;
use muster::wire::id::{DeviceId, Epoch};
use muster::wire::message::{Sync, ToAgent, ToServer};
use muster::wire::role::Role;
use muster::wire::section::{ApplicationCondition, Condition, HostFacts, Section};
use muster::wire::time::WallTime;
use muster::wire::token::JoinToken;

#[test]
fn a_task_on_a_filter_is_watched_to_its_end_in_a_browser() {
    if !can_browse() {
        return;
    }
    let site = Site::new();
    let port = free_port();
    let configuration = site.write("musterd.toml", format!("[admin]\nlisten = \"{port}\"\n"));
    let script =
        "echo \"progress: 40 $2 times\"\nwhile [ ! -e $1/go ]; do sleep 0.05; done\necho the end of it";
    let schema =
        "{ type = \"object\", properties = { times = { type = \"integer\" } }, required = [\"times\"] }";
    site.offer_work(script, &format!("{:?}, \"{{times}}\"", site.directory.path()), schema, "");
    let _server = site.server_with(&["--config", &configuration], &[]);
    site.enrol();
    site.configure("");
    let _agent = site.agent_process();
    eventually("the device has said what it offers", || site.shown()["host"]["hostname"].is_string());
    let made = site.ctl_json(&["api-token", "create", "anna", "--role", "administrator"]);
    eventually("the port opens", || TcpStream::connect(port).is_ok());
    browse("task", port, made["token"].as_str().unwrap(), None, |line| {
        assert_eq!(line, "go");
        site.write("go", "");
    });
}

#[test]
fn a_lost_device_is_found_one_that_waits_is_let_in_and_a_reader_sees_no_more_than_is_theirs() {
    if !can_browse() {
        return;
    }
    let mut scene = Scene::new();
    let token = |more: &[&str]| -> JoinToken {
        let made = scene.server().ctl(&[&["token", "create", "--group", "/shops"], more].concat());
        made["token"].as_str().unwrap().parse().unwrap()
    };
    // One whose link is to stay is lost as soon as any can be.
    scene.server().run_ctl(&["group", "create", "/shops", "--interval", "10s", "--keep-connected", "on"]);
    let kiosk = Device::enrol(scene.server(), &token(&[]), "kiosk-17").unwrap();
    let mut link = kiosk.connect(scene.server());
    link.sync_inventory(3);
    link.send_copies(Epoch(7), 1..=1, &event(Severity::Error, "the paper is out"));
    link.wait_for_ack(1);
    drop(link);
    let office = scene.server().enrol("office-1");
    let mut link = office.connect(scene.server());
    link.send_copies(Epoch(7), 1..=1, &event(Severity::Error, "the door of the office is open"));
    link.wait_for_ack(1);
    Device::enrol(scene.server(), &token(&["--approval"]), "kiosk-18").unwrap();
    scene.server().run_ctl(&["group", "create", "/offices"]);
    scene.server().run_ctl(&["device", "set", "office-1", "--group", "/offices"]);
    let reader = scene.server().ctl(&["api-token", "create", "ben", "--role", "reader", "--group", "/shops"]);
    scene.browse("fleet", |_, line| panic!("{line}"));
    reader["token"].as_str().unwrap().clone_into(&mut scene.token);
    scene.browse("reader", |_, line| panic!("{line}"));
}

/// Places of the fleet in the picture, the system of their devices, and how many there are.
const PLACES: [(&str, &str, &str, usize); 6] = [
    ("/shops/berlin", "kiosk-berlin", "Debian GNU/Linux 12 (bookworm)", 14),
    ("/shops/hamburg", "kiosk-hamburg", "Debian GNU/Linux 12 (bookworm)", 11),
    ("/shops/vienna", "kiosk-vienna", "Debian GNU/Linux 13 (trixie)", 9),
    ("/signage/stations", "sign", "Alpine Linux v3.20", 16),
    ("/gateways", "gateway", "Ubuntu 24.04.3 LTS", 6),
    ("/cold-store", "freezer", "Alpine Linux v3.20", 4),
];

/// A server that has a fleet as it might be somewhere.
struct Picture {
    fixture: Fixture,
    port: SocketAddr,
    links: Vec<Connection>,
    _backups: tempfile::TempDir,
}

impl Picture {
    fn new() -> Self {
        let port = free_port();
        let backups = tempfile::tempdir().unwrap();
        let fixture = Fixture::start_with(|config| {
            config.admin.listen = Some(port);
            config.backup.directory = Some(backups.path().to_owned());
        });
        let mut picture = Self { fixture, port, links: Vec::new(), _backups: backups };
        for (group, name, system, number) in PLACES {
            let stays = GroupChange { keep_connected: Some(Some(true)), ..GroupChange::default() };
            picture.fixture.server.store().devices().set_group(group, stays).unwrap();
            let uses_max = u32::try_from(number).unwrap();
            for at in 1..=number {
                let token = picture.token(group, uses_max, false);
                picture.device(&token, &format!("{name}-{at:02}"), system, at % 13 != 9);
            }
        }
        let token = picture.token("/shops/vienna", 1, true);
        Device::enrol(&picture.fixture, &token, "kiosk-vienna-10").unwrap();
        picture
    }

    fn token(&self, group: &str, uses_max: u32, approval: bool) -> JoinToken {
        let (created_at, expires_at) = (now(), WallTime(now().0 + 3_600_000));
        let new = NewToken {
            group: group.into(),
            created_at,
            expires_at,
            uses_max,
            approval,
            ..NewToken::default()
        };
        let made = self.fixture.server.store().devices().create_token(new).unwrap();
        let server_certificate = self.fixture.server.certificate();
        JoinToken { id: made.token.id, secret: made.secret, server_certificate }
    }

    fn device(&mut self, token: &JoinToken, name: &str, system: &str, stays: bool) {
        let device = Device::enrol(&self.fixture, token, name).unwrap();
        let facts = HostFacts {
            os_id: system.split(' ').next().unwrap().to_lowercase(),
            os_name: system.into(),
            hostname: name.into(),
            kernel: "Linux 6.12.57".into(),
            architecture: "x86_64".into(),
            ..HostFacts::default()
        };
        self.apply(device.id, Section::Host, SectionChange::Host(facts));
        let is_failed = matches!(name, "kiosk-hamburg-07" | "freezer-03");
        let condition = ApplicationCondition {
            application: name.split('-').next().unwrap().into(),
            condition: if is_failed { Condition::Failed } else { Condition::Running },
            since: now(),
            version: "4.2.1".into(),
            detail: if is_failed { "exit code 3, restarted 5 times" } else { "" }.into(),
            settings: None,
        };
        self.apply(device.id, Section::Conditions, SectionChange::Conditions(vec![condition]));
        let mut link = device.connect(&self.fixture);
        let message = ToServer::Sync(Sync { clock: now(), ..sync(Epoch(0), None) });
        assert!(matches!(link.ask(&message), Ok(ToAgent::InSync(_))));
        if stays {
            self.links.push(link);
        }
    }

    fn apply(&self, device: DeviceId, section: Section, change: SectionChange) {
        let (agent_epoch, revision, base, digest) = (Epoch(1), 1, None, Digest(device.0));
        let update = SectionUpdate { device, section, agent_epoch, revision, digest, base, change };
        let (done, is_done) = mpsc::channel();
        self.fixture.server.store().inventory().apply(update, move |outcome| done.send(outcome).unwrap());
        is_done.recv().unwrap();
    }
}

#[test]
fn a_fleet_as_it_might_be_is_shown_at_once_and_is_the_picture_of_the_readme() {
    if !can_browse() {
        return;
    }
    let picture = Picture::new();
    let anna = api_token(&picture.fixture.directory.path().join("admin.sock"));
    eventually("the port opens", || TcpStream::connect(picture.port).is_ok());
    browse("picture", picture.port, &anna, None, |line| panic!("{line}"));
}

/// An API token for everything.
fn api_token(socket: &std::path::Path) -> String {
    let mut client = Client::new(Address::Socket(socket.to_owned())).unwrap();
    let new = NewApiToken { name: "anna".into(), role: Role::Administrator, group: None, ttl_seconds: None };
    client.create_api_token(&new).unwrap().token
}
