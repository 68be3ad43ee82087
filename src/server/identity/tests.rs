use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::wire::certificate::{BACKDATED_MILLISECONDS, KeyType};

const NOW: WallTime = WallTime(1_795_514_400_123);

fn wanted(device: u64) -> Wanted {
    Wanted { device: DeviceId(device), counter: 3, life_milliseconds: 60_000 }
}

fn made() -> (tempfile::TempDir, PathBuf, Identity) {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("identity");
    let identity = Identity::open_or_create(&directory, &[], NOW).unwrap();
    (parent, directory, identity)
}

fn request(algorithm: &'static rcgen::SignatureAlgorithm) -> (KeyPair, Vec<u8>) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    (key, request.der().to_vec())
}

#[test]
fn it_is_made_once_and_the_same_ever_after() {
    let (_parent, directory, first) = made();
    let again = Identity::open_or_create(&directory, &[], WallTime(0)).unwrap();
    assert_eq!(first.server_certificate_der(), again.server_certificate_der());
    assert_eq!(first.server_private_key_der(), again.server_private_key_der());
    assert_eq!(first.certificate_hash(), CertificateHash::of(again.server_certificate_der()));
    let device = DeviceId(7);
    let key = first.datagram_key(DatagramPurpose::Wake, device);
    assert_eq!(key, again.datagram_key(DatagramPurpose::Wake, device));
    assert_ne!(key, first.datagram_key(DatagramPurpose::Notice, device));
    assert_ne!(key, first.datagram_key(DatagramPurpose::Wake, DeviceId(8)));
    for entry in fs::read_dir(&directory).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn every_missing_file_is_named_and_nothing_is_made_anew() {
    let (_parent, directory, _) = made();
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let aside = directory.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        let error = Identity::open_or_create(&directory, &[], NOW).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} is missing while the rest", path.display())), "{error}");
        assert!(!path.exists());
        fs::rename(&aside, &path).unwrap();
    }
    Identity::open(&directory).unwrap();
}

#[test]
fn a_lost_directory_is_not_replaced_while_the_database_is_there() {
    let (parent, directory, _) = made();
    let database = parent.path().join("muster.db");
    fs::write(&database, "").unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let error = Identity::open_or_create(&directory, &[&database], NOW).unwrap_err();
    assert!(matches!(error, IdentityError::Lost { .. }), "{error}");
    assert!(!directory.exists());
    fs::remove_file(&database).unwrap();
    Identity::open_or_create(&directory, &[&database], NOW).unwrap();
}

#[test]
fn what_a_crash_left_unfinished_is_cleared_away() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("identity");
    fs::create_dir(parent.path().join("identity.unfinished")).unwrap();
    fs::write(parent.path().join("identity.unfinished/ca-key.pem"), "half").unwrap();
    Identity::open_or_create(&directory, &[], NOW).unwrap();
    assert!(!parent.path().join("identity.unfinished").exists());
}

#[test]
fn files_that_others_can_read_are_refused_with_the_remedy() {
    let (_parent, directory, _) = made();
    let key = directory.join("server-key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = Identity::open(&directory).unwrap_err().to_string();
    let path = key.display();
    assert_eq!(
        error,
        format!("{path} has mode 640, so others can reach the server's keys: run 'chmod 600 {path}'")
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let error = Identity::open(&directory).unwrap_err().to_string();
    assert!(error.contains("chmod 700"), "{error}");
}

#[test]
fn a_changed_byte_of_any_file_is_told() {
    let (_parent, directory, _) = made();
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut changed = whole.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            fs::write(&path, &changed).unwrap();
            if let Ok(identity) = Identity::open(&directory) {
                // Base64 spells the last bits of a file in more than one way; nothing else may pass.
                let same = identity.issue(&request(&rcgen::PKCS_ED25519).1, wanted(1), NOW).is_ok();
                assert!(same && at + 40 > whole.len(), "byte {at} of {}", path.display());
            }
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn files_of_two_servers_do_not_mix() {
    let (_a, first, _) = made();
    let (_b, second, _) = made();
    for name in ["server-certificate.pem", "server-key.pem", "ca-key.pem", "ca-certificate.pem"] {
        let own = fs::read(first.join(name)).unwrap();
        fs::copy(second.join(name), first.join(name)).unwrap();
        let error = Identity::open(&first).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. }), "{name}: {error}");
        fs::write(first.join(name), own).unwrap();
    }
}

#[test]
fn certificates_are_issued_for_ed25519_and_p256_and_nothing_else() {
    let (_parent, _, identity) = made();
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256] {
        let (key, request) = request(algorithm);
        let issued = identity.issue(&request, wanted(0xabc), NOW).unwrap();
        let certificate = issued.der;
        assert!(certificate.windows(16).any(|window| window == b"0000000000000abc"), "the subject");
        let raw = key.public_key_raw();
        assert!(certificate.windows(raw.len()).any(|window| window == raw), "the key");
        assert!(certificate.len() < 700, "{} bytes", certificate.len());
        assert_ne!(certificate, identity.issue(&request, wanted(0xabc), NOW).unwrap().der, "the serial");
        assert_eq!(identity.issued(&certificate), Some(Issued { device: DeviceId(0xabc), counter: 3 }));
        let dates = (WallTime(issued.issued_at.0 - BACKDATED_MILLISECONDS), issued.expires_at);
        assert_eq!(certificate::validity(&certificate), Some(dates), "to the second");
        assert_eq!(issued.expires_at.0 - issued.issued_at.0, 60_000);
        assert_eq!(KeyType::of(&certificate), issued.key_type);
    }
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ECDSA_P521_SHA256] {
        let error = identity.issue(&request(algorithm).1, wanted(1), NOW).unwrap_err();
        assert!(matches!(error, IssueError::KeyKind | IssueError::Malformed), "{error}");
    }
}

#[test]
fn a_request_that_does_not_prove_its_key_is_refused() {
    let (_parent, _, identity) = made();
    let (key, request) = request(&rcgen::PKCS_ED25519);
    let raw = key.public_key_raw();
    for at in 0..request.len() {
        let mut changed = request.clone();
        changed[at] ^= 1;
        // The bits that the signature does not cover (its own unused ones) may differ; the key may not.
        if let Ok(certificate) = identity.issue(&changed, wanted(1), NOW) {
            assert!(certificate.der.windows(raw.len()).any(|window| window == raw), "byte {at}");
        }
    }
    assert_eq!(identity.issue(&[0; 5_000], wanted(1), NOW), Err(IssueError::TooLarge(5_000)));
    assert_eq!(identity.issue(b"", wanted(1), NOW), Err(IssueError::Malformed));
}

#[test]
fn an_absurd_clock_still_issues() {
    let (_parent, _, identity) = made();
    for now in [WallTime(0), WallTime(u64::MAX), WallTime(253_402_300_799_000)] {
        identity.issue(&request(&rcgen::PKCS_ED25519).1, wanted(1), now).unwrap();
    }
}
