//! The server's certificate through its life: rotated with a device that is there, with one that is away,
//! lost, stolen, and in front of it one of another authority.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::kit::{Running, Site, copy_directory, error_of, eventually, musterd, succeed};

/// Runs a command of the server on its data directory.
fn server_command(site: &Site, arguments: &[&str]) -> std::process::Output {
    musterd(&[arguments, &["--data", &site.text("server")]].concat()).output().unwrap()
}

/// Makes a recovery key while the server runs; the file that it is in.
fn recovery_key(site: &Site) -> String {
    let made = server_command(site, &["recovery-key", "create"]);
    assert!(made.status.success(), "{}", error_of(&made));
    assert!(String::from_utf8_lossy(&made.stderr).contains("shown this once"));
    site.write("recovery-key.pem", &made.stdout)
}

fn certificate(site: &Site) -> Value {
    site.ctl_json(&["certificate", "status"])
}

fn is_ready(site: &Site) -> bool {
    let status = certificate(site);
    status["ready"] == status["devices"]
}

fn step(site: &Site, arguments: &[&str]) -> Value {
    site.ctl_json(&[&["certificate"], arguments].concat())
}

#[track_caller]
fn refused(site: &Site, arguments: &[&str]) -> String {
    let output = site.ctl(&[&["certificate"], arguments].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    error_of(&output)
}

fn full_handshakes(site: &Site) -> u64 {
    let links = &site.ctl_json(&["status"])["links"];
    links["handshakes"].as_u64().unwrap() - links["handshakes_resumed"].as_u64().unwrap()
}

fn stop(server: Running) {
    assert!(server.end().success());
}

fn openssl(arguments: &[&str]) -> String {
    succeed(Command::new("openssl").args(arguments))
}

/// An authority and a certificate by it, as an administrator has them.
fn issue(site: &Site, kind: &str) {
    let path = |name: &str| site.text(name);
    if !Path::new(&path("ca.pem")).exists() {
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=own authority",
            "-keyout",
            &path("ca.key"),
            "-out",
            &path("ca.pem"),
            "-days",
            "30",
        ]);
    }
    let mut new = vec!["req", "-new", "-nodes", "-subj", "/CN=muster.example.org"];
    new.extend(match kind {
        "ec" => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"][..],
        _ => &["-newkey", "rsa:2048"][..],
    });
    let extensions = site.write("extensions", "subjectAltName = DNS:muster.example.org\n");
    let (key, request, made) = (path("next.key"), path("next.csr"), path("next.pem"));
    openssl(&[&new[..], &["-keyout", &key, "-out", &request]].concat());
    openssl(&[
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &path("ca.pem"),
        "-CAkey",
        &path("ca.key"),
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        &extensions,
        "-out",
        &made,
    ]);
    std::fs::rename(key, path("tls.key")).unwrap();
    std::fs::rename(made, path("tls.pem")).unwrap();
}

/// The certificates that the server shows, as `openssl s_client` sees them: subjects and issuers.
fn shown(site: &Site) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &site.address.to_string(), "-showcerts", "-alpn", "muster/1"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs the agent until the device has stored the certificates that it is to know, and has said so.
fn ready(site: &Site) -> Running {
    let agent = site.agent_process();
    site.sync();
    eventually("the device has named what it trusts", || is_ready(site));
    agent
}

