//! A data directory that was copied while the device was enrolled, with both agents running: real processes
//! in each of the three policies.

use std::path::Path;
use std::process::{Command, Output};

use muster::agent::identity::Identity;
use muster::wire::certificate::{KeyType, counter};
use serde_json::Value;

use crate::kit::{AGENT, Running, Site, copy_directory, error_of, eventually, free_udp_port};

/// The two machines, by the names of their data directories.
const FIRST: &str = "agent";
const COPY: &str = "copy";

struct Copied {
    site: Site,
    server: Running,
    agents: Vec<Running>,
    /// The device's id.
    id: String,
}

impl Copied {
    /// An enrolled device with an event that was not delivered yet, and its copy; both agents run.
    fn new(policy: &str) -> Self {
        let site = Site::new();
        let server = start(&site, policy);
        site.enrol();
        assert!(site.ctl(&["device", "set", "kiosk", "--group", "/shops"]).status.success());
        assert!(site.emit("warning", "before").status.success());
        let id = site.shown()["id"].as_str().unwrap().to_owned();
        copy_directory(&site.path(FIRST), &site.path(COPY));
        let agents = vec![run(&site, FIRST, 1)];
        let copied = Self { site, server, agents, id };
        eventually("the first syncs", || copied.sync(FIRST).status.success());
        copied
    }

    /// Ends the server, by kill -9 where `is_killed`, and starts it anew.
    fn restart(self, policy: &str, is_killed: bool) -> Self {
        let Self { site, server, agents, id } = self;
        if is_killed {
            server.kill();
        } else {
            assert!(server.end().success());
        }
        Self { server: start(&site, policy), site, agents, id }
    }

    /// The two take turns, with a restart of the server behind each sign: two machines are suspected, and the
    /// server that says so has seen none of the signs itself.
    fn found_out_over_restarts(policy: &str) -> Self {
        let mut copied = Self::new(policy);
        copied.take_turn(FIRST, "agent 1");
        copied.agents.push(run(&copied.site, COPY, 2));
        copied.take_turn(COPY, "copy 1");
        let copied = copied.restart(policy, false);
        copied.take_turn(FIRST, "agent 2");
        eventually("it is told", || copied.is_suspected());
        let copied = copied.restart(policy, true);
        eventually("it is told by the next server, too", || copied.is_suspected());
        copied
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(AGENT);
        command.args(arguments).arg("--data").arg(self.site.path(name)).output().unwrap()
    }

    fn sync(&self, name: &str) -> Output {
        self.command(name, &["sync"])
    }

    fn status(&self, name: &str) -> Value {
        serde_json::from_slice(&self.command(name, &["status", "--json"]).stdout).unwrap()
    }

    fn emit(&self, name: &str, message: &str) {
        let arguments = ["emit", "--application", "shop", "--severity", "warning", "--kind", "test", message];
        let emitted = self.command(name, &arguments);
        assert!(emitted.status.success(), "{}", error_of(&emitted));
    }

    fn is_delivered(&self, name: &str) -> bool {
        let spool = &self.status(name)["spool"];
        spool["highest_sequence"] == spool["acked_through"]
    }

    fn devices(&self) -> Vec<Value> {
        self.site.ctl_json(&["device", "list"]).as_array().unwrap().clone()
    }

