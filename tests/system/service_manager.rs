//! Server and agent as a service manager runs them: told when they are up, started beside programs that emit,
//! with a configuration that went wrong.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kit::{AGENT, Running, Site, TIMEOUT, error_of, eventually, musterd, skipped, stored};
use muster::wire::id::{CertificateHash, TokenId};
use muster::wire::limits::TOKEN_SECRET_BYTES;
use muster::wire::token::JoinToken;

/// A stand-in for the service manager.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn new(directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self { socket, path: path.to_str().unwrap().to_owned() }
    }

    /// Whatever it is told of next.
    fn hear(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn has_heard_nothing(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let is_empty = self.socket.recv(&mut [0; 1]).is_err();
        self.socket.set_nonblocking(false).unwrap();
        is_empty
    }
}

#[test]
fn the_server_says_when_tokens_can_be_made_and_when_it_ends() {
    let site = Site::new();
    let manager = Manager::new(site.directory.path());
    let server = site.server_with(&[], &[("NOTIFY_SOCKET", &manager.path)]);
    assert_eq!(manager.hear(), "READY=1");
    let status = manager.hear();
    assert!(status.starts_with("STATUS=devices connect to "), "{status}");
    server.hang_up();
    assert!(manager.hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(manager.hear(), "READY=1");
    assert!(server.end().success());
    assert_eq!(manager.hear(), "STOPPING=1");
}

#[test]
fn the_server_says_that_it_is_well_as_often_as_the_manager_wants_to_hear_it() {
    let site = Site::new();
    let manager = Manager::new(site.directory.path());
    let variables = [("NOTIFY_SOCKET", manager.path.as_str()), ("WATCHDOG_USEC", "300000")];
    let server = site.server_with(&[], &variables);
    let heard: Vec<_> = (0..5).map(|_| manager.hear()).collect();
    assert_eq!(heard.iter().filter(|said| *said == "WATCHDOG=1").count(), 3, "{heard:?}");
    server.kill();
}

/// The first thing that is done after 'systemctl enable --now musterd'.
#[test]
fn a_token_is_made_as_soon_as_the_server_is_ready_and_a_failed_start_is_never_ready() {
    let site = Site::new();
    let manager = Manager::new(site.directory.path());
    let start = |data: &str| {
        let mut command = musterd(&["run", "--udp", "127.0.0.1:0", "--listen", &site.address.to_string()]);
        command.arg("--data").arg(site.path(data)).env("NOTIFY_SOCKET", &manager.path);
        Running::start(&mut command, &site.path("log"))
    };
    let server = start("server");
    assert_eq!(manager.hear(), "READY=1");
    assert!(manager.hear().starts_with("STATUS="));
    site.ctl_json(&["token", "create"]);
    // Its address is taken.
    assert!(!start("other").wait().success());
    assert!(manager.has_heard_nothing());
    server.kill();
}

/// Without a server, and before it is enrolled, as well.
#[test]
fn so_does_the_agent() {
    let (site, server) = Site::enrolled();
    drop(server);
    site.configure("");
    let manager = Manager::new(site.directory.path());
    let variables = [("NOTIFY_SOCKET", manager.path.as_str()), ("WATCHDOG_USEC", "300000")];
    let agent = site.agent_process_with(&variables);
    let heard: Vec<_> = (0..4).map(|_| manager.hear()).collect();
    assert_eq!(heard.iter().filter(|said| *said == "WATCHDOG=1").count(), 3, "{heard:?}");
    assert!(agent.end().success());

    let token = JoinToken {
        id: TokenId(1),
        secret: [2; TOKEN_SECRET_BYTES],
        server_certificate: CertificateHash([3; 32]),
    };
    let joins = Site::at("127.0.0.1:9".parse().unwrap());
    let token = token.to_string();
    let prepared = joins.agent(&["prepare-image", "--server", "127.0.0.1:9", "--token", &token]);
    assert!(prepared.status.success(), "{}", error_of(&prepared));
    let manager = Manager::new(joins.directory.path());
    let variables = [("NOTIFY_SOCKET", manager.path.as_str()), ("WATCHDOG_USEC", "300000")];
    let mut command = Command::new(AGENT);
    command.args(["run", "--data", joins.path("agent").to_str().unwrap()]).envs(variables);
    let agent = Running::start(&mut command, &joins.path("log"));
    let heard: Vec<_> = (0..6).map(|_| manager.hear()).collect();
    assert!(heard.iter().any(|said| said.starts_with("STATUS=not enrolled yet")), "{heard:?}");
    assert!(heard.iter().filter(|said| *said == "WATCHDOG=1").count() >= 3, "{heard:?}");
    agent.kill();
}

#[test]
fn the_agent_says_when_programs_can_emit_and_when_it_ends() {
    let (site, server) = Site::enrolled();
    drop(server);
    site.configure("");
    let manager = Manager::new(site.directory.path());
    let agent = site.agent_process_with(&[("NOTIFY_SOCKET", &manager.path)]);
    assert_eq!(manager.hear(), "READY=1");
    agent.hang_up();
    assert!(manager.hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(manager.hear(), "READY=1");
    assert!(agent.end().success());
    assert_eq!(manager.hear(), "STOPPING=1");
}

/// Each start finds the directory with a command that emits, and each end meets some that just begin to.
#[test]
fn an_agent_starts_and_ends_beside_programs_that_emit_without_end_and_no_event_is_lost() {
    let (site, server) = Site::enrolled();
    site.configure("");
    let is_over = AtomicBool::new(false);
    let mut expected = Vec::new();
    std::thread::scope(|scope| {
        let (site, is_over) = (&site, &is_over);
        let emitters: Vec<_> = (0..2)
            .map(|emitter| {
                scope.spawn(move || {
                    let mut messages = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        let message = format!("{emitter}.{}", messages.len());
                        let emitted = site.emit("info", &message);
                        assert!(emitted.status.success(), "{message}: {}", error_of(&emitted));
                        messages.push(message);
                    }
                    messages
                })
            })
            .collect();
        for round in 0..6 {
            // It fails when the agent ends before it listens.
            let agent = site.agent_process();
            assert!(agent.end().success(), "round {round}: {}", site.log("agent.log"));
        }
        is_over.store(true, Ordering::Relaxed);
        for emitter in emitters {
            expected.extend(emitter.join().unwrap());
        }
    });
    let _agent = site.agent_process();
    site.wait_until_confirmed();
    assert!(server.end().success());
    let mut arrived: Vec<_> = stored(&site).into_iter().map(|(_, message)| message).collect();
    arrived.retain(|message| message.contains('.') && !message.contains(' '));
    arrived.sort();
    expected.sort();
    assert_eq!(arrived, expected);
}

#[test]
fn a_configuration_that_went_wrong_does_not_keep_the_agent_from_its_server() {
    let (site, _server) = Site::enrolled();
    site.configure("log_level = \"debug\"");
    assert!(site.agent_process().end().success());
    let missing = site.path("nowhere/agent.sock");
    let wrong =
        ["log_levle = \"info\"".to_owned(), "[wake\n".to_owned(), format!("[socket]\npath = {missing:?}")];
    for (round, wrong) in wrong.iter().enumerate() {
        fs::write(site.path("agent/muster-agent.toml"), wrong).unwrap();
        // By itself it says so still.
        assert!(!site.agent(&["check-config"]).status.success(), "{wrong}");
        let agent = site.agent_process();
        let problems = site.status()["problems"].to_string();
        assert!(problems.contains("the last good one is"), "{wrong}: {problems}");
        assert!(site.log("agent.log").contains("ERROR"), "{}", site.log("agent.log"));
        site.wait_until_confirmed();
        assert_eq!(site.events("muster-agent", "configuration_refused").len(), round + 1);
        assert!(agent.end().success());
    }
    // Put right, and then wrong while it runs.
    site.configure("log_level = \"info\"");
    let agent = site.agent_process();
    assert_eq!(site.status()["problems"], serde_json::json!([]));
    fs::write(site.path("agent/muster-agent.toml"), &wrong[0]).unwrap();
    agent.hang_up();
    eventually("the problem shows", || site.status()["problems"].to_string().contains("stays as it was"));
    assert!(site.emit("info", "an event all the same").status.success());
    site.configure("");
    agent.hang_up();
    eventually("the problem is over", || site.status()["problems"] == serde_json::json!([]));
}

#[test]
fn no_command_makes_a_data_directory_by_mistake() {
    let site = Site::at("127.0.0.1:9".parse().unwrap());
    let token = JoinToken {
        id: TokenId(1),
        secret: [2; TOKEN_SECRET_BYTES],
        server_certificate: CertificateHash([3; 32]),
    };
    let token = &token.to_string();
    let emit = ["emit", "--application", "a", "--severity", "info", "--kind", "k", "m"];
    let moves = ["move", "--server", "127.0.0.1:9", "--token", token];
    for command in [&["run"][..], &["status"], &["sync"], &["check"], &["check-config"], &emit, &moves] {
        let output = site.agent(command);
        assert!(!site.path("agent").exists(), "{command:?}");
        if !["check-config", "check", "status", "sync", "move"].contains(&command[0]) {
            let error = error_of(&output);
            assert!(!output.status.success() && error.contains("there is no data directory"), "{error}");
        }
    }
    // An enrolment that fails leaves none either.
    let server = site.agent(&["enroll", "--server", "127.0.0.1:9", "--token", token]);
    assert!(!server.status.success() && !site.path("agent").exists(), "{}", error_of(&server));
}

#[test]
fn an_agent_that_crashes_leaves_no_core_with_its_key() {
    let (site, server) = Site::enrolled();
    drop(server);
    site.configure("");
    let crash = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c unlimited && exec \"$@\"", "sh"]).args(arguments);
        command.current_dir(site.directory.path()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let abort = |child: &mut std::process::Child| {
        let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::ABORT).unwrap();
        child.wait().unwrap()
    };
    let mut sleeper = crash(&["sleep", "600"]);
    // The shell has become the program: a signal meant for that one meets no shell.
    eventually("it sleeps", || {
        fs::read_to_string(format!("/proc/{}/comm", sleeper.id())).unwrap().trim() == "sleep"
    });
    if !abort(&mut sleeper).core_dumped() {
        skipped("no program leaves a core here");
        return;
    }
    let data = site.path("agent");
    let mut agent = crash(&[AGENT, "run", "--data", data.to_str().unwrap()]);
    eventually("the agent answers", || site.status()["running"] == true);
    let status = abort(&mut agent);
    assert!(status.signal().is_some() && !status.core_dumped(), "{status:?}");
}
