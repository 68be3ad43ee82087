//! The steps of the demo, one after the other.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::wire::api::{DeviceDetail, EventQuery, EventRecord, NewToken, UserLink};
use crate::wire::role::Role;
use crate::wire::units::count;

use super::manage::Kiosk;
use super::process::{Process, free_port, free_udp_port, run, run_well, wait_for};
use super::{Failure, shown};

/// Events that occur on the device while the server is dead.
const EVENTS_IN_THE_DARK: usize = 200;

/// The name under which this machine enrols.
pub(super) const DEVICE: &str = "this-machine";

/// The group into which the token invites it.
pub(super) const GROUP: &str = "/demo";

/// Runs every step. With `stays`, the server and the agent then go on until Ctrl-C.
pub(super) fn all(directory: &Path, stays: bool) -> Result<(), Failure> {
    let mut demo = Demo::start(directory)?;
    demo.enrol()?;
    demo.refuse_a_foreign_server()?;
    demo.sync_the_applications()?;
    demo.sync_without_a_change()?;
    demo.deliver_an_event()?;
    demo.survive_a_dead_server()?;
    demo.wake_the_disconnected_agent()?;
    demo.force_a_fresh_look()?;
    demo.keep_the_connection()?;
    demo.hear_the_notice()?;
    demo.apply_a_policy()?;
    demo.reject_a_broken_policy()?;
    demo.run_a_task()?;
    demo.show_statistics()?;
    demo.sign_in_over_the_network()?;
    demo.show_the_tables()?;
    if stays {
        demo.stay()?;
    }
    demo.stop()
}

pub(super) struct Demo {
    directory: PathBuf,
    address: String,
    server: Process,
    pub(super) agent: Option<Process>,
    pub(super) client: Client,
    pub(super) kiosk: Option<Kiosk>,
    wake_port: u16,
    step: u32,
}

