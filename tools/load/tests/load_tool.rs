//! `muster-load` as a user runs it, with small numbers: every command ends, finds what it looks for, and
//! leaves nothing behind. Nothing here depends on how fast the machine is.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

/// Time of anything before a test gives up. Generous: the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(240);

/// A place for the tool's identities and its servers' data.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn scratch(&self) -> std::path::PathBuf {
        let scratch = self.directory.path().join("scratch");
        std::fs::create_dir_all(&scratch).unwrap();
        scratch
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster-load"));
        command.args(arguments.split_whitespace());
        command.arg("--cache").arg(self.directory.path().join("cache")).arg("--quiet");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A run on a server of its own, which must go well; its document.
    fn run(&self, arguments: &str) -> Value {
        let mut command = self.command(arguments);
        command.arg("--data").arg(self.scratch()).arg("--json").arg("--self");
        let output = finish(command.spawn().unwrap());
        let errors = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{arguments}: {errors}{text}");
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["passed"], true, "{arguments}: {text}");
        self.must_be_empty();
        document
    }

    fn must_be_empty(&self) {
        let left: Vec<_> = std::fs::read_dir(self.scratch()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Waits for the end, but not for ever.
fn finish(child: Child) -> Output {
    let id = child.id();
    let (tell, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let output = ended.recv_timeout(TIMEOUT).unwrap_or_else(|_| {
        signal(id, Signal::KILL);
        let errors = ended.recv().unwrap().unwrap().stderr;
        panic!("the run did not end within {TIMEOUT:?}: {}", String::from_utf8_lossy(&errors));
    });
    output.unwrap()
}

fn signal(id: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn figure(document: &Value, name: &str) -> f64 {
    document["figures"][name].as_f64().unwrap_or_else(|| panic!("no figure {name} in {document:#}"))
}

fn count(document: &Value, latency: &str) -> u64 {
    document["latencies"][latency]["count"]
        .as_u64()
        .unwrap_or_else(|| panic!("no latency {latency} in {document:#}"))
}

#[test]
fn devices_are_held_and_let_go() {
    let place = Place::new();
    let page = place.directory.path().join("hold.html");
    let document = place.run(&format!("hold --devices 50 --seconds 1 --report {}", page.display()));
    assert!((figure(&document, "links") - 50.0).abs() < 0.1);
    assert!(figure(&document, "links_lost") < 0.1);
    assert!(figure(&document, "held_private_bytes") > 1_000_000.0);
    assert!(figure(&document, "kernel_bytes_per_socket") > 500.0);
    assert!(figure(&document, "server_cpu_microseconds_per_full_handshake") > 10.0);
    assert!(figure(&document, "server_cpu_microseconds_per_resumed_handshake") > 5.0);
    assert_eq!(count(&document, "connect"), 50);
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("<svg") && !html.contains("<script"), "a page with plots and without programs");
    // The second run finds the devices of the first, and shares them out over two processes.
    let again = place.run("hold --devices 50 --seconds 1 --processes 2 --rate 40");
    let notes = again["notes"].to_string();
    assert!(notes.contains("earlier run") && notes.contains("2 client processes"), "{notes}");
    assert!((figure(&again, "links") - 50.0).abs() < 0.1);
    assert!(
        figure(&again, "connects_per_second") < 80.0,
        "no faster than it was told, but for the first of each step"
    );
}

#[test]
fn syncs_are_counted_and_weighed() {
    let document = Place::new().run("sync --devices 50 --seconds 1");
    assert!(figure(&document, "syncs_per_second") > 0.5);
    assert!(figure(&document, "server_cpu_microseconds_per_sync") > 0.5);
    // More on the wire than said, and not without bounds: the target is 300 bytes both ways.
    let payload =
        figure(&document, "payload_bytes_up_per_sync") + figure(&document, "payload_bytes_down_per_sync");
    let wire = figure(&document, "wire_bytes_up_per_sync") + figure(&document, "wire_bytes_down_per_sync");
    assert!(payload > 20.0 && payload < wire && wire < 600.0, "{payload} {wire}");
    assert!(count(&document, "sync") > 0);
    let paced = Place::new().run("sync --devices 10 --seconds 2 --rate 20 --reactors 1");
    assert!(figure(&paced, "syncs_per_second") < 60.0);
}

#[test]
fn acknowledged_events_are_stored() {
    let place = Place::new();
    let document = place.run("events --devices 20 --seconds 1 --in-flight 4");
    assert!(figure(&document, "events_per_second") > 1.0);
    assert!(figure(&document, "events_acknowledged") >= figure(&document, "events_per_second"));
    assert!((figure(&document, "events_acknowledged") - figure(&document, "events_stored")).abs() < 0.1);
    assert!(
        count(&document, "ack") > 0
            && count(&document, "disk_write") > 0
            && count(&document, "low_load_ack") > 0
    );
    let storm = place.run("events --devices 10 --seconds 1 --rate 50 --handshakes 8");
    assert!(count(&storm, "storm_ack") > 0);
    assert!(figure(&storm, "storm_handshakes_per_second") > 0.0);
    assert!(figure(&storm, "storm_rate_kept_ratio") > 0.0);
}

/// Killed under a thousand links; the server that takes over has another address.
#[test]
fn everybody_comes_to_the_standby_of_a_server_that_was_killed_and_no_event_is_lost_or_stored_twice() {
    let document = Place::new().run("storm --standby --devices 1000 --seconds 1 --rate 500");
    let emitted = figure(&document, "events_emitted");
    assert!(emitted > 500.0 && (emitted - figure(&document, "events_stored")).abs() < 0.1);
    assert!(figure(&document, "events_twice") + figure(&document, "events_missing") < 0.1);
    println!("99 % were back {:.2} s after the kill", figure(&document, "back_99_percent_seconds"));
}

#[test]
fn everybody_comes_back_from_a_storm_and_no_event_is_lost() {
    let document = Place::new().run("storm --devices 50 --seconds 1 --rate 30");
    assert!(figure(&document, "live_50_percent_seconds") <= figure(&document, "live_100_percent_seconds"));
    assert!(figure(&document, "full_handshakes") + figure(&document, "resumed_handshakes") >= 50.0);
    assert!(figure(&document, "target_seconds") > figure(&document, "target_server_alone_seconds"));
    assert!(figure(&document, "events_stored") > 0.0);
    assert!(figure(&document, "events_twice") + figure(&document, "events_missing") < 0.1);
    assert!(document["curves"]["recovery"]["series"][0]["points"].as_array().unwrap().len() > 1);
}

#[test]
fn called_devices_come() {
    let document = Place::new().run("wake --devices 10 --seconds 2 --rate 5");
    assert!(figure(&document, "calls") >= 1.0);
    assert!((figure(&document, "calls") - figure(&document, "calls_synced_by_wake")).abs() < 0.1);
    assert_eq!(count(&document, "begun"), count(&document, "synced"));
}

#[test]
fn another_server_is_measured_from_outside_and_its_devices_are_kept() {
    let place = Place::new();
    let server = place.directory.path().join("server");
    let config = muster::server::config::Config {
        listen: ([127, 0, 0, 1], 0).into(),
        ..muster::server::config::Config::in_directory(&server)
    };
    let server = muster::server::Server::start(config).unwrap();
    let there =
        format!("--server {} --admin unix:{}", server.addresses()[0], server.admin_socket().display());
    for (kept, line) in [("0 were kept", "20"), ("earlier run", "20"), ("20 were kept", "25")] {
        let mut command = place.command(&format!("sync --devices {line} --seconds 1 --json {there}"));
        let output = finish(command.spawn().unwrap());
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success() && document["notes"].to_string().contains(kept), "{document:#}");
        assert!(figure(&document, "server_cpu_microseconds_per_sync") > 0.5, "found through the socket");
    }
    let refused = finish(place.command(&format!("storm {there}")).spawn().unwrap());
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("SIGKILL"));
    server.drain().unwrap();
}

#[test]
fn what_can_not_be_is_refused_in_one_line() {
    let place = Place::new();
    let refused = |arguments: &str| {
        let output = finish(place.command(arguments).spawn().unwrap());
        assert!(output.stdout.is_empty());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = refused("hold --devices 1000000 --self");
    assert_eq!(code, Some(1));
    assert!(error.contains("open files") && error.lines().count() == 1, "{error}");
    let (code, error) = refused("sync --server 127.0.0.1:1 --admin unix:/nowhere/admin.sock");
    assert_eq!(code, Some(1));
    assert!(error.contains("no server at unix:/nowhere") && error.lines().count() == 1, "{error}");
    for wrong in ["", "hold --devices many", "hold --server 127.0.0.1:1", "events --rate 0", "nonsense"] {
        assert_eq!(refused(wrong).0, Some(2), "{wrong}");
    }
}

#[test]
fn a_run_that_is_interrupted_says_what_it_has_and_one_that_is_killed_leaves_nothing() {
    let place = Place::new();
    let start = |arguments: &str| {
        let mut command = place.command(arguments);
        command.arg("--data").arg(place.scratch()).arg("--json").spawn().unwrap()
    };
    let child = start("sync --devices 10 --seconds 600");
    wait_for_server(&place.scratch());
    // It may not have begun to measure; then it says so, and that is an answer too.
    std::thread::sleep(Duration::from_secs(3));
    signal(child.id(), Signal::INT);
    let output = finish(child);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("interrupted") || errors.contains("interrupted"), "{text}{errors}");
    place.must_be_empty();

    let child = start("sync --devices 10 --seconds 600");
    wait_for_server(&place.scratch());
    signal(child.id(), Signal::KILL);
    finish(child);
    let begun = Instant::now();
    while std::fs::read_dir(place.scratch()).unwrap().count() > 0 {
        assert!(begun.elapsed() < TIMEOUT, "the server's directory is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_whose_tool_ends_before_it_is_heard_leaves_nothing() {
    let place = Place::new();
    // Beside its own the tool had made another directory; the third is of another run.
    let [directory, other, strange] =
        ["muster-load-28-0", "muster-load-28-1", "muster-load-280-0"].map(|name| place.scratch().join(name));
    for directory in [&directory, &other, &strange] {
        std::fs::create_dir(directory).unwrap();
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_muster-load"))
        .arg("server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let setting = serde_json::json!({
        "data": directory.join("data"), "listen": "127.0.0.1:0", "reactors": null, "waits": false,
        "remove": directory,
    });
    writeln!(child.stdin.take().unwrap(), "{setting}").unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < TIMEOUT, "it serves nobody, and goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!([directory, other, strange].map(|directory| directory.exists()), [false, false, true]);
}

/// Until the tool's server has its socket.
fn wait_for_server(scratch: &Path) {
    let begun = Instant::now();
    let is_there = || {
        let mut runs = std::fs::read_dir(scratch).unwrap().filter_map(Result::ok);
        runs.any(|run| run.path().join("data/admin.sock").exists())
    };
    while !is_there() {
        assert!(begun.elapsed() < TIMEOUT, "no server");
        std::thread::sleep(Duration::from_millis(20));
    }
}
