use std::sync::Arc;

use super::*;
use crate::concurrency::counters::Counters;
use crate::journal::{FileStorage, Flusher, Item, Journal, Opened, Options, Position};
use crate::machine::command::{SectionOutcome, StatisticsOutcome};
use crate::machine::record;
use crate::server::renewal::CertificateLife;
use crate::store::query::{self, DeviceKey};
use crate::store::{Enrolment, NewToken, testing};
use crate::wire::event::{Event, Severity};
use crate::wire::id::Epoch;
use crate::wire::section::{ApplicationCondition, Condition};
use crate::wire::statistics::{Number, Statistic, Statistics};
use crate::wire::status::Status;

const NOW: WallTime = WallTime(1_795_514_400_000);
const HOUR: u64 = 3_600_000;

/// A store and a journal in a directory, and the scheduler's part over them.
struct Fixture {
    directory: tempfile::TempDir,
    store: Store,
    journal: Journal,
    flusher: Flusher<FileStorage>,
    statuses: Statuses,
    devices: Vec<DeviceId>,
}

fn at(milliseconds: u64) -> WallTime {
    WallTime(NOW.0 + milliseconds)
}

fn open(directory: tempfile::TempDir, started: WallTime) -> Fixture {
    let store = Store::open(directory.path()).unwrap();
    let storage = FileStorage::open(&directory.path().join("journal")).unwrap();
    let options = Options { segment_bytes: 1 << 20, retention: None, ..Options::server() };
    let Opened { journal, flusher, .. } =
        Journal::open(storage, options, Position(0), started.0, |_| {}).unwrap();
    let announcer = Announcer::new(journal.clone(), Counters::new(), Clock::since(started));
    let statuses = Statuses::new(store.clone(), announcer, Clock::since(started), renewals());
    Fixture { directory, store, journal, flusher, statuses, devices: Vec::new() }
}

/// Certificates are good for a year.
fn renewals() -> Renewals {
    let life = CertificateLife::default();
    life.set(std::time::Duration::from_secs(365 * 86_400));
    Renewals::new(life, Arc::default())
}

impl Fixture {
    fn new(devices: u32) -> Self {
        let mut fixture = open(tempfile::tempdir().unwrap(), NOW);
        fixture.devices = testing::enrol_all(&fixture.store, devices);
        fixture
    }

    /// Ends everything and starts anew.
    fn restart(self, started: WallTime) -> Self {
        let Self { directory, devices, store, journal, flusher, statuses } = self;
        drop((store, journal, flusher, statuses));
        Fixture { devices, ..open(directory, started) }
    }

    fn conditions(&self, device: DeviceId, revision: u64, condition: Condition) {
        let condition = ApplicationCondition { since: NOW, ..testing::condition("nginx", condition) };
        let update = testing::conditions(device, revision, vec![condition]);
        let outcome = testing::wait(|done| self.store.inventory().apply(update, done));
        assert!(matches!(outcome, SectionOutcome::Stored(_)));
    }

    fn step(&mut self, now: WallTime) {
        self.step_by(now, now.into());
    }

    fn step_by(&mut self, now: WallTime, ages: AgeTime) {
        self.statuses.step(now, ages);
        // Behind everything that the step has handed in.
        self.store.set_meta("step", b"").unwrap();
        self.flusher.flush_once().unwrap();
    }

    /// The events that are in the journal, by device.
    fn events(&self) -> Vec<(DeviceId, Event)> {
        let mut events = Vec::new();
        let mut records = self.journal.reader().forward(Position(0));
        while let Some(item) = records.next().unwrap() {
            let Item::Record(found) = item else { panic!("damaged") };
            let (epoch, event) = record::decode(found.record.payload).unwrap();
            assert_eq!(epoch, Epoch(0), "an event of the server's own");
            events.push((DeviceId(found.record.device), Event::from_bytes(event).unwrap()));
        }
        events
    }

    fn shown(&self, device: DeviceId) -> (Status, Vec<String>) {
        let detail = query::device(&self.store.reader().unwrap(), &DeviceKey::Id(device)).unwrap();
        let device_status = detail.row.device_status;
        (device_status.status, device_status.reasons.iter().map(|reason| reason.text(NOW)).collect())
    }
}

