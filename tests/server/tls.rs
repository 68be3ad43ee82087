//! The real path, on real sockets: a server in this process, and a small device of our own making that speaks
//! the wire.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::kit::{Connection, Device, Fixture, events_in, eventually, skipped};
use muster::machine::close::CloseReason;
use muster::reactor::channel::{ChannelError, ClientTls, ExpectedServer, HandshakeCost};
use muster::wire::id::{CertificateHash, Epoch};
use muster::wire::message::{ErrorCode, Ping, Probe, ToAgent, ToServer};
use muster::wire::section::Section;
use muster::wire::time::WallTime;

/// A server and a device with a link.
fn connected() -> (Fixture, Device, Connection) {
    let fixture = Fixture::start();
    let device = fixture.enrol("kiosk");
    let wire = device.connect(&fixture);
    (fixture, device, wire)
}

#[test]
fn a_device_enrols_syncs_and_its_events_are_acknowledged() {
    let (fixture, device, mut wire) = connected();
    let ToAgent::Want(want) = wire.sync(3) else { panic!("the inventory must be wanted") };
    assert_eq!((want.sections[0].section, want.sections[0].base), (Section::Inventory, None));
    let digest = wire.sync_inventory(3);
    assert_eq!(device.enrolled.name, "kiosk");
    let record = fixture.server.store().table().get(device.id).unwrap();
    assert_eq!(record.sections()[0].digest, digest, "the inventory is stored when the device is told so");

    wire.send_events(Epoch(5), 1..=20);
    wire.wait_for_ack(20);
    let counters = fixture.server.counters();
    assert_eq!(counters.events_appended.get(), 20);
    wire.send_events(Epoch(5), 11..=20);
    wire.wait_for_ack(20);
    assert_eq!((counters.events_appended.get(), counters.events_repeated.get()), (20, 10));
    wire.leave();
    eventually("the link is counted as closed", || counters.closes(CloseReason::PeerClosed) >= 1);
    fixture.server.drain().unwrap();
}

#[test]
fn a_sync_without_a_change_takes_at_most_300_bytes_of_tls_payload() {
    let (_fixture, _, mut wire) = connected();
    wire.sync_inventory(3);
    let before = wire.plain_bytes;
    let ToAgent::InSync(in_sync) = wire.sync(3) else { panic!("nothing changed") };
    assert!((450..1_350).contains(&in_sync.next_seconds), "{in_sync:?}");
    let bytes = wire.plain_bytes - before;
    println!("a sync without a change: {bytes} bytes of TLS payload, both ways");
    assert!(bytes <= 300, "{bytes} bytes");
}

#[test]
fn acknowledged_events_are_known_again_after_a_restart() {
    let mut fixture = Fixture::start();
    let device = fixture.enrol("kiosk");
    let mut wire = device.connect(&fixture);
    wire.send_events(Epoch(5), 1..=10);
    wire.wait_for_ack(10);
    fixture.restart();
    let mut wire = device.connect(&fixture);
    wire.send_events(Epoch(5), 5..=12);
    wire.wait_for_ack(12);
    let counters = fixture.server.counters();
    assert_eq!((counters.events_appended.get(), counters.events_repeated.get()), (2, 6));
    let Fixture { server, directory, .. } = fixture;
    server.drain().unwrap();
    let stored = events_in(&directory.path().join("journal")).into_iter().map(|(sequence, _)| sequence);
    assert_eq!(stored.collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>(), "none lost, none twice");
}

#[test]
fn a_used_up_token_is_refused_with_its_name() {
    let fixture = Fixture::start();
    let token = fixture.token(1);
    fixture.try_enrol(&token, "first").unwrap();
    // While another is valid, strangers are heard.
    let _valid = fixture.token(1);
    let refused = fixture.try_enrol(&token, "second").unwrap_err();
    assert_eq!(refused.code, ErrorCode::TokenUsedUp);
}