    /// The messages of a device's events, without the agents' own.
    fn messages(&self, device: &str) -> Vec<String> {
        let listed = self.site.ctl_json(&["event", "list", "--device", device]);
        let of_shop = listed.as_array().unwrap().iter().filter(|event| event["application"] == "shop");
        of_shop.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the agent has done all that it had to do, and has no link: two that take it from each
    /// other stay away for a minute.
    fn wait_until_idle(&self, name: &str) {
        eventually(&format!("{name} is idle"), || {
            let status = self.status(name);
            status["state"] == "waiting" && !status["last_sync"].is_null() && self.is_delivered(name)
        });
    }

    /// It emits something and syncs, both to an end.
    fn take_turn(&self, name: &str, message: &str) {
        self.emit(name, message);
        self.wait_until_idle(name);
        eventually(&format!("{name} syncs"), || self.sync(name).status.success());
        self.wait_until_idle(name);
    }

    /// Both are found out, and the copy enrols anew.
    fn fork(&mut self) {
        self.take_turn(FIRST, "agent 1");
        self.agents.push(run(&self.site, COPY, 2));
        self.take_turn(COPY, "copy 1");
        self.take_turn(FIRST, "agent 2");
        self.emit(COPY, "copy 2");
        eventually("the copy is a device of its own", || {
            self.sync(COPY);
            self.devices().len() == 2 && self.status(COPY)["device"] != self.id.as_str()
        });
    }

    fn why(&self) -> Value {
        self.site.ctl_json(&["device", "why", &self.id])
    }

    fn is_suspected(&self) -> bool {
        !self.why()["facts"]["shared_identity"].is_null()
    }
}

fn start(site: &Site, policy: &str) -> Running {
    let config = site.write("musterd.toml", format!("[identity]\nclones = \"{policy}\"\n"));
    site.server_with(&["--config", &config], &[])
}

/// Runs an agent on a machine of this number.
fn run(site: &Site, name: &str, machine: u32) -> Running {
    let root = site.text(&format!("{name}-root"));
    for (file, text) in [
        ("etc/machine-id", format!("{machine:032x}\n")),
        ("proc/sys/kernel/random/boot_id", format!("{machine:08x}-0000-4000-8000-000000000001\n")),
    ] {
        site.write(&format!("{name}-root/{file}"), text);
    }
    let own = format!("[wake]\nport = {}\n[collect]\nroot = \"{root}\"\n", free_udp_port());
    site.write(&format!("{name}/muster-agent.toml"), own);
    let mut command = Command::new(AGENT);
    Running::start(command.args(["run", "--data"]).arg(site.path(name)), &site.path(&format!("{name}.log")))
}

fn key(directory: &Path) -> Vec<u8> {
    Identity::read_enrolled(directory).unwrap().private_key.clone()
}

fn holds(directory: &Path, key: &[u8]) -> bool {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_file()).any(|path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(key.len()).any(|window| window == key)
    })
}

#[test]
fn a_copy_is_sent_to_enrol_anew_and_both_live_as_two_devices_with_two_keys() {
    let mut copied = Copied::new("fork");
    let old_key = key(&copied.site.path(FIRST));
    copied.fork();
    for name in [FIRST, COPY] {
        copied.emit(name, &format!("{name} at last"));
        eventually("it is in sync", || copied.sync(name).status.success());
        eventually("it has delivered", || copied.is_delivered(name));
    }
    // The first one keeps name, group and record; the copy is in the same group.
    let devices = copied.devices();
    assert_eq!(devices.len(), 2, "{devices:?}");
    let first = devices.iter().find(|device| device["id"] == copied.id.as_str()).unwrap();
    let copy = devices.iter().find(|device| device["id"] != copied.id.as_str()).unwrap();
    assert_eq!((&first["name"], &first["group"]), (&"kiosk".into(), &"/shops".into()));
    assert_eq!(copy["group"], "/shops");
    assert_ne!(copy["name"], "kiosk");
    assert_eq!(copied.status(FIRST)["device"], copied.id.as_str());
    assert_eq!(copied.status(COPY)["device"], copy["id"]);
    // The copy has left without a word in the name of the first.
    let left = copied.site.events("muster", "presence");
    assert!(left.iter().all(|event| event["fields"]["to"] != "agent_stopped"), "{left:?}");
    // Two keys, and the old one is nowhere at the copy.
    assert_eq!(key(&copied.site.path(FIRST)), old_key);
    assert_ne!(key(&copied.site.path(COPY)), old_key);
    assert!(holds(&copied.site.path(FIRST), &old_key) && !holds(&copied.site.path(COPY), &old_key));
    // No event of either is lost, and behind the fork each has its own.
    let (of_first, of_copy) = (copied.messages(&copied.id), copied.messages(copy["id"].as_str().unwrap()));
    let both = || of_first.iter().chain(&of_copy);
    for name in [FIRST, COPY] {
        for number in 1..=2 {
            let message = format!("{name} {number}");
            assert!(both().any(|other| *other == message), "{message}: {of_first:?} {of_copy:?}");
        }
    }
    assert!(both().any(|message| message == "before"));
    assert!(of_first.contains(&format!("{FIRST} at last")) && of_copy.contains(&format!("{COPY} at last")));
    // It is told, and it is over.
    assert_eq!(copied.site.events("muster", "identity_shared").len(), 1);
    assert_eq!(copied.site.events("muster", "identity_forked").len(), 1);
    let of_agent = copied.site.events("muster-agent", "identity_forked");
    assert_eq!(of_agent.len(), 1, "{of_agent:?}");
    assert!(of_agent[0]["message"].as_str().unwrap().contains(&copied.id), "{of_agent:?}");
    eventually("the reason is gone", || copied.why()["facts"]["shared_identity"].is_null());
    assert!(copied.status(COPY)["copy"].is_null());
    copied.agents.into_iter().for_each(|agent| assert!(agent.end().success()));
    assert!(copied.server.end().success());
}

