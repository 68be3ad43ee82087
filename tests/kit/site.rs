//! The real server, agent and control command as processes, each on a directory of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use muster::server::Server;
use muster::server::config::Config;
use serde_json::Value;

use super::{AGENT, Running, TIMEOUT, error_of, eventually, free_udp_port, musterctl, musterd};

/// A server and one device.
pub(crate) struct Site {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

impl Site {
    pub(crate) fn new() -> Self {
        // The port stays free between the server's lives: nothing else asks for this one.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self::at(address)
    }

    /// A device of a server that runs elsewhere.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), address }
    }

    /// A server, and a device that has enrolled.
    pub(crate) fn enrolled() -> (Self, Running) {
        let site = Self::new();
        let server = site.server();
        site.enrol();
        (site, server)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file below the directory, and directories on the way; its path.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Starts the server, and waits until it answers.
    pub(crate) fn server(&self) -> Running {
        self.server_with(&[], &[])
    }

    /// The same, with these arguments and variables besides.
    pub(crate) fn server_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        let mut command = musterd(&["run", "--data", &self.text("server"), "--udp", "127.0.0.1:0"]);
        command.args(["--listen", &self.address.to_string()]).args(arguments);
        command.envs(environment.iter().copied());
        let mut server = Running::start(&mut command, &self.path("server.log"));
        eventually("the server answers", || {
            assert!(!server.ended(), "the server ended: {}", server.said());
            self.ctl(&["status"]).status.success()
        });
        server
    }

    /// Starts a server in the test's process, whose certificates for devices live this long.
    pub(crate) fn serve(&self, life: Duration) -> Server {
        let mut config = Config::in_directory(self.path("server"));
        config.listen = self.address;
        config.udp = Some(([127, 0, 0, 1], 0).into());
        config.journal.segment_bytes = 1 << 20;
        config.journal.retention_bytes = 64 << 20;
        config.identity.device_certificate_life = life;
        Server::start(config).unwrap()
    }

    /// The number of the certificate that the device has.
    pub(crate) fn certificate_number(&self) -> u64 {
        self.status()["certificate"]["number"].as_u64().unwrap_or(0)
    }

    /// Starts the agent, and waits until it listens.
    pub(crate) fn agent_process(&self) -> Running {
        self.agent_process_with(&[])
    }

    /// The same, with these variables in its environment.
    pub(crate) fn agent_process_with(&self, environment: &[(&str, &str)]) -> Running {
        let mut command = self.agent_command(&["run"]);
        command.envs(environment.iter().copied());
        let mut agent = Running::start(&mut command, &self.path("agent.log"));
        eventually("the agent answers", || {
            assert!(!agent.ended(), "the agent ended: {}", agent.said());
            self.status()["running"] == true
        });
        agent
    }

