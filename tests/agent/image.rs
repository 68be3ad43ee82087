//! Machines that are made from one image, and enrol by themselves at their first boot.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use muster::agent::enroll::enroll;
use muster::agent::identity::KeyType;
use muster::agent::moving::verify;
use muster::wire::id::CertificateHash;
use muster::wire::time::WallTime;
use muster::wire::token::JoinToken;

use crate::kit::{AGENT, Fixture, Running, Site, copy_directory, error_of, eventually, free_udp_port, now};

/// `prepare-image` on the data directory of the site's device.
fn prepare(site: &Site, token: &str) -> Output {
    let file = site.write("token", format!("{token}\n"));
    let address = site.address.to_string();
    site.agent(&["prepare-image", "--server", &address, "--token-file", &file, "--key-type", "p256"])
}

fn names_in(site: &Site, directory: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(site.path(directory)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Starts the agent of a machine that was made from the image, on a root of its own.
fn boot(site: &Site, name: &str, machine: u32) -> Running {
    let root = site.text(&format!("{name}-root"));
    site.write(&format!("{name}-root/etc/machine-id"), format!("{machine:032x}\n"));
    let own = format!("[wake]\nport = {}\n[collect]\nroot = \"{root}\"\n", free_udp_port());
    site.write(&format!("{name}/muster-agent.toml"), own);
    let mut command = Command::new(AGENT);
    Running::start(command.args(["run", "--data"]).arg(site.path(name)), &site.path(&format!("{name}.log")))
}

fn on(site: &Site, name: &str, arguments: &[&str]) -> Output {
    Command::new(AGENT).args(arguments).arg("--data").arg(site.path(name)).output().unwrap()
}

#[test]
fn machines_of_an_image_that_was_a_device_enrol_by_themselves_and_none_is_that_device() {
    let (site, server) = Site::enrolled();
    let agent = site.agent_process();
    assert!(site.emit("info", "of the device before").status.success());
    site.wait_until_confirmed();
    let token = site.ctl_json(&["token", "create", "--uses", "3", "--group", "/image"]);
    let token = token["token"].as_str().unwrap();
    let refused = prepare(&site, token);
    assert!(error_of(&refused).contains("in use by a running agent"), "{}", error_of(&refused));
    assert!(agent.end().success());
    let prepared = prepare(&site, token);
    assert!(prepared.status.success(), "{}", error_of(&prepared));
    let said = String::from_utf8_lossy(&prepared.stdout).into_owned();
    assert!(said.contains("musterctl device remove 'kiosk'"), "{said}");
    let left = names_in(&site, "agent");
    let locks = ["agent.lock", "join.lock", "join.toml", "muster-agent.toml", "muster-agent.toml.last-good"];
    assert!(left.iter().all(|name| locks.contains(&name.as_str())), "{left:?}");
    let status = site.status();
    assert_eq!((&status["state"], &status["device"]), (&"waiting_to_enrol".into(), &serde_json::Value::Null));
    assert_eq!(status["server"], site.address.to_string());

    let machines = ["one", "two", "three"];
    machines.iter().for_each(|name| copy_directory(&site.path("agent"), &site.path(name)));
    let agents: Vec<_> = (1..).zip(machines).map(|(number, name)| boot(&site, name, number)).collect();
    for name in machines {
        eventually(&format!("{name} is in sync"), || on(&site, name, &["sync"]).status.success());
        assert!(!site.path(&format!("{name}/join.toml")).exists(), "the token is wiped");
    }
    let listed = site.ctl_json(&["device", "list", "--group", "/image"]);
    let ids: BTreeSet<_> =
        listed.as_array().unwrap().iter().map(|device| device["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 3, "{listed}");
    let own: BTreeSet<_> = machines
        .iter()
        .map(|name| {
            let status = on(&site, name, &["status", "--json"]).stdout;
            let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
            status["device"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(own, ids);
    for id in &ids {
        assert_eq!(site.ctl_json(&["device", "show", id])["certificate"]["key_type"], "p256");
    }
    assert!(site.events("muster", "identity_shared").is_empty());
    agents.into_iter().for_each(|agent| assert!(agent.end().success()));
    assert!(server.end().success());
}

#[test]
fn a_first_boot_tries_until_it_is_enrolled_and_says_why_it_is_not() {
    let site = Site::new();
    let server = site.server();
    let first = site.ctl_json(&["token", "create"]);
    let token = first["token"].as_str().unwrap().to_owned();
    assert!(site.ctl(&["token", "revoke", first["id"].as_str().unwrap()]).status.success());
    assert!(prepare(&site, &token).status.success());
    assert!(server.end().success());
    let mut agent = boot(&site, "agent", 1);
    agent.wait_for_line("not enrolled yet");
    let problem = || site.status()["last_error"].as_str().unwrap_or_default().to_owned();
    eventually("status says why", || problem().contains("no connection to"));
    let checked = site.agent(&["check"]);
    let lines = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(lines.contains("waits to enrol at") && lines.contains("no connection to"), "{lines}");
    assert!(agent.end().success(), "a signal ends the wait");

    let server = site.server();
    let mut agent = boot(&site, "agent", 1);
    agent.wait_for_line("the server refused");
    eventually("status says why", || problem().contains("revoked"));
    // A token that is of use is taken up with the next attempt, too; a restart makes that now.
    assert!(agent.end().success());
    assert!(prepare(&site, &site.token()).status.success());
    let agent = boot(&site, "agent", 1);
    eventually("it is in sync", || site.agent(&["sync"]).status.success());
    assert!(!site.path("agent/join.toml").exists() && !site.path("agent/join.problem").exists());
    assert!(agent.end().success());
    assert!(server.end().success());
}

/// Cut off behind the server's word, whatever it was that cut: the key that asked is there and asks again.
#[test]
fn an_enrolment_that_is_cut_off_goes_on_as_the_same_device() {
    let site = Site::new();
    let server = site.server();
    site.configure("");
    let token = site.ctl_json(&["token", "create", "--uses", "2"])["token"].as_str().unwrap().to_owned();
    let (at, parsed): (_, JoinToken) = (site.address.to_string().parse().unwrap(), token.parse().unwrap());
    let lost = enroll(&at, &parsed, "kiosk", KeyType::Ed25519, Some(&site.path("agent")), now()).unwrap();
    let enrolled = site.enroll(&token);
    assert!(enrolled.status.success(), "{}", error_of(&enrolled));
    assert_eq!(site.status()["device"], lost.identity.device.to_string());
    let left = names_in(&site, "agent");
    assert!(left.iter().all(|name| !name.contains("candidate")), "{left:?}");
    assert_eq!(site.ctl_json(&["device", "list"]).as_array().unwrap().len(), 1);
    assert_eq!(site.ctl_json(&["token", "list"])[0]["used"], 1);
    let agent = site.agent_process();
    site.sync();
    assert!(agent.end().success());
    // It is done: another enrolment makes another device.
    let arguments = ["enroll", "--force", "--server", &site.address.to_string(), "--token", &site.token()];
    assert!(site.agent(&arguments).status.success());
    assert_eq!(site.ctl_json(&["device", "list"]).as_array().unwrap().len(), 2);
    assert!(server.end().success());
}

/// A thousand first boots of one image, against a real server: the enrolment that each of them makes, with
/// the one token that the image holds, from as many threads as a storm needs.
#[test]
fn a_thousand_first_boots_of_one_image_make_a_thousand_devices() {
    const BOOTS: u32 = 1_000;
    const THREADS: u32 = 8;
    let fixture = Fixture::start();
    let token: JoinToken = fixture.token(BOOTS);
    let server = fixture.address().to_string().parse().unwrap();
    let enrolled: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let boots = 0..BOOTS / THREADS;
                    let boot = |_| loop {
                        // A server that has too much to do is asked again, as a first boot does.
                        match enroll(&server, &token, "kiosk", KeyType::Ed25519, None, now()) {
                            Ok(new) => break new.identity,
                            Err(error) if error.to_string().contains("busy") => {
                                std::thread::sleep(std::time::Duration::from_millis(200));
                            }
                            Err(error) => panic!("{error}"),
                        }
                    };
                    boots.map(boot).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let distinct = |of: &dyn Fn(usize) -> String| (0..enrolled.len()).map(of).collect::<BTreeSet<_>>().len();
    assert_eq!(enrolled.len(), 1_000);
    assert_eq!(distinct(&|at| enrolled[at].device.to_string()), 1_000);
    assert_eq!(distinct(&|at| enrolled[at].name.clone()), 1_000);
    assert_eq!(distinct(&|at| CertificateHash::of(&enrolled[at].certificate).to_string()), 1_000);
    assert_eq!(distinct(&|at| CertificateHash::of(&enrolled[at].private_key).to_string()), 1_000);
    assert_eq!(fixture.server.store().table().len(), 1_000);
    let late = enroll(&server, &token, "kiosk", KeyType::Ed25519, None, now()).unwrap_err();
    assert!(late.to_string().contains("used up"), "{late}");
}

/// A device knows a server by its certificate alone, and no date in it: whatever its clock says.
#[test]
fn a_device_enrols_and_is_known_with_any_clock() {
    let fixture = Fixture::start();
    let server = fixture.address().to_string().parse().unwrap();
    let year_2100 = WallTime(4_102_444_800_000);
    let clocks = [WallTime(0), WallTime(3_600_000), year_2100, WallTime(u64::MAX)];
    let token = fixture.token(u32::try_from(clocks.len()).unwrap());
    for clock in clocks {
        let new = enroll(&server, &token, "kiosk", KeyType::Ed25519, None, clock).unwrap();
        verify(&server, &new.identity, false).unwrap();
    }
    assert_eq!(fixture.server.store().table().len(), clocks.len());
}