#[test]
fn another_server_is_not_spoken_to_and_both_certificates_are_named() {
    let fixture = Fixture::start();
    let other = CertificateHash([7; 32]);
    let tls = ClientTls::new(ExpectedServer::Hash(other), None).unwrap();
    let error = Connection::open(&fixture, &tls).read_until_error();
    let ChannelError::WrongServer { seen, expected } = &error else { panic!("{error:?}") };
    assert_eq!(*seen, fixture.server.certificate());
    assert!(expected.contains(&other.to_string()), "{expected}");
    eventually("the refusal is counted", || fixture.server.counters().closes(CloseReason::PeerAlert) == 1);
}

#[test]
fn a_resumed_session_is_the_same_device() {
    let (fixture, device, mut wire) = connected();
    wire.sync_inventory(1);
    assert_eq!(wire.channel.handshake_cost(), Some(HandshakeCost::Full));
    assert_eq!(wire.channel.key_exchange().as_deref(), Some("X25519MLKEM768"));
    wire.leave();
    let mut wire = device.connect(&fixture);
    let answer = wire.sync(1);
    assert!(matches!(answer, ToAgent::InSync(_)), "{answer:?}");
    assert_eq!(wire.channel.handshake_cost(), Some(HandshakeCost::Resumed));
}

#[test]
fn a_removed_device_is_refused_on_its_link_in_full_and_resumed() {
    let (fixture, device, mut wire) = connected();
    wire.sync_inventory(1);

    let record = fixture.server.store().devices().remove(device.id, WallTime(1)).unwrap().unwrap();
    assert!(fixture.server.mailboxes().close_removed(record.link.expect("it is connected")));
    let error = wire.read_error();
    assert_eq!(error.code, ErrorCode::DeviceRemoved, "the open link is told");
    wire.leave();

    let mut resumed = device.connect(&fixture);
    let error = resumed.read_error();
    assert_eq!(error.code, ErrorCode::DeviceRemoved, "the ticket is still good, the device is not");
    assert_eq!(resumed.channel.handshake_cost(), Some(HandshakeCost::Resumed));

    let full = Connection::open(&fixture, &device.fresh_tls()).read_until_error();
    assert_eq!(full, ChannelError::DeviceRemoved, "the handshake itself ends with an alert");
    let counters = fixture.server.counters();
    eventually("all three are counted", || counters.closes(CloseReason::DeviceRemoved) == 3);
}

#[test]
fn a_removed_device_is_not_served_on_its_link_though_that_was_not_told() {
    let (fixture, device, mut wire) = connected();
    wire.greet();
    fixture.server.store().devices().remove(device.id, WallTime(1)).unwrap();
    match wire.ask(&ToServer::Ping(Ping::default())) {
        Ok(ToAgent::Error(report)) => assert_eq!(report.code, ErrorCode::DeviceRemoved),
        Ok(other) => panic!("{other:?}"),
        Err(_) => {}
    }
}

#[test]
fn the_newest_link_of_a_device_wins() {
    let fixture = Fixture::start();
    let device = fixture.enrol("kiosk");
    let mut first = device.connect(&fixture);
    first.sync_inventory(1);
    let mut second = device.connect(&fixture);
    second.sync(1);
    assert_eq!(first.read_error().code, ErrorCode::Superseded);
    second.send_events(Epoch(1), 1..=1);
    second.wait_for_ack(1);
    assert_eq!(fixture.server.counters().closes(CloseReason::Superseded), 1);
}

#[test]
fn without_a_certificate_nothing_is_done_but_enrolment() {
    let fixture = Fixture::start();
    let _valid = fixture.token(1);
    let mut wire = fixture.stranger();
    wire.send(&ToServer::Ping(Ping::default()));
    assert_eq!(wire.read_error().code, ErrorCode::NotEnrolled);
    eventually("it is counted", || fixture.server.counters().closes(CloseReason::NotEnrolled) == 1);
}

