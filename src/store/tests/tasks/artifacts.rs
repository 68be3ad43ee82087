//! Tasks that come with an artifact.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use serde_json::json;

use super::{Fixture, all_devices, kinds};
use crate::store::{ARTIFACTS_BYTES_DEFAULT, Artifacts, StoreError};
use crate::wire::api::{NewArtifact, TaskDefinition};
use crate::wire::artifact::{ArtifactPart, ArtifactUse, Fetch};
use crate::wire::id::{ArtifactHash, DeviceId};
use crate::wire::limits::ARTIFACT_PART_BYTES_MAX;
use crate::wire::task::{RunStage, RunUpdate};
use crate::wire::time::WallTime;

/// More than one part.
fn content() -> Vec<u8> {
    (0..ARTIFACT_PART_BYTES_MAX + 10).map(|at| at.to_le_bytes()[0]).collect()
}

fn open(fixture: &Fixture) -> Arc<Artifacts> {
    let directory = fixture.fleet.directory.path().join("artifacts");
    Artifacts::open(fixture.fleet.store.clone(), directory, ARTIFACTS_BYTES_DEFAULT).unwrap()
}

fn add(artifacts: &Arc<Artifacts>, signature: Option<&str>) -> ArtifactHash {
    let signature = signature.map(ToOwned::to_owned);
    let new = NewArtifact { name: "firmware.bin".into(), sha256: None, signature };
    let mut upload = artifacts.begin(&new, None).unwrap();
    upload.write(&content()).unwrap();
    upload.finish(new, "uid 0".into(), WallTime(7)).unwrap().hash
}

/// Devices whose kind of task comes with an artifact, or without.
fn fixture(artifact: ArtifactUse) -> (Fixture, Arc<Artifacts>) {
    let fixture = Fixture::new(2);
    for device in &fixture.fleet.devices {
        let mut kinds = kinds();
        kinds[0].kinds[0].artifact = artifact;
        fixture.declare(*device, kinds);
    }
    let artifacts = open(&fixture);
    (fixture, artifacts)
}

fn with(hash: ArtifactHash) -> TaskDefinition {
    TaskDefinition { artifact: Some(hash), ..all_devices() }
}

/// The bytes that a device is given which asks for a part, or why it is given none.
fn part(
    artifacts: &Arc<Artifacts>,
    device: DeviceId,
    hash: ArtifactHash,
    offset: u64,
) -> Result<Vec<u8>, String> {
    match artifacts.part(device, Fetch { hash, offset }) {
        ArtifactPart { refusal: Some(refusal), .. } => Err(refusal),
        ArtifactPart { again_seconds: Some(_), .. } => Err("again".into()),
        ArtifactPart { bytes, .. } => Ok(bytes),
    }
}

#[test]
fn a_task_comes_with_what_its_kind_needs() {
    let (none, signed) = (None, Some("untrusted comment: signature"));
    for (kind, given, wrong) in [
        (ArtifactUse::None, Some(none), "'clean' takes no artifact"),
        (ArtifactUse::Any, None, "'clean' needs an artifact, and none was named"),
        (ArtifactUse::Signed, None, "'clean' needs an artifact, and none was named"),
        (ArtifactUse::Signed, Some(none), "'clean' needs an artifact with a signature"),
        (ArtifactUse::None, None, ""),
        (ArtifactUse::Any, Some(none), ""),
        (ArtifactUse::Signed, Some(signed), ""),
    ] {
        let (fixture, artifacts) = fixture(kind);
        let definition = given.map_or_else(all_devices, |signature| with(add(&artifacts, signature)));
        let made = fixture.try_create(definition, json!({}));
        match made {
            Ok(created) => assert_eq!((created.offered, wrong), (2, "")),
            Err(error) => assert!(!wrong.is_empty() && error.to_string().contains(wrong), "{error}"),
        }
    }
    let (fixture, _) = fixture(ArtifactUse::Any);
    let unknown = ArtifactHash::of(b"nobody has it");
    assert_eq!(fixture.try_create(with(unknown), json!({})), Err(StoreError::NoArtifact(unknown)));
}

