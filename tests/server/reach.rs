//! Calls, wakes, notices and presence on real sockets: a server in this process, and a device of our own
//! making with a UDP port.

use std::net::UdpSocket;
use std::time::Duration;

use crate::kit::{Connection, Device, Fixture, eventually, now};
use muster::fleet::presence::{Presence, presence};
use muster::machine::close::CloseReason;
use muster::machine::device_state::DeviceState;
use muster::machine::reach::UdpReach;
use muster::store::DeviceChange;
use muster::store::table::signs_of;
use muster::wire::api::{CallOutcome, CallVia};
use muster::wire::datagram::{DATAGRAM_BYTES, DropReason, Notice, NoticeKind, Wake, WakeReason};
use muster::wire::id::DeviceId;
use muster::wire::message::{Goodbye, Ping, Probe, Reach, SyncNow, SyncReason, ToAgent, ToServer};
use muster::wire::time::WallTime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A device with a UDP port.
struct Reachable {
    device: Device,
    socket: UdpSocket,
    notice_counter: u32,
    wake_counter: u32,
}

impl Reachable {
    fn enrol(fixture: &Fixture, name: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { device: fixture.enrol(name), socket, notice_counter: 0, wake_counter: 0 }
    }

    fn reach(&self) -> Reach {
        let udp_port = self.socket.local_addr().unwrap().port();
        Reach { udp_port, wake_counter: self.wake_counter, notice_counter: self.notice_counter, boot: 7 }
    }

    fn sync(&self, wire: &mut Connection, reason: SyncReason) -> ToAgent {
        wire.sync_as(1, reason, Some(self.reach()))
    }

    /// Syncs, with an inventory when it is wanted.
    fn first_sync(&self, wire: &mut Connection) {
        wire.sync_inventory(1);
        let answer = self.sync(wire, SyncReason::Scheduled);
        assert!(matches!(answer, ToAgent::InSync(_)), "{answer:?}");
    }

    /// The next wake, of the kind or any.
    fn wake(&mut self, reason: WakeReason) -> (Wake, [u8; DATAGRAM_BYTES]) {
        loop {
            let mut bytes = [0; DATAGRAM_BYTES];
            assert_eq!(self.socket.recv(&mut bytes).unwrap(), DATAGRAM_BYTES);
            let wake = Wake::open(&bytes, self.device.id, &self.device.enrolled.wake_key).unwrap();
            self.wake_counter = wake.counter;
            if wake.reason == reason {
                return (wake, bytes);
            }
        }
    }

    fn notice(&mut self, kind: NoticeKind) -> [u8; DATAGRAM_BYTES] {
        self.notice_counter += 1;
        let notice = Notice { device: self.device.id, kind, counter: self.notice_counter, boot: 7 };
        notice.seal(&self.device.enrolled.notice_key)
    }

    fn send(&self, fixture: &Fixture, bytes: &[u8]) {
        let port = fixture.server.udp_address().port();
        self.socket.send_to(bytes, ("127.0.0.1", port)).unwrap();
    }

    fn record(&self, fixture: &Fixture) -> DeviceState {
        fixture.server.store().table().get(self.device.id).unwrap()
    }

    fn presence(&self, fixture: &Fixture) -> Presence {
        presence(&signs_of(&self.record(fixture), WallTime(0)), now())
    }
}

/// A server and a device that has synced on a link.
fn connected() -> (Fixture, Reachable, Connection) {
    let fixture = Fixture::start();
    let kiosk = Reachable::enrol(&fixture, "kiosk");
    let mut wire = kiosk.device.connect(&fixture);
    kiosk.first_sync(&mut wire);
    (fixture, kiosk, wire)
}

fn call(
    fixture: &Fixture,
    device: DeviceId,
    reason: WakeReason,
) -> UnboundedReceiver<(DeviceId, CallOutcome)> {
    let (sink, outcomes) = unbounded_channel();
    fixture.server.calls().call(&[device], reason, Some(sink)).unwrap();
    outcomes
}

fn dropped(fixture: &Fixture, reason: DropReason) -> u64 {
    fixture.server.counters().all_drops().iter().find(|(known, _)| *known == reason).unwrap().1
}

/// The changes of presence in the log of events, oldest first: `from-to`.
fn changes(fixture: &Fixture) -> Vec<String> {
    let mut found = Vec::new();
    let journal = fixture.server.journal();
    let mut records = journal.reader().forward(journal.reader().oldest());
    while let Some(item) = records.next().unwrap() {
        if let muster::journal::Item::Record(record) = item {
            let (epoch, event) = muster::machine::record::decode(record.record.payload).unwrap();
            if epoch.0 == 0 {
                let event = muster::wire::event::Event::from_bytes(event).unwrap();
                found.push(format!("{}-{}", event.fields[0].1, event.fields[1].1));
            }
        }
    }
    found
}

