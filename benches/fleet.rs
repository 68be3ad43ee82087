//! A managed fleet in the store: how large it is on disk, and how fast administration and the scheduler are
//! answered.
//!
//! 10,000 devices with 200 applications each (50 kinds of device, each device differs from its kind in four),
//! five managed applications with policies, 20 tasks that ran everywhere, and a day of twelve numbers of each
//! device. `cargo bench --bench fleet` prints a table. `MUSTER_BENCH_DEVICES` sets another number; run as a
//! test it takes 300.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a bench that can't go on panics; its numbers are small"
)]

mod shape;
mod tasks;

use std::path::Path;
use std::sync::atomic::Ordering;

use muster::client::{Address, Client};
use muster::fleet::ring::Ring;
use muster::fleet::status::judge;
use muster::machine::command::{SectionChange, StatisticsOutcome};
use muster::server::Server;
use muster::server::config::Config;
use muster::store::query::{self, ApplicationFilter, PageRequest, RunFilter, TaskFilter};
use muster::store::{Author, FILE_NAME, NewSettings, Store, Verdict};
use muster::wire::api::{ApplicationQuery, DeviceQuery, TaskDefinition, TaskTargets};
use muster::wire::artifact::ArtifactUse;
use muster::wire::digest::Digest;
use muster::wire::id::TaskId;
use muster::wire::inventory::{Application, InventoryChange, digest_of};
use muster::wire::run_state::RunState;
use muster::wire::section::{self, ApplicationCondition, Condition, HostFacts, Section};
use muster::wire::settings::{Declaration, SettingsReport, SettingsState, TaskKind};
use muster::wire::statistics::{Number, Statistic, Statistics};
use muster::wire::time::WallTime;
use rusqlite::{Connection, params};
use shape::{APPLICATIONS, apply, device, file_bytes, for_all, latency, spread, update};

const GROUPS: u64 = 5;
const TASKS: u64 = 20;
const MANAGED: [&str; 5] = ["muster-agent", "nginx", "kiosk", "cups", "openvpn"];
const NOW: WallTime = WallTime(1_795_514_400_000);
const HOUR: u64 = 3_600_000;
const QUARTER: u64 = HOUR / 4;

fn application(number: u64) -> Application {
    let name = match number {
        0 => "openssl".into(),
        1 => "openssl-provider-legacy".into(),
        1_000..2_000 if number.is_multiple_of(40) => format!("openssl-tools-{number}"),
        _ => format!("package-{number:06}"),
    };
    let version = format!("3.0.{}-1~deb12u{}", number % 20, number % 3);
    Application { name, version, publisher: "Debian Maintainers <maintainers@example.org>".into() }
}

fn inventory(number: u64) -> Vec<Application> {
    let mut applications: Vec<_> = shape::applications(number, 0).into_iter().map(application).collect();
    applications.sort();
    applications
}

/// Every device takes settings for the managed applications, and rotates their logs.
fn declarations() -> Vec<Declaration> {
    let of = |application: &&str| Declaration {
        application: (*application).into(),
        takes_settings: true,
        settings_schema: String::new(),
        kinds: vec![TaskKind {
            kind: "rotate-logs".into(),
            schema: r#"{"properties": {"keep": {"type": "integer"}}}"#.into(),
            timeout_seconds: 600,
            is_repeatable: false,
            artifact: ArtifactUse::None,
        }],
    };
    MANAGED.iter().map(of).collect()
}

fn conditions(number: u64) -> Vec<ApplicationCondition> {
    let of = |(at, application): (usize, &&str)| {
        let is_bad = number.is_multiple_of(50) && at == 1;
        ApplicationCondition {
            application: (*application).into(),
            condition: if is_bad { Condition::Failed } else { Condition::Running },
            since: WallTime(NOW.0 - 5 * HOUR - number),
            version: "1.22.1-9+deb12u2".into(),
            detail: if is_bad { "the unit failed with exit code 1".into() } else { String::new() },
            settings: Some(SettingsReport {
                revision: 40,
                digest: Digest(spread(number, at as u64)),
                state: if number.is_multiple_of(30) && at == 2 {
                    SettingsState::Failed
                } else {
                    SettingsState::Applied
                },
                applied_revision: 40,
                since: WallTime(NOW.0 - 4 * HOUR),
                detail: String::new(),
            }),
        }
    };
    MANAGED.iter().enumerate().map(of).collect()
}