impl Demo {
    fn start(directory: &Path) -> Result<Self, Failure> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let started = Instant::now();
        let server = start_server(&directory.join("server"), &address)?;
        let client = client(directory)?;
        let (directory, wake_port) = (directory.to_owned(), free_udp_port()?);
        let mut demo =
            Self { directory, address, server, agent: None, client, kiosk: None, wake_port, step: 0 };
        demo.wait_until_the_server_answers()?;
        let memory = demo.server.resident_bytes();
        demo.tell(
            "server",
            "made its CA, certificate, secrets, journal and store in an empty directory",
            &[
                format!("ready {} after it was started", shown(started.elapsed())),
                memory.map_or_else(String::new, |bytes| format!("{:.1} MiB resident", mebibytes(bytes))),
            ],
        );
        Ok(demo)
    }

    fn enrol(&mut self) -> Result<(), Failure> {
        let new = NewToken {
            ttl_seconds: Some(600),
            uses: Some(1),
            group: Some(GROUP.into()),
            ..NewToken::default()
        };
        let token = self.client.create_token(&new)?.token;
        let data = self.agent_data();
        let enrolment = [
            "agent",
            "enroll",
            "--server",
            &self.address,
            "--token",
            &token,
            "--name",
            DEVICE,
            "--data",
            &data,
        ];
        let (_, took) = run_well(&enrolment)?;
        let again =
            ["agent", "enroll", "--server", &self.address, "--token", &token, "--data", &self.path("second")];
        let refusal = expect_refusal(&again)?;
        self.tell(
            "enrolment",
            "the agent checked the server's certificate against its token, made a key, and was given a certificate",
            &[format!("{} as a whole process", shown(took))],
        );
        self.quote("the same token a second time", &refusal);
        Ok(())
    }

    fn refuse_a_foreign_server(&mut self) -> Result<(), Failure> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let _foreign = start_server(&self.directory.join("foreign"), &address)?;
        let new = NewToken { ttl_seconds: Some(600), uses: Some(1), ..NewToken::default() };
        let token = self.client.create_token(&new)?.token;
        wait_for("the foreign server", || Ok(std::net::TcpStream::connect(&address).ok()))?;
        let data = self.path("third");
        let refusal =
            expect_refusal(&["agent", "enroll", "--server", &address, "--token", &token, "--data", &data])?;
        self.tell("certificate match", "an agent that is sent to another server says nothing to it", &[]);
        self.quote("the agent", &refusal);
        Ok(())
    }

    fn sync_the_applications(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        self.start_agent()?;
        self.wait_for_device("the first sync", |device| {
            device.device.last_sync_at.is_some() && device.host.is_some()
        })?;
        // Asked for again: an answer that was put together while the sync ended may have the applications of
        // before.
        let device = self.client.device(DEVICE)?;
        let memory = self.agent.as_ref().and_then(Process::resident_bytes);
        let system = device.host.map(|host| format!("{}, {}", host.os_name, host.kernel)).unwrap_or_default();
        self.tell(
            "first sync",
            "the agent read this machine's own package database and host facts and brought them over",
            &[
                count(device.applications, "application"),
                system,
                format!("{} after the agent was started", shown(started.elapsed())),
                memory
                    .map_or_else(String::new, |bytes| format!("agent {:.1} MiB resident", mebibytes(bytes))),
            ],
        );
        Ok(())
    }

    fn sync_without_a_change(&mut self) -> Result<(), Failure> {
        let data = self.agent_data();
        let before = self.client.device(DEVICE)?;
        let (_, took) = run_well(&["agent", "sync", "--data", &data])?;
        let after = self.client.device(DEVICE)?;
        if after.sections != before.sections {
            return Err(Failure::new("a sync in which nothing changed brought another revision"));
        }
        if after.device.last_sync_at <= before.device.last_sync_at {
            return Err(Failure::new("the agent says that it has synced, the server knows nothing of it"));
        }
        self.tell(
            "sync, nothing changed",
            "five digests up, one answer down",
            &[format!("{} with connecting and starting the command", shown(took))],
        );
        Ok(())
    }

    fn deliver_an_event(&mut self) -> Result<(), Failure> {
        let data = self.agent_data();
        let emit = [
            "agent",
            "emit",
            "--data",
            &data,
            "--application",
            "demo",
            "--severity",
            "warning",
            "--kind",
            "demo.event",
            "something happened on this machine",
            "--field",
            "step=event",
        ];
        let started = Instant::now();
        let (_, emitted) = run_well(&emit)?;
        let found = wait_for("the event", || Ok(self.events_of_kind("demo.event")?.pop()))?;
        self.tell(
            "event",
            "durable on the device when 'emit' returned, then durable on the server, then acknowledged",
            &[
                format!("emit {} as a whole process", shown(emitted)),
                format!("in the server's journal {} after it began", shown(started.elapsed())),
                format!("sequence {}, position {}", found.sequence, found.position),
            ],
        );
        Ok(())
    }

    fn survive_a_dead_server(&mut self) -> Result<(), Failure> {
        self.server.kill()?;
        let emitting = Instant::now();
        let mut socket = AgentSocket::open(&self.directory.join("agent/agent.sock"))?;
        for number in 1..=EVENTS_IN_THE_DARK {
            socket.emit("demo.outage", number)?;
        }
        let emitted = emitting.elapsed();
        let restarted = Instant::now();
        self.server = start_server(&self.directory.join("server"), &self.address)?;
        self.wait_until_the_server_answers()?;
        let ready = restarted.elapsed();
        let arrived = wait_for("the events of the outage", || {
            let events = self.events_of_kind("demo.outage")?;
            Ok((events.len() >= EVENTS_IN_THE_DARK).then_some(events))
        })?;
        let arrived_after = restarted.elapsed();
        each_once_and_in_order(arrived)?;
        if self.events_of_kind("demo.event")?.len() != 1 {
            return Err(Failure::new("the event from before the outage is not there exactly once"));
        }
        self.tell(
            "outage",
            &format!(
                "server killed (SIGKILL), {EVENTS_IN_THE_DARK} events on the device meanwhile, server started again: \
                 none lost, none twice, in order"
            ),
            &[
                format!(
                    "{} an event, each durable on the device",
                    shown(emitted / u32::try_from(EVENTS_IN_THE_DARK).unwrap_or(u32::MAX))
                ),
                format!("server ready again after {}", shown(ready)),
                format!("all events there after {}", shown(arrived_after)),
            ],
        );
        Ok(())
    }

    fn show_the_tables(&mut self) -> Result<(), Failure> {
        let server = self.server_address();
        println!("What an administrator sees now ('musterctl', with --server {server}):");
        let commands: [&[&str]; 7] = [
            &["device", "list"],
            &["application", "list", "--device", DEVICE, "--name", "*ssl*"],
            &["policy", "list"],
            &["task", "list"],
            &["event", "list", "--limit", "5"],
            &["device", "why", DEVICE],
            &["status"],
        ];
        for command in commands {
            println!("\n$ musterctl {}", command.join(" "));
            // The command prints by itself, through the same standard output.
            let _ = std::io::stdout().flush();
            let arguments = ["musterctl", "--server", &server].into_iter().chain(command.iter().copied());
            if crate::client::cli::main(arguments.map(Into::into)) != std::process::ExitCode::SUCCESS {
                return Err(Failure::new(format!("'musterctl {}' failed", command.join(" "))));
            }
        }
        println!();
        Ok(())
    }

    /// The agent hears wakes on a port that is free, so that the demo does not disturb an agent that runs
    /// here already.
    pub(super) fn start_agent(&mut self) -> Result<(), Failure> {
        let settings = self.directory.join("agent.toml");
        let applications = self.directory.join("applications.d");
        if self.kiosk.is_none() {
            self.kiosk = Some(Kiosk::start(&self.directory.join("kiosk"), &applications)?);
        }
        let text = format!(
            "applications = {:?}\n[wake]\nport = {}\n",
            applications.display().to_string(),
            self.wake_port
        );
        write(&settings, &text)?;
        let (data, settings) = (self.agent_data(), settings.display().to_string());
        let arguments = ["agent", "run", "--data", &data, "--config", &settings];
        self.agent = Some(Process::start("agent", &arguments, &self.directory.join("agent.log"))?);
        Ok(())
    }

    fn stay(&mut self) -> Result<(), Failure> {
        let server = self.server_address();
        let UserLink { link, .. } = self.invite("you", Role::Administrator, "/")?;
        println!("The server and the agent go on. The console, in a browser, once by this link:\n");
        println!("  {link}\n");
        println!("The browser asks whether to go on: the server's certificate is of its own authority.\n");
        println!("In another terminal:\n");
        println!("  export MUSTER_SERVER={server}");
        println!("  musterctl event follow");
        println!(
            "  muster-agent emit --data {} --application demo --severity info --kind hello \"hello, muster\"\n",
            self.agent_data()
        );
        println!("Ctrl-C ends the demo.");
        let (interrupted, interruption) = mpsc::channel();
        let mut signals =
            signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM])
                .map_err(|error| Failure::new(format!("can't wait for Ctrl-C: {error}")))?;
        std::thread::spawn(move || {
            if signals.forever().next().is_some() {
                let _ = interrupted.send(());
            }
        });
        while interruption.recv_timeout(Duration::from_secs(1)).is_err() {
            self.server.must_run()?;
            if let Some(agent) = &mut self.agent {
                agent.must_run()?;
            }
        }
        println!();
        Ok(())
    }

    /// Ends both, cleanly: the agent first, which has nothing left to send.
    fn stop(self) -> Result<(), Failure> {
        if let Some(agent) = self.agent {
            agent.stop()?;
        }
        let took = self.server.stop()?;
        println!("The server has drained and ended, {} after it was asked to.", shown(took));
        println!("Every step worked.");
        Ok(())
    }

    pub(super) fn tell(&mut self, name: &str, what: &str, measured: &[String]) {
        self.step += 1;
        println!("{:>2}  {name}: {what}", self.step);
        let measured: Vec<&str> =
            measured.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        if !measured.is_empty() {
            println!("    {}", measured.join(" · "));
        }
    }

    pub(super) fn quote(&self, who: &str, said: &str) {
        println!("    {who}: \"{said}\"");
    }

    fn agent_data(&self) -> String {
        self.path("agent")
    }

    pub(super) fn server_address(&self) -> String {
        format!("unix:{}", self.directory.join("server/admin.sock").display())
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn wait_until_the_server_answers(&mut self) -> Result<(), Failure> {
        wait_for("the server", || {
            self.server.must_run()?;
            Ok(self.client.status().ok())
        })
        .map(drop)
    }

    pub(super) fn wait_for_device(
        &mut self,
        what: &str,
        is_there: impl Fn(&DeviceDetail) -> bool,
    ) -> Result<DeviceDetail, Failure> {
        wait_for(what, || {
            if let Some(agent) = &mut self.agent {
                agent.must_run()?;
            }
            Ok(Some(self.client.device(DEVICE)?).filter(|device| is_there(device)))
        })
    }

    /// The device's events of one kind, oldest first.
    pub(super) fn events_of_kind(&mut self, kind: &str) -> Result<Vec<EventRecord>, Failure> {
        let mut found = Vec::new();
        for page in self.client.events(EventQuery { device: Some(DEVICE.into()), ..EventQuery::default() }) {
            found.extend(page?.into_iter().filter(|event| event.kind == kind));
        }
        found.sort_by_key(|event| event.position);
        Ok(found)
    }
}

