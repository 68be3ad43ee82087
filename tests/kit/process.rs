//! The programs as processes: started, stopped, read from.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use super::wait_for;

pub(crate) const MUSTERD: &str = env!("CARGO_BIN_EXE_musterd");
pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_muster-agent");

/// A command of musterd.
pub(crate) fn musterd(arguments: &[&str]) -> Command {
    let mut command = Command::new(MUSTERD);
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A command of musterctl for the server on this data directory.
pub(crate) fn musterctl(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_musterctl"));
    command.arg("--server").arg(format!("unix:{}", data.join("admin.sock").display()));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command that is to succeed; what it printed.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that is to fail with code 1; what it said.
#[track_caller]
pub(crate) fn fail(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

pub(crate) fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that does not outlive the test.
pub(crate) struct Running {
    pub(crate) child: Child,
    log: PathBuf,
    /// Length of the log when it was started.
    log_begin: usize,
}

impl Running {
    /// Starts it; what it writes is appended to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(log).unwrap();
        Self::start_with(command, log, file)
    }

    /// The same, with a standard error of its own.
    pub(crate) fn start_with(command: &mut Command, log: &Path, error: impl Into<Stdio>) -> Self {
        let out = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let log_begin = std::fs::read(log).unwrap().len();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(error).spawn().unwrap();
        Self { child, log: log.to_owned(), log_begin }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGSTOP
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGHUP
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// kill -9
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the end that it leads to.
    pub(crate) fn end(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the process to end", || self.child.try_wait().unwrap())
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Everything that it has written.
    pub(crate) fn said(&self) -> String {
        let log = std::fs::read(&self.log).unwrap();
        String::from_utf8_lossy(&log[self.log_begin..]).into_owned()
    }

    /// Waits until it has written a whole line that holds `text`; the line.
    pub(crate) fn wait_for_line(&mut self, text: &str) -> String {
        wait_for(&format!("'{text}' of {}", self.log.display()), || {
            let has_ended = self.ended();
            let said = self.said();
            let mut lines = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let line = lines.find(|line| line.contains(text)).map(str::to_owned);
            assert!(line.is_some() || !has_ended, "it ended without '{text}': {said}");
            line
        })
    }

    /// A number of bytes in its status (proc_pid_status(5)): `VmRSS`, `RssAnon`.
    pub(crate) fn memory_bytes(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A UDP port that nobody has, below those that the system gives out by itself (ip(7)): it stays free between
/// two lives of an agent.
pub(crate) fn free_udp_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() * 41 % 12_000).unwrap();
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

pub(crate) fn copy_directory(from: &Path, to: &Path) {
    succeed(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// Listens, and accepts nobody: its queue is full (listen(2)).
pub(crate) struct SilentServer {
    pub(crate) address: SocketAddr,
    _listener: socket2::Socket,
    _waiting: Vec<socket2::Socket>,
}

impl SilentServer {
    pub(crate) fn new() -> Self {
        use socket2::{Domain, Socket, Type};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        };
        let waiting = (0..4).map(connect).collect();
        Self { address: address.as_socket().unwrap(), _listener: listener, _waiting: waiting }
    }
}