#[test]
fn a_device_that_is_there_stays_in_sync_through_a_rotation() {
    let (site, _server) = Site::enrolled();
    site.configure("");
    let _agent = site.agent_process();
    // On a link that stays the device is told without waiting for its next sync.
    site.ctl_json(&["device", "set", "kiosk", "--keep-connected", "on"]);
    site.sync();
    eventually("the device has named what it trusts", || is_ready(&site));
    let first = certificate(&site);
    assert_eq!(first["stage"], "current");
    let pins = |site: &Site| site.status()["pins"].as_array().unwrap().len();
    assert_eq!(pins(&site), 1);
    let handshakes = full_handshakes(&site);

    assert!(refused(&site, &["switch"]).contains("certificate prepare"));
    let prepared = step(&site, &["prepare"]);
    assert_eq!(
        (&prepared["stage"], &prepared["current_sha256"]),
        (&"prepared".into(), &first["current_sha256"])
    );
    let human = site.ctl_human(&["certificate", "status"]);
    assert!(human.contains("the next one is prepared"), "{human}");
    assert!(site.ctl_human(&["status"]).contains("the next one is prepared"));
    eventually("the device has the next pin", || is_ready(&site));
    assert_eq!(pins(&site), 2);
    let switched = step(&site, &["switch"]);
    assert_eq!(
        (&switched["stage"], &switched["current_sha256"]),
        (&"switched".into(), &prepared["next_sha256"])
    );
    assert_eq!(switched["label"], prepared["label"], "devices trust what they did");
    site.sync();
    assert!(is_ready(&site));
    step(&site, &["retire"]);
    eventually("the device has forgotten the former pin", || is_ready(&site));
    assert_eq!(pins(&site), 1);
    assert_eq!(site.status()["pins"][0], switched["current_sha256"]);
    site.ctl_json(&["device", "set", "kiosk", "--keep-connected", "off"]);
    eventually("its link is closed", || {
        site.agent(&["sync"]);
        site.status()["state"] == "waiting"
    });
    site.sync();
    let more = full_handshakes(&site) - handshakes;
    assert_eq!(more, 1, "once, with the new certificate; `check` comes later");
    for kind in ["certificate_prepared", "certificate_switched", "certificate_retired"] {
        assert_eq!(site.events("muster", kind).len(), 1, "{kind}");
    }
    assert!(site.status()["last_error"].is_null());
    let checked = site.agent(&["check"]);
    assert!(String::from_utf8_lossy(&checked.stdout).contains("equals stored copy 1 of 1"), "{checked:?}");
}

#[test]
fn a_switch_that_would_lose_devices_is_refused_with_their_names() {
    let (site, _server) = Site::enrolled();
    site.configure("");
    ready(&site).end();
    step(&site, &["prepare"]);
    let human = site.ctl_human(&["certificate", "status"]);
    assert!(human.contains("0 of 1 (0 %)") && human.contains("1: kiosk"), "{human}");
    let missing = site.ctl_json(&["device", "list", "--pins", "missing"]);
    assert_eq!(missing[0]["name"], "kiosk");
    assert_eq!(site.ctl_json(&["device", "list", "--pins", "stored"]).as_array().unwrap().len(), 0);
    let why = refused(&site, &["switch"]);
    assert!(why.contains("1 of 1 devices") && why.contains("(kiosk)") && why.contains("--force"), "{why}");
    step(&site, &["switch", "--share", "0"]);
    let why = refused(&site, &["retire"]);
    assert!(why.contains("could not come back") && why.contains("(kiosk)"), "{why}");
    // Until then the former key vouches for the new one.
    let _agent = ready(&site);
    step(&site, &["retire"]);
    site.sync();
}