/// A program's own way into the agent: one JSON line an event, one JSON line back once it is durable.
struct AgentSocket(BufReader<UnixStream>);

impl AgentSocket {
    fn open(path: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(path);
        stream
            .map(|stream| Self(BufReader::new(stream)))
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
    }

    fn emit(&mut self, kind: &str, number: usize) -> Result<(), Failure> {
        let event = serde_json::json!({
            "application": "demo", "severity": "info", "kind": kind, "message": format!("number {number}"),
            "fields": { "number": number.to_string() },
        });
        let mut answer = String::new();
        writeln!(self.0.get_mut(), "{event}")
            .and_then(|()| self.0.read_line(&mut answer))
            .map_err(|error| Failure::new(format!("the agent's socket: {error}")))?;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        match answer.get("sequence") {
            Some(_) => Ok(()),
            None => Err(Failure::new(format!("the agent did not take event {number}: {answer}"))),
        }
    }
}

fn each_once_and_in_order(events: Vec<EventRecord>) -> Result<(), Failure> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut last = 0;
    for event in events {
        if event.sequence <= last {
            return Err(Failure::new(format!("sequence {} stands behind {last}", event.sequence)));
        }
        last = event.sequence;
        *seen.entry(event.message).or_default() += 1;
    }
    for number in 1..=EVENTS_IN_THE_DARK {
        match seen.get(&format!("number {number}")) {
            Some(1) => {}
            Some(times) => return Err(Failure::new(format!("event {number} was stored {times} times"))),
            None => return Err(Failure::new(format!("event {number} was lost"))),
        }
    }
    Ok(())
}