#[test]
fn a_device_that_is_away_is_woken_and_the_caller_hears_how_long_it_took() {
    let (fixture, mut kiosk, wire) = connected();
    wire.leave();
    eventually("it is away", || kiosk.record(&fixture).link.is_none());
    let mut outcomes = call(&fixture, kiosk.device.id, WakeReason::Sync);
    let (wake, bytes) = kiosk.wake(WakeReason::Sync);
    assert!(bytes.len() < 128 && wake.counter > 0);
    let mut wire = kiosk.device.connect(&fixture);
    assert!(matches!(kiosk.sync(&mut wire, SyncReason::Woken), ToAgent::InSync(_)));
    let (device, outcome) = outcomes.blocking_recv().unwrap();
    assert_eq!(device, kiosk.device.id);
    let CallOutcome::Synced { by: CallVia::Wake, begun_microseconds, synced_microseconds } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(begun_microseconds <= synced_microseconds);
    assert_eq!(kiosk.record(&fixture).udp_reach, UdpReach::Reached);
    let record = kiosk.record(&fixture);
    assert!(!record.is_called(), "nobody waits any more");
}

#[test]
fn a_connected_device_is_called_on_its_link() {
    let (fixture, mut kiosk, mut wire) = connected();
    let (probe, _) = kiosk.wake(WakeReason::Probe);
    let record = kiosk.record(&fixture);
    assert_eq!((record.udp_reach, record.wake_counter), (UdpReach::Probing, probe.counter));
    let mut outcomes = call(&fixture, kiosk.device.id, WakeReason::Sync);
    assert_eq!(wire.read(), ToAgent::SyncNow(SyncNow { is_fresh: false }));
    assert!(matches!(kiosk.sync(&mut wire, SyncReason::Forced), ToAgent::InSync(_)));
    let (_, outcome) = outcomes.blocking_recv().unwrap();
    assert!(matches!(outcome, CallOutcome::Synced { by: CallVia::Link, .. }), "{outcome:?}");
    // The call has not drawn a number for a wake that was never sent.
    assert_eq!(kiosk.record(&fixture).udp_reach, UdpReach::Reached);
    let _ = call(&fixture, kiosk.device.id, WakeReason::Retrieve);
    assert_eq!(wire.read(), ToAgent::SyncNow(SyncNow { is_fresh: true }));
}

#[test]
fn a_device_that_does_not_come_is_reported_with_its_next_slot_and_learned_as_unreached() {
    let (fixture, kiosk, wire) = connected();
    wire.leave();
    eventually("it is away", || kiosk.record(&fixture).link.is_none());
    let mut outcomes = call(&fixture, kiosk.device.id, WakeReason::Sync);
    let (_, outcome) = outcomes.blocking_recv().unwrap();
    let CallOutcome::Unreachable { attempts, next_slot_at: Some(at) } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(attempts >= 3 && at.0 > now(), "{attempts} {at}");
    assert_eq!(kiosk.record(&fixture).udp_reach, UdpReach::Unreached);
    let mut wire = kiosk.device.connect(&fixture);
    let ToAgent::InSync(in_sync) = kiosk.sync(&mut wire, SyncReason::Scheduled) else { panic!() };
    assert!(in_sync.keep_seconds.is_some(), "it is offered to stay: {in_sync:?}");
}

