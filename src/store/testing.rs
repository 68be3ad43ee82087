//! A fleet in a temporary directory, for tests.

use std::collections::{BTreeMap, BTreeSet};

use super::query::{self, ApplicationFilter, DeviceKey, FleetCounts, PageRequest};
use super::{CreatedToken, Enrolment, NewToken, Store};
use crate::machine::command::{SectionOutcome, SectionUpdate};
use crate::wire::api::InstalledApplication;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::inventory::Application;
use crate::wire::time::WallTime;

pub(super) struct Fleet {
    pub(super) store: Store,
    pub(super) devices: Vec<DeviceId>,
    pub(super) directory: tempfile::TempDir,
}

/// An application that a number stands for.
pub(super) fn application(number: u32) -> Application {
    Application {
        name: format!("package-{number:04}"),
        version: format!("1.{}-1", number % 7),
        publisher: "Somebody <somebody@example.org>".into(),
    }
}

/// Waits for what a completion is told.
pub(super) fn wait<T: Send + 'static>(submit: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> T {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    submit(Box::new(move |value| sender.send(value).unwrap()));
    receiver.recv().unwrap()
}

pub(super) fn token(store: &Store, uses_max: u32) -> CreatedToken {
    let new =
        NewToken { group: "/".into(), created_at: WallTime(1_000), expires_at: WallTime(2_000), uses_max };
    store.devices().create_token(new).unwrap()
}

pub(super) fn enrolment(token: &CreatedToken, device: DeviceId, name: &str) -> Enrolment {
    Enrolment {
        token: token.token.id,
        secret: token.secret,
        device,
        name: name.into(),
        certificate: CertificateHash::of(&device.0.to_be_bytes()),
        expires_at: None,
        now: WallTime(1_500),
    }
}

pub(super) fn all() -> PageRequest {
    PageRequest { limit: 1_000, cursor: None }
}

impl Fleet {
    /// A fleet of devices that are called `device`, `device-2` and so on.
    pub(super) fn new(devices: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let token = token(&store, devices.max(1));
        let devices = (1..=u64::from(devices)).map(|id| DeviceId(id << 33)).collect::<Vec<_>>();
        for device in &devices {
            wait(|done| store.devices().enrol(enrolment(&token, *device, "device"), done)).unwrap();
        }
        Self { store, devices, directory }
    }

    pub(super) fn reopen(&mut self) {
        let nowhere = tempfile::tempdir().unwrap();
        self.store = Store::open(nowhere.path()).unwrap();
        self.store = Store::open(self.directory.path()).unwrap();
    }

    pub(super) fn apply(&self, update: SectionUpdate) -> SectionOutcome {
        wait(|done| self.store.inventory().apply(update, done))
    }

    pub(super) fn inventory_of(&self, device: DeviceId) -> Vec<Application> {
        let reader = self.store.reader().unwrap();
        let filter =
            ApplicationFilter { device: Some(DeviceKey::Id(device)), ..ApplicationFilter::default() };
        let page = query::applications(&reader, &filter, &all()).unwrap();
        page.items.into_iter().map(application_of).collect()
    }

    pub(super) fn counts(&self) -> FleetCounts {
        query::counts(&self.store.reader().unwrap()).unwrap()
    }

    /// Waits for what happens in the background; each round of the writer gives it a turn.
    pub(super) fn wait_until(&self, is_so: impl Fn(&FleetCounts) -> bool) {
        for round in 0..1_000_u32 {
            if is_so(&self.counts()) {
                return;
            }
            self.store.set_meta("round", &round.to_be_bytes()).unwrap();
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
        let reader = self.store.reader().unwrap();
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