/// An application's numbers: name, unit, value.
type Numbers = (&'static str, Vec<(&'static str, &'static str, f64)>);

/// Numbers as they are: some do not change, some wander, some are noise.
fn statistics(number: u64, quarter: u64) -> [Numbers; 2] {
    let noise = (spread(number * 97 + quarter, 5) % 1_000) as f64;
    let agent = vec![
        ("disk_free_bytes", "bytes", 2e10 - noise * 4_096.0),
        ("disk_free_percent", "percent", if number.is_multiple_of(40) { 8.0 } else { 63.0 }),
        ("load_1", "", noise / 250.0),
        ("memory_available_bytes", "bytes", 1e9 + noise * 65_536.0),
        ("spool_bytes", "bytes", 65_536.0),
        ("uptime_seconds", "seconds", (quarter * 900) as f64),
    ];
    let nginx = vec![
        ("active", "", (noise / 10.0).floor()),
        ("errors", "1/s", 0.0),
        ("reading", "", 0.0),
        ("requests", "requests/s", noise / 7.0),
        ("waiting", "", (noise / 50.0).floor()),
        ("writing", "", 1.0),
    ];
    [("muster-agent", agent), ("nginx", nginx)]
}

fn enrol(store: &Store, devices: u64) {
    let tokens: Vec<_> =
        (0..GROUPS).map(|group| shape::token(store, &format!("/shops/region-{group}"))).collect();
    let times = (WallTime(NOW.0 - 500 * HOUR), Some(WallTime(NOW.0 + 3_650 * 24 * HOUR)));
    for_all(store, devices, 1, |number, done| {
        let token = &tokens[(number % GROUPS) as usize];
        shape::enrol(store, token, number, times, done);
    });
}

fn sections(store: &Store, devices: u64) {
    for_all(store, devices, 1, |number, done| {
        let set = inventory(number);
        let change = SectionChange::Inventory(InventoryChange::between(&[], &set));
        apply(store, update(number, Section::Inventory, digest_of(&set), change), done);
    });
    for_all(store, devices, 1, |number, done| {
        let facts = HostFacts {
            os_id: "debian".into(),
            os_name: "Debian GNU/Linux 12 (bookworm)".into(),
            os_version: "12".into(),
            kernel: "Linux 6.1.0-32-amd64".into(),
            architecture: "x86_64".into(),
            hostname: format!("kiosk-{number}.region-{}.example.org", number % GROUPS),
            addresses: vec![format!("10.{}.{}.7", number / 250, number % 250)],
            boot_id: format!("{:016x}-{number}", spread(number, 6)),
            agent_version: "0.1.0".into(),
            declarations: declarations(),
        };
        let digest = section::digest_of(&facts);
        apply(store, update(number, Section::Host, digest, SectionChange::Host(facts)), done);
    });
    for_all(store, devices, 1, |number, done| {
        let conditions = conditions(number);
        let digest = section::digest_of(&conditions);
        apply(
            store,
            update(number, Section::Conditions, digest, SectionChange::Conditions(conditions)),
            done,
        );
    });
}

/// Rows that policies, tasks and a day of reports leave in the file, as they would stand there.
fn history(path: &Path, devices: u64) {
    let mut connection = Connection::open(path).unwrap();
    let transaction = connection.transaction().unwrap();
    for group in 2..2 + GROUPS {
        for (at, application) in MANAGED.iter().enumerate() {
            let settings =
                format!(r#"{{"workers":4,"log":{{"level":"info"}},"upstream":"region-{group}-{at}"}}"#);
            let sql = "INSERT INTO policies (group_id, application, settings, locks, revision, changed_at)
                VALUES (?1, ?2, ?3, '[]', 40, ?4)";
            transaction
                .execute(
                    sql,
                    params![group.cast_signed(), application, settings, (NOW.0 - 9 * HOUR).cast_signed()],
                )
                .unwrap();
        }
    }
    for number in 0..devices {
        let sql = "INSERT OR REPLACE INTO desired_settings (device, application, digest, revision) VALUES (?1, ?2, ?3, 40)";
        let mut statement = transaction.prepare_cached(sql).unwrap();
        for (at, application) in MANAGED.iter().enumerate() {
            let digest = spread(number, at as u64).cast_signed();
            statement.execute(params![number.cast_signed() + 1, application, digest]).unwrap();
        }
    }
    for task in 1..=TASKS {
        let sql = "INSERT INTO tasks (number, id, application, kind, settings, definition, state, created_at, due_at, ended_at)
            VALUES (?1, ?2, 'nginx', 'rotate-logs', '{\"keep\":7}', ?4, 'done', ?3, ?3, ?3)";
        let definition = serde_json::to_string(&TaskDefinition::new(TaskTargets::All)).unwrap();
        let due_at = (NOW.0 - task * HOUR).cast_signed();
        transaction.execute(sql, params![task.cast_signed(), task_id(task), due_at, definition]).unwrap();
        let sql = "INSERT INTO runs (id, task, device, due_at, state, changed_at, not_before, expires_at, begin_by, released_at,
                began_at, serial, exit_code, message)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?4, ?4 + 86400000, ?4 + 86400000, ?4 + 1000, ?4 + 3000, 3, ?7, ?8)";
        let mut statement = transaction.prepare_cached(sql).unwrap();
        for number in 0..devices {
            let id = spread(task * 1_000_003 + number, 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).cast_signed();
            let is_failed = (number + task).is_multiple_of(100);
            let (state, code, message) = match is_failed {
                true => ("failed", 1, "logrotate: error: cannot open /var/log/nginx/error.log"),
                false => ("succeeded", 0, ""),
            };
            let device = number.cast_signed() + 1;
            statement
                .execute(params![
                    id,
                    task.cast_signed(),
                    device,
                    due_at,
                    state,
                    due_at + 5_000,
                    code,
                    message
                ])
                .unwrap();
        }
    }
    transaction.commit().unwrap();
}

