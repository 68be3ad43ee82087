//! Artifacts: taken in, listed, handed out in parts, removed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::store::sql::Sql as _;
use crate::store::testing::{Fleet, all};
use crate::store::{ARTIFACTS_BYTES_DEFAULT, ARTIFACTS_MAX, Artifacts, StoreError};
use crate::wire::api::{NewArtifact, StoredArtifact};
use crate::wire::id::ArtifactHash;
use crate::wire::limits::{ARTIFACT_BYTES_MAX, SIGNATURE_BYTES_MAX};
use crate::wire::time::WallTime;

struct Fixture {
    fleet: Fleet,
    artifacts: Arc<Artifacts>,
}

impl Fixture {
    fn new() -> Self {
        let fleet = Fleet::new(1);
        let artifacts = open(&fleet);
        Self { fleet, artifacts }
    }

    fn directory(&self) -> PathBuf {
        self.fleet.directory.path().join("artifacts")
    }

    fn names(&self) -> Vec<String> {
        let listed = fs::read_dir(self.directory()).unwrap();
        let mut names: Vec<_> =
            listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    fn try_add(&self, content: &[u8], new: NewArtifact) -> Result<StoredArtifact, StoreError> {
        let mut upload = self.artifacts.begin(&new, Some(content.len() as u64))?;
        for piece in content.chunks(3) {
            upload.write(piece)?;
        }
        upload.finish(new, "uid 0".into(), WallTime(7))
    }

    fn add(&self, content: &[u8]) -> StoredArtifact {
        self.try_add(content, named("firmware.bin")).unwrap()
    }
}

fn open(fleet: &Fleet) -> Arc<Artifacts> {
    let directory = fleet.directory.path().join("artifacts");
    Artifacts::open(fleet.store.clone(), directory, ARTIFACTS_BYTES_DEFAULT).unwrap()
}

fn named(name: &str) -> NewArtifact {
    NewArtifact { name: name.into(), ..NewArtifact::default() }
}

#[test]
fn a_content_is_kept_once_under_its_hash_for_nobody_else_to_read() {
    let fixture = Fixture::new();
    let added = fixture.add(b"content");
    assert_eq!(added.hash, ArtifactHash::of(b"content"));
    assert_eq!((added.bytes, added.name.as_str(), added.created_by.as_str()), (7, "firmware.bin", "uid 0"));
    let again = fixture.try_add(b"content", named("other.bin")).unwrap();
    assert_eq!(again, added, "it stays as it was added first");
    assert_eq!(fixture.names(), [added.hash.to_string()]);
    assert_eq!(fixture.artifacts.usage().0, 7);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(fixture.directory()), 0o700);
    assert_eq!(mode(fixture.directory().join(added.hash.to_string())), 0o600);
    let second = fixture.add(b"another");
    assert_eq!(fixture.artifacts.list(&all()).unwrap().items, [second, added], "the newest first");
}

#[test]
fn a_signature_is_replaced_by_a_new_one_and_by_none_it_is_not() {
    let fixture = Fixture::new();
    let signed = |text: &str| NewArtifact { signature: Some(text.into()), ..named("x") };
    assert_eq!(fixture.add(b"content").signature, None);
    for (new, kept) in [(signed("one\r\n"), "one\r\n"), (named("x"), "one\r\n"), (signed("two"), "two")] {
        assert_eq!(fixture.try_add(b"content", new).unwrap().signature.as_deref(), Some(kept));
    }
    let long = "x".repeat(SIGNATURE_BYTES_MAX + 1);
    for wrong in ["", " \n", "\u{1b}[2J", &long] {
        assert!(matches!(fixture.try_add(b"c", signed(wrong)), Err(StoreError::BadArtifact(_))), "{wrong:?}");
    }
}

