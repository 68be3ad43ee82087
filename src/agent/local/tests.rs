use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use proptest::prelude::*;

use super::peer::Peer;
use super::protocol::{LINE_BYTES_MAX, Request, parse};
use super::server::{CLIENTS_MAX, Clients};
use crate::wire::event::{Event, MENDED_FIELD, NOT_UTF8, Severity};
use crate::wire::time::WallTime;

#[test]
fn a_line_is_an_event_or_a_command() {
    let line = br#"{"application":"shop","severity":"error","kind":"order.lost","message":"gone","fields":{"id":7,"who":"x"}}"#;
    let Request::Emit { severity, body } = parse(line, WallTime(5), Peer::Owner).unwrap() else {
        panic!("no event")
    };
    let event = Event::from_bytes(&body).unwrap();
    assert_eq!((severity, event.occurred_at), (Severity::Error, WallTime(5)));
    assert_eq!(event.fields, [("id".into(), "7".into()), ("who".into(), "x".into())]);
    assert_eq!(parse(b"{\"command\":\"status\"}", WallTime(0), Peer::Owner).unwrap(), Request::Status);
    assert_eq!(parse(b"{\"command\":\"sync\"}", WallTime(0), Peer::Owner).unwrap(), Request::Sync);
    assert_eq!(parse(b"{\"command\":\"move\"}", WallTime(0), Peer::Owner).unwrap(), Request::Move);
}