#[test]
fn the_late_word_of_a_link_that_its_device_has_left_takes_nothing_from_the_new_one() {
    let fixture = Fixture::start();
    let device = fixture.enrol("kiosk");
    let mut left = device.connect(&fixture);
    left.send(&ToServer::Probe(Probe { udp_port: 0 }));
    assert!(matches!(left.read(), ToAgent::Probed(_)), "it has its link, and has not said whose it is");
    let mut stays = device.connect(&fixture);
    stays.sync_inventory(3);
    // As when the device gave up waiting for the server, which now reads what it said then.
    left.leave_with(&ToServer::Ping(Ping::default()));
    let counters = fixture.server.counters();
    eventually("the old link is closed", || counters.closes(CloseReason::PeerClosed) >= 1);
    let answer = stays.sync(3);
    assert!(matches!(answer, ToAgent::InSync(_)), "{answer:?}");
    assert_eq!(counters.closes(CloseReason::Superseded), 0);
}

#[test]
fn more_devices_than_are_told_in_one_turn_are_all_told_when_to_come_again() {
    let fixture = Fixture::start();
    let devices: Vec<_> = (0..600).map(|number| fixture.enrol(&format!("kiosk-{number}"))).collect();
    let mut wires: Vec<_> = (0..1_200)
        .map(|number| {
            let mut wire = devices[number / 2].connect(&fixture);
            // It takes the device's link from nobody, so that there can be two.
            wire.send(&ToServer::Probe(Probe { udp_port: 0 }));
            assert!(matches!(wire.read(), ToAgent::Probed(_)));
            wire
        })
        .collect();
    let counters = Arc::clone(fixture.server.counters());
    let Fixture { server, directory, .. } = fixture;
    let draining = std::thread::spawn(move || server.drain());
    for wire in &mut wires {
        let later = wire.read();
        assert!(matches!(later, ToAgent::Later(_)), "{later:?}");
        assert_eq!(wire.read_error().code, ErrorCode::Stopping);
    }
    drop(wires);
    draining.join().unwrap().unwrap();
    assert_eq!(counters.closes(CloseReason::Stopping), 1_200);
    drop(directory);
}

/// Runs `s_client` against the server; its standard input stays open until the server hangs up or `timeout`
/// is over.
fn openssl(fixture: &Fixture, arguments: &[&str]) -> Option<()> {
    let address = fixture.address().to_string();
    let child = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-quiet"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        skipped("needs the openssl command");
        return None;
    };
    let mut input = child.stdin.take().unwrap();
    // A frame that is a ping, for those who come so far.
    let _ = input.write_all(&[0, 0, 0, 3, 0x82, 5, 0xa0]);
    child.wait().unwrap();
    Some(())
}

#[test]
fn peers_that_no_one_here_wrote_are_closed_for_named_reasons() {
    let fixture = Fixture::start();
    let counters = Arc::clone(fixture.server.counters());
    let busy = Busy::start(&fixture);
    let closes =
        |reason| move |counters: &muster::concurrency::counters::Counters| counters.closes(reason) >= 1;
    let wait = |reason: CloseReason| eventually(reason.name(), || closes(reason)(&counters));

    if openssl(&fixture, &["-tls1_2", "-alpn", "muster/1"]).is_none() {
        return;
    }
    wait(CloseReason::TlsVersion);
    openssl(&fixture, &["-tls1_3"]).unwrap();
    wait(CloseReason::NoProtocol);
    openssl(&fixture, &["-tls1_3", "-alpn", "muster/1"]).unwrap();
    wait(CloseReason::NoValidToken);
    let _valid = fixture.token(1);
    openssl(&fixture, &["-tls1_3", "-alpn", "muster/1"]).unwrap();
    wait(CloseReason::NotEnrolled);

    let directory = tempfile::tempdir().unwrap();
    let (key, certificate) = (directory.path().join("key.pem"), directory.path().join("certificate.pem"));
    let made = Command::new("openssl")
        .args("req -x509 -newkey ed25519 -nodes -subj /CN=foreign -days 2 -keyout".split(' '))
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    openssl(&fixture, &["-tls1_3", "-alpn", "muster/1", "-cert", certificate, "-key", key]).unwrap();
    wait(CloseReason::ForeignCertificate);
    busy.finish();
}

