use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::apply::{Step, Stop, apply};
use super::table::{INTERRUPTIONS_MAX, REPAIRS_MAX, REPAIRS_MILLISECONDS};
use super::work::{Apply, work};
use super::*;
use crate::agent::application::Definition;
use crate::agent::application::definition::parse;
use crate::agent::open as files;
use crate::wire::digest::Digest;
use crate::wire::settings::{Drift, SettingsOrder, SettingsReport, SettingsState};
use crate::wire::time::WallTime;

/// A device with one application, which notes what its file said whenever it was told.
pub(super) struct Device {
    pub(super) directory: tempfile::TempDir,
    pub(super) definition: Definition,
    pub(super) managed: Managed,
}

impl Device {
    /// `settings`: further lines of the table.
    pub(super) fn new(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let definition = define(directory.path(), settings);
        let managed = open(directory.path());
        let mut device = Self { directory, definition, managed };
        device.managed.defined(&[device.definition.clone()], WallTime(1));
        device
    }

    pub(super) fn telling() -> Self {
        Self::new("apply = [\"sh\", \"-c\", 'cat \"$1\" >> \"$1.told\"', \"-\", \"{file}\"]")
    }

    /// From the next look on, its settings are in this directory.
    pub(super) fn put_into(&mut self, directory: &Path) {
        self.definition = define(directory, "");
    }

    pub(super) fn order(&mut self, revision: u64, settings: &str, drift: Drift) {
        self.managed.take(&order(revision, settings, drift), WallTime(revision)).unwrap();
    }

    /// Does all there is to do.
    pub(super) fn work(&mut self, now: u64) {
        while let Some(next) = self.managed.next_work(WallTime(now)) {
            self.managed.done(work(next), WallTime(now));
        }
    }

    pub(super) fn look(&mut self, now: u64) {
        self.managed.defined(std::slice::from_ref(&self.definition), WallTime(now));
        self.work(now);
    }

    pub(super) fn apply_job(&mut self) -> Box<Apply> {
        match self.managed.next_work(WallTime(5)) {
            Some(Work::Apply(job)) => job,
            other => panic!("{other:?}"),
        }
    }

    /// As after kill -9.
    pub(super) fn restart(&mut self) {
        self.managed = open(self.directory.path());
        self.managed.defined(std::slice::from_ref(&self.definition), WallTime(7));
    }

    pub(super) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }

    pub(super) fn report(&self) -> SettingsReport {
        self.managed.reports().next().unwrap().1
    }

    #[track_caller]
    pub(super) fn assert_state(&self, state: SettingsState, detail: &str) {
        let report = self.report();
        assert_eq!(report.state, state, "{report:?}");
        assert!(report.detail.contains(detail), "{report:?}");
    }

    pub(super) fn kinds(&mut self) -> Vec<String> {
        self.managed.take_events().into_iter().map(|event| event.kind).collect()
    }
}

fn open(directory: &Path) -> Managed {
    Managed::open(&directory.join("orders"), WallTime(0)).unwrap()
}

fn define(directory: &Path, settings: &str) -> Definition {
    let text = format!(
        "name = \"shop\"\n[condition]\npid_file = \"/x\"\n[settings]\nfile = \"{}/shop.conf\"\nformat = \"key_value\"\n{settings}\n",
        directory.display()
    );
    parse(&text, Path::new("shop.toml")).unwrap()
}

fn order(revision: u64, settings: &str, drift: Drift) -> SettingsOrder {
    SettingsOrder { application: "shop".into(), revision, settings: Some(settings.into()), drift }
}

const NEVER: &dyn Fn(Step) -> bool = &|_| false;

#[test]
fn settings_are_put_in_place_and_the_application_is_told() {
    let mut device = Device::telling();
    device.order(3, "{\"colour\":\"blue\"}", Drift::Repair);
    device.assert_state(SettingsState::Pending, "");
    device.work(4);
    device.assert_state(SettingsState::Applied, "");
    assert_eq!((device.report().applied_revision, device.report().since), (3, WallTime(4)));
    assert_eq!(device.file("shop.conf"), "colour=blue\n");
    assert_eq!(device.file("shop.conf.told"), "colour=blue\n");
    assert_eq!(device.kinds(), ["settings_applied"]);
    // The same again is noted, and not put in place again.
    device.order(5, "{\"colour\":\"blue\"}", Drift::Repair);
    device.work(6);
    assert_eq!(device.report().applied_revision, 5);
    assert_eq!(device.file("shop.conf.told"), "colour=blue\n");
    assert_eq!(device.managed.digest(), order(9, "{\"colour\":\"blue\"}", Drift::Repair).digest());
    // Nothing is ordered any more: what is in place stays.
    let nothing = SettingsOrder { settings: None, ..order(6, "", Drift::Repair) };
    device.managed.take(&nothing, WallTime(7)).unwrap();
    assert_eq!(device.managed.digest(), Digest::EMPTY);
    assert_eq!(device.managed.reports().count(), 0);
    device.restart();
    assert_eq!(device.managed.digest(), Digest::EMPTY);
    assert_eq!(device.file("shop.conf"), "colour=blue\n");
}