fn task_id(task: u64) -> i64 {
    spread(task, 7).cast_signed()
}

fn day_of_statistics(path: &Path, devices: u64) {
    let mut connection = Connection::open(path).unwrap();
    let transaction = connection.transaction().unwrap();
    for number in 0..devices {
        let mut rings = [Ring::new(6), Ring::new(6)];
        for quarter in 0..96 {
            let at = WallTime(NOW.0 - (96 - quarter) * QUARTER + (number % 900) * 1_000);
            for (ring, (_, values)) in rings.iter_mut().zip(statistics(number, quarter)) {
                ring.push(at, values.iter().map(|value| value.2 as f32).collect());
            }
        }
        let sql =
            "INSERT INTO statistics (device, application, at, latest, ring) VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut statement = transaction.prepare_cached(sql).unwrap();
        for (ring, (application, values)) in rings.iter().zip(statistics(number, 95)) {
            let latest = serde_json::to_string(&values).unwrap();
            let at = (NOW.0 - QUARTER).cast_signed();
            statement
                .execute(params![number.cast_signed() + 1, application, at, latest, ring.encode(12 * 1_024)])
                .unwrap();
        }
    }
    transaction.commit().unwrap();
}

fn sizes(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT t.tbl_name, (SELECT sum(pgsize) FROM dbstat WHERE name IN
            (SELECT name FROM sqlite_schema s WHERE s.tbl_name = t.tbl_name)) AS bytes
        FROM sqlite_schema t WHERE t.type = 'table' ORDER BY bytes DESC LIMIT 10";
    let Ok(mut statement) = connection.prepare(sql) else { return };
    let mut rows = statement.query([]).unwrap();
    while let Ok(Some(row)) = rows.next() {
        let (name, bytes): (String, Option<i64>) = (row.get(0).unwrap(), row.get(1).unwrap());
        println!("  {name:<64} {:>10.1} MB", bytes.unwrap_or(0) as f64 / 1e6);
    }
}

fn main() {
    let devices = shape::devices(10_000, 300);
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::in_directory(directory.path());
    config.listen = "127.0.0.1:0".parse().unwrap();
    let stores = config.store_directory();
    let socket = config.admin_socket();
    // Makes the identity: without one no store is accepted.
    Server::start(config.clone()).unwrap().drain().unwrap();
    let path = stores.join(FILE_NAME);
    println!(
        "{devices} devices × {APPLICATIONS} applications, {GROUPS} groups with {} policies, {TASKS} tasks\n",
        MANAGED.len()
    );

    let store = Store::open(&stores).unwrap();
    enrol(&store, devices);
    sections(&store, devices);
    drop(store);
    history(&path, devices);
    day_of_statistics(&path, devices);
    let store = Store::open(&stores).unwrap();
    let took = for_all(&store, devices, 1, |number, done| {
        let entries = statistics(number, 96).into_iter().flat_map(|(application, values)| {
            values.into_iter().map(move |(name, unit, value)| Statistic {
                application: application.into(),
                name: name.into(),
                unit: unit.into(),
                value: Number(value),
            })
        });
        let statistics = Statistics { entries: entries.collect() };
        store.inventory().take_statistics(device(number), statistics, NOW, move |outcome| {
            assert_eq!(outcome, StatisticsOutcome::Stored);
            done.fetch_add(1, Ordering::Release);
        });
    });
    let rate = devices as f64 / took.as_secs_f64();
    println!("{:<66} {rate:>10.0} /s", "reports of twelve numbers, durable");
    scheduler(&store, devices);
    change_for_all(&store, devices);
    tasks::task_for_all(&store, devices);
    drop(store);
    println!("{:<66} {:>10.1} MB", "file", file_bytes(&path) as f64 / 1e6);
    sizes(&path);

    let store = Store::open(&stores).unwrap();
    questions(&store);
    drop(store);
    over_http(config, &socket);
}

