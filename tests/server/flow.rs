//! The path of a device, on real sockets, disk and database: enrol, sync, events, acknowledgement, restart.

use crate::common::{Connection, Device, server, token};
use muster::reactor::channel::HandshakeCost;
use muster::wire::event::{Event, Severity};
use muster::wire::id::Epoch;
use muster::wire::inventory::{Application, digest_of};
use muster::wire::message::{
    Ack, ErrorCode, EventItem, Events, NamedSection, Part, PartContent, Sync, SyncReason, ToAgent, ToServer,
};
use muster::wire::section::Section;
use muster::wire::time::WallTime;

fn applications() -> Vec<Application> {
    let application =
        |name: &str| Application { name: name.into(), version: "1.0".into(), publisher: String::new() };
    vec![application("nginx"), application("openssl")]
}

fn sync(revision: u64) -> ToServer<'static> {
    ToServer::Sync(Sync {
        agent_epoch: Epoch(11),
        server_epoch: Epoch(0),
        reason: SyncReason::Started,
        clock: WallTime(1),
        sections: vec![NamedSection {
            section: Section::Inventory.number(),
            digest: digest_of(&applications()),
            revision,
            confirmed_revision: Some(revision - 1),
        }],
        reach: None,
    })
}

fn inventory() -> ToServer<'static> {
    ToServer::Part(Box::new(Part {
        section: Section::Inventory,
        revision: 1,
        digest: digest_of(&applications()),
        base: None,
        index: 0,
        is_last: true,
        content: PartContent { added: applications(), ..PartContent::default() },
    }))
}

fn event(number: u64) -> Vec<u8> {
    let event = Event {
        severity: Severity::Info,
        application: "test".into(),
        kind: "test.event".into(),
        message: format!("number {number}"),
        occurred_at: WallTime(number),
        fields: vec![],
    };
    event.to_bytes().unwrap()
}

fn send_events(connection: &mut Connection, numbers: std::ops::RangeInclusive<u64>) {
    let highest = *numbers.end();
    let bodies: Vec<(u64, Vec<u8>)> = numbers.map(|number| (number, event(number))).collect();
    let items = bodies.iter().map(|(sequence, body)| EventItem { sequence: *sequence, body }).collect();
    connection.send(&ToServer::Events(Events {
        spool_epoch: Epoch(5),
        highest,
        items,
        acknowledged: None,
        sent_through: None,
        begins_again: false,
    }));
}

fn wait_for_ack(connection: &mut Connection, through: u64) {
    loop {
        match connection.receive().unwrap() {
            ToAgent::Ack(Ack { spool_epoch: Epoch(5), through: reached }) if reached >= through => return,
            ToAgent::Ack(_) => {}
            other => panic!("an acknowledgement was due, {other:?} came"),
        }
    }
}

fn stored_events(directory: &std::path::Path) -> Vec<u64> {
    let reader = muster::journal::Reader::open(&directory.join("journal")).unwrap();
    let mut records = reader.forward(muster::journal::Position(0));
    let mut stored = Vec::new();
    while let Some(item) = records.next().unwrap() {
        match item {
            // Number 0 is the server's own, such as a change of presence.
            muster::journal::Item::Record(record) if record.record.sequence == 0 => {}
            muster::journal::Item::Record(record) => stored.push(record.record.sequence),
            muster::journal::Item::Damage(damage) => panic!("{damage:?}"),
        }
    }
    stored
}

#[test]
fn a_device_enrols_syncs_and_its_events_are_stored_once_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let running = server(directory.path());
    let address = running.addresses()[0];
    let device = Device::enrol(address, &token(&running, 1), "kiosk").unwrap();
    assert_eq!(device.enrolled.name, "kiosk");

    let mut connection = Connection::open(address, &device.tls);
    connection.send(&sync(1));
    let ToAgent::Want(want) = connection.receive().unwrap() else { panic!("the inventory must be wanted") };
    assert_eq!((want.sections[0].section, want.sections[0].base), (Section::Inventory, None));
    connection.send(&inventory());
    assert!(matches!(connection.receive().unwrap(), ToAgent::InSync(_)));

    let (sent, received) = (connection.sent_bytes, connection.received_bytes);
    connection.send(&sync(1));
    let ToAgent::InSync(in_sync) = connection.receive().unwrap() else { panic!("nothing changed") };
    let bytes = connection.sent_bytes - sent + connection.received_bytes - received;
    assert!(bytes <= 300, "a sync in which nothing changed took {bytes} bytes");
    assert!(in_sync.next_seconds >= 450 && in_sync.next_seconds < 1_350, "{in_sync:?}");

    send_events(&mut connection, 1..=20);
    wait_for_ack(&mut connection, 20);
    send_events(&mut connection, 11..=30);
    wait_for_ack(&mut connection, 30);
    drop(connection);
    running.drain().unwrap();
    assert_eq!(stored_events(directory.path()), (1..=30).collect::<Vec<_>>());

    let running = server(directory.path());
    let mut connection = Connection::open(running.addresses()[0], &device.tls);
    connection.send(&sync(1));
    assert!(matches!(connection.receive().unwrap(), ToAgent::InSync(_)), "the inventory was stored");
    send_events(&mut connection, 21..=40);
    wait_for_ack(&mut connection, 40);
    running.drain().unwrap();
    assert_eq!(stored_events(directory.path()), (1..=40).collect::<Vec<_>>(), "none lost, none twice");
}

#[test]
fn a_removed_device_is_refused_on_a_full_and_on_a_resumed_handshake() {
    let directory = tempfile::tempdir().unwrap();
    let running = server(directory.path());
    let address = running.addresses()[0];
    let device = Device::enrol(address, &token(&running, 1), "kiosk").unwrap();
    let mut cost = None;
    for _ in 0..3 {
        let mut connection = Connection::open(address, &device.tls);
        connection.send(&ToServer::Ping(muster::wire::message::Ping::default()));
        assert_eq!(connection.receive().unwrap(), ToAgent::Pong);
        cost = connection.channel.handshake_cost();
    }
    assert_eq!(cost, Some(HandshakeCost::Resumed), "the ticket was used");

    let mut open = Connection::open(address, &device.tls);
    open.send(&ToServer::Ping(muster::wire::message::Ping::default()));
    assert_eq!(open.receive().unwrap(), ToAgent::Pong);
    running.store().devices().remove(device.enrolled.device, WallTime(1)).unwrap();

    // On the link that is open, with a ticket, and (the ticket being used up or not) again.
    open.send(&ToServer::Ping(muster::wire::message::Ping::default()));
    let refused = |message: Result<ToAgent, _>| match message {
        Ok(ToAgent::Error(report)) => assert_eq!(report.code, ErrorCode::DeviceRemoved),
        Ok(other) => panic!("{other:?}"),
        Err(_) => {}
    };
    refused(open.receive());
    for _ in 0..3 {
        let mut connection = Connection::open(address, &device.tls);
        connection.send(&ToServer::Ping(muster::wire::message::Ping::default()));
        refused(connection.receive());
    }
    running.drain().unwrap();
}

#[test]
fn a_token_that_is_used_up_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let running = server(directory.path());
    let token = token(&running, 1);
    Device::enrol(running.addresses()[0], &token, "one").unwrap();
    let _valid = self::token(&running, 1);
    let refusal = Device::enrol(running.addresses()[0], &token, "two").err().unwrap();
    assert!(matches!(refusal, ToAgent::Error(report) if report.code == ErrorCode::TokenUsedUp));
    running.drain().unwrap();
}
