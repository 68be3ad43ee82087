//! Certificates of devices, renewed by real agents at a server of the test's own, whose certificates live for
//! seconds.

use std::process::Command;
use std::time::Duration;

use muster::agent::identity::Identity;
use muster::server::Server;
use muster::wire::certificate::KeyType;
use serde_json::Value;

use crate::kit::{AGENT, Program, Site, copy_directory, error_of, eventually, skipped, stored, wait_for};

/// A server, and a device of it that has enrolled and whose link stays.
fn enrolled(life: Duration) -> (Site, Server) {
    let site = Site::new();
    let server = site.serve(life);
    site.enrol();
    site.ctl_json(&["device", "set", "kiosk", "--keep-connected", "on"]);
    site.configure("");
    (site, server)
}

/// The number of the certificate that the server knows the device by.
fn known_number(site: &Site) -> u64 {
    site.shown()["certificate"]["number"].as_u64().unwrap()
}

/// Waits until the device uses this certificate, or a later one.
#[track_caller]
fn wait_for_number(site: &Site, least: u64) {
    eventually(&format!("certificate {least} is used ({})", site.status()), || {
        site.certificate_number() >= least && known_number(site) >= least
    });
}

fn is_suspected(site: &Site) -> bool {
    !site.ctl_json(&["device", "why", "kiosk"])["facts"]["shared_identity"].is_null()
}

fn identity(site: &Site) -> Identity {
    Identity::read_enrolled(&site.path("agent")).unwrap()
}

#[test]
fn a_running_agent_renews_again_and_again_and_no_event_is_missing() {
    let (site, server) = enrolled(Duration::from_secs(4));
    let agent = site.agent_process();
    let mut promised = Vec::new();
    let mut program = Program::connect(&site);
    while site.certificate_number() < 4 {
        let messages = vec![format!("event {}", promised.len())];
        promised.extend(program.emit("warning", &messages).into_iter().zip(messages));
        assert!(promised.len() < 100_000, "it never renews: {}", site.status());
        // Few enough that one list of events holds all of them.
        std::thread::sleep(Duration::from_millis(20));
    }
    wait_for_number(&site, 4);
    site.wait_until_confirmed();
    let renewed: Vec<Value> = site.events("muster", "certificate_renewed");
    assert!(renewed.len() >= 3 && renewed.iter().all(|event| event["severity"] == "info"), "{renewed:?}");
    let status = site.ctl_json(&["device", "show", "kiosk"]);
    assert_eq!(status["certificate"]["key_type"], "ed25519", "{status}");
    let human = site.ctl_human(&["device", "show", "kiosk"]);
    assert!(human.contains("certificate") && human.contains("(ed25519), until "), "{human}");
    assert!(agent.end().success());
    server.drain().unwrap();
    assert!(identity(&site).previous.is_none(), "the old one is forgotten");
    let told: Vec<_> = stored(&site).into_iter().filter(|(_, text)| text.starts_with("event ")).collect();
    assert_eq!(told, promised);
}