#[test]
fn a_copy_enrols_with_the_kind_of_key_that_a_policy_sets() {
    let mut copied = Copied::new("fork");
    let policy = copied.site.write("policy.json", "{\"key_type\":\"p256\"}");
    let arguments = ["policy", "set", "--group", "/", "--application", "muster-agent", "--file", &policy];
    copied.site.ctl_json(&arguments);
    copied.fork();
    let certificate = &Identity::read_enrolled(&copied.site.path(COPY)).unwrap().certificate;
    // The first of the new device: none that was renewed.
    assert_eq!((counter(certificate), KeyType::of(certificate)), (1, KeyType::P256));
    copied.agents.into_iter().for_each(|agent| assert!(agent.end().success()));
    assert!(copied.server.end().success());
}

#[test]
fn a_copy_is_refused_in_words_and_the_first_stays_in_sync() {
    let mut copied = Copied::new("refuse");
    copied.take_turn(FIRST, "agent 1");
    copied.agents.push(run(&copied.site, COPY, 2));
    copied.take_turn(COPY, "copy 1");
    copied.take_turn(FIRST, "agent 2");
    eventually("the copy is told so", || {
        error_of(&copied.sync(COPY)).contains("another machine uses this device's identity")
    });
    for _ in 0..3 {
        let refused = copied.sync(COPY);
        assert!(error_of(&refused).contains("muster-agent enroll --force"), "{}", error_of(&refused));
        eventually("the first is in sync", || copied.sync(FIRST).status.success());
    }
    let told = copied.status(COPY);
    assert!(told["copy"].as_str().unwrap().contains("another machine"), "{told}");
    let checked = copied.command(COPY, &["check"]);
    let lines = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(1));
    assert!(lines.contains("another machine uses this device's identity"), "{lines}");
    assert!(copied.status(FIRST)["copy"].is_null());
    assert_eq!(copied.devices().len(), 1);
    eventually("device why tells it", || copied.why()["text"].to_string().contains("the copy is refused"));
    // Its events wait where they are, and come along when it is made a device of its own.
    copied.emit(COPY, "of the copy");
    copied.emit(FIRST, "of the first");
    eventually("the first has delivered", || copied.is_delivered(FIRST));
    let second = copied.agents.pop().unwrap();
    assert!(second.end().success());
    let (address, token) = (copied.site.address.to_string(), copied.site.token());
    let arguments = ["enroll", "--force", "--server", &address, "--token", &token, "--name", "kiosk-2"];
    let enrolled = copied.command(COPY, &arguments);
    assert!(enrolled.status.success(), "{}", error_of(&enrolled));
    let agent = run(&copied.site, COPY, 2);
    eventually("the copy is in sync", || copied.sync(COPY).status.success());
    eventually("the copy has delivered", || copied.is_delivered(COPY));
    assert!(copied.messages("kiosk-2").contains(&"of the copy".to_owned()));
    assert!(copied.messages("kiosk").contains(&"of the first".to_owned()));
    assert!(agent.end().success());
    drop(copied.agents);
    assert!(copied.server.end().success());
}