#[test]
fn garbage_slow_and_silent_peers_are_closed_for_named_reasons_while_others_go_on() {
    let fixture =
        Fixture::start_with(|config| config.links.handshake_deadline = Duration::from_millis(1_500));
    let counters = Arc::clone(fixture.server.counters());
    let busy = Busy::start(&fixture);

    let mut garbage = TcpStream::connect(fixture.address()).unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: muster\r\n\r\n").unwrap();
    let _ = garbage.read_to_end(&mut Vec::new());
    eventually("garbage is no TLS", || counters.closes(CloseReason::NotTls) == 1);

    // A record that is announced, and whose bytes come one at a time until the server has had enough.
    let mut slow = TcpStream::connect(fixture.address()).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut bytes = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3].into_iter().chain(std::iter::repeat(0));
    eventually("a slow handshake is cut off", || {
        // Fails once the server has hung up.
        let _ = slow.write_all(&[bytes.next().unwrap()]);
        let _ = slow.read(&mut [0]);
        counters.closes(CloseReason::HandshakeTimeout) == 1
    });

    let device = fixture.enrol("liar");
    let mut liar = device.connect(&fixture);
    liar.sync_inventory(1);
    liar.send_bytes(&[0xff, 0xff, 0xff, 0xff, 0x82]);
    assert_eq!(liar.read_error().code, ErrorCode::Malformed);
    eventually("4 GiB are refused", || counters.closes(CloseReason::FrameLength) == 1);

    let count = silent_connections();
    let silent: Vec<_> = (0..count).map(|_| TcpStream::connect(fixture.address()).unwrap()).collect();
    // Some by the deadline, and some because others waited for their places.
    let cut_off = [CloseReason::HandshakeTimeout, CloseReason::HandshakeEvicted];
    eventually("silent connections are cut off", || {
        cut_off.map(|reason| counters.closes(reason)).iter().sum::<u64>() > count as u64
    });
    drop(silent);
    busy.finish();
}

#[test]
fn a_peer_that_does_not_read_is_closed() {
    let fixture = Fixture::start_with(|config| config.links.write_deadline = Duration::from_millis(500));
    let counters = Arc::clone(fixture.server.counters());
    let device = fixture.enrol("deaf");
    let mut wire = device.connect(&fixture);
    wire.sync_inventory(1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut pings = Vec::new();
            (0..4_000).for_each(|_| ToServer::Ping(Ping::default()).write_to(&mut pings));
            while !stop.load(Ordering::Relaxed) && wire.try_send_bytes(&pings).is_ok() {
                std::hint::spin_loop();
            }
        });
        eventually("it is closed", || counters.closes(CloseReason::SlowReader) == 1);
        stop.store(true, Ordering::Relaxed);
    });
}

/// Number of silent connections that this process may open: 5,000, or fewer if descriptors are short.
fn silent_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(20_000);
    // Both ends are in this process.
    let possible = usize::try_from(limit.saturating_sub(500) / 2).unwrap();
    if possible < 5_000 {
        println!("only {possible} of 5,000 silent connections: needs 'ulimit -n 10500'");
    }
    possible.min(5_000)
}

/// A device that goes on exchanging events while others misbehave.
struct Busy {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Busy {
    fn start(fixture: &Fixture) -> Self {
        let device: Device = fixture.enrol("busy");
        let mut wire = device.connect(fixture);
        wire.sync_inventory(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut sequence = 0;
            while !stopping.load(Ordering::Relaxed) {
                sequence += 1;
                wire.send_events(Epoch(9), sequence..=sequence);
                wire.wait_for_ack(sequence);
                std::thread::sleep(Duration::from_millis(5));
            }
            sequence
        });
        Self { stop, thread }
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let events = self.thread.join().expect("the other link was not disturbed");
        println!("{events} events were acknowledged on the other link meanwhile");
        assert!(events > 0);
    }
}
