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
    assert_eq!(first.pins(), again.pins());
    assert_eq!(first.server_private_key_der(), again.server_private_key_der());
    assert_eq!(first.certificate_hash(), CertificateHash::of(&again.pins()[0]));
    let device = DeviceId(7);
    let key = first.datagram_key(DatagramPurpose::Wake, device);
    assert_eq!(key, again.datagram_key(DatagramPurpose::Wake, device));
    assert_ne!(key, first.datagram_key(DatagramPurpose::Notice, device));
    assert_ne!(key, first.datagram_key(DatagramPurpose::Wake, DeviceId(8)));
    let to_browsers = first.browser_certificate().unwrap();
    assert_eq!(to_browsers, again.browser_certificate().unwrap(), "people have confirmed it");
    assert_eq!(KeyType::of(&to_browsers.0), KeyType::P256);
    assert_eq!(first.issued(&to_browsers.0), None, "it is no device's");
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

/// Takes a step on a copy of the directory for each state that a crash can leave of it, and opens each.
fn after_each_crash(step: impl Fn(&mut files::Contents), check: impl Fn(&Identity)) -> usize {
    let (_parent, directory, _) = made();
    let mut contents = files::read(&Place::from(&directory)).unwrap();
    step(&mut contents);
    let (copies, parent) = (tempfile::tempdir().unwrap(), directory.parent().unwrap().to_owned());
    let mut states = 0;
    let copy = || {
        let to = copies.path().join(states.to_string());
        for entry in fs::read_dir(&parent).unwrap() {
            let entry = entry.unwrap();
            let into = to.join(entry.file_name());
            fs::create_dir_all(&into).unwrap();
            fs::set_permissions(&into, fs::Permissions::from_mode(0o700)).unwrap();
            for file in fs::read_dir(entry.path()).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), into.join(file.file_name())).unwrap();
            }
        }
        states += 1;
    };
    files::write(&Place::from(&directory), &contents, None, copy).unwrap();
    for state in 0..states {
        let directory = copies.path().join(state.to_string()).join("identity");
        let evidence = copies.path().to_owned();
        let opened = Identity::open_or_create(&directory, &[&evidence], NOW)
            .unwrap_or_else(|error| panic!("state {state} of {states}: {error}"));
        check(&opened);
        let names: Vec<_> = fs::read_dir(directory.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "state {state}: nothing is left beside it");
    }
    check(&Identity::open(&directory).unwrap());
    states
}

#[test]
fn a_crash_at_any_point_of_a_change_leaves_what_was_or_what_is_to_be() {
    let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let states = after_each_crash(
        |contents| stages::prepare(contents, None, NOW).unwrap(),
        |identity| {
            let facts = identity.trust_facts();
            assert_eq!(facts.next.is_some(), identity.pins().len() == 2);
            seen.borrow_mut().insert(facts.next.is_some());
        },
    );
    assert!(states > 10 && seen.borrow().len() == 2, "{states} states");
}

#[test]
fn a_rotation_goes_through_its_stages_and_no_other_way() {
    let (_parent, directory, identity) = made();
    let first = identity.pins();
    let label = |identity: &Identity| identity.trust_facts().label;
    let refused = |step: &Step<'_>| identity.take(step, NOW).unwrap_err().to_string();
    assert!(refused(&Step::Switch).contains("certificate prepare"), "{}", refused(&Step::Switch));
    assert!(refused(&Step::Retire).contains("certificate switch"));
    let before = label(&identity);
    identity.take(&Step::Prepare(None), NOW).unwrap();
    let prepared = label(&identity);
    assert_ne!(before, prepared);
    assert_eq!((identity.pins().len(), &identity.pins()[0]), (2, &first[0]));
    assert_eq!(identity.chain(), first, "nothing more is shown");
    assert!(refused(&Step::Prepare(None)).contains("prepared already"));
    assert!(refused(&Step::Retire).contains("certificate switch"));

    identity.take(&Step::Switch, NOW).unwrap();
    assert_eq!(label(&identity), prepared, "devices trust the same two");
    assert_ne!(identity.pins()[0], first[0]);
    let trusts_first = crate::machine::trust::ExpectedServer::of_pins(first.clone());
    let chain = identity.chain();
    let behind: Vec<&[u8]> = chain[1..].iter().map(Vec::as_slice).collect();
    assert_eq!(trusts_first.check(&chain[0], &behind), Ok(()), "the former key vouches");
    assert!(refused(&Step::Prepare(None)).contains("certificate retire"));

    identity.take(&Step::Retire, NOW).unwrap();
    assert_eq!(identity.pins().len(), 1);
    assert_eq!(identity.chain().len(), 1);
    assert!(![before, prepared].contains(&label(&identity)));
    // All of it is on the disk.
    let again = Identity::open(&directory).unwrap();
    assert_eq!((again.pins(), again.trust_facts()), (identity.pins(), identity.trust_facts()));
    for entry in fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!entry.file_name().to_string_lossy().contains("former"), "{:?}", entry.file_name());
    }
}