#[test]
fn by_default_both_are_served_and_it_is_told_as_before() {
    let mut copied = Copied::new("alarm");
    copied.agents.push(run(&copied.site, COPY, 2));
    let why = || copied.why()["text"].as_str().unwrap().to_owned();
    copied.take_turn(FIRST, "agent 1");
    copied.take_turn(COPY, "copy 1");
    copied.take_turn(FIRST, "agent 2");
    eventually("it is told", || why().contains("two devices seem to use this identity"));
    assert!(why().contains("now the one's and now the other's"), "{}", why());
    for name in [COPY, FIRST, COPY, FIRST] {
        copied.take_turn(name, "served");
    }
    assert_eq!(copied.devices().len(), 1);
    assert_eq!(copied.site.events("muster", "identity_shared").len(), 1);
    // Another policy counts as soon as it is read: the copy is the one that came second.
    copied.site.write("musterd.toml", "[identity]\nclones = \"refuse\"\n");
    copied.server.hang_up();
    eventually("the copy is refused", || {
        copied.status(COPY)["copy"].is_string() || !copied.sync(COPY).status.success()
    });
    eventually("the first is served", || copied.sync(FIRST).status.success());
    drop(copied.agents);
    assert!(copied.server.end().success());
}

#[test]
fn a_suspicion_outlives_the_server_and_is_told_once() {
    let copied = Copied::found_out_over_restarts("alarm");
    copied.take_turn(COPY, "copy 2");
    copied.take_turn(FIRST, "agent 3");
    assert!(copied.is_suspected());
    assert_eq!(copied.site.events("muster", "identity_shared").len(), 1);
    drop(copied.agents);
    assert!(copied.server.end().success());
}

#[test]
fn a_copy_that_was_found_out_is_sent_to_enrol_anew_by_the_next_server() {
    let copied = Copied::found_out_over_restarts("fork");
    copied.emit(COPY, "copy 2");
    eventually("the copy is a device of its own", || {
        copied.sync(COPY);
        copied.devices().len() == 2 && copied.status(COPY)["device"] != copied.id.as_str()
    });
    copied.take_turn(FIRST, "agent 3");
    assert_eq!(copied.status(FIRST)["device"], copied.id.as_str());
    eventually("the reason is gone", || !copied.is_suspected());
    // That it is done with is not forgotten either.
    let copied = copied.restart("fork", false);
    for name in [FIRST, COPY] {
        eventually("it is in sync", || copied.sync(name).status.success());
    }
    assert!(!copied.is_suspected());
    assert_eq!((copied.devices().len(), copied.site.events("muster", "identity_forked").len()), (2, 1));
    drop(copied.agents);
    assert!(copied.server.end().success());
}

#[test]
fn a_copy_that_was_found_out_is_refused_by_the_next_server_and_the_first_never_is() {
    let copied = Copied::found_out_over_restarts("refuse");
    eventually("the copy is told so", || {
        error_of(&copied.sync(COPY)).contains("another machine uses this device's identity")
    });
    copied.take_turn(FIRST, "agent 3");
    let copied = copied.restart("refuse", false);
    eventually("the first is in sync", || copied.sync(FIRST).status.success());
    eventually("the copy is told so", || {
        error_of(&copied.sync(COPY)).contains("another machine uses this device's identity")
    });
    assert!(copied.status(FIRST)["copy"].is_null());
    drop(copied.agents);
    assert!(copied.server.end().success());
}
