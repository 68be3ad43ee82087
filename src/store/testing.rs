//! A fleet in a temporary directory, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::query::{self, ApplicationFilter, DeviceKey, DeviceRow, FleetCounts, Page, PageRequest};
use super::{
    CreatedToken, DeviceCertificate, DeviceChange, EnrolledDevice, Enrolment, Moment, NewToken, Store,
    StoreError,
};
use crate::machine::command::{SectionChange, SectionOutcome, SectionUpdate};
use crate::wire::api::InstalledApplication;
use crate::wire::digest::Digest;
use crate::wire::id::{CertificateHash, DeviceId, Epoch};
use crate::wire::inventory::{self, Application, InventoryChange};
use crate::wire::section::{self, ApplicationCondition, Condition, HostFacts, Section};
use crate::wire::time::WallTime;

pub(super) struct Fleet {
    pub(super) store: Store,
    pub(super) devices: Vec<DeviceId>,
    pub(super) directory: tempfile::TempDir,
}

pub(super) fn application(number: u32) -> Application {
    Application {
        name: format!("package-{number:04}"),
        version: format!("1.{}-1", number % 7),
        publisher: "Somebody <somebody@example.org>".into(),
    }
}

/// Copies the log back into the file and empties it. The store's own checkpoint may be at work meanwhile, and
/// keeps another one out without a wait (<https://www.sqlite.org/c3ref/wal_checkpoint_v2.html>).
pub(super) fn empty_log(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let is_kept_out =
        || connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0)).unwrap();
    while is_kept_out() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for what a completion is told.
pub(crate) fn wait<T: Send + 'static>(submit: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> T {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    submit(Box::new(move |value| sender.send(value).unwrap()));
    receiver.recv().unwrap()
}

pub(super) fn token(store: &Store, uses_max: u32) -> CreatedToken {
    let new = NewToken {
        group: "/".into(),
        created_at: WallTime(1_000),
        expires_at: WallTime(2_000),
        uses_max,
        ..NewToken::default()
    };
    store.devices().create_token(new).unwrap()
}

pub(crate) fn enrolment(token: &CreatedToken, device: DeviceId, name: &str) -> Enrolment {
    Enrolment {
        token: token.token.id,
        secret: token.secret,
        device,
        name: name.into(),
        certificate: DeviceCertificate::first(CertificateHash::of(&device.0.to_be_bytes())),
        now: WallTime(1_500),
    }
}

/// Enters `devices` devices, called `device`, `device-2` and so on.
pub(crate) fn enrol_all(store: &Store, devices: u32) -> Vec<DeviceId> {
    let token = token(store, devices.max(1));
    let devices = (1..=u64::from(devices)).map(|id| DeviceId(id << 33)).collect::<Vec<_>>();
    for device in &devices {
        wait(|done| store.devices().enrol(enrolment(&token, *device, "device"), done)).unwrap();
    }
    devices
}

fn update(device: DeviceId, revision: u64, digest: Digest, change: SectionChange) -> SectionUpdate {
    let section = match change {
        SectionChange::Inventory(_) => Section::Inventory,
        SectionChange::Host(_) => Section::Host,
        SectionChange::Conditions(_) => Section::Conditions,
    };
    SectionUpdate { device, section, agent_epoch: Epoch(3), revision, digest, base: None, change }
}

/// A device has other applications than before.
pub(crate) fn inventory(
    device: DeviceId,
    revision: u64,
    old: Option<&[Application]>,
    new: &[Application],
) -> SectionUpdate {
    let change = SectionChange::Inventory(InventoryChange::between(old.unwrap_or_default(), new));
    let base = old.map(inventory::digest_of);
    SectionUpdate { base, ..update(device, revision, inventory::digest_of(new), change) }
}

pub(crate) fn host(device: DeviceId, facts: HostFacts) -> SectionUpdate {
    update(device, 1, section::digest_of(&facts), SectionChange::Host(facts))
}

pub(crate) fn conditions(
    device: DeviceId,
    revision: u64,
    conditions: Vec<ApplicationCondition>,
) -> SectionUpdate {
    update(device, revision, section::digest_of(&conditions), SectionChange::Conditions(conditions))
}

pub(crate) fn condition(application: &str, condition: Condition) -> ApplicationCondition {
    ApplicationCondition {
        application: application.into(),
        condition,
        since: WallTime(4),
        version: "1".into(),
        detail: "exit code 1".into(),
        settings: None,
    }
}

pub(super) fn into(group: &str) -> DeviceChange {
    DeviceChange { group: Some(group.into()), ..DeviceChange::default() }
}

