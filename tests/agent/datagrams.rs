//! Wakes and shutdown notices of the agent as its user runs it, against a real server: what calls it, what
//! does not, and how it goes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::kit::{Fixture, Running, SilentServer, Site, TIMEOUT, eventually, free_udp_port, now, stored};
use muster::agent::identity::Identity;
use muster::agent::local::client::LocalClient;
use muster::agent::local::protocol::DatagramStatus;
use muster::concurrency::counters::Counters;
use muster::fleet::presence::{Presence, presence};
use muster::machine::device_state::DeviceState;
use muster::machine::reach::UdpReach;
use muster::store::DeviceChange;
use muster::store::table::signs_of;
use muster::wire::api::{CallOutcome, CallVia};
use muster::wire::datagram::{DATAGRAM_BYTES, DropReason, Notice, NoticeKind, Wake, WakeReason};
use muster::wire::id::DeviceId;
use muster::wire::time::WallTime;

/// Longest end of an agent, whatever its server does. The agent promises two seconds; the machine may be
/// busy.
const END_SECONDS_MAX: f64 = 3.0;

/// Time in which nothing may happen before a test believes that nothing will.
const QUIET: Duration = Duration::from_millis(300);

/// A server in this process and an enrolled device, whose keys the test knows.
struct Kiosk {
    fixture: Fixture,
    site: Site,
    identity: Identity,
    port: u16,
    socket: UdpSocket,
    counter: u32,
}

/// The agent has a port of its own, no packages, and these settings besides.
fn configure(site: &Site, port: u16, settings: &str) {
    let root = site.path("root");
    std::fs::create_dir_all(&root).unwrap();
    site.configure(&format!("{settings}\n[wake]\nport = {port}\n[collect]\nroot = {root:?}\n"));
}

/// Ends the agent; no server may hold it up.
fn end(agent: Running) {
    let begun = Instant::now();
    assert!(agent.end().success());
    let took = begun.elapsed().as_secs_f64();
    assert!(took < END_SECONDS_MAX, "the end took {took:.1} s");
}

impl Kiosk {
    fn enrol() -> Self {
        let fixture = Fixture::start();
        let site = Site::at(fixture.address());
        assert!(site.enroll(&fixture.token(1).to_string()).status.success());
        let identity = Identity::read(&site.path("agent")).unwrap().unwrap();
        let port = free_udp_port();
        configure(&site, port, "");
        // Above all that the server has sent: it counts from its clock.
        let counter = u32::try_from(now().0 / 1_000).unwrap() + 10_000;
        Self { fixture, site, identity, port, socket: UdpSocket::bind("127.0.0.1:0").unwrap(), counter }
    }

    /// An agent that has synced, is known to hear wakes, and has gone.
    fn away(&self) -> Running {
        let agent = self.site.agent_process();
        self.settle();
        agent
    }

    fn settle(&self) {
        eventually("wakes are known to reach it", || {
            self.sync();
            self.record().udp_reach == UdpReach::Reached
        });
        eventually("it has gone", || self.record().link.is_none());
    }

    fn sync(&self) {
        self.site.sync();
    }

    fn counters(&self) -> &Counters {
        self.fixture.server.counters()
    }

    fn record(&self) -> DeviceState {
        self.fixture.server.store().table().get(self.identity.device).unwrap()
    }

    fn presence(&self) -> Presence {
        presence(&signs_of(&self.record(), WallTime(0)), now())
    }

    fn connections(&self) -> u64 {
        self.counters().links_accepted.get()
    }

    fn dropped_by_server(&self, reason: DropReason) -> u64 {
        self.counters().all_drops()[reason.index()].1
    }

    /// A wake as the server would send it next.
    fn wake(&mut self, reason: WakeReason) -> [u8; DATAGRAM_BYTES] {
        self.counter += 1;
        let wake = Wake { device: self.identity.device, reason, counter: self.counter };
        wake.seal(&self.identity.wake_key)
    }

    fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, ("127.0.0.1", self.port)).unwrap();
    }

    fn datagrams(&self) -> DatagramStatus {
        let mut agent = LocalClient::connect(&self.site.path("agent/agent.sock"), TIMEOUT).unwrap();
        agent.status().unwrap().datagrams.unwrap()
    }

    /// Sends a datagram, and waits until the agent has taken or dropped it. Why it was dropped.
    fn fate(&self, bytes: &[u8]) -> Option<DropReason> {
        let before = self.datagrams();
        self.send(bytes);
        let mut after = before.clone();
        eventually("the datagram is judged", || {
            after = self.datagrams();
            after != before
        });
        let changed = |reason: &&DropReason| count(&after, **reason) > count(&before, **reason);
        let dropped = DropReason::ALL.iter().find(changed).copied();
        assert_eq!(after.wakes - before.wakes, u64::from(dropped.is_none()));
        dropped
    }

    /// The genuine wake makes the agent come, once, and sync.
    #[track_caller]
    fn assert_woken_by(&self, bytes: &[u8]) {
        let (connections, syncs) = (self.connections(), self.counters().syncs.get());
        self.send(bytes);
        eventually("it has come and synced", || self.counters().syncs.get() == syncs + 1);
        eventually("it has gone", || self.record().link.is_none());
        assert_eq!(self.connections(), connections + 1);
    }

    /// Nothing comes of what was sent before.
    #[track_caller]
    fn assert_still(&self, connections: u64) {
        std::thread::sleep(QUIET);
        assert_eq!(self.connections(), connections, "{}", self.site.log("agent.log"));
    }
}

fn count(status: &DatagramStatus, reason: DropReason) -> u64 {
    status.dropped.iter().find(|drop| drop.reason == reason.name()).map_or(0, |drop| drop.count)
}

/// With one bit changed.
fn flipped(bytes: &[u8; DATAGRAM_BYTES], bit: usize) -> [u8; DATAGRAM_BYTES] {
    let mut changed = *bytes;
    changed[bit / 8] ^= 1 << (bit % 8);
    changed
}

/// A wake of a kind that only a newer server knows.
fn of_the_future(wake: &[u8; DATAGRAM_BYTES], key: &[u8]) -> [u8; DATAGRAM_BYTES] {
    use aws_lc_rs::hmac;
    let mut changed = *wake;
    changed[6] = 99;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &changed[..24]);
    changed[24..].copy_from_slice(tag.as_ref());
    changed
}

#[test]
fn a_wake_calls_the_agent_once_and_what_was_made_of_it_never() {
    let mut kiosk = Kiosk::enrol();
    let _agent = kiosk.away();
    let genuine = kiosk.wake(WakeReason::Sync);
    kiosk.assert_woken_by(&genuine);
    // Its log is written a moment later.
    eventually("the log says it", || kiosk.site.log("agent.log").contains("woken by the server: Sync"));

    let connections = kiosk.connections();
    let (device, counter) = (kiosk.identity.device, kiosk.counter);
    let (wake_key, notice_key) = (kiosk.identity.wake_key, kiosk.identity.notice_key);
    let wake = |device, counter| Wake { device, reason: WakeReason::Sync, counter };
    let notice = Notice { device, kind: NoticeKind::Shutdown, counter: 1, boot: 0 };
    let newer = wake(device, counter + 1).seal(&wake_key);
    for (bytes, reason) in [
        (&genuine[..], DropReason::Repeated),
        (&wake(device, counter - 1).seal(&wake_key), DropReason::Stale),
        (&wake(device, 0).seal(&wake_key), DropReason::Stale),
        (&wake(DeviceId(7), counter + 1).seal(&wake_key), DropReason::OtherDevice),
        (&wake(device, counter + 1).seal(&[7; 32]), DropReason::Forged),
        (&wake(device, counter + 1).seal(&notice_key), DropReason::Forged),
        (&notice.seal(&notice_key), DropReason::NotOurs),
        (&notice.seal(&wake_key), DropReason::NotOurs),
        (&of_the_future(&newer, &wake_key), DropReason::UnknownKind),
        (&[], DropReason::Length),
        (&newer[..DATAGRAM_BYTES - 1], DropReason::Length),
        (&[&newer[..], &[0]].concat(), DropReason::Length),
        (&[&newer[..], &[0; 1_344]].concat(), DropReason::Length),
    ] {
        assert_eq!(kiosk.fate(bytes), Some(reason), "{bytes:x?}");
    }
    for (bytes, bits) in [(&genuine, [0, 47, 63]), (&newer, [65, 130, 159])] {
        for bit in bits.into_iter().chain([24 * 8, 40 * 8 + 3, DATAGRAM_BYTES * 8 - 1]) {
            let expected = match bit / 8 {
                0..6 => DropReason::NotOurs,
                8..16 => DropReason::OtherDevice,
                _ => DropReason::Forged,
            };
            assert_eq!(kiosk.fate(&flipped(bytes, bit)), Some(expected), "bit {bit}");
        }
    }
    for from in ["127.0.0.1:0", "127.0.0.2:0"] {
        kiosk.socket = UdpSocket::bind(from).unwrap();
        assert_eq!(kiosk.fate(&genuine), Some(DropReason::Repeated), "from {from}");
    }
    kiosk.assert_still(connections);
    // Nothing of it has used the next one up, wherever it comes from.
    kiosk.counter = counter;
    let next = kiosk.wake(WakeReason::Task);
    kiosk.assert_woken_by(&next);
}

