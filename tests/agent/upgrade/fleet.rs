//! A fleet that is upgraded by its server: 500 devices by hand, which are of another architecture, and three
//! real agents.

use crate::kit::minisign::Signer;
use crate::kit::run_device::{RunDevice, offer, work_until};
use crate::kit::{Musterd, Site, eventually};
use muster::wire::artifact::ArtifactUse;
use muster::wire::task::RunOrder;
use serde_json::Value;

use super::{Service, agent, comment, install, script};

const SIMULATED: usize = 500;
const REAL: usize = 3;

struct Fleet {
    directory: tempfile::TempDir,
    server: Musterd,
    signer: Signer,
}

impl Fleet {
    /// Has this release tried by these devices; the task's id.
    fn task(&self, release: &str, content: &[u8], comment: &str, filter: &str) -> String {
        let file = self.directory.path().join(release);
        std::fs::write(&file, content).unwrap();
        std::fs::write(file.with_extension("minisig"), self.signer.sign(content, comment)).unwrap();
        let artifact = file.display().to_string();
        let signature = file.with_extension("minisig").display().to_string();
        let added = self.server.ctl(&["artifact", "add", &artifact, "--signature", &signature]);
        let hash = added["hash"].as_str().unwrap();
        let of = ["task", "create", "--application", "muster-agent", "--kind", "upgrade", "--where", filter];
        let made = self.server.ctl(&[&of[..], &["--artifact", hash]].concat());
        made["id"].as_str().unwrap().to_owned()
    }

    /// Waits for the end of both tasks: all runs of them are in this state.
    fn wait_for(&self, devices: &mut [RunDevice], tasks: [&str; 2], state: &str) {
        let execute = |order: &RunOrder, fetched: &[u8]| {
            let signed = order.artifact.as_ref().and_then(|artifact| artifact.signature.as_deref());
            assert!(signed.is_some_and(|text| text.contains("trusted comment: muster-agent ")));
            if fetched.starts_with(b"broken") {
                Err("release 0.3.0 was taken back".to_owned())
            } else {
                Ok(())
            }
        };
        work_until(devices, &execute, || {
            tasks.iter().all(|task| self.server.ctl(&["task", "show", task])["task"]["state"] != "active")
        });
        for (task, count) in tasks.into_iter().zip([SIMULATED, REAL]) {
            let detail = self.server.ctl(&["task", "show", task])["task"].clone();
            let runs = detail["runs"].as_array().unwrap();
            assert!(runs.iter().any(|runs| runs["state"] == state && runs["runs"] == count), "{detail}");
        }
    }
}

#[test]
fn a_broken_release_loses_nobody_of_a_fleet() {
    let directory = tempfile::tempdir().unwrap();
    let server = Musterd::start(directory.path(), "");
    let fleet = Fleet { directory, server, signer: Signer::new() };
    let enrolled = fleet.server.enrol_many(SIMULATED);
    let offers = || offer("muster-agent", "upgrade", ArtifactUse::Signed);
    let of = |device| RunDevice::new(device, &fleet.server, offers());
    let mut simulated: Vec<_> = enrolled.iter().map(of).collect();
    let real: Vec<_> = (0..REAL)
        .map(|number| {
            let site = Site::at(fleet.server.address);
            let token = fleet.server.token(1).to_string();
            let (address, name) = (site.address.to_string(), format!("real-{number}"));
            let enrol = ["enroll", "--server", &address, "--token", &token, "--name", &name];
            assert!(site.agent(&enrol).status.success());
            let installed = install(&site, &fleet.signer);
            let service = Service::start(&site, &installed);
            (site, service)
        })
        .collect();
    simulated.iter_mut().for_each(|device| drop(device.sync()));
    eventually("all are known", || {
        fleet
            .server
            .ctl(&["device", "list", "--where", "name:real-*"])
            .as_array()
            .is_some_and(|all| all.len() == REAL)
    });
    let is = |slot: &str| {
        real.iter().all(|(site, service)| {
            service.program() == site.path(&format!("agent/releases/{slot}/muster-agent"))
        })
    };
    let padding = vec![b'x'; 300_000];
    let release = |name: &str, for_real: &[u8], for_simulated: &[u8], version: &str| {
        let simulated = [for_simulated, &padding].concat();
        let other = format!("muster-agent {version} riscv64-linux");
        [
            fleet.task(&format!("{name}-simulated"), &simulated, &other, "name:kiosk-*"),
            fleet.task(name, for_real, &comment(version), "name:real-*"),
        ]
    };
    let [a, b] = release("first", &agent("1"), b"good", "0.2.0");
    fleet.wait_for(&mut simulated, [&a, &b], "succeeded");
    assert!(is("a"));
    let [a, b] = release("broken", &script("exit 1"), b"broken", "0.3.0");
    fleet.wait_for(&mut simulated, [&a, &b], "failed");
    assert!(is("a"), "all are back on the one before");
    let detail = fleet.server.ctl(&["task", "show", &b]);
    let why = "release 0.3.0 was taken back: it was started 3 times and has not come in sync";
    let told = |run: &Value| run["message"].as_str().is_some_and(|text| text.ends_with(why));
    assert_eq!(detail["runs"].as_array().unwrap().iter().filter(|run| told(run)).count(), REAL, "{detail}");
    let [a, b] = release("second", &agent("2"), b"better", "0.4.0");
    fleet.wait_for(&mut simulated, [&a, &b], "succeeded");
    assert!(is("b"));
    let lost = fleet.server.ctl(&["device", "list", "--presence", "lost"]);
    assert_eq!(lost.as_array().map(Vec::len), Some(0), "{lost}");
    let all = fleet.server.ctl(&["device", "list"]);
    assert_eq!(all.as_array().map(Vec::len), Some(SIMULATED + REAL));
}
