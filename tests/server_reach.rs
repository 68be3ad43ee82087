//! Calls, wakes, notices and presence on real sockets: a server in this process, and a device of our own making with a UDP port.
#![cfg(feature = "server")]
#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

#[allow(dead_code, reason = "each test lives in a part of the house")]
mod road;

use std::net::UdpSocket;
use std::time::Duration;

use muster::fleet::presence::{Presence, presence};
use muster::machine::close::CloseReason;
use muster::machine::hot::HotRecord;
use muster::machine::reach::UdpReach;
use muster::store::DeviceChange;
use muster::store::table::signs_of;
use muster::wire::api::{CallOutcome, Road};
use muster::wire::datagram::{DATAGRAM_BYTES, DropReason, Notice, NoticeKind, Wake, WakeReason};
use muster::wire::id::DeviceId;
use muster::wire::message::{Goodbye, Ping, Probe, Reach, SyncNow, SyncReason, ToAgent, ToServer};
use muster::wire::time::WallTime;
use road::{Device, House, Wire, eventually};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A device with a UDP port.
struct Reachable {
    device: Device,
    socket: UdpSocket,
    notice_counter: u32,
    wake_counter: u32,
}

impl Reachable {
    fn enrol(house: &House, name: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { device: house.enrol(name), socket, notice_counter: 0, wake_counter: 0 }
    }

    fn reach(&self) -> Reach {
        let udp_port = self.socket.local_addr().unwrap().port();
        Reach { udp_port, wake_counter: self.wake_counter, notice_counter: self.notice_counter, boot: 7 }
    }

    fn sync(&self, wire: &mut Wire, reason: SyncReason) -> ToAgent {
        wire.sync_as(&self.device, 1, reason, Some(self.reach()))
    }