#[test]
fn a_change_is_judged_in_the_next_step_said_once_and_shown() {
    let mut fixture = Fixture::new(3);
    let device = fixture.devices[1];
    fixture.step(NOW);
    assert!(fixture.events().is_empty(), "nothing is known against them");
    fixture.conditions(device, 1, Condition::Failed);
    for seconds in 0..3 {
        fixture.step(at(seconds * 1_000 + 10));
    }
    let events = fixture.events();
    assert_eq!(events.len(), 1);
    let (about, event) = &events[0];
    assert_eq!((*about, event.application.as_str(), event.kind.as_str()), (device, "muster", "status"));
    assert_eq!(event.severity, Severity::Critical);
    assert_eq!(event.message, "critical (was ok): nginx failed 0 s ago: exit code 1");
    assert_eq!(fixture.shown(device).0, Status::Critical);
    let record = fixture.store.table().get(device).unwrap();
    assert_eq!((record.status, record.has_news), (Status::Critical, true), "to be written back");

    fixture.conditions(device, 2, Condition::Running);
    fixture.step(at(5_000));
    let events = fixture.events();
    assert_eq!((events.len(), events[1].1.severity), (2, Severity::Info));
    assert_eq!(events[1].1.message, "ok (was critical)");
    assert_eq!(fixture.shown(device), (Status::Ok, vec![]));
}

#[test]
fn a_low_disk_is_a_warning_and_a_lower_one_is_critical() {
    let mut fixture = Fixture::new(1);
    let device = fixture.devices[0];
    for (step, free, status) in [(1, 9.5, Status::Warning), (2, 4.9, Status::Critical), (3, 60.0, Status::Ok)]
    {
        let entries = vec![Statistic {
            application: "muster-agent".into(),
            name: "disk_free_percent".into(),
            unit: "percent".into(),
            value: Number(free),
        }];
        let statistics = Statistics { entries };
        let take = |done| fixture.store.inventory().take_statistics(device, statistics, at(step), done);
        assert_eq!(testing::wait(take), StatisticsOutcome::Stored);
        fixture.step(at(step));
        assert_eq!(fixture.shown(device).0, status);
    }
    let messages: Vec<_> = fixture.events().into_iter().map(|(_, event)| event.message).collect();
    assert_eq!(
        messages,
        ["warning (was ok): disk: 9 % free", "critical (was warning): disk: 4 % free", "ok (was critical)"]
    );
}

#[test]
fn everybody_is_judged_once_a_minute_for_time_alone() {
    let mut fixture = Fixture::new(130);
    let device = fixture.devices[120];
    fixture.store.table().with(device, |record| {
        (record.last_seen, record.last_sync) = (NOW, NOW);
        record.set_due_seconds(900);
    });
    let lost = 2 * HOUR;
    for second in 0..60 {
        fixture.step(at(lost + second * 1_000));
    }
    assert_eq!(fixture.shown(device).0, Status::Warning);
    for second in 0..60 {
        fixture.step(at(lost + 24 * HOUR + second * 1_000));
    }
    let events = fixture.events();
    let told: Vec<_> = events.iter().map(|(about, event)| (*about, event.severity)).collect();
    assert_eq!(told, [(device, Severity::Warning), (device, Severity::Critical)]);
    assert!(
        events[1].1.message.starts_with("critical (was warning): lost for 25 h"),
        "{}",
        events[1].1.message
    );
}

