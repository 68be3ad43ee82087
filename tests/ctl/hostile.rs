//! The administration socket against clients that mean no good, or are broken.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::kit::{admin::AdminServer, eventually};
use muster::admin::capacity::{CONNECTIONS_MAX, FOLLOWERS_MAX, WAITS_MAX};
use muster::admin::listen::{AdminListener, ListenError};

/// Sends a request that asks for the connection to be closed, and reads the answer to its end.
fn ask(server: &AdminServer, head: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    let _ = stream.write_all(&request(head, body));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends bytes and nothing after them, and reads the answer to its end.
fn say(server: &AdminServer, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    // The server may have answered and closed before it was told everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(head: &str, body: &str) -> Vec<u8> {
    format!("{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

#[test]
fn garbage_is_refused_and_the_next_client_is_served() {
    let server = AdminServer::start();
    for garbage in
        [&b"\0\xff\xfe not http at all\r\n\r\n"[..], b"GET", b"\r\n\r\n\r\n", b"\x16\x03\x01\x02\x00"]
    {
        let answer = say(&server, garbage);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert!(server.client().status().is_ok());
}

#[test]
fn every_refusal_is_json_with_its_status() {
    let server = AdminServer::start();
    for (head, body, status, code) in [
        ("GET /v2/status", "", 404, "not_found"),
        ("DELETE /v1/status", "", 405, "method_not_allowed"),
        ("GET /v1/devices?limit=0", "", 400, "invalid_argument"),
        ("GET /v1/devices?limit=1001", "", 400, "invalid_argument"),
        ("GET /v1/devices?limit=x", "", 400, "invalid_argument"),
        ("GET /v1/devices?wehre=x", "", 400, "invalid_argument"),
        ("GET /v1/devices?cursor=%00%ff", "", 400, "invalid_argument"),
        ("GET /v1/devices?where=presence:away", "", 400, "invalid_argument"),
        ("GET /v1/devices?sort=colour", "", 400, "invalid_argument"),
        ("GET /v1/devices.csv?limit=5", "", 400, "invalid_argument"),
        ("GET /v1/devices.csv?where=os:", "", 400, "invalid_argument"),
        ("POST /v1/syncs", r#"{"where":"a","all":true}"#, 400, "invalid_argument"),
        ("GET /v1/devices/nobody", "", 404, "not_found"),
        ("GET /v1/devices?where=group:/nowhere", "", 404, "not_found"),
        ("GET /v1/events?cursor=e-1", "", 400, "invalid_argument"),
        ("GET /v1/events?device=nobody", "", 404, "not_found"),
        ("GET /v1/events/follow?from=999999", "", 400, "invalid_argument"),
        ("GET /v1/events/follow?newest=0", "", 400, "invalid_argument"),
        ("GET /v1/events/follow?newest=129", "", 400, "invalid_argument"),
        ("DELETE /v1/tokens/12", "", 400, "invalid_argument"),
        ("DELETE /v1/tokens/00abcdef01234567", "", 404, "not_found"),
        ("POST /v1/tokens", "{", 400, "invalid_argument"),
        ("POST /v1/tokens", r#"{"uses":0}"#, 400, "invalid_argument"),
        ("POST /v1/tokens", r#"{"ttl_seconds":99999999999}"#, 400, "invalid_argument"),
        ("POST /v1/groups", r#"{"path":"//"}"#, 400, "invalid_argument"),
        ("POST /v1/groups", r#"{"path":"/x","keep_connected":"yes"}"#, 400, "invalid_argument"),
        ("PATCH /v1/devices/nobody", r#"{"keep_connected":1}"#, 400, "invalid_argument"),
        ("PATCH /v1/devices/nobody", r#"{"keep_connected":"inherit"}"#, 404, "not_found"),
        ("PATCH /v1/devices/nobody", r#"{"keep_connected":true}"#, 404, "not_found"),
        ("GET /v1/devices/nobody/why", "", 404, "not_found"),
        ("GET /v1/syncs", "", 405, "method_not_allowed"),
        ("POST /v1/syncs", "", 400, "invalid_argument"),
        ("POST /v1/syncs", "{}", 400, "invalid_argument"),
        ("POST /v1/syncs", r#"{"devices":[]}"#, 400, "invalid_argument"),
        ("POST /v1/syncs", r#"{"devices":"a"}"#, 400, "invalid_argument"),
        ("POST /v1/syncs", r#"{"all":true,"group":"/"}"#, 400, "invalid_argument"),
        ("POST /v1/syncs", r#"{"all":true,"devices":["a"]}"#, 400, "invalid_argument"),
        ("POST /v1/syncs", r#"{"all":true,"now":true}"#, 400, "invalid_argument"),
        ("POST /v1/syncs", r#"{"all":true,"timeout_seconds":0}"#, 400, "invalid_argument"),
        ("POST /v1/syncs", r#"{"all":true,"timeout_seconds":3601}"#, 400, "invalid_argument"),
        ("POST /v1/syncs", r#"{"all":true,"timeout_seconds":-1}"#, 400, "invalid_argument"),
        ("POST /v1/syncs", r#"{"devices":["nobody"]}"#, 404, "not_found"),
        ("POST /v1/syncs", r#"{"group":"/nowhere"}"#, 404, "not_found"),
        ("POST /v1/syncs", r#"{"group":"//"}"#, 400, "invalid_argument"),
        ("PATCH /v1/devices/nobody", "{}", 400, "invalid_argument"),
        ("PATCH /v1/devices/nobody", r#"{"interval":{"seconds":1}}"#, 400, "invalid_argument"),
    ] {
        let answer = ask(&server, head, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head} {body}: {answer}");
        let json: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(json["error"]["code"], code, "{head}");
        assert!(!json["error"]["message"].as_str().unwrap().contains('\n'), "{head}");
    }
}

#[test]
fn a_body_with_a_key_twice_or_a_number_that_would_change_is_refused_with_the_place() {
    let server = AdminServer::start();
    for (settings, why) in [
        (r#"{"a":1,"a":2}"#, "line 1, column 51: the key \"a\" is there already"),
        (r#"{"a":18446744073709551616}"#, "line 1, column 49: the number 18446744073709551616 does not fit"),
    ] {
        let body = format!(r#"{{"at":"/","application":"kiosk","settings":{settings}}}"#);
        let answer = ask(&server, "POST /v1/policies", &body);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let json: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let message = json["error"]["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn a_body_whose_values_have_no_names_is_refused() {
    let server = AdminServer::start();
    for (head, body) in [
        ("POST /v1/tokens", " [null, null]"),
        ("POST /v1/device-changes", r#"{"where":"name:*","change":[null,"/"],"dry_run":true}"#),
    ] {
        let answer = ask(&server, head, body);
        let is_refused = answer.starts_with("HTTP/1.1 400 ") && answer.contains("in the place of an object");
        assert!(is_refused, "{answer}");
    }
    // Arrays of texts, and of what settings are made of, stay.
    let new = r#"{"at":"/","application":"muster","settings":{},"locks":["status"]}"#;
    let answer = ask(&server, "POST /v1/policies", new);
    assert!(!answer.contains("in the place of an object"), "{answer}");
}

#[test]
fn a_client_that_reads_no_outcomes_costs_nothing_and_its_call_is_taken_back() {
    let server = AdminServer::start();
    let device = server.enrol("silent");
    server.script(device, None);
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    stream
        .write_all(&request("POST /v1/syncs", r#"{"all":true,"wait":true,"timeout_seconds":3600}"#))
        .unwrap();
    let mut first = [0; 512];
    let read = stream.read(&mut first).unwrap();
    assert!(String::from_utf8_lossy(&first[..read]).contains("200 OK"));
    assert!(server.calls.cancelled.lock().unwrap().is_empty());
    drop(stream);
    eventually("the call is taken back", || *server.calls.cancelled.lock().unwrap() == [1]);
}

#[test]
fn a_server_that_stops_does_not_wait_for_devices() {
    let mut server = AdminServer::start();
    let device = server.enrol("silent");
    server.script(device, None);
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    stream
        .write_all(&request("POST /v1/syncs", r#"{"all":true,"wait":true,"timeout_seconds":3600}"#))
        .unwrap();
    let mut first = [0; 16];
    stream.read_exact(&mut first).unwrap();
    server.stop();
    assert_eq!(*server.calls.cancelled.lock().unwrap(), [1]);
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest);
    assert!(!rest.contains("done"), "{rest}");
}

#[test]
fn a_huge_body_is_refused_and_a_huge_head_too() {
    let server = AdminServer::start();
    let body = format!(r#"{{"group":"{}"}}"#, "x".repeat(1024 * 1024));
    let answer = ask(&server, "POST /v1/tokens", &body);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = ask(&server, &format!("GET /v1/devices?where={}", "x".repeat(200_000)), "");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(server.client().status().is_ok());
}

#[test]
fn a_request_that_says_it_is_endless_is_refused_before_it_begins() {
    let server = AdminServer::start();
    for length in ["999999999999", "65537", "9223372036854775807"] {
        for path in ["POST /v1/tokens", "GET /v1/status", "PATCH /v1/devices/nobody"] {
            let mut stream = UnixStream::connect(server.socket()).unwrap();
            stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
            let head = format!("{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            // Nothing follows, and the client does not close: only the server can end this.
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 413 "), "{path} {length}: {answer}");
            assert!(
                answer.contains(&format!("is to have {length} bytes, at most 65536 are allowed")),
                "{answer}"
            );
        }
    }
    // More than a number holds.
    let head = format!("POST /v1/tokens HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", "9".repeat(30));
    let answer = say(&server, head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[test]
fn a_body_without_an_end_is_cut_off() {
    let server = AdminServer::start();
    for path in ["POST /v1/tokens", "GET /v1/status"] {
        let mut stream = UnixStream::connect(server.socket()).unwrap();
        let head = format!("{path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
        let sent = (0..100_000).take_while(|_| stream.write_all(chunk.as_bytes()).is_ok()).count();
        assert!(sent < 1_000, "{path}: {sent} chunks were taken");
    }
    // And what belongs to one chunk has no end either: its extension (RFC 9112 section 7.1.1).
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    stream.write_all(b"POST /v1/tokens HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1;").unwrap();
    let sent = (0..100_000).take_while(|_| stream.write_all(&[b'x'; 4096]).is_ok()).count();
    assert!(sent < 1_000, "{sent} pieces were taken");
    assert!(server.client().status().is_ok());
}

/// Opens a stream, and reads up to the end of its head.
fn open_stream(server: &AdminServer, bytes: &[u8]) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    stream.write_all(bytes).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

/// The same this many times: each is answered well.
fn open_streams(server: &AdminServer, bytes: &[u8], number: usize) -> Vec<(UnixStream, String)> {
    let streams: Vec<_> = (0..number).map(|_| open_stream(server, bytes)).collect();
    assert!(streams.iter().all(|(_, head)| head.starts_with("HTTP/1.1 200 ")));
    streams
}

fn used(server: &AdminServer, limit: &str) -> (u64, u64) {
    let status = server.client().status().unwrap();
    let limit = status.limits.iter().find(|found| found.name == limit).unwrap();
    (limit.used.unwrap(), limit.value)
}

#[test]
fn followers_have_a_limit_of_their_own_and_the_next_one_is_told() {
    let server = AdminServer::start();
    let request = request("GET /v1/events/follow", "");
    let mut followers = open_streams(&server, &request, FOLLOWERS_MAX);
    let refused = ask(&server, "GET /v1/events/follow", "");
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains(r#""code":"busy""#), "{refused}");
    let ran = server.refused(1, &["event", "follow"]);
    assert!(ran.contains("32 clients follow the events already") && ran.contains("event list"), "{ran}");
    assert_eq!(used(&server, "event followers"), (32, 32));
    assert!(server.ctl(&["status"]).out.contains("event followers 32 of 32"));
    // One goes: another one may come.
    drop(followers.pop());
    eventually("a follower's place is free", || used(&server, "event followers").0 < 32);
    assert!(open_stream(&server, &request).1.starts_with("HTTP/1.1 200 "));
}

#[test]
fn requests_that_wait_for_devices_have_a_limit_too() {
    let server = AdminServer::start();
    let device = server.enrol("silent");
    server.script(device, None);
    let request = request("POST /v1/syncs", r#"{"all":true,"wait":true,"timeout_seconds":3600}"#);
    let mut waiting = open_streams(&server, &request, WAITS_MAX);
    let refused = server.refused(1, &["device", "sync", "--all", "--wait"]);
    assert!(refused.contains("16 requests wait for devices already"), "{refused}");
    assert_eq!(server.calls().len(), WAITS_MAX, "who is refused calls nobody");
    drop(waiting.pop());
    eventually("a place is free", || used(&server, "waiting requests").0 < 16);
    assert!(open_stream(&server, &request).1.starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_client_that_finds_no_place_is_told_and_served_when_there_is_one() {
    let server = AdminServer::start();
    // Idle clients: each has asked once, and keeps its connection for fifteen seconds.
    let request = b"GET /v1/groups HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut idle = open_streams(&server, request, CONNECTIONS_MAX);
    let refused = server.refused(1, &["status"]);
    assert!(refused.contains("64 clients use the administration socket already"), "{refused}");
    drop(idle.pop());
    // The server hears a moment later that one has gone.
    eventually("a place is free", || server.ctl(&["status"]).code == 0);
}

#[test]
fn clients_that_say_nothing_do_not_stop_others() {
    let server = AdminServer::start();
    let silent: Vec<_> = (0..32).map(|_| UnixStream::connect(server.socket()).unwrap()).collect();
    for mut stream in &silent {
        stream.write_all(b"GET /v1/sta").unwrap();
    }
    assert!(server.client().status().is_ok());
}

#[test]
fn a_dead_servers_socket_is_replaced_and_a_living_ones_is_not() {
    let mut server = AdminServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let open = |path: std::path::PathBuf| runtime.block_on(async move { AdminListener::open(&path).await });
    let refused = open(server.socket()).unwrap_err();
    assert!(matches!(&refused, ListenError::InUse { .. }), "{refused}");
    assert!(server.client().status().is_ok(), "the living server is unharmed");

    server.stop();
    assert!(!server.socket().exists(), "a server that stops takes its socket along");
    // A server that was killed leaves its socket behind.
    drop(std::os::unix::net::UnixListener::bind(server.socket()).unwrap());
    server.resume();
    assert!(server.client().status().is_ok());

    let file = server.directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(open(file.clone()).unwrap_err(), ListenError::NotASocket { .. }));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "precious");
}