/// Starts a server; administrators find it at a port of its own.
fn start_server(data: &Path, address: &str) -> Result<Process, Failure> {
    let (log, settings) = (data.with_extension("log"), data.with_extension("toml"));
    if !settings.exists() {
        let text = format!("[admin]\nlisten = \"127.0.0.1:{}\"\n", free_port()?);
        write(&settings, &text)?;
    }
    let (data, settings) = (data.display().to_string(), settings.display().to_string());
    let arguments = ["run", "--config", &settings, "--data", &data, "--listen", address, "--udp", address];
    Process::start("server", &arguments, &log)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

fn client(directory: &Path) -> Result<Client, Failure> {
    let address = format!("unix:{}", directory.join("server/admin.sock").display());
    let address = address.parse().map_err(|error| Failure::new(format!("{address}: {error}")))?;
    Ok(Client::new(address)?)
}

/// Runs a command that has to be refused, and says how it was.
fn expect_refusal(arguments: &[&str]) -> Result<String, Failure> {
    let (output, _) = run(arguments)?;
    if output.status.success() {
        return Err(Failure::new(format!("'{}' must be refused, and was not", arguments.join(" "))));
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().last().unwrap_or_default();
    if last.is_empty() {
        return Err(Failure::new("a refusal without a reason"));
    }
    Ok(last.to_owned())
}

fn mebibytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal place")]
    let bytes = bytes as f64;
    bytes / 1024.0 / 1024.0
}