#[test]
fn a_notice_is_believed_once_and_only_when_it_is_authentic_and_new() {
    let fixture = Fixture::start();
    let mut kiosk = Reachable::enrol(&fixture, "kiosk");
    let mut other = Reachable::enrol(&fixture, "other");
    let mut wire = kiosk.device.connect(&fixture);
    kiosk.first_sync(&mut wire);
    wire.leave();
    eventually("it is away", || kiosk.presence(&fixture) == Presence::Idle);
    let counters = fixture.server.counters().clone();

    let mut forged = kiosk.notice(NoticeKind::Shutdown);
    kiosk.notice_counter -= 1;
    forged[40] ^= 1;
    kiosk.send(&fixture, &forged);
    kiosk.send(&fixture, &forged[..40]);
    kiosk.send(&fixture, &[0; 200]);
    let mut of_another = other.notice(NoticeKind::Shutdown);
    of_another[8..16].copy_from_slice(&kiosk.device.id.0.to_be_bytes());
    kiosk.send(&fixture, &of_another);
    let mut of_nobody = of_another;
    of_nobody[8..16].copy_from_slice(&[9; 8]);
    kiosk.send(&fixture, &of_nobody);
    eventually("all five were dropped", || counters.datagrams_received.get() == 5);
    eventually("and counted", || {
        (dropped(&fixture, DropReason::Forged), dropped(&fixture, DropReason::Length)) == (2, 2)
            && dropped(&fixture, DropReason::OtherDevice) == 1
    });
    assert_eq!((kiosk.presence(&fixture), counters.notices.get()), (Presence::Idle, 0));

    let genuine = kiosk.notice(NoticeKind::Shutdown);
    (0..3).for_each(|_| kiosk.send(&fixture, &genuine));
    eventually("it is shut down", || kiosk.presence(&fixture) == Presence::ShutDown);
    eventually("two copies more", || dropped(&fixture, DropReason::Repeated) == 2);
    let mut outcomes = call(&fixture, kiosk.device.id, WakeReason::Sync);
    assert_eq!(outcomes.blocking_recv().unwrap().1, CallOutcome::ShutDown);

    // It comes back; the notice, sent again from anywhere, is stale.
    let mut wire = kiosk.device.connect(&fixture);
    kiosk.notice_counter += 1;
    kiosk.sync(&mut wire, SyncReason::Started);
    assert_eq!(kiosk.presence(&fixture), Presence::Connected);
    other.send(&fixture, &genuine);
    eventually("it is stale", || dropped(&fixture, DropReason::Stale) == 1);
    assert_eq!(kiosk.presence(&fixture), Presence::Connected);
    let said = ["never_seen-idle", "idle-shut_down", "shut_down-idle"];
    eventually("each change is in the log of events, once it is durable", || changes(&fixture) == said);
}

/// It said that it reboots, and was lost when the server started.
#[test]
fn a_device_that_was_lost_stays_so_until_it_comes_and_is_not_shut_down_then() {
    let (fixture, mut kiosk, wire) = connected();
    wire.leave();
    let notice = kiosk.notice(NoticeKind::Reboot);
    kiosk.send(&fixture, &notice);
    eventually("it is shut down", || kiosk.presence(&fixture) == Presence::ShutDown);
    fixture.server.store().table().with(kiosk.device.id, |record| {
        record.last_seen = WallTime(now().0 - 1_000_000);
        record.announced = Presence::Lost;
        // Put right when all devices are looked at.
        record.last_sync = WallTime(now().0 + 3_600_000);
    });
    eventually("it is looked at", || kiosk.record(&fixture).last_sync <= now());
    assert_eq!(kiosk.record(&fixture).announced, Presence::Lost, "nothing was heard of it");

    let mut wire = kiosk.device.connect(&fixture);
    wire.send(&ToServer::Ping(Ping { next_seconds: None }));
    assert_eq!(wire.read(), ToAgent::Pong);
    assert_eq!(kiosk.record(&fixture).announced, Presence::Idle);
    kiosk.sync(&mut wire, SyncReason::Started);
    let is_status = |change: &String| change.contains("ok") || change.contains("warning");
    let presence =
        || -> Vec<_> { changes(&fixture).into_iter().filter(|change| !is_status(change)).collect() };
    eventually("the event is durable", || presence().last().is_some_and(|change| change == "lost-idle"));
    assert_eq!(presence(), ["never_seen-idle", "idle-shut_down", "lost-idle"]);
}

#[test]
fn a_notice_on_the_link_is_as_good_as_a_datagram() {
    let (fixture, kiosk, mut wire) = connected();
    wire.send(&ToServer::Goodbye(Goodbye { kind: NoticeKind::Suspend, counter: 1, boot: 7 }));
    eventually("it sleeps", || kiosk.presence(&fixture) == Presence::Asleep);
    eventually("its link has ended", || kiosk.record(&fixture).link.is_none());
}

#[test]
fn who_looks_whether_everything_works_takes_nothing_away_from_the_agent() {
    let (fixture, mut kiosk, mut wire) = connected();
    kiosk.wake(WakeReason::Probe);
    let link = kiosk.record(&fixture).link;

    let notice = kiosk.notice(NoticeKind::Probe);
    kiosk.send(&fixture, &notice);
    eventually("it was heard", || fixture.server.counters().notices.get() == 1);
    let mut looking = kiosk.device.connect(&fixture);
    looking.send(&ToServer::Probe(Probe { udp_port: kiosk.reach().udp_port }));
    let ToAgent::Probed(probed) = looking.read() else { panic!() };
    assert_eq!((probed.notice_counter, probed.address.as_str()), (1, "127.0.0.1"));
    assert_eq!(kiosk.wake(WakeReason::Probe).0.counter, probed.wake_counter.unwrap());
    assert!(probed.clock.0.abs_diff(now().0) < 60_000);
    looking.leave();
    wire.send(&ToServer::Ping(Ping::default()));
    assert_eq!(wire.read(), ToAgent::Pong);
    assert_eq!((kiosk.record(&fixture).link, kiosk.presence(&fixture)), (link, Presence::Connected));
}