#[test]
fn the_recovery_key_vouches_for_the_next_key_and_for_a_whole_new_identity() {
    use crate::machine::trust::{ExpectedServer, Untrusted};
    let (_parent, directory, identity) = made();
    assert!(
        identity
            .take(&Step::Prepare(Some("no key")), NOW)
            .unwrap_err()
            .to_string()
            .contains("no recovery key")
    );
    let key = identity.create_recovery_key(NOW).unwrap();
    assert_eq!(identity.pins().len(), 2);
    let away = ExpectedServer::Pins { pins: identity.pins(), voucher_floor: 0 };
    let old_chain = identity.chain();
    assert_eq!(old_chain.len(), 1, "a recovery key costs no handshake anything");
    let (_b, _, other) = made();
    let foreign = other.create_recovery_key(NOW).unwrap();
    let error = identity.take(&Step::Prepare(Some(&foreign)), NOW).unwrap_err().to_string();
    assert!(error.contains("not the recovery key"), "{error}");
    // Without it first, and with it once more.
    identity.take(&Step::Prepare(None), NOW).unwrap();
    identity.take(&Step::Prepare(Some(&key)), NOW).unwrap();
    let first_number = identity.trust_facts().voucher_floor;
    identity.take(&Step::Switch, NOW).unwrap();
    identity.take(&Step::Retire, NOW).unwrap();
    let check = |trusted: &ExpectedServer, chain: &[Vec<u8>]| {
        trusted.check(&chain[0], &chain[1..].iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    assert_eq!(check(&away, &identity.chain()), Ok(()));
    let added: usize = identity.chain()[1..].iter().map(Vec::len).sum();
    assert!((200..400).contains(&added), "a voucher has {added} bytes");
    let synced =
        ExpectedServer::Pins { pins: identity.pins(), voucher_floor: identity.trust_facts().voucher_floor };
    assert_eq!(check(&synced, &old_chain), Err(Untrusted::Foreign));

    // The server's key is lost, and with it all but what is no secret. The clock is wrong as well.
    let stolen = identity.chain();
    fs::remove_file(directory.join("server-key.pem")).unwrap();
    fs::remove_file(directory.join("server-certificate.pem")).unwrap();
    assert!(Identity::open(&directory).unwrap_err().to_string().contains("recovery-key use"));
    let error =
        Identity::recover(&directory, &foreign, Recovery::default(), WallTime(0)).unwrap_err().to_string();
    assert!(error.contains("not the recovery key"), "{error}");
    let recovered = Identity::recover(&directory, &key, Recovery::default(), WallTime(0)).unwrap();
    assert_eq!(recovered.trust_facts().voucher_floor, first_number + 1);
    for trusted in [&away, &synced] {
        assert_eq!(check(trusted, &recovered.chain()), Ok(()));
    }
    let after =
        ExpectedServer::Pins { pins: recovered.pins(), voucher_floor: recovered.trust_facts().voucher_floor };
    let refused = check(&after, &stolen);
    assert_eq!(refused, Err(Untrusted::Replaced { number: first_number, least: first_number + 1 }));
    assert_eq!(identity.pins().last(), recovered.pins().last(), "the recovery pin is the same");
    // The authority was whole, and knows the certificates that it has signed.
    let of_before = identity.issue(&request(&rcgen::PKCS_ED25519).1, wanted(9), NOW).unwrap().der;
    assert_eq!(recovered.issued(&of_before).map(|issued| issued.device), Some(DeviceId(9)));
    let anew = Identity::recover(&directory, &key, Recovery { is_stolen: true, above: 0 }, NOW).unwrap();
    assert_eq!(anew.issued(&of_before), None, "a thief signs nothing that counts");
    fs::write(directory.join("ca-key.pem"), "damaged").unwrap();
    let recovery = Recovery { is_stolen: false, above: u32::MAX / 2 };
    let anew = Identity::recover(&directory, &key, recovery, NOW).unwrap();
    assert_eq!(anew.trust_facts().voucher_floor, u32::MAX / 2 + 1);
    assert_eq!(check(&synced, &anew.chain()), Ok(()));
    let recovered = anew;
    assert!(directory.with_file_name(REPLACED).join("ca-key.pem").exists());
    // With a passphrase what is put aside is under it, though it was not.
    let replaced = directory.with_file_name(REPLACED);
    let place = under(&directory, "words");
    drop(Identity::recover(place, &key, Recovery { is_stolen: false, above: u32::MAX - 9 }, NOW).unwrap());
    for entry in fs::read_dir(&replaced).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(
            !text.contains("BEGIN PRIVATE KEY") && !text.contains("BEGIN MUSTER SERVER SECRET"),
            "{text}"
        );
    }
    assert_eq!(Identity::open(under(&replaced, "words")).unwrap().pins(), recovered.pins());
    assert_ne!(
        recovered.datagram_key(DatagramPurpose::Wake, DeviceId(1)),
        identity.datagram_key(DatagramPurpose::Wake, DeviceId(1))
    );
}

#[test]
fn a_missing_file_of_a_rotation_is_named_and_damage_too() {
    let (_parent, directory, identity) = made();
    let key = identity.create_recovery_key(NOW).unwrap();
    identity.take(&Step::Prepare(Some(&key)), NOW).unwrap();
    identity.take(&Step::RotateSecret, NOW).unwrap();
    for name in ["next-key.pem", "next-certificate.pem", "recovery-certificate.pem", "former-secret.pem"] {
        let (path, aside) = (directory.join(name), directory.with_extension("aside"));
        fs::rename(&path, &aside).unwrap();
        let error = Identity::open(&directory).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} is missing", path.display())), "{error}");
        fs::rename(&aside, &path).unwrap();
    }
    fs::copy(directory.join("server-key.pem"), directory.join("next-key.pem")).unwrap();
    let error = Identity::open(&directory).unwrap_err().to_string();
    assert!(error.contains("not the certificate of the key in next-key.pem"), "{error}");
}

