//! The agent replaces itself: a real one, started again and again as a service manager does, with releases
//! that are good, broken, silent, and not for it.

mod fleet;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use muster::wire::artifact::Artifact;
use muster::wire::id::RunId;
use muster::wire::task::{RunOrder, RunStage, RunUpdate};

use crate::kit::minisign::Signer;
use crate::kit::{AGENT, Site, TaskServer, eventually};

/// The agent's program without what a debugger needs, and more bytes behind it: another hash each time.
fn agent(more: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let stripped = directory.path().join("agent");
    let strip = Command::new("strip").args(["-s", "-o"]).arg(&stripped).arg(AGENT).status();
    let is_stripped = strip.is_ok_and(|status| status.success());
    let mut program = std::fs::read(if is_stripped { &stripped } else { Path::new(AGENT) }).unwrap();
    program.extend_from_slice(more.as_bytes());
    program
}

fn write_program(path: &Path, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A program that says its version, and then does this.
fn script(then: &str) -> Vec<u8> {
    format!("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\n{then}\n").into_bytes()
}

/// A device on which the agent was installed.
struct Device {
    site: Site,
    server: TaskServer,
    signer: Signer,
    installed: PathBuf,
}

/// Installs the agent on a device that trusts this key.
fn install(site: &Site, signer: &Signer) -> PathBuf {
    site.configure(&format!("[releases]\nkey = {:?}\n[artifacts]\nmebibytes_max = 512\n", signer.key()));
    let installed = site.path("bin/muster-agent");
    std::fs::create_dir_all(installed.parent().unwrap()).unwrap();
    write_program(&installed, &agent(""));
    installed
}

/// The trusted comment of a release for this machine.
fn comment(version: &str) -> String {
    format!("muster-agent {version} {}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

impl Device {
    fn new() -> Self {
        let site = Site::new();
        let server = TaskServer::open(&site);
        let signer = Signer::new();
        let installed = install(&site, &signer);
        Self { site, server, signer, installed }
    }

    /// A release that was signed as `comment`.
    fn signed(&self, comment: &str, content: Vec<u8>) -> Artifact {
        let signature = Some(self.signer.sign(&content, comment));
        Artifact { signature, ..self.server.artifact("muster-agent", content) }
    }

    fn release(&self, version: &str, content: Vec<u8>) -> Artifact {
        self.signed(&comment(version), content)
    }

    fn order(&self, run: u64, artifact: Artifact) {
        self.order_within(run, artifact, 5, 600);
    }

    fn order_within(&self, run: u64, artifact: Artifact, within_seconds: u32, timeout_seconds: u32) {
        self.server.order(&RunOrder {
            run: RunId(run),
            application: "muster-agent".into(),
            kind: "upgrade".into(),
            settings: format!("{{\"within_seconds\":{within_seconds}}}"),
            timeout_seconds,
            start_within_seconds: 600,
            may_repeat: false,
            artifact: Some(artifact),
        });
    }

    fn last(&self, run: u64) -> RunUpdate {
        self.server.final_report(&self.site, RunId(run))
    }

    #[track_caller]
    fn succeeds(&self, run: u64, artifact: Artifact) {
        self.order(run, artifact);
        let last = self.last(run);
        assert_eq!(last.stage, RunStage::Succeeded, "{}", output(&last));
        assert!(output(&last).contains("is in sync, and stays"), "{}", output(&last));
    }

    #[track_caller]
    fn fails(&self, run: u64, artifact: Artifact, why: &str) {
        self.order(run, artifact);
        let last = self.last(run);
        assert_eq!(last.stage, RunStage::Failed, "{}", output(&last));
        assert!(output(&last).contains(why), "{}", output(&last));
    }

    fn slot(&self, name: &str) -> PathBuf {
        self.site.path(&format!("agent/releases/{name}/muster-agent"))
    }

    /// Waits until the agent is this program, and in sync as that.
    fn wait_until_in_sync_as(&self, service: &Service, program: &Path) {
        eventually("the agent is the right program", || service.program() == program);
        let syncs = self.server.syncs();
        eventually("it is in sync", || {
            self.site.agent(&["sync"]);
            self.server.syncs() > syncs
        });
        assert_eq!(service.program(), program);
    }
}

fn output(update: &RunUpdate) -> String {
    let output = update.output.as_ref().map(|output| String::from_utf8_lossy(&output.bytes).into_owned());
    format!("{} {}", update.message, output.unwrap_or_default())
}

/// Starts the installed program whenever it has ended.
struct Service {
    process: Arc<AtomicU32>,
    starts: Arc<AtomicU32>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    fn start(site: &Site, installed: &Path) -> Self {
        let (process, starts, is_over) = (Arc::default(), Arc::default(), Arc::default());
        let shared: (Arc<AtomicU32>, Arc<AtomicU32>, Arc<AtomicBool>) =
            (Arc::clone(&process), Arc::clone(&starts), Arc::clone(&is_over));
        let (program, directory, log) =
            (installed.to_owned(), site.directory.path().to_owned(), site.path("agent.log"));
        let thread = std::thread::spawn(move || {
            while !shared.2.load(Ordering::Relaxed) {
                let log = std::fs::File::options().create(true).append(true).open(&log).unwrap();
                let mut command = Command::new(&program);
                // As somebody starts it by hand: the directory is relative.
                command.args(["run", "--data", "agent"]).current_dir(&directory).env_remove("RUST_LOG");
                command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
                let mut child = command.spawn().unwrap();
                shared.0.store(child.id(), Ordering::Relaxed);
                shared.1.fetch_add(1, Ordering::Relaxed);
                while child.try_wait().unwrap().is_none() {
                    if shared.2.load(Ordering::Relaxed) {
                        let _ = child.kill();
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let service = Self { process, starts, is_over, thread: Some(thread) };
        eventually("the agent answers", || site.status()["running"] == true);
        service
    }

    /// The program that the agent is.
    fn program(&self) -> PathBuf {
        let process = self.process.load(Ordering::Relaxed);
        std::fs::read_link(format!("/proc/{process}/exe")).unwrap_or_default()
    }

    fn starts(&self) -> u32 {
        self.starts.load(Ordering::Relaxed)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_release_takes_over_in_place_and_the_next_does_and_one_by_hand_wins() {
    let device = Device::new();
    let service = Service::start(&device.site, &device.installed);
    device.wait_until_in_sync_as(&service, &device.installed);
    device.succeeds(1, device.release("0.2.0", agent("1")));
    device.wait_until_in_sync_as(&service, &device.slot("a"));
    device.succeeds(2, device.release("0.3.0", agent("2")));
    device.wait_until_in_sync_as(&service, &device.slot("b"));
    assert_eq!(service.starts(), 1, "one process all the time");
    // The same once more costs nothing.
    device.order(3, device.release("0.3.0", agent("2")));
    let again = device.last(3);
    assert!(
        again.stage == RunStage::Succeeded && output(&again).contains("runs already"),
        "{}",
        output(&again)
    );
    drop(service);
    let service = Service::start(&device.site, &device.installed);
    device.wait_until_in_sync_as(&service, &device.slot("b"));
    drop(service);
    write_program(&device.installed, &agent("by hand"));
    let service = Service::start(&device.site, &device.installed);
    device.wait_until_in_sync_as(&service, &device.installed);
}

#[test]
fn a_release_that_ends_is_taken_back_after_three_starts() {
    let device = Device::new();
    let service = Service::start(&device.site, &device.installed);
    device.succeeds(1, device.release("0.2.0", agent("1")));
    device.wait_until_in_sync_as(&service, &device.slot("a"));
    device.fails(
        2,
        device.release("0.3.0", script("exit 3")),
        "it was started 3 times and has not come in sync",
    );
    device.wait_until_in_sync_as(&service, &device.slot("a"));
    assert_eq!(service.starts(), 4, "in place once, and three times by the service manager");
}

#[test]
fn a_release_that_says_nothing_is_taken_back_when_its_time_is_over() {
    let device = Device::new();
    let service = Service::start(&device.site, &device.installed);
    let silent = device.release("0.2.0", script("trap '' TERM\nwhile :; do sleep 1; done"));
    device.fails(1, silent, "did not come in sync within 5 s, while the server could be reached");
    device.wait_until_in_sync_as(&service, &device.installed);
    assert_eq!(service.starts(), 2);
}

#[test]
fn a_release_has_more_time_while_the_server_is_away() {
    let device = Device::new();
    let service = Service::start(&device.site, &device.installed);
    device.order(1, device.release("0.2.0", script("while :; do sleep 1; done")));
    eventually("the release was started", || service.program() != device.installed);
    device.server.set_away(true);
    let status = device.site.agent(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("0.2.0, on trial"), "{status:?}");
    eventually("its time is over, and it has more", || {
        device.site.log("agent.log").contains("has more time, as the server can't be reached")
    });
    assert_ne!(service.program(), device.installed);
    device.server.set_away(false);
    device.wait_until_in_sync_as(&service, &device.installed);
    let status = device.site.status();
    assert!(status["release"]["taken_back"].as_str().unwrap().contains("did not come in sync"), "{status}");
    assert!(output(&device.last(1)).contains("did not come in sync"));
}

#[test]
fn a_release_whose_run_is_cancelled_is_taken_back() {
    let device = Device::new();
    let service = Service::start(&device.site, &device.installed);
    device.order(1, device.release("0.2.0", script("while :; do sleep 1; done")));
    eventually("the release was started", || {
        std::fs::exists(device.slot("a")).unwrap() && service.program() != device.installed
    });
    // The release has no link to hear of it: the system ends the run.
    let lock = std::fs::read_to_string(device.site.path(&format!("agent/runs/{}/lock", RunId(1)))).unwrap();
    let supervisor = rustix::process::Pid::from_raw(lock.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::TERM).unwrap();
    device.wait_until_in_sync_as(&service, &device.installed);
    assert!(device.last(1).stage.is_last());
}

#[test]
fn a_release_whose_run_has_timed_out_is_taken_back() {
    let device = Device::new();
    let service = Service::start(&device.site, &device.installed);
    device.succeeds(1, device.release("0.2.0", agent("1")));
    let silent = device.release("0.3.0", script("trap '' TERM\nwhile :; do sleep 1; done"));
    device.order_within(2, silent, 600, 8);
    eventually("the release is started", || service.program() != device.slot("a"));
    let last = device.last(2);
    assert_eq!(last.stage, RunStage::TimedOut, "{}", output(&last));
    assert!(output(&last).contains("its run was ended before it had come in sync"), "{}", output(&last));
    device.wait_until_in_sync_as(&service, &device.slot("a"));
    let status = device.site.status();
    assert!(status["release"]["taken_back"].as_str().unwrap().contains("its run was ended"), "{status}");
}

#[test]
fn a_release_whose_file_is_damaged_is_not_executed_and_may_come_again() {
    let device = Device::new();
    let slot = device.slot("a");
    let damages: [(&dyn Fn(), &str); 3] = [
        (&|| write_program(&slot, &agent("not the one that was signed")), "was changed"),
        (&|| std::fs::File::options().write(true).open(&slot).unwrap().set_len(9).unwrap(), "was changed"),
        (&|| std::fs::remove_file(&slot).unwrap(), "No such file"),
    ];
    for (run, (damage, why)) in (1..).zip(damages) {
        let service = Service::start(&device.site, &device.installed);
        device.succeeds(run, device.release("0.2.0", agent("1")));
        device.wait_until_in_sync_as(&service, &slot);
        drop(service);
        damage();
        let service = Service::start(&device.site, &device.installed);
        device.wait_until_in_sync_as(&service, &device.installed);
        assert_eq!(service.starts(), 1, "it was not tried");
        let status = device.site.status();
        assert!(status["release"]["taken_back"].as_str().unwrap().contains(why), "{status}");
    }
}

#[test]
fn what_is_not_for_this_device_never_runs() {
    let device = Device::new();
    let service = Service::start(&device.site, &device.installed);
    device.fails(1, device.release("0.0.1", agent("1")), "older than");
    device.fails(2, device.signed("muster-agent 9.0.0 pdp11-unix", agent("1")), "it is for pdp11-unix");
    device.fails(3, device.signed("another thing", agent("1")), "no release of the agent");
    device.fails(4, device.release("9.0.0", b"\x7fELF nonsense".to_vec()), "can't be run");
    device.fails(5, device.release("9.0.0", b"#!/bin/sh\nexit 4\n".to_vec()), "ended with code 4");
    let mut foreign = device.release("9.0.0", agent("1"));
    foreign.signature = Some(Signer::new().sign(&agent("1"), "muster-agent 9.0.0 x86_64-linux"));
    device.order(6, foreign);
    let last = device.last(6);
    assert!(output(&last).contains("not one of the key"), "{last:?}");
    assert_eq!((service.program(), service.starts()), (device.installed.clone(), 1));
}