#[test]
fn the_late_end_of_an_old_link_does_not_make_a_device_gone() {
    let fixture = Fixture::start();
    let kiosk = Reachable::enrol(&fixture, "kiosk");
    let mut old = kiosk.device.connect(&fixture);
    kiosk.first_sync(&mut old);
    let mut new = kiosk.device.connect(&fixture);
    kiosk.sync(&mut new, SyncReason::Reconnected);
    let link = kiosk.record(&fixture).link;
    old.read_error();
    old.leave();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!((kiosk.record(&fixture).link, kiosk.presence(&fixture)), (link, Presence::Connected));
}

#[test]
fn a_device_that_refuses_the_servers_certificate_is_reported_as_such() {
    let fixture = Fixture::start();
    let elsewhere = Fixture::start();
    let mut kiosk = Reachable::enrol(&fixture, "kiosk");
    let stranger = elsewhere.enrol("kiosk");
    let mut wire = kiosk.device.connect(&fixture);
    kiosk.first_sync(&mut wire);
    wire.leave();
    eventually("it is away", || kiosk.record(&fixture).link.is_none());
    let mut outcomes = call(&fixture, kiosk.device.id, WakeReason::Sync);
    kiosk.wake(WakeReason::Sync);
    // It has the other server's certificate as its pin.
    Connection::open(&fixture, &stranger.fresh_tls()).read_until_error();
    assert_eq!(outcomes.blocking_recv().unwrap().1, CallOutcome::RefusedCertificate);
}

#[test]
fn what_was_known_of_a_device_is_known_after_a_restart() {
    let mut fixture = Fixture::start();
    let mut kiosk = Reachable::enrol(&fixture, "kiosk");
    let mut wire = kiosk.device.connect(&fixture);
    kiosk.first_sync(&mut wire);
    kiosk.wake(WakeReason::Probe);
    kiosk.sync(&mut wire, SyncReason::Scheduled);
    wire.leave();
    let notice = kiosk.notice(NoticeKind::AgentStopped);
    kiosk.send(&fixture, &notice);
    eventually("it was stopped", || kiosk.presence(&fixture) == Presence::AgentStopped);
    fixture.restart();
    let record = kiosk.record(&fixture);
    assert_eq!(record.departure, Some(NoticeKind::AgentStopped));
    assert_eq!((record.udp_reach, record.udp_port), (UdpReach::Reached, kiosk.reach().udp_port));
    // Wakes may have been sent since, of which nothing was stored.
    let mut expected = record;
    expected.wake_counter = kiosk.wake_counter;
    expected.skip_wake_counters();
    assert!(record.due_seconds() > 0 && record.wake_counter == expected.wake_counter);
    kiosk.send(&fixture, &notice);
    eventually("a replay is one after the restart, too", || dropped(&fixture, DropReason::Repeated) == 1);
}

/// Two links are all that there may be, and one device is kept connected: a visitor finds one place, and the
/// persistent device its own.
#[test]
fn room_for_a_persistent_device_is_never_given_to_others() {
    let fixture = Fixture::start_with(|config| config.links.max = 2);
    let persistent = fixture.enrol("kept");
    let others = [fixture.enrol("one"), fixture.enrol("two")];
    let keep = DeviceChange { keep_connected: Some(Some(true)), ..DeviceChange::default() };
    fixture.server.store().devices().change(persistent.id, keep).unwrap();
    assert_eq!(fixture.server.store().table().persistent(), 1);
    let counters = fixture.server.counters();
    eventually("the enrolments are over", || counters.links_open.get() == 0);

    let mut first = others[0].connect(&fixture);
    first.sync_inventory(1);
    let mut second = others[1].connect(&fixture);
    second.send(&ToServer::Ping(Ping::default()));
    assert!(matches!(second.read(), ToAgent::Later(_)), "the last place is not for it");
    second.leave();
    eventually("it is gone", || counters.links_open.get() == 1);
    assert!(counters.closes(CloseReason::TooManyLinks) >= 1);

    let mut wire = persistent.connect(&fixture);
    wire.sync_inventory(1);
    assert_eq!((counters.links_persistent.get(), counters.links_open.get()), (1, 2));
    let mut third = others[1].connect(&fixture);
    third.send(&ToServer::Ping(Ping::default()));
    assert!(matches!(third.read(), ToAgent::Later(_)));
    wire.leave();
    eventually("its place is kept", || counters.links_persistent.get() == 0);
    eventually("the others are away", || counters.links_open.get() == 1);
    let mut again = others[1].connect(&fixture);
    again.send(&ToServer::Ping(Ping::default()));
    assert!(matches!(again.read(), ToAgent::Later(_)), "also while it is not there");
    first.leave();
}

