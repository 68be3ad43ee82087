//! Finding devices among many: how fast administration answers over its socket.
//!
//! 100,000 devices with 200 applications and three tags each, in 50 groups, with four systems. `cargo bench
//! --bench selection` prints a table. `MUSTER_BENCH_DEVICES` sets another number; run as a test it takes 300.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a bench that can't go on panics")]

mod shape;

use std::time::Duration;

use muster::client::Client;
use muster::machine::command::SectionChange;
use muster::server::Server;
use muster::server::config::Config;
use muster::store::{FILE_NAME, Store};
use muster::wire::api::{DeviceQuery, FacetQuery};
use muster::wire::inventory::{Application, InventoryChange, digest_of};
use muster::wire::section::{self, HostFacts, Section};
use muster::wire::time::WallTime;
use shape::{APPLICATIONS, apply, device, file_bytes, for_all, latency, update};

const GROUPS: u64 = 50;
const TAGS: u64 = 30;
const TAGS_OF_A_DEVICE: u64 = 3;
const SYSTEMS: [(&str, &str); 4] = [
    ("debian", "Debian GNU/Linux 12 (bookworm)"),
    ("debian", "Debian GNU/Linux 13 (trixie)"),
    ("alpine", "Alpine Linux v3.22"),
    ("ubuntu", "Ubuntu 24.04.3 LTS"),
];

/// Filters of every kind.
const FILTERS: [&str; 9] = [
    "",
    "tag:tag-1 os:debian",
    "-tag:tag-1 -tag:tag-2 group:/shops/7",
    "presence:never_seen status:ok",
    "presence:lost seen:>2h",
    "ice-0099",
    "no-such-name",
    "app:package-000005<2 version:<0.2",
    "app:package-010007",
];

fn fill(store: &Store, devices: u64) {
    let tokens: Vec<_> = (0..GROUPS).map(|group| shape::token(store, &format!("/shops/{group}"))).collect();
    for_all(store, devices, 1, |number, done| {
        shape::enrol(store, &tokens[(number % GROUPS) as usize], number, (WallTime(1_500), None), done);
    });
    for_all(store, devices, 2, |number, done| {
        let of = |number: u64| Application {
            name: format!("package-{number:06}"),
            version: format!("{}.{}.{}-1", number % 5, number % 11, number % 13),
            publisher: "Debian Maintainers <maintainers@example.org>".into(),
        };
        let mut set: Vec<_> = shape::applications(number, 0).into_iter().map(of).collect();
        set.sort();
        let change = InventoryChange::between(&[], &set);
        apply(
            store,
            update(number, Section::Inventory, digest_of(&set), SectionChange::Inventory(change)),
            done,
        );
    });
    for_all(store, devices, 2, |number, done| {
        let (os_id, os_name) = SYSTEMS[(number % 4) as usize];
        let facts = HostFacts {
            os_id: os_id.into(),
            os_name: os_name.into(),
            hostname: format!("host-{number}.region-{}.example.org", number % GROUPS),
            agent_version: format!("0.{}.0", number % 3),
            ..HostFacts::default()
        };
        // Each counts as much as a frame can hold: a thousand of them are all that may wait.
        while store.waiting() > 200 {
            std::thread::sleep(Duration::from_micros(200));
        }
        let digest = section::digest_of(&facts);
        apply(store, update(number, Section::Host, digest, SectionChange::Host(facts)), done);
    });
    for tag in 0..TAGS {
        let has_it = |number: &u64| (0..TAGS_OF_A_DEVICE).any(|at| (number + at * 7) % TAGS == tag);
        let having = (0..devices).filter(has_it).map(device).collect();
        store.selection().tag(&format!("tag-{tag}"), having, false).unwrap();
    }
}

fn main() {
    let devices = shape::devices(100_000, 300);
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::in_directory(directory.path());
    config.listen = "127.0.0.1:0".parse().unwrap();
    let stores = config.store_directory();
    let socket = config.admin_socket();
    // Makes the identity: without one no store is accepted.
    Server::start(config.clone()).unwrap().drain().unwrap();
    fill(&Store::open(&stores).unwrap(), devices);
    let server = Server::start(config).unwrap();
    let megabytes = file_bytes(&stores.join(FILE_NAME)) / 1_000_000;
    println!(
        "{devices} devices × {APPLICATIONS} applications × {TAGS_OF_A_DEVICE} tags: {megabytes} MB on disk\n"
    );
    let mut client = Client::new(format!("unix:{}", socket.display()).parse().unwrap()).unwrap();
    let mut list = |filter: &str, sort: &str| {
        let (filter, sort) = (Some(filter.to_owned()), Some(sort.parse().unwrap()));
        let query = DeviceQuery { filter, sort, limit: Some(100), cursor: None };
        client.devices(query).next().unwrap().unwrap().len()
    };
    latency("the first question of all, which reads the index", 1, || list("", "name"));
    for filter in FILTERS {
        latency(&format!("first page of 100 where '{filter}'"), 21, || list(filter, "name"));
    }
    for sort in ["-name", "group", "-last_seen", "presence"] {
        latency(&format!("first page of 100, sorted by {sort}"), 21, || list("", sort));
    }
    for filter in ["", "tag:tag-1", "os:debian"] {
        latency(&format!("facets where '{filter}', in tags"), 21, || {
            client.facets(&FacetQuery { filter: Some(filter.into()) }).unwrap().tag.len()
        });
    }
    latency("everything, page by page of 500", 5, || {
        client.devices(DeviceQuery::default()).map(|page| page.unwrap().len()).sum()
    });
    latency("everything as CSV, in bytes", 5, || {
        let table = client.device_table(&DeviceQuery::default()).unwrap();
        table.map(|piece| piece.unwrap().len()).sum()
    });
    server.drain().unwrap();
}