#[test]
fn a_device_that_was_off_until_long_after_its_end_comes_back_and_renews() {
    let (site, server) = enrolled(Duration::from_secs(2));
    let expires_at = site.status()["certificate"]["expires_at"].as_u64().unwrap();
    eventually("the certificate has expired", || crate::kit::now().0 > expires_at + 2_000);
    let check = site.agent(&["check"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("expired at") && said.contains("the next sync renews it"), "{said}");
    let agent = site.agent_process();
    site.sync();
    wait_for_number(&site, 2);
    assert!(agent.end().success());
    server.drain().unwrap();
}

/// Killed at whatever it is at, once for each eighth of a renewal's interval and at each change of its disk.
#[test]
fn an_agent_that_is_killed_at_any_moment_of_a_renewal_comes_back() {
    let (site, server) = enrolled(Duration::from_secs(3));
    let slots = || ["identity.a", "identity.b"].map(|slot| std::fs::read(site.path("agent").join(slot)).ok());
    for round in 0..6 {
        let agent = site.agent_process();
        if round % 2 == 0 {
            // The first change of its slots: the renewed certificate beside the old one, unproved.
            let before = slots();
            eventually("it stores a certificate", || slots() != before);
        } else {
            std::thread::sleep(Duration::from_millis(400 * round));
        }
        agent.kill();
    }
    let agent = site.agent_process();
    site.sync();
    let reached = site.certificate_number();
    wait_for_number(&site, reached + 1);
    assert!(agent.end().success());
    server.drain().unwrap();
}

#[test]
fn a_server_that_was_restored_from_before_the_renewal_lets_the_device_in() {
    let (site, server) = enrolled(Duration::from_secs(3));
    server.drain().unwrap();
    copy_directory(&site.path("server"), &site.path("backup"));
    let server = site.serve(Duration::from_secs(3));
    let agent = site.agent_process();
    wait_for_number(&site, 2);
    assert!(agent.end().success());
    server.drain().unwrap();
    std::fs::remove_dir_all(site.path("server")).unwrap();
    std::fs::rename(site.path("backup"), site.path("server")).unwrap();

    // From before it, and with a life in which nothing more is renewed.
    let server = site.serve(Duration::from_secs(1_000));
    assert_eq!(known_number(&site), 1);
    let before = site.certificate_number();
    let agent = site.agent_process();
    site.sync();
    eventually("it is known by the certificate that it has", || known_number(&site) >= before.max(2));
    // An expired one is renewed, which is the only thing that may have happened to it.
    assert!(site.certificate_number() >= before);
    assert!(agent.end().success());
    server.drain().unwrap();
}

#[test]
fn a_device_that_was_restored_from_before_the_renewal_is_let_in() {
    let (site, server) = enrolled(Duration::from_secs(3));
    copy_directory(&site.path("agent"), &site.path("copy"));
    let agent = site.agent_process();
    wait_for_number(&site, 3);
    assert!(agent.end().success());
    std::fs::remove_dir_all(site.path("agent")).unwrap();
    std::fs::rename(site.path("copy"), site.path("agent")).unwrap();
    assert_eq!(site.certificate_number(), 1);
    let known = known_number(&site);
    let agent = site.agent_process();
    site.sync();
    wait_for_number(&site, known + 1);
    assert!(!is_suspected(&site), "it never shows again what it has lost");
    assert!(agent.end().success());
    server.drain().unwrap();
}

/// Nothing but the certificates tells them apart: neither syncs.
#[test]
fn a_copy_that_shows_the_old_certificate_in_turn_with_the_renewed_one_is_noticed() {
    let (site, server) = enrolled(Duration::from_secs(3));
    copy_directory(&site.path("agent"), &site.path("copy"));
    let agent = site.agent_process();
    wait_for_number(&site, 2);
    assert!(agent.end().success());
    server.drain().unwrap();
    let server = site.serve(Duration::from_secs(1_000));
    let renewals = site.events("muster", "certificate_renewed").len();
    eventually("two machines are suspected", || {
        for name in ["copy", "agent"] {
            Command::new(AGENT).args(["check", "--data"]).arg(site.path(name)).output().unwrap();
        }
        is_suspected(&site)
    });
    let shared = site.events("muster", "identity_shared");
    assert_eq!(shared.len(), 1);
    assert_eq!(shared[0]["fields"]["addresses"], "127.0.0.1");
    assert_eq!(site.events("muster", "certificate_renewed").len(), renewals, "none of it is a renewal");
    server.drain().unwrap();
}

#[test]
fn a_policy_brings_a_fleet_to_p256_and_back() {
    let (site, server) = enrolled(Duration::from_secs(40));
    let agent = site.agent_process();
    site.sync();
    for key_type in [KeyType::P256, KeyType::Ed25519] {
        let file = site.write("policy.json", format!("{{\"key_type\":\"{key_type}\"}}"));
        site.ctl_json(&["policy", "set", "--group", "/", "--application", "muster-agent", "--file", &file]);
        eventually("it has a key of that kind", || {
            // A moment after the last certificate none is issued: a later sync tries again.
            site.agent(&["sync"]);
            site.shown()["certificate"]["key_type"] == key_type.name()
        });
        assert_eq!(site.status()["certificate"]["key_type"], key_type.name());
        assert_eq!(KeyType::of(&identity(&site).certificate), key_type);
        view(&site, key_type);
    }
    assert!(agent.end().success());
    server.drain().unwrap();
}

#[test]
fn the_kind_that_enroll_was_told_stays_until_a_policy_says_otherwise() {
    let site = Site::new();
    let server = site.serve(Duration::from_secs(4));
    let address = site.address.to_string();
    let enroll = |token: &str, key_type| {
        site.agent(&[
            "enroll",
            "--server",
            &address,
            "--token",
            token,
            "--name",
            "kiosk",
            "--key-type",
            key_type,
        ])
    };
    let token = site.token();
    site.configure("key_type = \"ed25519\"");
    let refused = enroll(&token, "p256");
    assert_eq!(refused.status.code(), Some(2));
    let why = error_of(&refused);
    assert!(why.contains("muster-agent.toml says key_type = \"ed25519\", which would win over"), "{why}");
    let refused = enroll(&token, "rsa");
    assert!(error_of(&refused).contains("ed25519 or p256"), "{}", error_of(&refused));
    site.configure("");
    let enrolled = enroll(&token, "p256");
    assert!(enrolled.status.success(), "{}", error_of(&enrolled));
    view(&site, KeyType::P256);
    site.ctl_json(&["device", "set", "kiosk", "--keep-connected", "on"]);
    let agent = site.agent_process();
    wait_for_number(&site, 3);
    assert_eq!(site.shown()["certificate"]["key_type"], "p256");
    let file = site.write("policy.json", "{\"key_type\":\"ed25519\"}");
    site.ctl_json(&["policy", "set", "--group", "/", "--application", "muster-agent", "--file", &file]);
    eventually("the policy counts", || {
        site.agent(&["sync"]);
        site.shown()["certificate"]["key_type"] == "ed25519"
    });
    assert!(agent.end().success());
    server.drain().unwrap();
}

/// As OpenSSL reads it.
fn view(site: &Site, key_type: KeyType) {
    let identity = identity(site);
    let file = site.write("certificate.der", &identity.certificate);
    let arguments = ["x509", "-inform", "der", "-noout", "-text", "-in", &file];
    let Ok(viewed) = Command::new("openssl").args(arguments).output() else {
        return skipped("a view of the certificate needs openssl");
    };
    assert!(viewed.status.success(), "{}", error_of(&viewed));
    let text = String::from_utf8_lossy(&viewed.stdout).into_owned();
    let key = match key_type {
        KeyType::Ed25519 => "Public Key Algorithm: ED25519",
        KeyType::P256 => "prime256v1",
    };
    let subject = format!("CN = {}", identity.device);
    let serial = format!("40:{:02x}", 0);
    for expected in [key, &subject, &serial, "TLS Web Client Authentication", "Issuer: CN = muster CA"] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
}

#[test]
fn a_certificate_below_the_floor_is_refused_in_words() {
    let (site, server) = enrolled(Duration::from_secs(1_000));
    server.drain().unwrap();
    // As taking the record over leaves it.
    let file = rusqlite::Connection::open(site.path("server/store/muster.db")).unwrap();
    let taken_over = "UPDATE devices SET certificate_floor = 2;
        UPDATE certificates SET hash = randomblob(32), counter = 2;";
    file.execute_batch(taken_over).unwrap();
    drop(file);
    let server = site.serve(Duration::from_secs(1_000));
    let _agent = site.agent_process();
    let refused = site.refused(1, &["sync"]);
    assert!(refused.contains("has taken this device's record over"), "{refused}");
    let closes = wait_for("the close is counted", || {
        let status = site.ctl_json(&["status"]);
        let closes = status["links"]["closes"].as_array().cloned().unwrap_or_default();
        closes.iter().any(|close| close["reason"] == "certificate_superseded").then_some(closes)
    });
    assert!(!closes.is_empty());
    server.drain().unwrap();
}
