//! A device that moves from one real server to another: verified first, then committed, and as it was in
//! every other case.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;

use crate::kit::{Program, Running, Site, error_of, eventually, stored};
/// Two servers; the device is the first one's.
struct Two {
    old: Site,
    new: Site,
    old_server: Running,
    new_server: Running,
}

impl Two {
    fn new() -> Self {
        let (old, new) = (Site::new(), Site::new());
        let (old_server, new_server) = (old.server(), new.server());
        old.enrol();
        Self { old, new, old_server, new_server }
    }

    /// Moves the device with a token of the new server, by way of `address`.
    fn move_by(&self, address: SocketAddr) -> Output {
        self.move_with(address, &self.new.token())
    }

    fn move_with(&self, address: SocketAddr, token: &str) -> Output {
        self.old.agent(&["move", "--server", &address.to_string(), "--token", token])
    }

    fn server(&self) -> String {
        self.old.status()["server"].as_str().unwrap().to_owned()
    }

    /// The move was refused, the device says so, and still syncs with its old server.
    fn assert_stays(&self, output: &Output, why: &str) {
        let error = error_of(output);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(&format!("the device stays with {}", self.old.address)), "{error}");
        assert!(error.contains(why), "{error}");
        assert_eq!(self.server(), self.old.address.to_string());
        assert!(!self.old.path("agent/identity-next.a").exists());
        self.old.sync();
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn names(site: &Site) -> Vec<String> {
    let listed = site.ctl_json(&["device", "list"]);
    let devices = listed.as_array().unwrap_or_else(|| panic!("{listed}")).clone();
    devices.iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

/// Leads the first connection to the first of `targets`, the next to the next, and refuses those behind the
/// last.
fn detour(targets: Vec<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut links = Vec::new();
        for target in targets {
            let (near, _) = listener.accept().unwrap();
            links.push(near.try_clone().unwrap());
            let far = TcpStream::connect(target).unwrap();
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
        drop(listener);
    });
    address
}

#[test]
fn a_stopped_device_moves_and_its_events_go_along() {
    let two = Two::new();
    let agent = two.old.agent_process();
    assert!(two.old.emit("info", "before").status.success());
    two.old.wait_until_confirmed();
    assert!(agent.end().success());
    assert!(two.old.emit("error", "in between").status.success());

    let moved = two.move_by(two.new.address);
    assert!(moved.status.success(), "{}", error_of(&moved));
    let lines = text(&moved);
    let new = two.new.address;
    for expected in [
        "enrolled as 'kiosk' (".to_owned(),
        format!("{new} answers the device, and its certificate is the one that the token names"),
        format!("ready to leave {}", two.old.address),
        format!("the device belongs to {new} now"),
        "start the agent: muster-agent run --data".to_owned(),
        "musterctl device remove 'kiosk'".to_owned(),
    ] {
        assert!(lines.contains(&expected), "{expected}: {lines}");
    }
    assert_eq!(two.server(), new.to_string());

    let agent = two.old.agent_process();
    two.old.wait_until_confirmed();
    assert_eq!(names(&two.new), ["kiosk"]);
    assert!(agent.end().success());
    assert!(two.old_server.end().success() && two.new_server.end().success());
    assert_eq!(stored(&two.old), [(1, "before".to_owned())]);
    assert_eq!(stored(&two.new), [(2, "in between".to_owned())]);
}

#[test]
fn a_running_agent_takes_the_new_server_up_in_place_and_comes_back_again() {
    let two = Two::new();
    let agent = two.old.agent_process();
    two.old.sync();
    let process = agent.id();
    let mut program = Program::connect(&two.old);
    program.emit("info", &["to the old server".to_owned()]);
    two.old.wait_until_confirmed();

    let moved = two.move_by(two.new.address);
    assert!(moved.status.success(), "{}\n{}", error_of(&moved), two.old.log("agent.log"));
    let lines = text(&moved);
    assert!(lines.contains("the running agent took over"), "{lines}");
    assert!(lines.contains(&format!("in sync with {}", two.new.address)), "{lines}");
    let presence = || two.old.ctl_json(&["device", "list"])[0]["presence"].clone();
    eventually("the old server knows that the device has gone", || presence() == "agent_stopped");
    let status = two.old.status();
    assert_eq!(status["server"], two.new.address.to_string());
    assert!(status["last_error"].is_null(), "{status}");
    // The new server has everything, and the local program's connection lives on.
    let has_inventory = |site: &Site| {
        let listed = site.ctl_json(&["application", "list", "--device", "kiosk"]);
        !listed.as_array().is_none_or(Vec::is_empty)
    };
    assert_eq!(has_inventory(&two.new), has_inventory(&two.old));
    program.emit("info", &["to the new server".to_owned()]);
    two.old.wait_until_confirmed();

    // The old server still lists the device, so that it is another one when it comes back.
    let back = two.move_with(two.old.address, &two.old.token());
    assert!(back.status.success(), "{}", error_of(&back));
    assert_eq!(two.server(), two.old.address.to_string());
    program.emit("info", &["to the old server again".to_owned()]);
    two.old.wait_until_confirmed();
    assert_eq!(names(&two.old).len(), 2);
    assert_eq!(agent.id(), process);
    assert!(agent.end().success());
    assert!(two.old_server.end().success() && two.new_server.end().success());
    let messages = |site: &Site| stored(site).into_iter().map(|(_, message)| message).collect::<Vec<_>>();
    assert_eq!(messages(&two.old), ["to the old server", "to the old server again"]);
    assert_eq!(messages(&two.new), ["to the new server"]);
}

#[test]
fn what_the_dead_old_server_never_got_reaches_the_new_one_once() {
    let Two { old, new, old_server, new_server } = Two::new();
    let agent = old.agent_process();
    old.sync();
    old_server.kill();
    let mut program = Program::connect(&old);
    let messages: Vec<String> = (0..300).map(|number| format!("event {number}")).collect();
    let promised = program.emit("warning", &messages);
    let address = new.address.to_string();
    let moved = old.agent(&["move", "--server", &address, "--token", &new.token(), "--name", "kiosk-7"]);
    assert!(moved.status.success(), "{}", error_of(&moved));
    old.wait_until_confirmed();
    assert_eq!(names(&new), ["kiosk-7"]);
    assert!(agent.end().success());
    assert!(new_server.end().success());
    let expected: Vec<(u64, String)> = promised.into_iter().zip(messages).collect();
    assert_eq!(stored(&new), expected);
}

#[test]
fn while_events_flow_none_is_lost_between_the_two() {
    let two = Two::new();
    let agent = two.old.agent_process();
    let mut promised = BTreeSet::new();
    let moved = std::thread::scope(|scope| {
        let moving = scope.spawn(|| two.move_by(two.new.address));
        let mut program = Program::connect(&two.old);
        while !moving.is_finished() {
            let messages: Vec<String> = (0..20).map(|number| format!("event {number}")).collect();
            promised.extend(program.emit("info", &messages));
        }
        moving.join().unwrap()
    });
    assert!(moved.status.success(), "{}", error_of(&moved));
    two.old.wait_until_confirmed();
    assert!(agent.end().success());
    assert!(two.old_server.end().success() && two.new_server.end().success());
    let (old, new) = (stored(&two.old), stored(&two.new));
    for stored in [&old, &new] {
        assert!(stored.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order and none twice");
    }
    let both: BTreeSet<u64> = old.iter().chain(&new).map(|(sequence, _)| *sequence).collect();
    assert_eq!(both, promised);
    let twice = old.len() + new.len() - both.len();
    println!("{} events at the old server, {} at the new one, {twice} at both", old.len(), new.len());
}

#[test]
fn a_device_stays_where_it_is_when_the_new_server_is_not_as_it_should_be() {
    let two = Two::new();
    let _agent = two.old.agent_process();
    two.old.sync();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    two.assert_stays(&two.move_by(nobody), "no connection to");
    // The new server's token at another server's address.
    let third = Site::new();
    let _third_server = third.server();
    two.assert_stays(&two.move_by(third.address), "the server showed certificate");
    two.assert_stays(&two.move_with(two.new.address, &third.token()), "the server showed certificate");
    two.assert_stays(&two.move_with(two.old.address, &two.old.token()), "that server's own");
    let token = two.new.token();
    assert!(two.new.enroll(&token).status.success());
    two.assert_stays(&two.move_with(two.new.address, &token), "the server refused");
    // It enrols, and is not there for the test; or somebody else is.
    two.assert_stays(
        &two.move_by(detour(vec![two.new.address])),
        "asked again, with a new token where that one is used up, it is the same",
    );
    let swapped = two.move_by(detour(vec![two.new.address, third.address]));
    two.assert_stays(&swapped, "the server showed certificate");
    // A configured server would win.
    let settings = format!("server = \"{}\"\n", two.old.address);
    std::fs::write(two.old.path("agent/muster-agent.toml"), settings).unwrap();
    two.assert_stays(&two.move_by(two.new.address), "remove that line first");
}

/// The command is killed behind each of its steps, with the agent stopped and running. Whatever is left is
/// one of the two devices, whole; and a later move works.
#[test]
fn a_killed_move_leaves_one_of_the_two_identities_whole() {
    for is_running in [false, true] {
        let two = Two::new();
        assert!(two.old.emit("info", "kept").status.success());
        let mut agent = is_running.then(|| two.old.agent_process());
        for steps in 1..=4 {
            let target = if two.server() == two.old.address.to_string() { &two.new } else { &two.old };
            let (address, token) = (target.address.to_string(), target.token());
            let mut command = two
                .old
                .start_agent_command(&["move", "--server", &address, "--token", &token, "--name", "kiosk"]);
            let mut lines = BufReader::new(command.stdout.take().unwrap()).lines();
            for _ in 0..steps {
                lines.next().unwrap().unwrap();
            }
            command.kill().unwrap();
            command.wait().unwrap();
            if steps == 4 {
                eventually("the last step was the commit", || two.server() == address);
            }
            let belongs_to = two.server();
            assert!(
                [two.old.address, two.new.address].iter().any(|address| address.to_string() == belongs_to)
            );
            let running = agent.take().unwrap_or_else(|| two.old.agent_process());
            eventually("the device syncs with whose it is", || two.old.agent(&["sync"]).status.success());
            two.old.wait_until_confirmed();
            assert!(!two.old.path("agent/identity-next.a").exists() || is_running);
            match is_running {
                true => agent = Some(running),
                false => assert!(running.end().success()),
            }
        }
        drop(agent);
        assert!(two.old_server.end().success() && two.new_server.end().success());
        let kept: Vec<(u64, String)> = stored(&two.old).into_iter().chain(stored(&two.new)).collect();
        assert_eq!(kept, [(1, "kept".to_owned())]);
    }
}