#[test]
fn a_refused_candidate_never_gets_into_place() {
    let refuse =
        "[\"sh\", \"-c\", 'grep -q bad \"$1\" && echo no bad ones >&2 && exit 4; exit 0', \"-\", \"{file}\"]";
    for key in ["validate", "validate_in_place", "apply"] {
        let mut device = Device::new(&format!("{key} = {refuse}"));
        device.order(1, "{\"a\":\"good\"}", Drift::Repair);
        device.work(2);
        device.assert_state(SettingsState::Applied, "");
        device.order(3, "{\"a\":\"bad\"}", Drift::Repair);
        device.work(4);
        device.assert_state(SettingsState::Failed, "'sh' ended with code 4: no bad ones");
        assert_eq!((device.report().revision, device.report().applied_revision), (3, 1), "{key}");
        assert_eq!(device.file("shop.conf"), "a=good\n", "{key}");
        assert_eq!(device.kinds(), ["settings_applied", "settings_failed"]);
        // It is not tried again by itself, but once after a restart.
        device.look(5);
        assert!(device.kinds().is_empty());
        device.restart();
        device.assert_state(SettingsState::Pending, "");
        device.work(8);
        device.assert_state(SettingsState::Failed, "no bad ones");
        assert!(!device.directory.path().join(".shop.conf.muster").exists());
    }
}

#[test]
fn what_is_not_allowed_is_refused_before_anything_is_touched() {
    let mut device = Device::new("schema = { properties = { port = { type = \"integer\" } } }");
    for (revision, settings, detail) in [
        (1, "{\"port\":\"x\"}", "'port'"),
        (2, "{\"a\":\"x\\ny\"}", "'a': line breaks"),
        (3, "{\"a\":null}", "'a': null"),
    ] {
        device.order(revision, settings, Drift::Repair);
        device.work(revision);
        device.assert_state(SettingsState::Failed, detail);
        assert!(!device.directory.path().join("shop.conf").exists());
    }
}

#[test]
fn a_rollback_tells_the_application_of_the_old_settings() {
    let mut device = Device::new(
        "apply = [\"sh\", \"-c\", 'grep -q good \"$1\"', \"-\", \"{file}\"]\n\
         rollback = [\"sh\", \"-c\", 'cat \"$1\" > \"$1.back\"; exit 3', \"-\", \"{file}\"]",
    );
    device.order(1, "{\"a\":\"good\"}", Drift::Repair);
    device.work(2);
    device.order(3, "{\"a\":\"bad\"}", Drift::Repair);
    device.work(4);
    device.assert_state(SettingsState::Failed, "the old file is back, but rolling back failed");
    assert_eq!(device.file("shop.conf.back"), "a=good\n");
}

#[test]
fn mode_and_link_of_the_file_before_stay() {
    let mut device = Device::new("");
    let real = device.directory.path().join("real.conf");
    fs::write(&real, "old").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, device.directory.path().join("shop.conf")).unwrap();
    device.order(1, "{\"a\":1}", Drift::Repair);
    device.work(2);
    assert_eq!(device.file("real.conf"), "a=1\n");
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn killed_at_any_step_it_is_the_old_file_or_the_new_one_and_then_it_goes_on() {
    for is_refused in [false, true] {
        for step in Step::ALL {
            let verdict = if is_refused { "! grep -q new" } else { "grep -q ." };
            let mut device = Device::new(&format!(
                "validate_in_place = [\"true\"]\n\
                 apply = [\"sh\", \"-c\", 'cat \"$1\" >> \"$1.told\"; {verdict} \"$1\"', \"-\", \"{{file}}\"]"
            ));
            device.order(1, "{\"a\":\"old\"}", Drift::Repair);
            device.work(2);
            device.order(3, "{\"a\":\"new\"}", Drift::Repair);
            let job = device.apply_job();
            let ended = apply(&job, &|at| at == step);
            let file = device.file("shop.conf");
            assert!(["a=old\n", "a=new\n"].contains(&file.as_str()), "{step:?}: {file}");
            match (is_refused, step) {
                (false, Step::Refused) => assert!(ended.is_ok(), "{ended:?}"),
                (true, Step::Told) => assert!(matches!(ended, Err(Stop::Failed(_))), "{ended:?}"),
                _ => assert_eq!(ended, Err(Stop::Interrupted), "{step:?}"),
            }
            device.restart();
            device.work(8);
            let (state, now) = if is_refused {
                (SettingsState::Failed, "a=old\n")
            } else {
                (SettingsState::Applied, "a=new\n")
            };
            device.assert_state(state, "");
            assert_eq!(device.file("shop.conf"), now, "{step:?}");
            assert_eq!(device.file("shop.conf.told").lines().last(), now.lines().last(), "{step:?}");
            assert!(files::list(&device.directory.path().join("orders"), "journal").unwrap().is_empty());
        }
    }
}