#[test]
fn what_is_refused_leaves_nothing() {
    let fixture = Fixture::new();
    for name in ["", "../x", "a/b", "a\\b", ".", "..", " x", "a\u{202e}b", &"x".repeat(256)] {
        let refused = fixture.try_add(b"content", named(name));
        assert!(matches!(refused, Err(StoreError::BadArtifact(_))), "{name:?}: {refused:?}");
    }
    let other = NewArtifact { sha256: Some(ArtifactHash::of(b"other")), ..named("x") };
    let refused = fixture.try_add(b"content", other).unwrap_err().to_string();
    assert!(refused.contains(&ArtifactHash::of(b"content").to_string()), "{refused}");
    assert!(fixture.try_add(b"", named("x")).unwrap_err().to_string().contains("it is empty"));
    let too_large = fixture.artifacts.begin(&named("x"), Some(ARTIFACT_BYTES_MAX + 1)).err().unwrap();
    assert!(matches!(too_large, StoreError::ArtifactTooLarge(_)), "{too_large}");
    fixture.artifacts.set_bytes_max(10);
    fixture.add(b"1234567");
    let refused = fixture.artifacts.begin(&named("x"), Some(4)).err().unwrap();
    assert!(matches!(refused, StoreError::ArtifactRefused(_)), "{refused}");
    // One that does not say how long it is.
    let mut upload = fixture.artifacts.begin(&named("x"), None).unwrap();
    upload.write(b"123").unwrap();
    let mut beside = fixture.artifacts.begin(&named("x"), None).unwrap();
    assert!(beside.write(b"1").is_err(), "what is arriving counts");
    assert!(upload.write(b"4").is_err());
    assert_eq!(fixture.names().len(), 3, "one is kept, two are under way");
    drop((upload, beside));
    assert_eq!((fixture.names().len(), fixture.artifacts.usage().0), (1, 7));
}

#[test]
fn what_a_kill_has_left_goes_at_the_next_start_and_what_is_missing_is_said() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.add(b"one"), fixture.add(b"two"));
    let path = |name: &str| fixture.directory().join(name);
    fs::write(path("7.unfinished"), b"half").unwrap();
    fs::write(path(&ArtifactHash::of(b"no row").to_string()), b"no row").unwrap();
    fs::write(path("README"), b"of somebody else").unwrap();
    fs::remove_file(path(&one.hash.to_string())).unwrap();
    let artifacts = open(&fixture.fleet);
    assert_eq!(fixture.names(), [two.hash.to_string(), "README".into()], "what is not ours stays");
    assert_eq!(artifacts.usage().0, 6, "the row of one is there");
    let fault = |hash| artifacts.get(hash).unwrap().fault.unwrap_or_default();
    assert!(fault(one.hash).starts_with("its file is missing: add it again"), "{}", fault(one.hash));
    assert_eq!(fault(two.hash), "");
    fs::write(path(&two.hash.to_string()), b"longer").unwrap();
    assert!(fault(two.hash).starts_with("its file has another length"));
    fixture.add(b"one");
    assert_eq!(fault(one.hash), "", "added again it is whole");
}

#[test]
fn one_is_removed_with_its_file() {
    let fixture = Fixture::new();
    let added = fixture.add(b"content");
    assert_eq!(fixture.artifacts.remove(added.hash).unwrap(), added);
    assert_eq!(fixture.artifacts.remove(added.hash), Err(StoreError::NoArtifact(added.hash)));
    assert_eq!((fixture.names().len(), fixture.artifacts.usage().0), (0, 0));
}

#[test]
fn there_are_no_more_than_may_be_and_one_that_is_there_may_come_again() {
    let fixture = Fixture::new();
    let first = fixture.add(b"first");
    let rows = "WITH RECURSIVE n (i) AS (VALUES (2) UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
        INSERT INTO artifacts (hash, bytes, name, created_at, created_by)
        SELECT randomblob(32), 0, 'x', 0, '' FROM n";
    fixture.fleet.database().call(|connection| connection.run(rows, [ARTIFACTS_MAX])).unwrap();
    let last = fixture.add(b"last");
    let refused = fixture.try_add(b"one too many", named("x")).unwrap_err().to_string();
    assert!(refused.contains("there are 1000 artifacts, as many as may be: remove one first"), "{refused}");
    let mut kept = [first.hash.to_string(), last.hash.to_string()];
    kept.sort_unstable();
    assert_eq!((fixture.names(), fixture.artifacts.usage().0), (kept.into(), 9), "nothing of it is left");
    assert_eq!(fixture.add(b"last"), last);
    fixture.artifacts.remove(first.hash).unwrap();
    fixture.add(b"one too many");
}