    /// Syncs, with an inventory when it is wanted.
    fn first_sync(&self, wire: &mut Wire) {
        wire.sync_inventory(&self.device, 1);
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

    fn send(&self, house: &House, bytes: &[u8]) {
        let port = house.server.udp_address().port();
        self.socket.send_to(bytes, ("127.0.0.1", port)).unwrap();
    }

    fn record(&self, house: &House) -> HotRecord {
        house.server.store().table().get(self.device.id).unwrap()
    }

    fn presence(&self, house: &House) -> Presence {
        presence(&signs_of(&self.record(house), WallTime(0)), now())
    }
}

fn now() -> WallTime {
    muster::reactor::Clock::new().now().wall
}

fn call(house: &House, device: DeviceId, reason: WakeReason) -> UnboundedReceiver<(DeviceId, CallOutcome)> {
    let (sink, outcomes) = unbounded_channel();
    house.server.calls().call(&[device], reason, Some(sink)).unwrap();
    outcomes
}

fn dropped(house: &House, reason: DropReason) -> u64 {
    house.server.counters().all_drops().iter().find(|(known, _)| *known == reason).unwrap().1
}

/// The changes of presence in the log of events, oldest first: `from-to`.
fn changes(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    let journal = house.server.journal();
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
    let house = House::start();
    let mut till = Reachable::enrol(&house, "till");
    let mut wire = till.device.connect(&house);
    till.first_sync(&mut wire);
    wire.leave();
    eventually("it is away", || till.record(&house).link.is_none());
    let mut outcomes = call(&house, till.device.id, WakeReason::Sync);
    let (wake, bytes) = till.wake(WakeReason::Sync);
    assert!(bytes.len() < 128 && wake.counter > 0);
    let mut wire = till.device.connect(&house);
    assert!(matches!(till.sync(&mut wire, SyncReason::Woken), ToAgent::InSync(_)));
    let (device, outcome) = outcomes.blocking_recv().unwrap();
    assert_eq!(device, till.device.id);
    let CallOutcome::Synced { by: Road::Wake, begun_microseconds, synced_microseconds } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(begun_microseconds <= synced_microseconds);
    assert_eq!(till.record(&house).udp_reach, UdpReach::Reached);
    let record = till.record(&house);
    assert!(!record.is_called, "nobody waits any more");
}

#[test]
fn a_connected_device_is_called_on_its_link() {
    let house = House::start();
    let mut till = Reachable::enrol(&house, "till");
    let mut wire = till.device.connect(&house);
    till.first_sync(&mut wire);
    till.wake(WakeReason::Probe);
    let mut outcomes = call(&house, till.device.id, WakeReason::Sync);
    assert_eq!(wire.read(), ToAgent::SyncNow(SyncNow { is_fresh: false }));
    assert!(matches!(till.sync(&mut wire, SyncReason::Forced), ToAgent::InSync(_)));
    let (_, outcome) = outcomes.blocking_recv().unwrap();
    assert!(matches!(outcome, CallOutcome::Synced { by: Road::Link, .. }), "{outcome:?}");
    // The call has not drawn a number for a wake that was never sent.
    assert_eq!(till.record(&house).udp_reach, UdpReach::Reached);
    let _ = call(&house, till.device.id, WakeReason::Retrieve);
    assert_eq!(wire.read(), ToAgent::SyncNow(SyncNow { is_fresh: true }));
}

#[test]
fn a_device_that_does_not_come_is_reported_with_its_next_slot_and_learned_as_unreached() {
    let house = House::start();
    let till = Reachable::enrol(&house, "till");
    let mut wire = till.device.connect(&house);
    till.first_sync(&mut wire);
    wire.leave();
    eventually("it is away", || till.record(&house).link.is_none());
    let mut outcomes = call(&house, till.device.id, WakeReason::Sync);
    let (_, outcome) = outcomes.blocking_recv().unwrap();
    let CallOutcome::Unreachable { attempts, next_slot_at: Some(at) } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(attempts >= 3 && at.0 > now(), "{attempts} {at}");
    assert_eq!(till.record(&house).udp_reach, UdpReach::Unreached);
    let mut wire = till.device.connect(&house);
    let ToAgent::InSync(in_sync) = till.sync(&mut wire, SyncReason::Scheduled) else { panic!() };
    assert!(in_sync.keep_seconds.is_some(), "it is offered to stay: {in_sync:?}");
}

#[test]
fn a_notice_is_believed_once_and_only_when_it_is_authentic_and_new() {
    let house = House::start();
    let mut till = Reachable::enrol(&house, "till");
    let mut other = Reachable::enrol(&house, "other");
    let mut wire = till.device.connect(&house);
    till.first_sync(&mut wire);
    wire.leave();
    eventually("it is away", || till.presence(&house) == Presence::Idle);
    let counters = house.server.counters().clone();

    let mut forged = till.notice(NoticeKind::Shutdown);
    till.notice_counter -= 1;
    forged[40] ^= 1;
    till.send(&house, &forged);
    till.send(&house, &forged[..40]);
    till.send(&house, &[0; 200]);
    let mut of_another = other.notice(NoticeKind::Shutdown);
    of_another[8..16].copy_from_slice(&till.device.id.0.to_be_bytes());
    till.send(&house, &of_another);
    let mut of_nobody = of_another;
    of_nobody[8..16].copy_from_slice(&[9; 8]);
    till.send(&house, &of_nobody);
    eventually("all five were dropped", || counters.datagrams_received.get() == 5);
    eventually("and counted", || {
        (dropped(&house, DropReason::Forged), dropped(&house, DropReason::Length)) == (2, 2)
            && dropped(&house, DropReason::OtherDevice) == 1
    });
    assert_eq!((till.presence(&house), counters.notices.get()), (Presence::Idle, 0));

    let genuine = till.notice(NoticeKind::Shutdown);
    (0..3).for_each(|_| till.send(&house, &genuine));
    eventually("it is shut down", || till.presence(&house) == Presence::ShutDown);
    eventually("two copies more", || dropped(&house, DropReason::Repeated) == 2);
    let mut outcomes = call(&house, till.device.id, WakeReason::Sync);
    assert_eq!(outcomes.blocking_recv().unwrap().1, CallOutcome::ShutDown);

    // It comes back; the notice, sent again from anywhere, is stale.
    let mut wire = till.device.connect(&house);
    till.notice_counter += 1;
    till.sync(&mut wire, SyncReason::Started);
    assert_eq!(till.presence(&house), Presence::Connected);
    other.send(&house, &genuine);
    eventually("it is stale", || dropped(&house, DropReason::Stale) == 1);
    assert_eq!(till.presence(&house), Presence::Connected);
    let said = ["never_seen-idle", "idle-shut_down", "shut_down-idle"];
    eventually("each change is in the log of events, once it is durable", || changes(&house) == said);
}

#[test]
fn a_last_word_on_the_link_is_as_good_as_a_datagram() {
    let house = House::start();
    let till = Reachable::enrol(&house, "till");
    let mut wire = till.device.connect(&house);
    till.first_sync(&mut wire);
    wire.send(&ToServer::Goodbye(Goodbye { kind: NoticeKind::Suspend, counter: 1, boot: 7 }));
    eventually("it sleeps", || till.presence(&house) == Presence::Asleep);
    eventually("its link has ended", || till.record(&house).link.is_none());
}

#[test]
fn a_probe_learns_whether_wakes_reach_a_device() {
    let house = House::start();
    let mut till = Reachable::enrol(&house, "till");
    let mut wire = till.device.connect(&house);
    till.first_sync(&mut wire);
    let (probe, _) = till.wake(WakeReason::Probe);
    assert_eq!(till.record(&house).udp_reach, UdpReach::Probing);
    assert_eq!(till.record(&house).wake_counter, probe.counter);
    till.sync(&mut wire, SyncReason::Scheduled);
    assert_eq!(till.record(&house).udp_reach, UdpReach::Reached);
}

#[test]
fn who_looks_whether_everything_works_takes_nothing_away_from_the_agent() {
    let house = House::start();
    let mut till = Reachable::enrol(&house, "till");
    let mut wire = till.device.connect(&house);
    till.first_sync(&mut wire);
    till.wake(WakeReason::Probe);
    let link = till.record(&house).link;

    let notice = till.notice(NoticeKind::Probe);
    till.send(&house, &notice);
    eventually("it was heard", || house.server.counters().notices.get() == 1);
    let mut looking = till.device.connect(&house);
    looking.send(&ToServer::Probe(Probe { udp_port: till.reach().udp_port }));
    let ToAgent::Probed(probed) = looking.read() else { panic!() };
    assert_eq!((probed.notice_counter, probed.address.as_str()), (1, "127.0.0.1"));
    assert_eq!(till.wake(WakeReason::Probe).0.counter, probed.wake_counter.unwrap());
    assert!(probed.clock.0.abs_diff(now().0) < 60_000);
    looking.leave();
    wire.send(&ToServer::Ping(Ping::default()));
    assert_eq!(wire.read(), ToAgent::Pong);
    assert_eq!((till.record(&house).link, till.presence(&house)), (link, Presence::Connected));
}

#[test]
fn the_late_end_of_an_old_link_does_not_make_a_device_gone() {
    let house = House::start();
    let till = Reachable::enrol(&house, "till");
    let mut old = till.device.connect(&house);
    till.first_sync(&mut old);
    let mut new = till.device.connect(&house);
    till.sync(&mut new, SyncReason::Reconnected);
    let link = till.record(&house).link;
    old.read_error();
    old.leave();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!((till.record(&house).link, till.presence(&house)), (link, Presence::Connected));
}

#[test]
fn a_device_that_refuses_the_servers_certificate_is_reported_as_such() {
    let house = House::start();
    let elsewhere = House::start();
    let mut till = Reachable::enrol(&house, "till");
    let stranger = elsewhere.enrol("till");
    let mut wire = till.device.connect(&house);
    till.first_sync(&mut wire);
    wire.leave();
    eventually("it is away", || till.record(&house).link.is_none());
    let mut outcomes = call(&house, till.device.id, WakeReason::Sync);
    till.wake(WakeReason::Sync);
    // It has the other server's certificate as its pin.
    Wire::connect(&house, &stranger.fresh_tls()).read_until_error();
    assert_eq!(outcomes.blocking_recv().unwrap().1, CallOutcome::RefusedCertificate);
}

#[test]
fn what_was_known_of_a_device_is_known_after_a_restart() {
    let mut house = House::start();
    let mut till = Reachable::enrol(&house, "till");
    let mut wire = till.device.connect(&house);
    till.first_sync(&mut wire);
    till.wake(WakeReason::Probe);
    till.sync(&mut wire, SyncReason::Scheduled);
    wire.leave();
    let notice = till.notice(NoticeKind::AgentStopped);
    till.send(&house, &notice);
    eventually("it was stopped", || till.presence(&house) == Presence::AgentStopped);
    house.restart();
    let record = till.record(&house);
    assert_eq!(record.departure, Some(NoticeKind::AgentStopped));
    assert_eq!((record.udp_reach, record.udp_port), (UdpReach::Reached, till.reach().udp_port));
    // Wakes may have been sent since, of which nothing was stored.
    let mut expected = record;
    expected.wake_counter = till.wake_counter;
    expected.skip_wake_counters();
    assert!(record.due_seconds() > 0 && record.wake_counter == expected.wake_counter);
    till.send(&house, &notice);
    eventually("a replay is one after the restart, too", || dropped(&house, DropReason::Repeated) == 1);
}

/// What it costs is measured by `benches/reach.rs`.
#[test]
fn a_flood_of_forged_and_replayed_datagrams_changes_nothing() {
    let house = House::start();
    let mut till = Reachable::enrol(&house, "till");
    let mut wire = till.device.connect(&house);
    till.first_sync(&mut wire);
    let stale = till.notice(NoticeKind::Shutdown);
    till.notice_counter += 1;
    till.sync(&mut wire, SyncReason::Scheduled);
    let before = till.record(&house);
    let mut forged = stale;
    forged[50] ^= 1;
    for round in 0..10_000 {
        till.send(&house, if round % 2 == 0 { &stale } else { &forged });
        if round % 100 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let counters = house.server.counters();
    eventually("they were heard", || counters.datagrams_received.get() >= 9_000);
    wire.send(&ToServer::Ping(Ping::default()));
    loop {
        if wire.read() == ToAgent::Pong {
            break;
        }
    }
    let after = till.record(&house);
    assert_eq!(
        (after.departure, after.notice_counter, after.link),
        (None, before.notice_counter, before.link)
    );
    assert_eq!(counters.notices.get(), 0);
    eventually("each was counted under its name", || {
        dropped(&house, DropReason::Stale) + dropped(&house, DropReason::Forged)
            == counters.datagrams_received.get()
    });
}

/// Two links are all that there may be, and one device is to be kept: whoever comes by finds one place, and the kept device its own.
#[test]
fn room_for_a_kept_device_is_never_given_to_others() {
    let house = House::start_with(|config| config.links.max = 2);
    let kept = house.enrol("kept");
    let others = [house.enrol("one"), house.enrol("two")];
    let keep = DeviceChange { keep_connected: Some(Some(true)), ..DeviceChange::default() };
    house.server.store().change_device(kept.id, keep).unwrap();
    assert_eq!(house.server.store().table().kept(), 1);
    let counters = house.server.counters();
    eventually("the enrolments are over", || counters.links_open.get() == 0);

    let mut first = others[0].connect(&house);
    first.sync_inventory(&others[0], 1);
    let mut second = others[1].connect(&house);
    second.send(&ToServer::Ping(Ping::default()));
    assert!(matches!(second.read(), ToAgent::Later(_)), "the last place is not for it");
    second.leave();
    eventually("it is gone", || counters.links_open.get() == 1);
    assert!(counters.closes(CloseReason::TooManyLinks) >= 1);

    let mut wire = kept.connect(&house);
    wire.sync_inventory(&kept, 1);
    assert_eq!((counters.links_kept.get(), counters.links_open.get()), (1, 2));
    let mut third = others[1].connect(&house);
    third.send(&ToServer::Ping(Ping::default()));
    assert!(matches!(third.read(), ToAgent::Later(_)));
    wire.leave();
    eventually("its place is kept", || counters.links_kept.get() == 0);
    eventually("the others are away", || counters.links_open.get() == 1);
    let mut again = others[1].connect(&house);
    again.send(&ToServer::Ping(Ping::default()));
    assert!(matches!(again.read(), ToAgent::Later(_)), "also while it is not there");
    first.leave();
}

#[test]
fn at_the_limit_of_kept_connections_the_flag_is_refused_with_the_number() {
    let house = House::start_with(|config| config.links.max_kept_connections = Some(1));
    let (one, two) = (house.enrol("one"), house.enrol("two"));
    let keep = DeviceChange { keep_connected: Some(Some(true)), ..DeviceChange::default() };
    house.server.store().change_device(one.id, keep.clone()).unwrap();
    let refused = house.server.store().change_device(two.id, keep).unwrap_err().to_string();
    assert!(refused.contains("max_kept_connections is 1"), "{refused}");
    assert_eq!(house.server.store().table().kept(), 1);
}

/// One listener for both families sees IPv4 addresses mapped, and its UDP socket takes no others.
#[test]
fn a_server_that_listens_on_ipv6_wakes_devices_that_come_over_ipv4() {
    let house = House::start_with(|config| config.listen = "[::]:0".parse().unwrap());
    let mut till = Reachable::enrol(&house, "till");
    let mut wire = till.device.connect(&house);
    till.first_sync(&mut wire);
    till.wake(WakeReason::Probe);
    assert_eq!(till.record(&house).wake_address().unwrap().ip(), std::net::Ipv4Addr::LOCALHOST);
    wire.send(&ToServer::Probe(Probe { udp_port: till.reach().udp_port }));
    let ToAgent::Probed(probed) = wire.read() else { panic!() };
    assert_eq!(probed.address, "127.0.0.1");
    assert_eq!(till.wake(WakeReason::Probe).0.counter, probed.wake_counter.unwrap());
    let notice = till.notice(NoticeKind::Shutdown);
    till.send(&house, &notice);
    eventually("its notice is heard", || till.presence(&house) == Presence::ShutDown);
}

/// Probe frames at full speed, as a hostile device sends them.
const FLOOD_FRAMES: usize = 20_000;

#[test]
fn a_flood_of_probes_sends_few_datagrams_and_administrators_are_served_meanwhile() {
    let house = House::start();
    let mut till = Reachable::enrol(&house, "till");
    let mut wire = till.device.connect(&house);
    till.first_sync(&mut wire);
    till.wake(WakeReason::Probe);
    till.sync(&mut wire, SyncReason::Scheduled);
    let hostile = house.enrol("hostile");
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_port = target.local_addr().unwrap().port();
    let mut flood = hostile.connect(&house);
    flood.send(&ToServer::Probe(Probe { udp_port }));
    assert!(matches!(flood.read(), ToAgent::Probed(_)));
    let mut frames = Vec::new();
    (1..FLOOD_FRAMES).for_each(|_| ToServer::Probe(Probe { udp_port }).write_to(&mut frames));
    let counters = house.server.counters();
    let sent_before = counters.datagrams_sent.get();
    // What the socket takes is there; nobody reads the answers.
    flood.send_raw(&frames);
    eventually("its link is held", || counters.waits_for_rate.get() > 0);
    let mut outcomes = call(&house, till.device.id, WakeReason::Sync);
    assert!(matches!(wire.read(), ToAgent::SyncNow(_)));
    till.sync(&mut wire, SyncReason::Forced);
    let (_, outcome) = outcomes.blocking_recv().unwrap();
    assert!(matches!(outcome, CallOutcome::Synced { by: Road::Link, .. }), "{outcome:?}");
    let sent = counters.datagrams_sent.get() - sent_before;
    assert!(sent <= 12, "{sent} datagrams for {FLOOD_FRAMES} frames");
    let refused = flood.read_error().message;
    assert!(refused.contains("6 wakes a minute"), "{refused}");
    let taken = counters.messages_received.get();
    assert!(taken < FLOOD_FRAMES as u64 / 2, "{taken} messages were taken");
}
