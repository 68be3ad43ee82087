//! The examples, built and run: a heat pump in C, linked with the static library, and one in Python, with the
//! shared one, at a server in the test's process.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

#[path = "../../../tests/kit/skip.rs"]
mod skip;
#[path = "../../../tests/kit/small_disk.rs"]
mod small_disk;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use muster::api::{EventQuery, NewToken};
use muster::{Address, Client, Config, Server};
use serde_json::{Value, json};

use small_disk::SmallDisk;

/// Time of anything before a test gives up. Generous: the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Most private memory of the heat pump that was written to.
const PRIVATE_KIBIBYTES_MAX: u64 = 4 * 1024;

/// Calls of the system that change files, and the names of files.
const CHANGES: &str = "trace=write,writev,pwrite64,pwritev,pwritev2,ftruncate,fallocate,fsync,fdatasync,msync,\
                       rename,renameat,renameat2,unlink,unlinkat,mkdir";

/// With these the C compiler has a program watch its own memory.
const SANITIZERS: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// Syncs of a device in a day, one each quarter of an hour.
const SYNCS_A_DAY: usize = 96;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The libraries are where cargo has put them for this test.
fn library(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().join(name)
}

fn is_missing(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_missing = !found.is_ok_and(|status| status.success());
    if is_missing {
        skip::skipped(format_args!("needs {program}"));
    }
    is_missing
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A server, and a heat pump's directory.
struct Fixture {
    directory: tempfile::TempDir,
    server: Server,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::in_directory(directory.path().join("server"));
        config.listen = ([127, 0, 0, 1], 0).into();
        config.udp = Some(([127, 0, 0, 1], 0).into());
        let server = Server::start(config).unwrap();
        Self { directory, server }
    }

    fn client(&self) -> Client {
        Client::new(Address::Socket(self.server.admin_socket())).unwrap()
    }

    fn token(&self) -> String {
        self.client().create_token(&NewToken::default()).unwrap().token
    }

    fn address(&self) -> String {
        self.server.addresses()[0].to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Builds the example in C with a library; the warnings of a strict compiler are errors.
    fn compile(&self, library: &Path, options: &[&str]) -> PathBuf {
        let program = self.path("heatpump");
        let done = Command::new("cc")
            .args(options)
            .args(["-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
            .arg(root().join("tools/ffi"))
            .arg(root().join("tools/examples/heatpump.c"))
            .arg(library)
            .arg(format!("-Wl,--gc-sections,-rpath,{}", library.parent().unwrap().display()))
            .args(["-lpthread", "-ldl", "-lm", "-o"])
            .arg(&program)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        program
    }

    /// The example in C, to be started. The shared library: to link all of the other takes seconds.
    fn command(&self) -> Command {
        self.command_with("libmuster_embed.so", &[])
    }

    fn command_with(&self, name: &str, options: &[&str]) -> Command {
        let token = self.path("token");
        std::fs::write(&token, self.token() + "\n").unwrap();
        let mut command = Command::new(self.compile(&library(name), options));
        command.arg(self.path("pump")).arg(self.address()).arg(token);
        command
    }

    fn set(&self, celsius: u32) {
        let settings = json!({
            "at": "heatpump", "application": "heatpump", "settings": { "celsius": celsius },
        });
        self.client().set_settings(&serde_json::from_value(settings).unwrap()).unwrap();
    }

    fn messages(&self) -> Vec<String> {
        let mut client = self.client();
        let events = client.events(EventQuery::default()).flat_map(Result::unwrap);
        let said = events.filter(|event| event.kind == "said");
        let mut messages: Vec<_> = said.map(|event| event.message).collect();
        messages.reverse();
        messages
    }

    fn detail(&self) -> String {
        serde_json::to_string(&self.client().device("heatpump").unwrap()).unwrap()
    }

    fn reported(&self) -> String {
        serde_json::to_string(&self.client().settings("heatpump").unwrap()).unwrap()
    }
}

/// The example in C, which answers each line.
struct Pump {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Pump {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut pump = Self { child, input, output: BufReader::new(output) };
        assert_eq!(pump.line(), "ready");
        pump
    }

    /// The next line, but for those about settings, which come when they do.
    fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            if !line.starts_with("target ") {
                return line.trim_end().to_owned();
            }
        }
    }

    /// A line of `/proc/PID/smaps_rollup`, in kibibytes.
    fn memory(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Whether a thread with this name, of which there is one, has SIGPIPE blocked.
    fn signals_blocked(&self, thread: &str) -> Option<bool> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // One that ends meanwhile is another.
        let mut status =
            threads.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("status")).ok());
        let status = status.find(|text| text.starts_with(&format!("Name:\t{thread}\n")))?;
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t"))?;
        Some(u64::from_str_radix(blocked, 16).unwrap() & (1 << (13 - 1)) != 0)
    }

    fn say(&mut self, line: &str) -> String {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
        self.line()
    }

    /// Its input ends, and so it does.
    fn end(mut self) {
        drop(self.input.take());
        assert_eq!(self.line(), "off");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the C compiler has its sanitizers' libraries, which are packages of their own on some systems.
fn has_sanitizers() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("empty.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let mut command = Command::new("cc");
    command.args(SANITIZERS).arg(&source).arg("-o").arg(directory.path().join("empty"));
    command.stderr(Stdio::null()).status().unwrap().success()
}

/// Its memory and the library's is watched (AddressSanitizer, LeakSanitizer): a fault ends it, and a leak is
/// its exit code.
#[test]
fn a_heat_pump_in_c_is_a_device() {
    if is_missing("cc") {
        return;
    }
    let options: &[&str] = if has_sanitizers() {
        &SANITIZERS
    } else {
        skip::skipped("watching the example's memory needs the C compiler's sanitizers");
        &[]
    };
    let fixture = Fixture::new();
    let mut pump = Pump::start(fixture.command_with("libmuster_embed.a", options));
    eventually("its thread has its name", || pump.signals_blocked("muster-agent").is_some());
    assert_eq!(pump.signals_blocked("muster-agent"), Some(true));
    assert_eq!(pump.signals_blocked("heatpump"), Some(false));
    assert_eq!(pump.say("sync"), "ok");
    fixture.set(45);
    assert_eq!(pump.say("sync"), "ok");
    eventually("the settings are in force", || fixture.reported().contains("\"applied\""));
    assert_eq!((pump.say("0.9 bar"), pump.say("sync")), ("ok".into(), "ok".into()));
    eventually("the event is there", || fixture.messages() == ["0.9 bar"]);
    let detail = fixture.detail();
    for part in ["heats to 45 °C", "flow_temperature", "44.5", "2.1.0"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    fixture.set(61);
    assert_eq!(pump.say("sync"), "ok");
    eventually("they are refused", || fixture.reported().contains("can't heat to more than 60 °C"));

    let task = json!({
        "application": "heatpump", "kind": "defrost", "settings": {}, "targets": { "devices": ["heatpump"] },
    });
    let task = fixture.client().create_task(&serde_json::from_value(task).unwrap()).unwrap();
    assert_eq!(pump.say("sync"), "ok");
    eventually("the task is done", || {
        let query = json!({ "task": task.id });
        let mut client = fixture.client();
        let mut runs = client.runs(serde_json::from_value(query).unwrap()).flat_map(Result::unwrap);
        // The scheduler makes the run a moment after the task.
        runs.next().is_some_and(|run| serde_json::to_string(&run).unwrap().contains("succeeded"))
    });
    pump.end();
    eventually("the server knows that it is off", || fixture.detail().contains("\"shutdown\""));
}

/// Every event that was promised is there, once: the program is killed wherever it is.
#[test]
fn a_kill_loses_no_event_of_the_heat_pump() {
    if is_missing("cc") {
        return;
    }
    let fixture = Fixture::new();
    let mut promised = Vec::new();
    for life in 0..6 {
        let mut pump = Pump::start(fixture.command());
        for number in 0..=life * 7 {
            let message = format!("{life}.{number}");
            assert_eq!(pump.say(&message), "ok");
            promised.push(message);
        }
        // The next one is under way.
        writeln!(pump.input.as_mut().unwrap(), "{life}.last").unwrap();
        drop(pump);
    }
    let mut pump = Pump::start(fixture.command());
    assert_eq!(pump.say("sync"), "ok");
    let arrived = || {
        let mut messages = fixture.messages();
        messages.retain(|message| !message.ends_with("last"));
        messages
    };
    eventually("all are there", || arrived().len() >= promised.len());
    assert_eq!(arrived(), promised);
    pump.end();
}

#[test]
fn a_full_directory_refuses_events_and_nothing_else() {
    if is_missing("cc") {
        return;
    }
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("pump")).unwrap();
    let Some(_disk) = SmallDisk::mount(&fixture.path("pump"), 8) else {
        return skip::skipped("needs root, to mount a directory of 8 MB");
    };
    let mut pump = Pump::start(fixture.command());
    assert_eq!((pump.say("before"), pump.say("sync")), ("ok".into(), "ok".into()));
    // Somebody else's file, which takes every byte that there is, those of delivered events as well.
    let mut file = std::fs::File::create(fixture.path("pump/other")).unwrap();
    let mut filled = (0..100_000).map(|number| {
        while file.write_all(&[1; 4096]).is_ok() {}
        pump.say(&format!("{number} {}", "x".repeat(200)))
    });
    let refused = filled.find(|answer| answer != "ok").unwrap();
    assert!(refused.contains("refused"), "{refused}");
    assert_eq!(pump.say("sync"), "ok", "the device is served all the same");
    eventually("an administrator is told", || {
        assert_eq!(pump.say("sync"), "ok");
        fixture.detail().contains("disk is full")
    });
    drop(file);
    std::fs::remove_file(fixture.path("pump/other")).unwrap();
    eventually("there is room", || pump.say("after") == "ok");
    // An agent that ends while there is none is whole at its next start.
    let mut file = std::fs::File::create(fixture.path("pump/other")).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop((pump, file));
    std::fs::remove_file(fixture.path("pump/other")).unwrap();
    let mut pump = Pump::start(fixture.command());
    assert_eq!(pump.say("sync"), "ok");
    eventually("events of before and after are there", || {
        let messages = fixture.messages();
        messages.contains(&"before".to_owned()) && messages.contains(&"after".to_owned())
    });
    pump.end();
}

/// As many syncs as an idle device makes in a day, with the look at everything that comes before each.
#[test]
fn an_idle_day_writes_nothing_to_the_medium() {
    if is_missing("cc") || is_missing("strace") {
        return;
    }
    let fixture = Fixture::new();
    let program = fixture.command();
    let trace = fixture.path("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-o"]).arg(&trace).args(["-e", CHANGES]);
    command.arg("--").arg(program.get_program()).args(program.get_args());
    let mut pump = Pump::start(command);
    for _ in 0..4 {
        assert_eq!(pump.say("sync"), "ok");
    }
    let directory = fixture.path("pump");
    let written = || {
        let text = std::fs::read_to_string(&trace).unwrap();
        let own = text.lines().filter(|line| line.contains(directory.to_str().unwrap()));
        own.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = written().len();
    assert!(before > 0, "the trace shows what the enrolment wrote");
    for _ in 0..SYNCS_A_DAY {
        assert_eq!(pump.say("sync"), "ok");
    }
    assert_eq!(written()[before..], [""; 0]);
    assert_eq!((pump.say("an event"), written().len() > before), ("ok".into(), true), "an event is written");
    pump.end();
}

#[test]
fn a_heat_pump_has_four_mebibytes() {
    if is_missing("cc") {
        return;
    }
    let fixture = Fixture::new();
    let command = fixture.command();
    // Pages of a library that are not on the disk yet would count as written to.
    std::fs::File::open(library("libmuster_embed.so")).unwrap().sync_all().unwrap();
    let mut pump = Pump::start(command);
    for number in 0..SYNCS_A_DAY {
        assert_eq!(pump.say(&number.to_string()), "ok");
        assert_eq!(pump.say("sync"), "ok");
    }
    let (dirty, resident) = (pump.memory("Private_Dirty"), pump.memory("Rss"));
    println!("{dirty} KiB private and written to, {resident} KiB resident");
    assert!(dirty <= PRIVATE_KIBIBYTES_MAX, "{dirty} KiB");
    pump.end();
}

#[test]
fn a_heat_pump_in_python_is_a_device() {
    if is_missing("python3") {
        return;
    }
    let fixture = Fixture::new();
    let done = Command::new("python3")
        .arg(root().join("tools/examples/heatpump.py"))
        .arg(library("libmuster_embed.so"))
        .arg(fixture.path("pump"))
        .args([fixture.address(), fixture.token()])
        .output()
        .unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let status: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&status["name"], &status["applications"][0]["detail"]),
        (&json!("snake"), &json!("all is well"))
    );
    eventually("the event is there", || fixture.messages() == ["héllo"]);
}
