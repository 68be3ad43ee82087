//! Servers within a program, here that of the test: administered without a client.

use std::time::Duration;

use crate::kit::{Fixture, TIMEOUT};
use muster::api::{AuditQuery, DeviceQuery, ErrorCode, FollowLine, NewToken};
use muster::wire::id::Epoch;
use muster::{Address, Client, EventSubscription, ServerError};

/// Positions of the next events, of which there are this many.
fn next_events(events: &mut EventSubscription<'_>, count: usize) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    while found.len() < count {
        match events.next_within(TIMEOUT).unwrap() {
            Some(FollowLine::Event(event)) if event.kind == "test" => {
                found.push((event.device.unwrap(), event.sequence));
            }
            Some(FollowLine::Event(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    found
}

#[test]
fn two_servers_in_one_process_have_nothing_in_common() {
    let fixtures = [Fixture::start(), Fixture::start()];
    for (fixture, count) in fixtures.iter().zip([3u32, 2]) {
        let new = NewToken { uses: Some(count), ..NewToken::default() };
        let token = fixture.server.create_token(new).unwrap().token.parse().unwrap();
        let devices: Vec<_> =
            (0..count).map(|number| fixture.try_enrol(&token, &format!("kiosk-{number}")).unwrap()).collect();
        // A page for each device.
        let query = DeviceQuery { limit: Some(1), ..DeviceQuery::default() };
        let listed = fixture.server.devices(query).map(|device| device.unwrap().name);
        assert_eq!(listed.collect::<Vec<_>>(), (0..count).map(|n| format!("kiosk-{n}")).collect::<Vec<_>>());
        let mut events = fixture.server.subscribe(None).unwrap();
        let begun = events.position();
        let mut connection = devices[1].connect(fixture);
        connection.send_events(Epoch(5), 1..=300);
        connection.wait_for_ack(300);
        let expected: Vec<_> = (1..=300).map(|sequence| ("kiosk-1".to_owned(), sequence)).collect();
        assert_eq!(next_events(&mut events, 300), expected, "more than are held at once");
        while let Some(line) = events.next_within(Duration::ZERO).unwrap() {
            assert!(matches!(line, FollowLine::Event(event) if event.kind != "test"), "nothing twice");
        }
        // Another one goes on where the first one was.
        connection.send_events(Epoch(5), 301..=301);
        connection.wait_for_ack(301);
        let mut others = fixture.server.subscribe(Some(events.position())).unwrap();
        assert_eq!(next_events(&mut others, 1), [("kiosk-1".to_owned(), 301)]);
        let mut all = fixture.server.subscribe(Some(begun)).unwrap();
        assert_eq!(next_events(&mut all, 301).len(), 301);
    }
    assert_ne!(fixtures[0].server.certificate(), fixtures[1].server.certificate());
    let [first, second] = fixtures;
    first.server.drain().unwrap();
    assert_eq!(second.server.devices(DeviceQuery::default()).count(), 2);
}

#[test]
fn what_is_refused_has_its_type() {
    let fixture = Fixture::start();
    let server = &fixture.server;
    let code = |error: ServerError| match error {
        ServerError::Refused(detail) => detail.code,
        other => panic!("{other}"),
    };
    let new = NewToken { uses: Some(0), ..NewToken::default() };
    assert_eq!(code(server.create_token(new).unwrap_err()), ErrorCode::InvalidArgument);
    let beyond = server.subscribe(Some(1 << 40)).err().unwrap();
    assert_eq!(code(beyond), ErrorCode::InvalidArgument);
    let query = DeviceQuery { filter: Some("os:".into()), ..DeviceQuery::default() };
    let listed: Vec<_> = server.devices(query).collect();
    assert_eq!(listed.len(), 1, "and nothing behind the error");
    assert_eq!(listed[0].as_ref().unwrap_err().code, ErrorCode::InvalidArgument);
}

#[test]
fn the_audit_says_that_the_program_made_a_token() {
    let fixture = Fixture::start();
    let made = fixture.server.create_token(NewToken::default()).unwrap();
    let mut client = Client::new(Address::Socket(fixture.server.admin_socket())).unwrap();
    let rows: Vec<_> = client.audit(AuditQuery::default()).flat_map(Result::unwrap).collect();
    assert_eq!((rows[0].actor.as_str(), rows[0].action.as_str()), ("the program", "POST /v1/tokens"));
    assert!(!format!("{rows:?}").contains(&made.token), "without its secret");
}