#[test]
fn a_refused_line_says_why() {
    let cases: [(&[u8], &str); 6] = [
        (b"nonsense", "not understood"),
        (b"[]", "not understood"),
        (
            b"{\"command\":\"stop\"}",
            "'stop' is not a command (status, sync, suspend, resume, probe, restart or move)",
        ),
        (b"{\"application\":\"a\"}", "missing field `severity`"),
        (br#"{"application":"a","severity":"bad","kind":"k","message":"m"}"#, "expected one of `info`"),
        (br#"{"application":"","severity":"info","kind":"k","message":"m"}"#, "the application is empty"),
    ];
    for (line, expected) in cases {
        let error = parse(line, WallTime(0), Peer::Owner).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn other_users_may_emit_and_nothing_else() {
    let other = Peer::Other(1_000);
    for command in ["status", "sync", "suspend", "resume", "probe", "move"] {
        let line = format!("{{\"command\":\"{command}\"}}");
        let error = parse(line.as_bytes(), WallTime(0), other).unwrap_err().to_string();
        assert!(
            error.contains(&format!("'{command}' is for root")) && error.contains("user 1000"),
            "{error}"
        );
    }
    let line =
        br#"{"application":"shop","severity":"info","kind":"k","message":"m","fields":{"uid":"0","a":"b"}}"#;
    let fields = |peer| {
        let Request::Emit { body, .. } = parse(line, WallTime(0), peer).unwrap() else { panic!("no event") };
        Event::from_bytes(&body).unwrap().fields
    };
    assert_eq!(fields(other), [("a".into(), "b".into()), ("uid".into(), "1000".into())]);
    assert!(fields(Peer::Owner).contains(&("uid".into(), "0".into())));
    for application in ["muster", "muster-agent", "Muster", " MUSTER", "musterd", "Muster-Agent"] {
        let line = String::from_utf8(line.to_vec()).unwrap().replace("shop", application);
        let error = parse(line.as_bytes(), WallTime(0), other).unwrap_err().to_string();
        assert!(error.contains("reserved"), "{error}");
    }
}

#[test]
fn an_event_that_is_no_text_or_too_long_is_kept_mended_and_marked() {
    let event = |line: &[u8]| {
        let Request::Emit { body, .. } = parse(line, WallTime(7), Peer::Owner).unwrap() else {
            panic!("not an event")
        };
        Event::from_bytes(&body).unwrap()
    };
    let mark = |event: &Event| {
        event.fields.iter().find(|(name, _)| name == MENDED_FIELD).map(|(_, mark)| mark.clone())
    };
    let latin =
        event(b"{\"application\":\"a\",\"severity\":\"info\",\"kind\":\"k\",\"message\":\"caf\xe9 \xff\"}");
    assert_eq!((latin.message.as_str(), mark(&latin)), ("caf\u{fffd} \u{fffd}", Some(NOT_UTF8.to_owned())));
    // As Python's json.dumps writes a file name that is not UTF-8.
    let half = event(
        br#"{"application":"a","severity":"info","kind":"k","message":"x\udcff \ud83d\ude00 \\ud800"}"#,
    );
    assert_eq!(half.message, "x\u{fffd} \u{1f600} \\ud800");
    assert!(mark(&half).is_some());
    let long = format!(
        r#"{{"application":"a","severity":"info","kind":"k","message":"{}","fields":{{"f":"{}"}}}}"#,
        "m".repeat(20_000),
        "v".repeat(20_000)
    );
    let long = event(long.as_bytes());
    assert_eq!((long.message.len() > 100, long.fields[0].1.len() > 100), (true, true));
    assert!(mark(&long).unwrap().contains("the message was cut, it had 20000 bytes"), "{long:?}");
    assert_eq!(mark(&event(br#"{"application":"a","severity":"info","kind":"k","message":"m"}"#)), None);
}

proptest! {
    #[test]
    fn any_line_is_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\":,a-z0-9]{0,100}") {
        let _ = parse(&bytes, WallTime(0), Peer::Owner);
        let _ = parse(text.as_bytes(), WallTime(0), Peer::Owner);
    }
}

const FIRST_TOKEN: usize = 10;

struct Fixture {
    directory: tempfile::TempDir,
    poll: mio::Poll,
    clients: Clients,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let poll = mio::Poll::new().unwrap();
        let clients =
            Clients::new(Some((&directory.path().join("agent.sock"), 0o600)), poll.registry(), FIRST_TOKEN)
                .unwrap();
        Self { directory, poll, clients }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.directory.path().join("agent.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// One turn of a loop, whose answer to every line is the line itself; `owed` lines are answered by hand.
    fn turn(&mut self) -> Vec<super::server::ClientKey> {
        let mut events = mio::Events::with_capacity(64);
        self.poll.poll(&mut events, Some(Duration::from_secs(60))).unwrap();
        for event in &events {
            self.clients.ready(event.token());
        }
        self.answer()
    }

    fn answer(&mut self) -> Vec<super::server::ClientKey> {
        let mut owed = Vec::new();
        while self.clients.take_lines(|key, _, line, output| {
            if line == b"owe" {
                owed.push(key);
                return false;
            }
            output.extend_from_slice(line);
            true
        }) {}
        self.clients.send();
        owed
    }
}

fn read_line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed after {line:?}");
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn lines_are_answered_in_order_and_an_owed_answer_holds_up_the_later_ones() {
    let mut fixture = Fixture::new();
    let mut stream = fixture.connect();
    stream.write_all(b"one\nowe\ntwo\nthr").unwrap();
    let mut owed = Vec::new();
    while owed.is_empty() {
        owed = fixture.turn();
    }
    assert_eq!(read_line(&mut stream), "one\n");
    fixture.clients.answer_owed(owed[0], b"paid");
    fixture.answer();
    assert_eq!(read_line(&mut stream), "paid\n");
    assert_eq!(read_line(&mut stream), "two\n");
    stream.write_all(b"ee\n").unwrap();
    fixture.turn();
    assert_eq!(read_line(&mut stream), "three\n");
}

#[test]
fn a_client_that_ends_gets_its_answers_first() {
    let mut fixture = Fixture::new();
    let mut stream = fixture.connect();
    stream.write_all(b"one\ntwo\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    loop {
        fixture.turn();
        if fixture.clients.len() == 0 {
            break;
        }
    }
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all, "one\ntwo\n");
}

#[test]
fn a_line_without_end_is_closed() {
    let mut fixture = Fixture::new();
    let mut stream = fixture.connect();
    let writer = std::thread::spawn(move || {
        let _ = stream.write_all(&vec![b'x'; 4 * LINE_BYTES_MAX]);
        let mut all = String::new();
        let _ = stream.read_to_string(&mut all);
        all
    });
    loop {
        fixture.turn();
        if fixture.clients.len() == 0 {
            break;
        }
    }
    assert!(writer.join().unwrap().contains("a line may have"));
}

#[test]
fn one_client_too_many_is_told_so() {
    let mut fixture = Fixture::new();
    let connected: Vec<UnixStream> = (0..CLIENTS_MAX).map(|_| fixture.connect()).collect();
    while fixture.clients.len() < CLIENTS_MAX {
        fixture.turn();
    }
    let mut stream = fixture.connect();
    fixture.turn();
    assert!(read_line(&mut stream).contains("no more are allowed"));
    assert_eq!(connected.len(), fixture.clients.len());
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_said_with_the_setting() {
    let path = std::path::Path::new("/").join("s".repeat(120));
    let said = super::client::LocalClient::connect(&path, Duration::from_secs(1)).unwrap_err().to_string();
    assert!(
        said.starts_with("[socket] path, or --data: /ss") && said.contains("121 bytes, 107 are allowed"),
        "{said}"
    );
}