#[test]
fn a_restart_says_nothing_again_and_leaves_a_lost_device_lost() {
    let mut fixture = Fixture::new(2);
    let device = fixture.devices[0];
    fixture.store.table().with(device, |record| {
        (record.last_seen, record.last_sync) = (NOW, NOW);
        record.set_due_seconds(900);
    });
    fixture.step(at(2 * HOUR));
    assert_eq!(fixture.shown(device).0, Status::Warning);
    let record = fixture.store.table().get(device).unwrap();
    testing::wait(|done| fixture.store.devices().record_sequences(vec![record], None, done)).unwrap();
    let before = fixture.events().len();
    let mut fixture = fixture.restart(at(3 * HOUR));
    for second in 0..3 {
        fixture.step(at(3 * HOUR + second * 1_000));
    }
    assert_eq!((fixture.events().len(), fixture.shown(device).0), (before, Status::Warning));
    fixture.store.table().with(device, |record| {
        (record.last_seen, record.last_sync) = (at(3 * HOUR + 4_000), at(3 * HOUR + 4_000));
    });
    for second in 5..8 {
        fixture.step(at(3 * HOUR + second * 1_000));
    }
    assert_eq!(fixture.shown(device), (Status::Ok, vec![]), "it came");
}

#[test]
fn a_step_of_the_clock_makes_nobody_lost_and_leaves_who_is_as_long_as_before() {
    let mut fixture = Fixture::new(2);
    let (lost, well) = (fixture.devices[0], fixture.devices[1]);
    let seen = |fixture: &Fixture, device, at| {
        fixture.store.table().with(device, |record| {
            (record.last_seen, record.last_sync) = (at, at);
            record.set_due_seconds(900);
        });
    };
    let settle = |fixture: &mut Fixture, now: WallTime, ages: AgeTime| {
        for second in 0..3 {
            fixture.step_by(WallTime(now.0 + second * 1_000), ages);
        }
    };
    seen(&fixture, lost, NOW);
    seen(&fixture, well, at(2 * HOUR));
    settle(&mut fixture, at(2 * HOUR), at(2 * HOUR).into());
    let before = (fixture.shown(lost), fixture.events().len());
    assert_eq!((before.0.0, fixture.shown(well).0), (Status::Warning, Status::Ok));

    let step = 200 * 24 * HOUR;
    fixture.store.table().with(lost, |record| {
        record.follow_clock(step.cast_signed(), step.cast_signed(), at(2 * HOUR + step));
    });
    fixture.store.table().with(well, |record| {
        record.follow_clock(step.cast_signed(), step.cast_signed(), at(2 * HOUR + step));
    });
    let doubted = AgeTime { wall: at(2 * HOUR + 60_000), may_expire: false };
    settle(&mut fixture, at(2 * HOUR + step + 60_000), doubted);
    assert_eq!((fixture.shown(lost), fixture.events().len()), before);
    assert_eq!(fixture.shown(well), (Status::Ok, vec![]));
}

#[test]
fn a_status_that_could_not_be_stored_is_stored_later() {
    let mut fixture = Fixture::new(1);
    let device = fixture.devices[0];
    // As if the event had been said and the server had ended before the status was stored.
    fixture.conditions(device, 1, Condition::Stopped);
    fixture.store.table().with(device, |record| record.status = Status::Warning);
    fixture.step(NOW);
    assert!(fixture.events().is_empty());
    assert_eq!(fixture.shown(device).0, Status::Warning);
}

#[test]
fn a_device_waits_for_approval_for_thirty_days_of_a_clock_that_is_believed() {
    let mut fixture = Fixture::new(1);
    let token = NewToken {
        group: "/".into(),
        created_at: NOW,
        expires_at: at(HOUR),
        uses_max: 1,
        approval: true,
        ..NewToken::default()
    };
    let token = fixture.store.devices().create_token(token).unwrap();
    let device = DeviceId(0x77);
    let enrolment = Enrolment { now: NOW, ..testing::enrolment(&token, device, "kiosk") };
    testing::wait(|done| fixture.store.devices().enrol(enrolment, done)).unwrap();
    fixture.step(at(10));
    assert_eq!(fixture.shown(device).0, Status::Warning);
    let over = at(WAITING_MILLISECONDS);
    for _ in 0..3 {
        fixture.step(at(WAITING_MILLISECONDS - 1));
        fixture.step_by(over, AgeTime { may_expire: false, ..over.into() });
    }
    assert!(fixture.store.table().get(device).is_some());
    for seconds in 1..4 {
        fixture.step(WallTime(over.0 + seconds * 1_000));
    }
    assert!(fixture.store.table().get(device).is_none());
    assert!(fixture.store.table().get(fixture.devices[0]).is_some());
}