#[test]
fn a_device_that_was_away_for_all_of_it_comes_back_by_the_recovery_pin() {
    let (site, _server) = Site::enrolled();
    site.configure("");
    let key = recovery_key(&site);
    ready(&site).end();
    let status = step(&site, &["prepare", "--recovery-key-file", &key]);
    assert_eq!((&status["recoverable"], &status["is_next_vouched"]), (&1.into(), &true.into()));
    step(&site, &["switch"]);
    let retired = step(&site, &["retire"]);
    assert_eq!(retired["missing"].as_array().unwrap().len(), 0);

    let checked = site.agent(&["check"]);
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(told.contains("is vouched for by one of the 2 stored copies"), "{told}");
    let _agent = ready(&site);
    assert_eq!(site.status()["pins"][0], retired["current_sha256"]);

    // In the eyes of others.
    let seen = shown(&site);
    assert!(seen.contains("CN = muster server") && seen.contains("CN = muster voucher"), "{seen}");
    let identity = |name: &str| site.text(&format!("server/identity/{name}"));
    let text = openssl(&["x509", "-in", &identity("recovery-voucher.pem"), "-noout", "-text"]);
    for part in ["Issuer: CN = muster recovery", "Subject: CN = muster voucher", "ED25519"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (recovery, voucher) = (identity("recovery-certificate.pem"), identity("recovery-voucher.pem"));
    let verified = openssl(&["verify", "-CAfile", &recovery, &voucher]);
    assert!(verified.ends_with(": OK\n"), "{verified}");
    let public = |name: &str| openssl(&["x509", "-in", &identity(name), "-noout", "-pubkey"]);
    assert_eq!(public("recovery-voucher.pem"), public("server-certificate.pem"));
    let names: Vec<_> = std::fs::read_dir(site.path("server/identity")).unwrap().collect();
    let private = std::fs::read_to_string(&key).unwrap();
    for entry in names {
        let path = entry.unwrap().path();
        assert!(!std::fs::read_to_string(&path).unwrap().contains(private.trim()), "{}", path.display());
    }
}

#[test]
fn a_lost_server_key_is_replaced_without_a_visit_and_a_stolen_one_is_worth_nothing() {
    let (site, server) = Site::enrolled();
    site.configure("");
    let key = recovery_key(&site);
    let agent = ready(&site);
    // A rotation, so that the key that is stolen has a voucher of its own.
    step(&site, &["prepare", "--recovery-key-file", &key]);
    site.sync();
    eventually("the device has the next pin", || is_ready(&site));
    step(&site, &["switch"]);
    step(&site, &["retire"]);
    site.sync();
    eventually("the device has forgotten the first", || is_ready(&site));
    stop(server);
    copy_directory(&site.path("server"), &site.path("stolen"));
    for name in ["server-key.pem", "server-certificate.pem"] {
        std::fs::remove_file(site.path("server/identity").join(name)).unwrap();
    }
    let mut command = musterd(&["run", "--data", &site.text("server"), "--listen", "127.0.0.1:0"]);
    let refused = command.output().unwrap();
    assert!(error_of(&refused).contains("musterd recovery-key use"), "{refused:?}");

    let used = server_command(&site, &["recovery-key", "use", "--key-file", &key]);
    assert!(used.status.success(), "{}", error_of(&used));
    assert!(String::from_utf8_lossy(&used.stdout).contains("identity.replaced"), "{used:?}");
    let server = site.server();
    eventually("the device is back by itself", || {
        site.agent(&["sync"]);
        is_ready(&site)
    });
    assert_eq!(site.ctl_json(&["device", "list"]).as_array().unwrap().len(), 1, "as the same device");
    // Wakes and notices have new keys; the device said that it is here, on the new ones.
    agent.end();
    eventually("its goodbye is heard", || site.shown()["presence"] == "agent_stopped");

    // The thief answers in the server's place, with the key and the voucher that were good before.
    stop(server);
    let mut thief = musterd(&["run", "--data", &site.text("stolen"), "--udp", "127.0.0.1:0"]);
    thief.args(["--listen", &site.address.to_string()]);
    let _thief = Running::start(&mut thief, &site.path("thief.log"));
    eventually("the thief listens", || std::net::TcpStream::connect(site.address).is_ok());
    let checked = site.agent(&["check"]);
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(!checked.status.success());
    assert!(told.contains("its voucher has number") && told.contains("stolen its key"), "{told}");
    let _agent = site.agent_process();
    let failed = site.agent(&["sync"]);
    assert!(!failed.status.success());
    assert!(error_of(&failed).contains("the server's key was replaced since"), "{}", error_of(&failed));
}

#[test]
fn a_certificate_of_ones_own_authority_is_renewed_with_new_keys_unnoticed() {
    let site = Site::new();
    issue(&site, "ec");
    let file = format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", site.path("tls.pem"), site.path("tls.key"));
    let config = site.write("musterd.toml", file);
    let server = site.server_with(&["--config", &config], &[]);
    // The token names the server's own certificate, which stands behind the other.
    site.enrol();
    site.configure("");
    let _agent = site.agent_process();
    site.sync();
    let seen = shown(&site);
    assert!(seen.contains("CN = muster.example.org"), "{seen}");
    assert!(seen.contains("CN = own authority") && seen.contains("CN = muster voucher"), "{seen}");
    let mut last = certificate(&site)["files_sha256"].clone();
    for kind in ["ec", "rsa"] {
        issue(&site, kind);
        server.signal(rustix::process::Signal::HUP);
        eventually("the server shows the new certificate", || certificate(&site)["files_sha256"] != last);
        last = certificate(&site)["files_sha256"].clone();
        // A new process has no ticket: its handshake is a full one.
        let checked = site.agent(&["check"]);
        let told = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(told.contains(last.as_str().unwrap()) && told.contains("is vouched for"), "{told}");
        site.sync();
    }
    assert!(site.status()["last_error"].is_null());
    // A key that others can read is named, by the check and by the server, which goes on with the one it has.
    let key = site.path("tls.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let checked = musterd(&["check-config", "--config", &config]).output().unwrap();
    let why = error_of(&checked);
    assert!(
        why.contains("tls.key: ") && why.contains("it has mode 644") && why.contains("run 'chmod 6"),
        "{why}"
    );
    server.signal(rustix::process::Signal::HUP);
    eventually("the server says so", || site.log("server.log").contains("it has mode 644"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    // Files that don't belong together change nothing.
    std::fs::copy(site.path("ca.key"), site.path("tls.key")).unwrap();
    server.signal(rustix::process::Signal::HUP);
    eventually("the fault is told", || site.log("server.log").contains("can't be used together"));
    assert_eq!(certificate(&site)["files_sha256"], last);
    site.sync();
}

#[test]
fn a_server_that_is_killed_in_any_step_starts_again_and_knows_its_devices() {
    let (site, mut server) = Site::enrolled();
    site.configure("");
    let key = recovery_key(&site);
    let _agent = site.agent_process();
    let key_file = key.as_str();
    let steps: [&[&str]; 3] =
        [&["prepare", "--recovery-key-file", key_file], &["switch", "--force"], &["retire", "--force"]];
    for (round, step) in steps.iter().cycle().take(12).enumerate() {
        eventually("the device is in sync", || site.agent(&["sync"]).status.success());
        let mut command = super::kit::musterctl(&site.path("server"), &[&["certificate"], *step].concat());
        let mut asked = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(2 + 3 * round as u64));
        server.kill();
        asked.wait().unwrap();
        server = site.server();
        assert!(
            !site.path("server/identity.unfinished").exists()
                && !site.path("server/identity.former").exists()
        );
    }
    eventually("the device is in sync", || site.agent(&["sync"]).status.success() && is_ready(&site));
}

#[test]
fn a_backup_has_all_of_the_identity_and_a_server_made_of_it_is_known() {
    let (site, server) = Site::enrolled();
    site.configure("");
    let key = recovery_key(&site);
    let _agent = site.agent_process();
    step(&site, &["prepare", "--recovery-key-file", &key]);
    site.sync();
    eventually("the device has the next pin", || is_ready(&site));
    let before = certificate(&site);
    let file = site.text("backup.tar");
    let made = server_command(&site, &["backup", &file]);
    assert!(made.status.success(), "{}", error_of(&made));
    step(&site, &["switch"]);
    site.sync();
    stop(server);
    std::fs::rename(site.path("server"), site.path("burnt")).unwrap();
    succeed(&mut musterd(&["restore", &file, "--data", &site.text("server")]));
    let _server = site.server();
    assert_eq!(certificate(&site)["label"], before["label"]);
    assert_eq!(certificate(&site)["stage"], "prepared");
    eventually("the device knows it", || site.agent(&["sync"]).status.success() && is_ready(&site));
}

#[test]
fn a_device_with_keys_of_the_former_secret_is_heard_and_can_be_called() {
    let (site, _server) = Site::enrolled();
    site.configure("");
    let agent = site.agent_process();
    site.sync();
    eventually("the device has named what it trusts", || {
        is_ready(&site) && site.status()["state"] == "waiting"
    });
    let rotated = step(&site, &["rotate-secret"]);
    assert_eq!((&rotated["has_former_secret"], &rotated["ready"]), (&true.into(), &0.into()));
    assert!(refused(&site, &["rotate-secret"]).contains("certificate retire"));
    // It sleeps until its slot, and has the former keys alone: the wake reaches it, and it takes the new
    // ones.
    let called = site.ctl_human(&["device", "sync", "kiosk", "--wait"]);
    assert!(called.contains("synced"), "{called}");
    eventually("the device has the new keys", || is_ready(&site));
    step(&site, &["retire"]);
    eventually("it is called with the new ones", || {
        site.ctl_human(&["device", "sync", "kiosk", "--wait"]).contains("synced") && is_ready(&site)
    });
    agent.end();
    eventually("its goodbye is heard", || site.shown()["presence"] == "agent_stopped");
}
