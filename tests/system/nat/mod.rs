//! A device behind a NAT box, and one behind a router: three hosts on this machine, real processes on them.
//! Needs root and the programs `ip` and `nft`; where they are missing it says so and passes.

mod network;

use network::{BOX_OUTSIDE, DEVICE, DEVICE_LATER, Network, SERVER, missing};
use serde_json::Value;

use crate::kit::{AGENT, MUSTERD, Running, Site, eventually, skipped, succeed};

struct Fleet {
    network: Network,
    site: Site,
    _server: Running,
    _agent: Running,
}

impl Fleet {
    fn start(is_nat: bool) -> Self {
        let listen = format!("{SERVER}:13000");
        let (network, site) = (Network::make(is_nat), Site::at(listen.parse().unwrap()));
        let config = "[links]\nkeep_interval = \"5s\"\n[sync]\ninterval = \"10s\"\n";
        let (config, data) = (site.write("musterd.toml", config), site.text("server"));
        let mut run = network.command_in("server", MUSTERD);
        run.args(["run", "--config", &config, "--data", &data, "--listen", &listen]);
        let server = Running::start(&mut run, &site.path("server.log"));
        eventually("the server answers", || site.ctl(&["status"]).status.success());
        let (token, data) = (site.token(), site.text("agent"));
        succeed(
            network
                .command_in("device", AGENT)
                .args(["enroll", "--server", SERVER, "--token", &token, "--name", "kiosk", "--data", &data]),
        );
        let mut run = network.command_in("device", AGENT);
        let agent = Running::start(run.args(["run", "--data", &data]), &site.path("agent.log"));
        let fleet = Self { network, site, _server: server, _agent: agent };
        fleet.until("the first sync", |kiosk| !kiosk["last_sync_at"].is_null());
        fleet
    }

    fn kiosk(&self) -> Value {
        self.site.shown()
    }

    fn forced_sync(&self) -> Value {
        self.site.ctl_json(&["device", "sync", "kiosk", "--wait"])[0].clone()
    }

    fn until(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        eventually(what, || condition(&self.kiosk()));
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
    fleet.until("wakes are known not to reach it", |kiosk| kiosk["udp_reach"] == "unreached");
    fleet.until("it keeps its connection", |kiosk| kiosk["presence"] == "connected");
    let outcome = fleet.forced_sync();
    assert_eq!((&outcome["outcome"], &outcome["by"]), (&"synced".into(), &"link".into()), "{outcome}");

    fleet.network.cut();
    fleet.until("the server finds the link dead", |kiosk| kiosk["presence"] != "connected");
    fleet.network.mend();
    fleet.until("it is back", |kiosk| kiosk["presence"] == "connected");
    let link = fleet.kiosk()["link"].clone();
    fleet.network.change_address();
    fleet.until("it is back from its new address", |kiosk| {
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
    fleet.until("it is away", |kiosk| kiosk["presence"] == "idle");
    let outcome = fleet.forced_sync();
    assert_eq!((&outcome["outcome"], &outcome["by"]), (&"synced".into(), &"wake".into()), "{outcome}");
    fleet.until("wakes are known to reach it", |kiosk| kiosk["udp_reach"] == "reached");

    fleet.network.change_address();
    fleet.until("it has come from its new address", |kiosk| kiosk["address"] == DEVICE_LATER);
    fleet.until("it is away", |kiosk| kiosk["presence"] == "idle");
    let outcome = fleet.forced_sync();
    assert_eq!((&outcome["outcome"], &outcome["by"]), (&"synced".into(), &"wake".into()), "{outcome}");
}