#[test]
fn two_secrets_are_good_until_the_former_one_is_retired() {
    let (_parent, _, identity) = made();
    let device = DeviceId(7);
    let first = identity.datagram_key(DatagramPurpose::Notice, device);
    assert_eq!(identity.former_datagram_key(DatagramPurpose::Notice, device), None);
    let label = identity.trust_facts().label;
    identity.take(&Step::RotateSecret, NOW).unwrap();
    assert_eq!(identity.former_datagram_key(DatagramPurpose::Notice, device), Some(first));
    assert_ne!(identity.datagram_key(DatagramPurpose::Notice, device), first);
    assert_ne!(identity.trust_facts().label, label, "devices are to store another key");
    assert!(identity.take(&Step::RotateSecret, NOW).is_err());
    identity.take(&Step::Retire, NOW).unwrap();
    assert_eq!(identity.former_datagram_key(DatagramPurpose::Notice, device), None);
}

fn under(directory: &Path, words: &str) -> Place {
    Place::new(directory.to_owned(), Some(Passphrase::new(words.as_bytes())))
}

#[test]
fn under_a_passphrase_it_is_the_same_and_without_it_nothing() {
    let (_parent, directory, first) = made();
    let sealed = Identity::open_or_create(under(&directory, "words"), &[], NOW).unwrap();
    assert_eq!(sealed.pins(), first.pins());
    let device = DeviceId(7);
    let key = |identity: &Identity| identity.datagram_key(DatagramPurpose::Wake, device);
    assert_eq!(key(&sealed), key(&first));
    for entry in fs::read_dir(&directory).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("PRIVATE KEY") && !text.contains("SERVER SECRET"), "{text}");
    }
    assert!(matches!(Identity::open(&directory), Err(IdentityError::Sealed(_))));
    let wrong = Identity::open_or_create(under(&directory, "other"), &[], NOW);
    assert!(matches!(wrong, Err(IdentityError::WrongPassphrase(_))));
    // A file in the place of another one.
    let (ca, server) = (directory.join("ca-key.pem"), directory.join("server-key.pem"));
    let kept = fs::read(&ca).unwrap();
    fs::copy(&server, &ca).unwrap();
    assert!(matches!(Identity::open(under(&directory, "words")), Err(IdentityError::WrongPassphrase(_))));
    fs::write(&ca, kept).unwrap();
    Identity::reseal(under(&directory, "words"), None).unwrap();
    assert_eq!(key(&Identity::open(&directory).unwrap()), key(&first));
}
