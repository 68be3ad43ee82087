//! The disk decides, however its content came there.

use std::path::Path;

use super::*;
use crate::wire::time::WallTime;

const DAY: u64 = LEFT_OVER_SECONDS;

fn at(seconds: u64) -> Now {
    Now { moment: Moment(0).plus_seconds(seconds), wall: WallTime(0) }
}

fn artifact(content: &[u8]) -> Artifact {
    let (hash, bytes) = (ArtifactHash::of(content), content.len() as u64);
    Artifact { hash, bytes, name: "fw.bin".into(), signature: None }
}

fn open(directory: &Path) -> Artifacts {
    Artifacts::open(directory.join("artifacts")).unwrap()
}

fn mebibytes(mebibytes_max: u32) -> ArtifactSettings {
    ArtifactSettings { mebibytes_max }
}

fn offset(artifacts: &mut Artifacts, artifact: &Artifact) -> Option<u64> {
    artifacts.offset(artifact, &mebibytes(64)).unwrap()
}

fn part(artifact: &Artifact, content: &[u8], from: u64, length: usize) -> ArtifactPart {
    let rest = &content[usize::try_from(from).unwrap()..];
    let bytes = rest[..length.min(rest.len())].to_vec();
    ArtifactPart { hash: artifact.hash, offset: from, bytes, again_seconds: None, refusal: None }
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory.join("artifacts")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Fetches what is missing.
fn fetch(artifacts: &mut Artifacts, artifact: &Artifact, content: &[u8]) {
    while let Some(from) = offset(artifacts, artifact) {
        artifacts.append(&part(artifact, content, from, 300)).unwrap();
    }
}

#[test]
fn a_download_goes_on_from_whatever_a_power_cut_left() {
    let content: Vec<u8> = (0..1000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let artifact = artifact(&content);
    for left in [0, 1, 299, 300, 999, 1000] {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(files(directory.path()), [""; 0], "nothing is written before there is one");
        fetch(&mut open(directory.path()), &artifact, &content);
        let path = open(directory.path()).part_path(artifact.hash);
        File::options().write(true).open(&path).unwrap().set_len(left).unwrap();
        let mut artifacts = open(directory.path());
        assert_eq!(offset(&mut artifacts, &artifact), (left < 1000).then_some(left));
        for wrong in [part(&artifact, &content, 0, 1000), part(&self::artifact(b"x"), b"x", 0, 1)] {
            artifacts.append(&ArtifactPart { offset: wrong.offset + left + 1, ..wrong }).unwrap();
        }
        fetch(&mut artifacts, &artifact, &content);
        artifacts.end_download(artifact.hash).check().unwrap();
        assert_eq!(fs::read(artifacts.path(artifact.hash)).unwrap(), content);
        assert_eq!(files(directory.path()), [artifact.hash.to_string()]);
        assert_eq!(offset(&mut open(directory.path()), &artifact), None);
    }
}

#[test]
fn content_that_a_disk_lost_or_changed_is_found_out_before_it_is_used() {
    let content = [7; 1000];
    let artifact = artifact(&content);
    let directory = tempfile::tempdir().unwrap();
    let mut artifacts = open(directory.path());
    fetch(&mut artifacts, &artifact, &content);
    // A length that was written, and the content not.
    let part = artifacts.part_path(artifact.hash);
    let file = File::options().write(true).open(&part).unwrap();
    file.set_len(400).unwrap();
    file.set_len(1000).unwrap();
    assert_eq!(artifacts.end_download(artifact.hash).check(), Err(Fault::Wrong));
    assert!(part.exists() && !artifacts.path(artifact.hash).exists());
    artifacts.remove(artifact.hash);
    fetch(&mut artifacts, &artifact, &content);
    artifacts.end_download(artifact.hash).check().unwrap();
    artifacts.end_download(artifact.hash).check().unwrap();
    fs::write(artifacts.path(artifact.hash), [8; 1000]).unwrap();
    assert_eq!(artifacts.end_download(artifact.hash).check(), Err(Fault::Wrong));
    fs::remove_file(artifacts.path(artifact.hash)).unwrap();
    assert_eq!(artifacts.end_download(artifact.hash).check(), Err(Fault::Wrong));
    // More than there can be is no beginning.
    fs::write(&part, [7; 1001]).unwrap();
    assert_eq!(offset(&mut open(directory.path()), &artifact), Some(0));
}

/// One of a mebibyte, of which half is here.
fn half(directory: &Path, number: u8) -> Artifact {
    let artifact = Artifact { bytes: 1 << 20, ..artifact(&[number]) };
    let mut artifacts = open(directory);
    assert_eq!(offset(&mut artifacts, &artifact), Some(0));
    artifacts.append(&part(&artifact, &[1; 1 << 19], 0, 1 << 19)).unwrap();
    artifact
}

#[test]
fn room_is_looked_for_and_taken_from_what_no_run_needs() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (half(directory.path(), 1), half(directory.path(), 2));
    let mut artifacts = open(directory.path());
    let fault = artifacts.offset(&second, &mebibytes(1)).unwrap_err();
    let Fault::Waits(why) = fault else { panic!("{fault:?}") };
    assert!(why.contains("524288 bytes are taken by those of other runs, and 1 MiB are for all"), "{why}");
    artifacts.keep(&[second.hash].into(), &BTreeSet::new(), &at(0));
    assert_eq!(artifacts.offset(&second, &mebibytes(1)), Ok(Some(1 << 19)));
    assert_eq!(files(directory.path()), [format!("{}.part", second.hash)]);
    // The rest of it alone is to come.
    artifacts.keep(&BTreeSet::new(), &BTreeSet::new(), &at(0));
    let too_large = Artifact { bytes: 1 << 50, ..first };
    let fault = artifacts.offset(&too_large, &mebibytes(u32::MAX)).unwrap_err();
    let Fault::Ends(_, why) = fault else { panic!("{fault:?}") };
    assert!(why.starts_with("no room for its artifact: "), "{why}");
    assert_eq!(files(directory.path()), [""; 0], "what no run needs was no help, and is gone");
}

#[test]
fn what_no_run_needs_goes_at_once_or_after_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let all: Vec<Artifact> = (0..3).map(|number| half(directory.path(), number)).collect();
    let mut artifacts = open(directory.path());
    let (needed, done) = ([all[0].hash].into(), [all[0].hash, all[1].hash].into());
    artifacts.keep(&needed, &done, &at(0));
    assert_eq!(files(directory.path()).len(), 2, "the first is needed by another run");
    assert_eq!(artifacts.next_timeout(), Some(at(DAY).moment));
    artifacts.keep(&needed, &BTreeSet::new(), &at(DAY - 1));
    assert_eq!(files(directory.path()).len(), 2);
    artifacts.keep(&needed, &BTreeSet::new(), &at(DAY));
    assert_eq!(files(directory.path()), [format!("{}.part", all[0].hash)]);
    assert_eq!(artifacts.next_timeout(), None);
    artifacts.keep(&BTreeSet::new(), &done, &at(DAY));
    assert!(artifacts.is_empty() && open(directory.path()).is_empty());
    for number in 0..20 {
        half(directory.path(), number);
    }
    open(directory.path()).keep(&BTreeSet::new(), &BTreeSet::new(), &at(0));
    assert_eq!(files(directory.path()).len(), LEFT_OVER_MAX);
}