#[test]
fn the_order_names_the_artifact_and_its_device_has_all_of_it() {
    let (fixture, artifacts) = fixture(ArtifactUse::Signed);
    let hash = add(&artifacts, Some("signature"));
    fixture.create(with(hash));
    let device = fixture.fleet.devices[0];
    let order = fixture.desired_state(device).runs.pop().unwrap();
    let artifact = order.artifact.unwrap();
    assert_eq!((artifact.hash, artifact.bytes), (hash, content().len() as u64));
    assert_eq!((artifact.name.as_str(), artifact.signature.as_deref()), ("firmware.bin", Some("signature")));
    let mut whole = Vec::new();
    loop {
        let bytes = part(&artifacts, device, hash, whole.len() as u64).unwrap();
        assert!(bytes.len() <= ARTIFACT_PART_BYTES_MAX);
        if bytes.is_empty() {
            break;
        }
        whole.extend(bytes);
    }
    assert_eq!(whole, content());
    for beyond in [content().len() as u64 + 1, u64::MAX] {
        assert!(part(&artifacts, device, hash, beyond).unwrap_err().contains("was asked for"));
    }
}

#[test]
fn only_a_device_with_a_run_that_needs_it_has_an_artifact() {
    let (fixture, artifacts) = fixture(ArtifactUse::Any);
    let hash = add(&artifacts, None);
    let [device, other] = fixture.fleet.devices[..] else { panic!() };
    let may = |device| part(&artifacts, device, hash, 0).is_ok();
    assert!(!may(device), "there is no run");
    let task = fixture.create(with(hash));
    assert!(may(device) && may(other));
    let unknown = DeviceId(0x7777);
    assert!(!may(unknown));
    let refused = artifacts.remove(hash).unwrap_err().to_string();
    assert!(refused.contains(&task.to_string()), "{refused}");
    let run = fixture.order(device);
    fixture.say(device, RunUpdate::new(run, 1, RunStage::Running));
    assert!(may(device), "it is executed, and may be begun again");
    fixture.say(device, RunUpdate::new(run, 2, RunStage::Succeeded));
    assert!(!may(device) && may(other), "the run has ended");
    // From the moment of the cancellation on, not from when the runs are written down.
    fixture.fleet.tasks().cancel(task, fixture.now()).unwrap();
    assert!(!may(other));
    artifacts.remove(hash).unwrap();
}

#[test]
fn a_file_that_was_changed_is_not_handed_out() {
    let (fixture, artifacts) = fixture(ArtifactUse::Any);
    let hash = add(&artifacts, None);
    fixture.create(with(hash));
    let device = fixture.fleet.devices[0];
    let path = fixture.fleet.directory.path().join("artifacts").join(hash.to_string());
    let heard = |artifacts: &Arc<Artifacts>| loop {
        match part(artifacts, device, hash, 0) {
            Err(again) if again == "again" => std::thread::sleep(std::time::Duration::from_millis(5)),
            heard => break heard,
        }
    };
    let after_restart = open(&fixture);
    assert_eq!(part(&after_restart, device, hash, 0), Err("again".into()), "it is read for its hash first");
    assert_eq!(heard(&after_restart).unwrap().len(), ARTIFACT_PART_BYTES_MAX);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"damage", 40).unwrap();
    for artifacts in [&artifacts, &after_restart] {
        let refused = heard(artifacts).unwrap_err();
        assert!(refused.contains("its file has another content: add it again"), "{refused}");
    }
    file.set_len(7).unwrap();
    assert!(heard(&artifacts).unwrap_err().contains("its file has another length"));
    std::fs::remove_file(&path).unwrap();
    assert!(heard(&artifacts).unwrap_err().contains("its file is missing"));
    add(&artifacts, None);
    assert!(heard(&artifacts).is_ok());
}
