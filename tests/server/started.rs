//! `musterd` started in unusual ways: with a capability of its file, through the loader, beside another one,
//! with signals from the first moment on.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::kit::{MUSTERD, Musterd, Running, Site, eventually, musterd, skipped};

/// A user without rights, as most systems number it.
const NOBODY: u32 = 65_534;

fn start(directory: &Path, command: &mut Command) -> Running {
    Running::start(command.env_remove("RUST_LOG"), &directory.join("log"))
}

/// The same, once it serves.
fn serve(directory: &Path, command: &mut Command) -> Musterd {
    Musterd::of(start(directory, command), directory)
}

fn catches(process: &Running, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

fn run_in(directory: &Path) -> Command {
    let mut command = musterd(&["run", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0"]);
    command.current_dir(directory);
    command
}

#[test]
fn a_user_without_rights_runs_it_with_the_capability_of_its_file() {
    let directory = tempfile::tempdir().unwrap();
    if !rustix::process::geteuid().is_root() {
        skipped("only root gives a file a capability");
        return;
    }
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("musterd");
    fs::copy(MUSTERD, &program).unwrap();
    let given = Command::new("setcap").arg("cap_net_bind_service=+ep").arg(&program).status();
    if !given.as_ref().is_ok_and(std::process::ExitStatus::success) {
        skipped(format_args!("no setcap(8) here, or a file system without capabilities: {given:?}"));
        return;
    }
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    // A port below 1024, on an address of loopback that nobody else has.
    let mut command = Command::new(&program);
    command.uid(NOBODY).gid(NOBODY).current_dir(&data);
    command.args(["run", "--data", ".", "--listen", "127.77.13.1:443"]);
    let server = serve(directory.path(), &mut command);
    assert_eq!(server.address.to_string(), "127.77.13.1:443");
    TcpStream::connect(server.address).unwrap();
    server.stop();
}

#[test]
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn it_runs_when_the_loader_is_started_with_it() {
    const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
    let directory = tempfile::tempdir().unwrap();
    if !Path::new(LOADER).exists() {
        skipped(format_args!("no {LOADER}"));
        return;
    }
    let mut command = Command::new(LOADER);
    command.current_dir(directory.path()).args([MUSTERD, "run", "--listen", "127.0.0.1:0"]);
    let server = serve(directory.path(), command.args(["--udp", "127.0.0.1:0"]));
    TcpStream::connect(server.address).unwrap();
    server.stop();
}

/// A pipe that a program reads its configuration from: it waits there as long as nobody writes.
struct ConfigPipe(PathBuf);

impl ConfigPipe {
    fn new(path: PathBuf) -> Self {
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        Self(path)
    }

    /// Waits until somebody reads.
    fn reader(&self) -> File {
        let mut writer = None;
        eventually("the configuration is read", || {
            let open = OpenOptions::new()
                .write(true)
                .custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap())
                .open(&self.0);
            writer = open.ok();
            writer.is_some()
        });
        writer.unwrap()
    }
}

#[test]
fn signals_of_the_first_moment_reload_and_end_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = ConfigPipe::new(directory.path().join("musterd.toml"));
    for ends in [false, true] {
        let mut server = start(directory.path(), run_in(directory.path()).arg("--config").arg(&pipe.0));
        let mut reader = pipe.reader();
        server.signal(if ends { Signal::TERM } else { Signal::HUP });
        reader.write_all(b"[server]\ndata_directory = \"data\"\n").unwrap();
        drop(reader);
        server.wait_for_line("devices connect to");
        if !ends {
            // It is read again, as it was asked to.
            pipe.reader()
                .write_all(b"[server]\ndata_directory = \"data\"\n[sync]\ninterval = \"5m\"\n")
                .unwrap();
            server.wait_for_line("configuration read again, applied: sync.interval");
            server.signal(Signal::TERM);
        }
        assert_eq!(server.wait().code(), Some(0), "{}", server.said());
    }
}

#[test]
fn signals_of_the_first_moment_reload_and_end_the_agent() {
    let (site, server) = Site::enrolled();
    drop(server);
    fs::write(site.path("agent/muster-agent.toml"), "[wake]\nport = 0\n").unwrap();
    let lock_file = site.path("agent/agent.lock");
    for ends in [false, true] {
        // It waits for a command that holds its directory for a moment.
        fs::write(&lock_file, "an emit").unwrap();
        let lock = File::open(&lock_file).unwrap();
        lock.lock().unwrap();
        let mut agent = start(site.directory.path(), &mut site.agent_command(&["run"]));
        eventually("signals are caught before that", || catches(&agent, Signal::HUP));
        agent.signal(if ends { Signal::TERM } else { Signal::HUP });
        drop(lock);
        if !ends {
            agent.wait_for_line("the configuration was read again");
            agent.signal(Signal::TERM);
        }
        assert_eq!(agent.wait().code(), Some(0), "{}", agent.said());
    }
}

/// A write that the system refuses ends the server with 1, whichever of its threads is told first, and one
/// line says why.
#[test]
fn a_journal_that_fails_ends_the_server_with_one_and_a_line() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let (site, server) = Site::enrolled();
    drop(server);
    for round in 0..3 {
        // The limit holds for its log as well.
        let _ = fs::remove_file(site.path("log"));
        // A write beyond the limit is refused, for a process that does not care for the signal.
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", MUSTERD, "run", "--data"])
            .arg(site.path("server"));
        command.args(["--listen", &site.address.to_string(), "--udp", "127.0.0.1:0"]);
        let mut server = start(site.directory.path(), &mut command);
        server.wait_for_line("devices connect to");
        let agent = site.agent_process();
        site.wait_until_confirmed();
        let process = Pid::from_raw(i32::try_from(server.id()).unwrap());
        let little = Rlimit { current: Some(4096), maximum: Some(4096) };
        prlimit(process, Resource::Fsize, little).unwrap();
        assert!(site.emit("error", "the door is open").status.success());
        let (status, said) = (server.wait(), server.said());
        assert_eq!(status.code(), Some(1), "round {round}: {said}");
        let last: Vec<_> = said.lines().filter(|line| line.starts_with("musterd: ")).collect();
        assert_eq!(last.len(), 1, "round {round}: {said}");
        assert!(last[0].contains("the journal failed: "), "round {round}: {last:?}");
        drop(agent);
    }
}