#[test]
fn the_servers_own_wake_is_taken_and_the_caller_hears_of_the_sync() {
    let kiosk = Kiosk::enrol();
    let _agent = kiosk.away();
    let (sink, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
    kiosk.fixture.server.calls().call(&[kiosk.identity.device], WakeReason::Sync, Some(sink)).unwrap();
    let (_, outcome) = outcomes.blocking_recv().unwrap();
    assert!(matches!(outcome, CallOutcome::Synced { by: CallVia::Wake, .. }), "{outcome:?}");
}

#[test]
fn a_wake_that_was_taken_is_a_replay_after_a_kill_too() {
    let mut kiosk = Kiosk::enrol();
    let agent = kiosk.away();
    let older = kiosk.wake(WakeReason::Sync);
    let taken = kiosk.wake(WakeReason::Sync);
    kiosk.assert_woken_by(&taken);
    agent.kill();
    let _agent = kiosk.away();
    let connections = kiosk.connections();
    assert_eq!(kiosk.fate(&taken), Some(DropReason::Repeated));
    assert_eq!(kiosk.fate(&older), Some(DropReason::Stale));
    kiosk.assert_still(connections);
    let next = kiosk.wake(WakeReason::Sync);
    kiosk.assert_woken_by(&next);
}

#[test]
fn a_flood_of_forged_datagrams_keeps_nobody_from_the_agent() {
    let mut kiosk = Kiosk::enrol();
    let _agent = kiosk.away();
    let connections = kiosk.connections();
    let genuine = kiosk.wake(WakeReason::Sync);
    let forged = flipped(&genuine, 300);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..10_000 {
                kiosk.send(&forged);
                if round % 100 == 0 {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        for _ in 0..10 {
            assert_eq!(kiosk.site.status()["running"], true);
        }
    });
    kiosk.assert_still(connections);
    assert!(count(&kiosk.datagrams(), DropReason::Forged) >= 1_000, "{:?}", kiosk.datagrams());
    kiosk.assert_woken_by(&genuine);
}

/// Wakes at once, in wakes: three times as many as an agent takes.
const BURST: u64 = 300;

#[test]
fn wakes_that_come_too_fast_are_dropped_and_taken_when_they_come_again() {
    let mut kiosk = Kiosk::enrol();
    let _agent = kiosk.away();
    eventually("a copy of one that came too soon is taken", || {
        let before = kiosk.datagrams();
        let mut last = [0; DATAGRAM_BYTES];
        for round in 0..BURST {
            last = kiosk.wake(WakeReason::Sync);
            kiosk.send(&last);
            if round % 50 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let mut after = kiosk.datagrams();
        eventually("it has judged them", || {
            std::thread::sleep(QUIET);
            std::mem::replace(&mut after, kiosk.datagrams()) == after
        });
        let limited = count(&after, DropReason::Limited) - count(&before, DropReason::Limited);
        if after.wakes - before.wakes + limited != BURST {
            // The system has dropped some.
            return false;
        }
        assert!(limited > 0, "{after:?}");
        let mut fate = Some(DropReason::Limited);
        eventually("there is room again", || {
            fate = kiosk.fate(&last);
            fate != Some(DropReason::Limited)
        });
        fate.is_none()
    });
    kiosk.sync();
}

#[test]
fn an_agent_that_is_stopped_delivers_what_it_has_and_says_so_once() {
    let kiosk = Kiosk::enrol();
    let agent = kiosk.away();
    let (notices, repeated) = (kiosk.counters().notices.get(), kiosk.dropped_by_server(DropReason::Repeated));
    assert!(kiosk.site.emit("info", "the last one").status.success());
    end(agent);
    eventually("it is known to be stopped", || kiosk.presence() == Presence::AgentStopped);
    assert_eq!(kiosk.counters().events_appended.get(), 1);
    eventually("each copy has come", || {
        let again = kiosk.dropped_by_server(DropReason::Repeated) - repeated;
        again + kiosk.counters().notices.get() - notices == 3
    });
    // None, if the word on the link was quicker.
    assert!(kiosk.counters().notices.get() - notices <= 1);
}

#[test]
fn on_a_persistent_link_the_notice_is_said_as_well() {
    let kiosk = Kiosk::enrol();
    let agent = kiosk.away();
    let change = DeviceChange { keep_connected: Some(Some(true)), ..DeviceChange::default() };
    kiosk.fixture.server.store().devices().change(kiosk.identity.device, change).unwrap();
    kiosk.sync();
    eventually("it stays", || kiosk.presence() == Presence::Connected);
    let connections = kiosk.connections();
    end(agent);
    eventually("it is known to be stopped", || kiosk.presence() == Presence::AgentStopped);
    eventually("its link has ended", || kiosk.record().link.is_none());
    kiosk.assert_still(connections);
}

#[test]
fn a_shutdown_and_a_reboot_are_told_from_a_stop() {
    let kiosk = Kiosk::enrol();
    let (program, systemd) = (kiosk.site.path("bin/systemctl"), kiosk.site.path("root/run/systemd/system"));
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::create_dir_all(systemd).unwrap();
    let path = format!("{}:{}", kiosk.site.path("bin").display(), std::env::var("PATH").unwrap());
    for (target, kind) in [("poweroff.target", NoticeKind::Shutdown), ("reboot.target", NoticeKind::Reboot)] {
        std::fs::write(&program, format!("#!/bin/sh\necho '7 {target} start waiting'\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let agent = kiosk.site.agent_process_with(&[("PATH", &path)]);
        kiosk.settle();
        end(agent);
        eventually("it is shut down", || kiosk.presence() == Presence::ShutDown);
        assert_eq!(kiosk.record().departure, Some(kind));
    }
}

/// Neither a server that is gone nor one that does not answer may hold up a machine that shuts down.
#[test]
fn a_server_that_is_away_holds_nobody_up_and_loses_nothing() {
    let (site, server) = Site::enrolled();
    let port = free_udp_port();
    configure(&site, port, "");
    let agent = site.agent_process();
    site.wait_until_confirmed();
    server.kill();
    for message in ["one", "two", "three"] {
        assert!(site.emit("error", message).status.success());
    }
    end(agent);
    let silent = SilentServer::new();
    configure(&site, port, &format!("server = \"{}\"", silent.address));
    let agent = site.agent_process();
    eventually("it tries to connect", || site.status()["state"] == "connecting");
    end(agent);
    configure(&site, port, "");
    let server = site.server();
    let agent = site.agent_process();
    site.wait_until_confirmed();
    end(agent);
    assert!(server.end().success());
    let all: Vec<String> = stored(&site).into_iter().map(|(_, message)| message).collect();
    assert_eq!(all, ["one", "two", "three"]);
}

#[test]
fn a_device_that_sleeps_is_left_alone_until_it_is_back() {
    let mut kiosk = Kiosk::enrol();
    let agent = kiosk.away();
    assert!(kiosk.site.agent(&["notice", "suspend"]).status.success());
    eventually("it sleeps", || kiosk.presence() == Presence::Asleep);
    let connections = kiosk.connections();
    let (sink, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
    kiosk.fixture.server.calls().call(&[kiosk.identity.device], WakeReason::Sync, Some(sink)).unwrap();
    assert_eq!(outcomes.blocking_recv().unwrap().1, CallOutcome::Asleep);
    let wake = kiosk.wake(WakeReason::Sync);
    assert_eq!(kiosk.fate(&wake), None);
    kiosk.assert_still(connections);
    assert_eq!(kiosk.presence(), Presence::Asleep);

    assert!(kiosk.site.agent(&["notice", "resume"]).status.success());
    eventually("it is back", || matches!(kiosk.presence(), Presence::Idle | Presence::Connected));
    eventually("it has gone", || kiosk.record().link.is_none());

    // The same with nothing in between that would have told the server of the notice's number.
    assert!(kiosk.site.agent(&["notice", "suspend"]).status.success());
    eventually("it sleeps again", || kiosk.presence() == Presence::Asleep);
    assert!(kiosk.site.agent(&["notice", "resume"]).status.success());
    eventually("it is back again", || matches!(kiosk.presence(), Presence::Idle | Presence::Connected));
    eventually("it has gone again", || kiosk.record().link.is_none());

    // A stop while it is about to sleep is a stop, and what came up meanwhile is delivered.
    assert!(kiosk.site.agent(&["notice", "suspend"]).status.success());
    assert!(kiosk.site.emit("info", "sleepless").status.success());
    end(agent);
    eventually("it is known to be stopped", || kiosk.presence() == Presence::AgentStopped);
    assert_eq!(kiosk.counters().events_appended.get(), 1);
}

/// A local program that says something and reads the answer later.
struct Speaker(BufReader<UnixStream>);

impl Speaker {
    fn say(site: &Site, command: &str) -> Self {
        let mut stream = UnixStream::connect(site.path("agent/agent.sock")).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        writeln!(stream, "{{\"command\":\"{command}\"}}").unwrap();
        // The agent hears one before the next is said.
        std::thread::sleep(Duration::from_millis(100));
        Self(BufReader::new(stream))
    }

    fn answer(mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }
}

/// With a server that does not answer and an event to deliver, a shutdown notice takes more than a second, in
/// which much may happen.
#[test]
fn whoever_speaks_while_the_device_goes_to_sleep_gets_an_answer() {
    let kiosk = Kiosk::enrol();
    let silent = SilentServer::new();
    configure(&kiosk.site, kiosk.port, &format!("server = \"{}\"", silent.address));
    let agent = kiosk.site.agent_process();
    assert!(kiosk.site.emit("info", "waits").status.success());

    let sleepers = [Speaker::say(&kiosk.site, "suspend"), Speaker::say(&kiosk.site, "suspend")];
    for sleeper in sleepers {
        assert!(sleeper.answer().contains("noticed"));
    }
    let sleeper = Speaker::say(&kiosk.site, "suspend");
    assert!(Speaker::say(&kiosk.site, "resume").answer().contains("resumed"));
    let answer = sleeper.answer();
    assert!(answer.contains("does not sleep after all"), "{answer}");

    let sleeper = Speaker::say(&kiosk.site, "suspend");
    end(agent);
    let answer = sleeper.answer();
    assert!(answer.contains("the agent is ending"), "{answer}");
    let log = kiosk.site.log("agent.log");
    assert_eq!(log.matches("shutdown notice: suspend").count(), 1, "{log}");
    assert_eq!(log.matches("shutdown notice: agent stopped").count(), 1, "{log}");
}

#[test]
fn a_port_in_use_is_shown_and_taken_as_soon_as_it_is_free() {
    let kiosk = Kiosk::enrol();
    let squatter = UdpSocket::bind(("127.0.0.1", kiosk.port)).unwrap();
    let agent = kiosk.site.agent_process();
    kiosk.sync();
    let status = kiosk.site.status();
    assert_eq!(status["datagrams"]["port"], 0);
    let problem = format!("UDP port {}", kiosk.port);
    assert!(status["problems"].to_string().contains(&problem), "{status}");
    assert_eq!(kiosk.record().udp_port, 0);
    drop(squatter);
    let asked = Instant::now();
    agent.hang_up();
    eventually("the port is open", || kiosk.datagrams().port == kiosk.port);
    // By itself the agent tries again after a minute.
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert_eq!(kiosk.site.status()["problems"], serde_json::json!([]));
    eventually("the server is told without being asked", || kiosk.record().udp_port == kiosk.port);

    let other = free_udp_port();
    configure(&kiosk.site, other, "");
    agent.hang_up();
    eventually("the server is told of another port", || kiosk.record().udp_port == other);
    configure(&kiosk.site, 0, "");
    agent.hang_up();
    eventually("the server is told that there is none", || kiosk.record().udp_port == 0);
}