    /// A command of the agent on the device's directory.
    pub(crate) fn agent_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(AGENT);
        command.args(arguments).args(["--data", &self.text("agent")]).env_remove("RUST_LOG");
        command
    }

    /// Starts one, to be read from and killed on its way.
    pub(crate) fn start_agent_command(&self, arguments: &[&str]) -> Child {
        let mut command = self.agent_command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs one.
    pub(crate) fn agent(&self, arguments: &[&str]) -> Output {
        self.agent_command(arguments).output().unwrap()
    }

    /// Runs one that must end with this code; what it said.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.agent(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        error_of(&output)
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        musterctl(&self.path("server"), arguments).arg("--json").output().unwrap()
    }

    /// Runs a command of musterctl, which is to succeed.
    #[track_caller]
    pub(crate) fn ctl_json(&self, arguments: &[&str]) -> Value {
        let output = self.ctl(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", error_of(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The output for a person.
    pub(crate) fn ctl_human(&self, arguments: &[&str]) -> String {
        super::succeed(&mut musterctl(&self.path("server"), arguments))
    }

    pub(crate) fn token(&self) -> String {
        self.ctl_json(&["token", "create"])["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn enroll(&self, token: &str) -> Output {
        let address = self.address.to_string();
        self.agent(&["enroll", "--server", &address, "--token", token, "--name", "kiosk"])
    }

    /// Enrols the device at its server, as `kiosk`.
    #[track_caller]
    pub(crate) fn enrol(&self) {
        let enrolled = self.enroll(&self.token());
        assert!(enrolled.status.success(), "{}", error_of(&enrolled));
    }

    /// The agent's configuration: a port of its own, no packages, the files of `applications.d`, and this
    /// before its tables.
    pub(crate) fn configure(&self, more: &str) {
        let applications = self.path("applications.d");
        std::fs::create_dir_all(&applications).unwrap();
        let (head, tables) = more.split_at(more.find('[').unwrap_or(more.len()));
        let wake = if tables.contains("[wake]") { String::new() } else { port(free_udp_port()) };
        let collect = if tables.contains("[collect]") { "" } else { "[collect]\ndpkg = false\n" };
        let text = format!("applications = {applications:?}\n{head}\n{wake}{collect}{tables}");
        self.write("agent/muster-agent.toml", text);
    }

    /// An application 'shop' with the task `work`: this script, with these arguments of the command line and
    /// of the order, and more of the task's table.
    pub(crate) fn offer_work(&self, script: &str, arguments: &str, schema: &str, more: &str) {
        let script = self.write("script", script);
        let text = format!(
            "name = \"shop\"\n[condition]\npid_file = \"/nowhere\"\n[[task]]\nkind = \"work\"\n\
             command = [\"sh\", {script:?}, {arguments}]\narguments = {schema}\n{more}\n"
        );
        self.write("applications.d/shop.toml", text);
    }

    /// Has the agent look at everything now, as it does once a minute, and sync.
    #[track_caller]
    pub(crate) fn sync(&self) {
        let synced = self.agent(&["sync"]);
        assert!(synced.status.success(), "{}\n{}", error_of(&synced), self.log("agent.log"));
    }

    pub(crate) fn emit(&self, severity: &str, message: &str) -> Output {
        self.agent(&["emit", "--application", "shop", "--severity", severity, "--kind", "test", message])
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_slice(&self.agent(&["status", "--json"]).stdout).unwrap_or(Value::Null)
    }

    /// Whether the server has confirmed everything that the agent has given out.
    pub(crate) fn is_confirmed(&self) -> bool {
        let spool = &self.status()["spool"];
        spool["acked_through"].is_u64() && spool["acked_through"] == spool["highest_sequence"]
    }

    pub(crate) fn wait_until_confirmed(&self) {
        eventually("every event is confirmed", || {
            // A sync asked for by hand does not wait for the time after a failure.
            self.agent(&["sync"]);
            self.is_confirmed()
        });
    }

    /// The events of this application and kind at the server.
    pub(crate) fn events(&self, application: &str, kind: &str) -> Vec<Value> {
        let output = self.ctl(&["event", "list", "--limit", "1000"]);
        assert!(output.status.success(), "{}", error_of(&output));
        let events = serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap().into_iter();
        events.filter(|event| event["application"] == application && event["kind"] == kind).collect()
    }

    /// The device as the server shows it.
    pub(crate) fn shown(&self) -> Value {
        self.ctl_json(&["device", "show", "kiosk"])
    }
}

/// A test that fails shows what server and agent said last.
impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["server.log", "agent.log"] {
                let log = self.log(name);
                let lines: Vec<_> = log.lines().collect();
                eprintln!("--- {name}\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
            }
        }
    }
}

fn port(port: u16) -> String {
    format!("[wake]\nport = {port}\n")
}

/// A local program: one JSON line an event, one JSON line back once it is durable.
pub(crate) struct Program(BufReader<UnixStream>);

impl Program {
    pub(crate) fn connect(site: &Site) -> Self {
        let stream = UnixStream::connect(site.path("agent/agent.sock")).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Emits a batch, and returns the sequence numbers that were promised.
    pub(crate) fn emit(&mut self, severity: &str, messages: &[String]) -> Vec<u64> {
        let mut lines = String::new();
        for message in messages {
            let event = serde_json::json!({
                "application": "shop", "severity": severity, "kind": "load", "message": message,
            });
            lines.push_str(&event.to_string());
            lines.push('\n');
        }
        self.0.get_mut().write_all(lines.as_bytes()).unwrap();
        let mut answer = String::new();
        messages
            .iter()
            .map(|_| {
                answer.clear();
                self.0.read_line(&mut answer).unwrap();
                let answer: Value = serde_json::from_str(&answer).unwrap();
                answer["sequence"].as_u64().unwrap_or_else(|| panic!("{answer}"))
            })
            .collect()
    }
}