/// Judges everybody, as the scheduler does in a minute.
fn scheduler(store: &Store, devices: u64) {
    let judge_all = |verdicts: &mut Vec<Verdict>| {
        let (mut after, mut judged) = (None, 0);
        loop {
            let slice = store.devices().facts_behind(after, (devices as usize).div_ceil(60), NOW).unwrap();
            for device in slice.devices {
                let (status, reasons) = judge(&device.facts, &device.rules, NOW);
                judged += 1;
                if status != device.device_status.status || reasons != device.device_status.reasons {
                    verdicts.push(Verdict { device: device.device, status, reasons });
                }
            }
            after = slice.next;
            if after.is_none() {
                return judged;
            }
        }
    };
    let mut verdicts = Vec::new();
    judge_all(&mut verdicts);
    let (told, stored) = std::sync::mpsc::channel();
    store.devices().set_statuses(verdicts, NOW, move |result| told.send(result).unwrap());
    stored.recv().unwrap().unwrap();
    latency("judge every device once (a minute's work of the scheduler)", 5, || judge_all(&mut Vec::new()));
    let some: Vec<_> = (0..devices.min(500)).map(device).collect();
    latency("judge 500 devices of which something is new", 5, || {
        store.devices().facts_of(&some, NOW).unwrap().len()
    });
}

/// A policy of the root: one transaction that works out what every device should have.
fn change_for_all(store: &Store, devices: u64) {
    let mut lines = 0;
    latency("policy set for the whole fleet, every device has other settings", 5, || {
        lines += 1;
        let settings = serde_json::json!({ "receipt": { "lines": lines } });
        let settings = settings.as_object().unwrap().clone();
        let new = NewSettings { settings, ..NewSettings::default() };
        let change =
            store.policies().set("/", "kiosk", new, Author { name: String::new(), at: NOW }).unwrap();
        assert_eq!(change.devices.len() as u64, devices);
        change.devices.len()
    });
}

fn questions(store: &Store) {
    let reader = store.reader().unwrap();
    let page = |limit| PageRequest { limit, cursor: None };
    let filter = ApplicationFilter {
        name: Some("openssl*".into()),
        version: Some("<3.0.14".parse().unwrap()),
        ..ApplicationFilter::default()
    };
    latency("application list --name 'openssl*' --version '<3.0.14'", 21, || {
        query::applications(&reader, &filter, &page(500)).unwrap().items.len()
    });
    latency("the same with --devices, first page of 500", 21, || {
        query::installations(&reader, &filter, &page(500)).unwrap().items.len()
    });
    let task = TaskId(task_id(7).cast_unsigned());
    latency("task show: the task, with its runs counted", 21, || {
        query::task(&reader, task).unwrap().task.runs.iter().map(|count| count.runs as usize).sum()
    });
    let runs = |state| {
        let filter = RunFilter { task: Some(task), device: None, state };
        query::runs(&reader, &filter, &page(500), NOW).unwrap().items.len()
    };
    latency("task show: its runs, first page of 500", 21, || runs(None));
    latency("task show --state failed", 21, || runs(Some(RunState::Failed)));
    latency("task list, every task with its runs counted", 21, || {
        query::tasks(&reader, &TaskFilter::default(), &page(500)).unwrap().items.len()
    });
    latency("devices by status", 21, || {
        let counts = query::status_counts(&reader).unwrap();
        (counts.warning + counts.critical) as usize
    });
}

fn over_http(config: Config, socket: &Path) {
    let server = Server::start(config).unwrap();
    let address: Address = format!("unix:{}", socket.display()).parse().unwrap();
    let mut client = Client::new(address).unwrap();
    for filter in ["", "status:critical"] {
        latency(&format!("over HTTP: device list --where '{filter}', first page of 500"), 21, || {
            let query = DeviceQuery { filter: Some(filter.into()), ..DeviceQuery::default() };
            client.devices(query).next().unwrap().unwrap().len()
        });
    }
    latency("over HTTP: application list --name 'openssl*' --version '<3.0.14'", 21, || {
        let query = ApplicationQuery {
            name: Some("openssl*".into()),
            version: Some("<3.0.14".into()),
            ..ApplicationQuery::default()
        };
        client.applications(query).next().unwrap().unwrap().len()
    });
    latency("over HTTP: device show, with a day of twelve numbers", 21, || {
        client.device("device-000007").unwrap().statistics.len()
    });
    latency("over HTTP: status", 21, || client.status().unwrap().devices.known as usize);
    server.drain().unwrap();
}
