//! Three hosts on this machine, each a network namespace (network_namespaces(7)): a server, a router or NAT
//! box, a device behind it.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::kit::succeed;

/// The server's address. All are of the prefixes that are set aside for documentation (RFC 5737).
pub(crate) const SERVER: &str = "192.0.2.1";
/// The box's address on the server's side: where the device seems to be.
pub(crate) const BOX_OUTSIDE: &str = "192.0.2.254";
const BOX_INSIDE: &str = "198.51.100.254";
/// The device's address.
pub(crate) const DEVICE: &str = "198.51.100.2";
/// Another one that it may change to.
pub(crate) const DEVICE_LATER: &str = "198.51.100.3";

static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// Why such a network can't be had here; `None`: it can.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root, for network namespaces".into());
    }
    ["ip", "nft"].into_iter().find_map(|program| {
        let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_err().then(|| format!("the program '{program}'"))
    })
}

/// The network. It goes when this value goes.
pub(crate) struct Network {
    prefix: String,
}

impl Network {
    /// Makes it. With `is_nat` the box hides the device behind its own address; otherwise it only forwards.
    pub(crate) fn make(is_nat: bool) -> Self {
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let network = Self { prefix: format!("mst{}-{number}", std::process::id()) };
        for host in ["server", "box", "device"] {
            network.ip(&["netns", "add", &network.name(host)]);
            network.run_in(host, "ip", &["link", "set", "lo", "up"]);
        }
        // Names of interfaces are short (15 bytes), and each is moved before the next is made.
        network.wire("server", SERVER, "out", BOX_OUTSIDE);
        network.wire("device", DEVICE, "in", BOX_INSIDE);
        network.run_in("server", "ip", &["route", "add", "default", "via", BOX_OUTSIDE]);
        network.run_in("device", "ip", &["route", "add", "default", "via", BOX_INSIDE]);
        network.run_in("box", "sysctl", &["-q", "-w", "net.ipv4.ip_forward=1"]);
        if is_nat {
            network.rules("table ip nat {\n chain post {\n type nat hook postrouting priority 100\n oifname \"out\" masquerade\n }\n}\n");
        }
        network
    }

    /// A veth pair from a host to the box.
    fn wire(&self, host: &str, address: &str, at_box: &str, box_address: &str) {
        self.run_in(
            host,
            "ip",
            &["link", "add", "eth0", "type", "veth", "peer", "name", at_box, "netns", &self.name("box")],
        );
        self.run_in(host, "ip", &["address", "add", &format!("{address}/24"), "dev", "eth0"]);
        self.run_in(host, "ip", &["link", "set", "eth0", "up"]);
        self.run_in("box", "ip", &["address", "add", &format!("{box_address}/24"), "dev", at_box]);
        self.run_in("box", "ip", &["link", "set", at_box, "up"]);
    }

    fn rules(&self, rules: &str) {
        use std::io::Write as _;
        let mut nft = self.command_in("box", "nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "nft refused: {rules}");
    }

    /// Nothing passes the box any more, and nobody is told so.
    pub(crate) fn cut(&self) {
        self.rules("table ip cut {\n chain forward {\n type filter hook forward priority 0\n drop\n }\n}\n");
    }

    /// Everything passes again.
    pub(crate) fn mend(&self) {
        self.run_in("box", "nft", &["delete", "table", "ip", "cut"]);
    }

    /// The device gets another address; what it had open under the old one is never heard of again.
    pub(crate) fn change_address(&self) {
        self.run_in("device", "ip", &["address", "del", &format!("{DEVICE}/24"), "dev", "eth0"]);
        self.run_in("device", "ip", &["address", "add", &format!("{DEVICE_LATER}/24"), "dev", "eth0"]);
        self.run_in("device", "ip", &["route", "replace", "default", "via", BOX_INSIDE]);
    }

    /// A program on one of the hosts.
    pub(crate) fn command_in(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host), program]);
        command
    }

    fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    fn run_in(&self, host: &str, program: &str, arguments: &[&str]) {
        succeed(self.command_in(host, program).args(arguments));
    }

    fn ip(&self, arguments: &[&str]) {
        succeed(Command::new("ip").args(arguments));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in ["server", "box", "device"] {
            let _ = Command::new("ip").args(["netns", "del", &self.name(host)]).status();
        }
    }
}