/// Every page of a list, of `limit` items each.
pub(super) fn pages<T>(limit: usize, read: impl Fn(&PageRequest) -> Result<Page<T>, StoreError>) -> Vec<T> {
    let (mut items, mut cursor) = (Vec::new(), None);
    loop {
        let page = read(&PageRequest { limit, cursor }).unwrap();
        assert!(page.items.len() <= limit);
        items.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return items;
        }
    }
}

pub(super) fn all() -> PageRequest {
    PageRequest { limit: 1_000, cursor: None }
}

impl Deref for Fleet {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Fleet {
    /// A page of the devices that a filter lets through, in an order.
    pub(super) fn page(
        &self,
        filter: &str,
        sort: &str,
        page: &PageRequest,
    ) -> Result<Page<DeviceRow>, StoreError> {
        let moment = Moment { now: WallTime(1_000_000_000), present_since: WallTime(0) };
        self.selection().page(&filter.parse().unwrap(), sort.parse().unwrap(), moment, page)
    }

    /// The names of all devices that a filter lets through.
    pub(super) fn names(&self, filter: &str) -> Vec<String> {
        let rows = self.page(filter, "name", &all()).unwrap().items;
        rows.into_iter().map(|row| row.name).collect()
    }

    /// A fleet of devices that are called `device`, `device-2` and so on.
    pub(super) fn new(devices: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let devices = enrol_all(&store, devices);
        Self { store, devices, directory }
    }

    pub(super) fn enrol(
        &self,
        token: &CreatedToken,
        device: DeviceId,
        name: &str,
    ) -> Result<EnrolledDevice, StoreError> {
        wait(|done| self.devices().enrol(enrolment(token, device, name), done))
    }

    pub(super) fn reopen(&mut self) {
        let nowhere = tempfile::tempdir().unwrap();
        self.store = Store::open(nowhere.path()).unwrap();
        self.store = Store::open(self.directory.path()).unwrap();
    }

    pub(super) fn apply(&self, update: SectionUpdate) -> SectionOutcome {
        wait(|done| self.inventory().apply(update, done))
    }

    pub(super) fn store(&self, update: SectionUpdate) {
        let outcome = self.apply(update);
        assert!(matches!(outcome, SectionOutcome::Stored(_)), "{outcome:?}");
    }

    pub(super) fn inventory_of(&self, device: DeviceId) -> Vec<Application> {
        let reader = self.reader().unwrap();
        let filter =
            ApplicationFilter { device: Some(DeviceKey::Id(device)), ..ApplicationFilter::default() };
        let page = query::applications(&reader, &filter, &all()).unwrap();
        page.items.into_iter().map(application_of).collect()
    }

    pub(super) fn counts(&self) -> FleetCounts {
        query::counts(&self.reader().unwrap()).unwrap()
    }

    /// Waits for what happens in the background; each round of the writer gives it a turn.
    pub(super) fn wait_until(&self, is_so: impl Fn(&FleetCounts) -> bool) {
        for round in 0..1_000_u32 {
            if is_so(&self.counts()) {
                return;
            }
            self.set_meta("round", &round.to_be_bytes()).unwrap();
        }
        panic!("it did not come to that: {:?}", self.counts());
    }

    /// Which application is on how many devices, and on which: by the store's counts, by its inverse, and by
    /// the model.
    pub(super) fn check_counts(&self, model: &BTreeMap<DeviceId, BTreeSet<Application>>) {
        let mut expected: BTreeMap<Application, BTreeSet<DeviceId>> = BTreeMap::new();
        for (device, set) in model {
            for application in set {
                expected.entry(application.clone()).or_default().insert(*device);
            }
        }
        let reader = self.reader().unwrap();
        let listed = query::applications(&reader, &ApplicationFilter::default(), &all()).unwrap().items;
        let listed: BTreeMap<_, _> =
            listed.into_iter().map(|row| (application_of(row.clone()), row.devices)).collect();
        let counts: BTreeMap<_, _> =
            expected.iter().map(|(key, devices)| (key.clone(), devices.len() as u64)).collect();
        assert_eq!(listed, counts);
        for (application, devices) in expected {
            let filter =
                ApplicationFilter { name: Some(application.name.clone()), ..ApplicationFilter::default() };
            let found = query::installations(&reader, &filter, &all()).unwrap().items;
            let found: BTreeSet<DeviceId> = found.into_iter().map(|row| row.device_id).collect();
            assert_eq!(found, devices, "{application:?}");
        }
    }
}

fn application_of(row: InstalledApplication) -> Application {
    Application { name: row.name, version: row.version, publisher: row.publisher }
}
