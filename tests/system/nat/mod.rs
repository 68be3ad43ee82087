//! A device behind a NAT box, and one behind a router: three hosts on this machine, real processes on them.
//! Needs root and the programs `ip` and `nft`; where they are missing it says so and passes.

mod network;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::skip::skipped;
use network::{BOX_OUTSIDE, DEVICE, DEVICE_LATER, Network, SERVER, missing, succeed};
use serde_json::Value;

/// Time of anything before a test gives up. Generous: the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A process that ends with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Fleet {
    network: Network,
    directory: tempfile::TempDir,
    server: Option<Process>,
    agent: Option<Process>,
}

impl Fleet {
    fn start(is_nat: bool) -> Self {
        let (network, directory) = (Network::make(is_nat), tempfile::tempdir().unwrap());
        let mut fleet = Self { network, directory, server: None, agent: None };
        std::fs::write(
            fleet.path("musterd.toml"),
            format!(
                "[server]\ndata_directory = \"{}\"\n[links]\nkeep_interval = \"5s\"\n[sync]\ninterval = \"10s\"\n",
                fleet.path("server")
            ),
        )
        .unwrap();
        let config = fleet.path("musterd.toml");
        let listen = format!("{SERVER}:13000");
        fleet.server = Some(fleet.process(
            "server",
            env!("CARGO_BIN_EXE_musterd"),
            &["run", "--config", &config, "--listen", &listen],
        ));
        fleet.until("the server answers", |fleet| fleet.try_ctl(&["status"]).is_some());
        let token = fleet.ctl(&["token", "create"])["token"].as_str().unwrap().to_owned();
        let data = fleet.path("agent");
        succeed(
            fleet
                .network
                .command_in("device", env!("CARGO_BIN_EXE_muster-agent"))
                .args(["enroll", "--server", SERVER, "--token", &token, "--name", "kiosk", "--data", &data]),
        );
        fleet.agent =
            Some(fleet.process("device", env!("CARGO_BIN_EXE_muster-agent"), &["run", "--data", &data]));
        fleet.until("the first sync", |fleet| !fleet.kiosk()["last_sync_at"].is_null());
        fleet
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn process(&self, host: &str, program: &str, arguments: &[&str]) -> Process {
        let log = std::fs::File::create(self.path(&format!("{host}.log"))).unwrap();
        let child = self
            .network
            .command_in(host, program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Process(child)
    }

    /// Output of `musterctl --json`; `None` when it did not exit with 0 or 1.
    fn try_ctl(&self, arguments: &[&str]) -> Option<Value> {
        let socket = format!("unix:{}", Path::new(&self.path("server")).join("admin.sock").display());
        let output = Command::new(env!("CARGO_BIN_EXE_musterctl"))
            .args(["--server", &socket, "--json"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    fn ctl(&self, arguments: &[&str]) -> Value {
        self.try_ctl(arguments).unwrap_or_else(|| panic!("{arguments:?}\n{}", self.logs()))
    }

    fn kiosk(&self) -> Value {
        self.ctl(&["device", "show", "kiosk"])
    }

    fn forced_sync(&self) -> Value {
        self.ctl(&["device", "sync", "kiosk", "--wait"])[0].clone()
    }

    fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("{what}: after {:.1} s", begun.elapsed().as_secs_f64());
    }

    fn logs(&self) -> String {
        ["server", "device"]
            .map(|host| {
                let text = std::fs::read_to_string(self.path(&format!("{host}.log"))).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                format!("--- {host}\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
            })
            .join("\n")
    }
}

fn is_skipped() -> bool {
    if let Some(why) = missing() {
        skipped(format_args!("needs {why}"));
        return true;
    }
    false
}

#[test]
fn a_device_behind_nat_is_learned_as_such_and_keeps_its_connection_through_cuts_and_new_addresses() {
    if is_skipped() {
        return;
    }
    let fleet = Fleet::start(true);
    assert_eq!(fleet.kiosk()["address"], BOX_OUTSIDE, "it seems to be where the box is");
    fleet.until("wakes are known not to reach it", |fleet| fleet.kiosk()["udp_reach"] == "unreached");
    fleet.until("it keeps its connection", |fleet| fleet.kiosk()["presence"] == "connected");
    let outcome = fleet.forced_sync();
    assert_eq!((&outcome["outcome"], &outcome["by"]), (&"synced".into(), &"link".into()), "{outcome}");

    fleet.network.cut();
    fleet.until("the server finds the link dead", |fleet| fleet.kiosk()["presence"] != "connected");
    fleet.network.mend();
    fleet.until("it is back", |fleet| fleet.kiosk()["presence"] == "connected");
    let link = fleet.kiosk()["link"].clone();
    fleet.network.change_address();
    fleet.until("it is back from its new address", |fleet| {
        let kiosk = fleet.kiosk();
        kiosk["presence"] == "connected" && kiosk["link"] != link
    });
    assert_eq!(fleet.forced_sync()["outcome"], "synced");
}

#[test]
fn a_device_that_is_reached_is_woken_across_the_network_also_at_its_new_address() {
    if is_skipped() {
        return;
    }
    let fleet = Fleet::start(false);
    assert_eq!(fleet.kiosk()["address"], DEVICE);
    fleet.until("it is away", |fleet| fleet.kiosk()["presence"] == "idle");
    let outcome = fleet.forced_sync();
    assert_eq!((&outcome["outcome"], &outcome["by"]), (&"synced".into(), &"wake".into()), "{outcome}");
    fleet.until("wakes are known to reach it", |fleet| fleet.kiosk()["udp_reach"] == "reached");

    fleet.network.change_address();
    fleet.until("it has come from its new address", |fleet| fleet.kiosk()["address"] == DEVICE_LATER);
    fleet.until("it is away", |fleet| fleet.kiosk()["presence"] == "idle");
    let outcome = fleet.forced_sync();
    assert_eq!((&outcome["outcome"], &outcome["by"]), (&"synced".into(), &"wake".into()), "{outcome}");
}