#[test]
fn at_the_limit_of_persistent_connections_the_flag_is_refused_with_the_number() {
    let fixture = Fixture::start_with(|config| config.links.max_persistent_connections = Some(1));
    let (one, two) = (fixture.enrol("one"), fixture.enrol("two"));
    let keep = DeviceChange { keep_connected: Some(Some(true)), ..DeviceChange::default() };
    fixture.server.store().devices().change(one.id, keep.clone()).unwrap();
    let refused = fixture.server.store().devices().change(two.id, keep).unwrap_err().to_string();
    assert!(refused.contains("max_persistent_connections is 1"), "{refused}");
    assert_eq!(fixture.server.store().table().persistent(), 1);
}

/// One listener for both families sees IPv4 addresses mapped, and its UDP socket takes no others.
#[test]
fn a_server_that_listens_on_ipv6_wakes_devices_that_come_over_ipv4() {
    let fixture = Fixture::start_with(|config| config.listen = "[::]:0".parse().unwrap());
    let mut kiosk = Reachable::enrol(&fixture, "kiosk");
    let mut wire = kiosk.device.connect(&fixture);
    kiosk.first_sync(&mut wire);
    kiosk.wake(WakeReason::Probe);
    assert_eq!(kiosk.record(&fixture).wake_address().unwrap().ip(), std::net::Ipv4Addr::LOCALHOST);
    wire.send(&ToServer::Probe(Probe { udp_port: kiosk.reach().udp_port }));
    let ToAgent::Probed(probed) = wire.read() else { panic!() };
    assert_eq!(probed.address, "127.0.0.1");
    assert_eq!(kiosk.wake(WakeReason::Probe).0.counter, probed.wake_counter.unwrap());
    let notice = kiosk.notice(NoticeKind::Shutdown);
    kiosk.send(&fixture, &notice);
    eventually("its notice is heard", || kiosk.presence(&fixture) == Presence::ShutDown);
}

/// Probe frames at full speed, as a hostile device sends them.
const FLOOD_FRAMES: usize = 20_000;

#[test]
fn a_flood_of_probes_sends_few_datagrams_and_administrators_are_served_meanwhile() {
    let (fixture, mut kiosk, mut wire) = connected();
    kiosk.wake(WakeReason::Probe);
    kiosk.sync(&mut wire, SyncReason::Scheduled);
    let hostile = fixture.enrol("hostile");
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_port = target.local_addr().unwrap().port();
    let mut flood = hostile.connect(&fixture);
    flood.send(&ToServer::Probe(Probe { udp_port }));
    assert!(matches!(flood.read(), ToAgent::Probed(_)));
    let mut frames = Vec::new();
    (1..FLOOD_FRAMES).for_each(|_| ToServer::Probe(Probe { udp_port }).write_to(&mut frames));
    let counters = fixture.server.counters();
    let sent_before = counters.datagrams_sent.get();
    // Bytes that the socket takes are there; nobody reads the answers.
    flood.send_bytes(&frames);
    eventually("its link is held", || counters.waits_for_rate.get() > 0);
    let mut outcomes = call(&fixture, kiosk.device.id, WakeReason::Sync);
    assert!(matches!(wire.read(), ToAgent::SyncNow(_)));
    kiosk.sync(&mut wire, SyncReason::Forced);
    let (_, outcome) = outcomes.blocking_recv().unwrap();
    assert!(matches!(outcome, CallOutcome::Synced { by: CallVia::Link, .. }), "{outcome:?}");
    let sent = counters.datagrams_sent.get() - sent_before;
    assert!(sent <= 12, "{sent} datagrams for {FLOOD_FRAMES} frames");
    let refused = flood.read_error().message;
    assert!(refused.contains("6 wakes a minute"), "{refused}");
    let taken = counters.messages_received.get();
    assert!(taken < FLOOD_FRAMES as u64 / 2, "{taken} messages were taken");
}