#[test]
fn what_was_there_before_is_put_back_even_when_the_definition_is_gone() {
    let mut device = Device::telling();
    device.order(3, "{\"a\":\"new\"}", Drift::Repair);
    let job = device.apply_job();
    assert_eq!(apply(&job, &|at| at == Step::Told), Err(Stop::Interrupted));
    assert_eq!(device.file("shop.conf"), "a=new\n");
    device.managed = open(device.directory.path());
    device.work(8);
    assert!(!device.directory.path().join("shop.conf").exists(), "there was none");
    device.assert_state(SettingsState::Pending, "");
    device.managed.defined(&[], WallTime(9));
    device.assert_state(SettingsState::Failed, "not defined on this device");
    device.look(10);
    device.assert_state(SettingsState::Applied, "");
}

#[test]
fn an_apply_that_ends_the_agent_again_and_again_is_given_up() {
    let mut device = Device::telling();
    device.order(1, "{\"a\":\"old\"}", Drift::Repair);
    device.work(2);
    device.order(3, "{\"a\":\"new\"}", Drift::Repair);
    for _ in 0..INTERRUPTIONS_MAX {
        let job = loop {
            match device.managed.next_work(WallTime(6)).unwrap() {
                Work::Apply(job) => break job,
                other => device.managed.done(work(other), WallTime(6)),
            }
        };
        assert_eq!(apply(&job, &|at| at == Step::AboutToApply), Err(Stop::Interrupted));
        device.restart();
    }
    device.work(8);
    device.assert_state(SettingsState::Failed, "the agent ended 3 times");
    assert_eq!(device.file("shop.conf"), "a=old\n");
}

#[test]
fn drift_is_put_right_a_few_times_an_hour() {
    let mut device = Device::telling();
    device.order(1, "{\"a\":1}", Drift::Repair);
    device.work(2);
    let meddle = |device: &Device| fs::write(device.directory.path().join("shop.conf"), "mine").unwrap();
    for _ in 0..REPAIRS_MAX {
        meddle(&device);
        device.look(10);
        device.assert_state(SettingsState::Applied, "");
        assert_eq!(device.file("shop.conf"), "a=1\n");
    }
    device.kinds();
    meddle(&device);
    device.look(11);
    device.look(12);
    device.assert_state(SettingsState::Drifted, "again and again");
    assert_eq!(device.kinds(), ["settings_drift"]);
    assert_eq!(device.file("shop.conf"), "mine");
    device.look(12 + REPAIRS_MILLISECONDS);
    device.assert_state(SettingsState::Applied, "");
    assert_eq!(device.kinds(), ["settings_drift", "settings_applied"]);
}

#[test]
fn drift_is_only_told_when_that_is_ordered() {
    let mut device = Device::telling();
    device.order(1, "{\"a\":1}", Drift::Report);
    device.work(2);
    device.kinds();
    fs::remove_file(device.directory.path().join("shop.conf")).unwrap();
    for now in [3, 4] {
        device.look(now);
        device.assert_state(SettingsState::Drifted, "removed by somebody else");
    }
    assert_eq!(device.kinds(), ["settings_drift"]);
    fs::write(device.directory.path().join("shop.conf"), "a=1\n").unwrap();
    device.look(5);
    device.assert_state(SettingsState::Applied, "");
}

#[test]
fn a_changed_definition_has_it_tried_again() {
    let mut device = Device::new("apply = [\"false\"]");
    device.order(1, "{\"a\":1}", Drift::Repair);
    device.work(2);
    device.assert_state(SettingsState::Failed, "'false' ended with code 1");
    device.definition = define(device.directory.path(), "apply = [\"true\"]");
    device.look(3);
    device.assert_state(SettingsState::Applied, "");
}

#[test]
fn a_torn_order_is_not_named_and_a_torn_journal_does_no_harm() {
    let mut device = Device::telling();
    device.order(1, "{\"a\":1}", Drift::Repair);
    device.work(2);
    let ordered = device.directory.path().join("orders");
    for ending in ["order", "state", "journal"] {
        let path = files::list(&ordered, ending).unwrap().pop();
        let path =
            path.unwrap_or_else(|| ordered.join(format!("{}.{ending}", stored_settings::name_of("shop"))));
        let mut bytes = fs::read(&path).unwrap_or_else(|_| vec![1; 40]);
        bytes[30] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    device.restart();
    assert_eq!(device.managed.digest(), Digest::EMPTY);
    device.order(2, "{\"a\":1}", Drift::Repair);
    device.work(8);
    device.assert_state(SettingsState::Applied, "");
    assert_eq!(apply(&job_of(&device), NEVER).map(|_| ()), Ok(()));
}

fn job_of(device: &Device) -> Apply {
    Apply {
        application: "shop".into(),
        order: Digest::EMPTY,
        revision: 1,
        definition: Digest::EMPTY,
        settings: "{}".into(),
        adapter: device.definition.settings.clone().unwrap(),
        journal: device.directory.path().join("orders/x.journal"),
    }
}
