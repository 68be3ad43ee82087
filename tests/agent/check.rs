//! `muster-agent check` against a real server: what is ok says so, and what is not is named on the line that
//! it belongs to.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::kit::{Running, Site, error_of, eventually};
use serde_json::Value;

/// Subject, verdict and detail of a line.
type Line = (String, String, String);

/// Whether all is ok, and every line.
fn lines(site: &Site) -> (bool, Vec<Line>) {
    let output = site.agent(&["check", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"].as_bool().unwrap(), output.status.success());
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let lines = report["lines"].as_array().unwrap();
    let lines = lines
        .iter()
        .map(|line| (text(line, "subject"), text(line, "verdict"), text(line, "detail")))
        .collect();
    (output.status.success(), lines)
}

/// Asserts the line of one subject, and what it says.
#[track_caller]
fn assert_line(site: &Site, subject: &str, verdict: &str, detail: &str) {
    assert_line_of(&lines(site).1, subject, verdict, detail);
}

#[track_caller]
fn assert_line_of(lines: &[Line], subject: &str, verdict: &str, detail: &str) {
    let line = lines.iter().find(|line| line.0 == subject).unwrap();
    assert_eq!(line.1, verdict, "{lines:#?}");
    assert!(line.2.contains(detail), "{line:?}");
}

/// Everything behind `subject` up to the spool is skipped because of it.
#[track_caller]
fn assert_skipped_behind(site: &Site, subject: &str) {
    let (is_ok, lines) = lines(site);
    assert!(!is_ok);
    let at = lines.iter().position(|line| line.0 == subject).unwrap();
    assert_eq!(lines[at].1, "failed", "{lines:#?}");
    for line in &lines[at + 1..lines.len() - 1] {
        assert_eq!(line.1, "skipped", "{lines:#?}");
        assert!(line.2.contains(&format!("'{subject}'")), "{line:?}");
    }
    assert_eq!(lines.last().unwrap().1, "ok", "the spool needs no server: {lines:#?}");
}

fn configure(site: &Site, settings: &str) {
    site.write("agent/muster-agent.toml", settings);
}

/// The device's server is said to be elsewhere.
fn server_is(site: &Site, address: &str) {
    configure(site, &format!("server = \"{address}\"\n"));
}

/// A server and a device of it, with a wake port of its own.
fn enrolled() -> (Site, Running) {
    let (site, server) = Site::enrolled();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    configure(&site, &format!("[wake]\nport = {port}\n"));
    (site, server)
}

#[test]
fn a_device_that_never_enrolled_is_told_so() {
    let site = Site::new();
    assert_line(&site, "identity", "failed", "has not enrolled");
    assert_skipped_behind(&site, "identity");
}

#[test]
fn everything_is_ok_with_and_without_a_running_agent() {
    let (site, _server) = enrolled();
    assert!(site.emit("error", "waits").status.success());
    for is_running in [false, true] {
        let _agent = is_running.then(|| site.agent_process());
        if is_running {
            site.wait_until_confirmed();
        }
        // One report for all of them: each has a wake sent, and of those there are six a minute.
        let report = lines(&site).1;
        assert_line_of(&report, "identity", "ok", "'kiosk'");
        assert_line_of(&report, "certificate", "ok", "number 1 (ed25519), until ");
        assert_line_of(&report, "name", "ok", "127.0.0.1 is an address");
        assert_line_of(&report, "tcp", "ok", &site.address.to_string());
        assert_line_of(&report, "tls", "ok", "TLS 1.3");
        assert_line_of(&report, "pin", "ok", "equals stored copy 1 of");
        assert_line_of(&report, "device", "ok", "the server knows 'kiosk'");
        assert_line_of(&report, "clock", "ok", "give or take");
        assert_line_of(&report, "udp_out", "ok", "a notice reached UDP 127.0.0.1:");
        assert_line_of(&report, "udp_in", "ok", "a wake reached UDP port");
        let waiting = if is_running { "no event waits" } else { "1 event waits" };
        assert_line_of(&report, "spool", "ok", waiting);
        let shown = site.agent(&["check"]);
        assert_eq!(shown.status.code(), Some(0), "{}", error_of(&shown));
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert_eq!(shown.lines().count(), 11, "{shown}");
        assert!(shown.starts_with("ok   identity "), "{shown}");
        assert!(shown.contains("\nok   pin         certificate "), "{shown}");
    }
}

#[test]
fn each_break_of_the_path_is_named() {
    let (site, server) = enrolled();
    server_is(&site, "no-such-host.invalid");
    assert_line(&site, "name", "failed", "no-such-host.invalid");
    assert_skipped_behind(&site, "name");

    let nobody: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    server_is(&site, &nobody.to_string());
    assert_line(&site, "tcp", "failed", "is musterd running there");
    assert_skipped_behind(&site, "tcp");

    // Something else listens there.
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    server_is(&site, &stranger.local_addr().unwrap().to_string());
    let talking = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = stranger.accept().unwrap();
            std::io::Write::write_all(&mut stream, b"220 mail.example.org ESMTP\r\n").unwrap();
        }
    });
    assert_line(&site, "tls", "failed", "not TLS");
    assert_skipped_behind(&site, "tls");
    talking.join().unwrap();

    // Another server, at another address.
    let other = Site::new();
    let _other_server = other.server();
    server_is(&site, &other.address.to_string());
    assert_line(&site, "tls", "ok", "up to the certificate");
    let (_, lines) = lines(&site);
    let pin = &lines.iter().find(|line| line.0 == "pin").unwrap().2;
    let hashes = pin.split(' ').filter(|word| word.trim_end_matches(',').len() == 64).count();
    assert!(hashes >= 2, "both hashes are shown: {pin}");
    assert_skipped_behind(&site, "pin");

    std::fs::remove_file(site.path("agent/muster-agent.toml")).unwrap();
    assert_line(&site, "device", "ok", "'kiosk'");
    site.ctl_json(&["device", "remove", "kiosk"]);
    assert_line(&site, "device", "failed", "enrol again");
    assert_skipped_behind(&site, "device");
    server.kill();
    assert_skipped_behind(&site, "tcp");
}

#[test]
fn wakes_that_can_not_be_heard_are_told_from_those_that_are_not_wanted() {
    let (site, _server) = enrolled();
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    for is_running in [false, true] {
        configure(&site, &format!("[wake]\nport = {}\n", taken.local_addr().unwrap().port()));
        let agent = is_running.then(|| site.agent_process());
        assert_line(&site, "udp_in", "failed", "set another with [wake] port");
        drop(agent);
        configure(&site, "[wake]\nport = 0\n");
        let _agent = is_running.then(|| site.agent_process());
        if is_running {
            eventually("the agent knows where its server is", || site.agent(&["sync"]).status.success());
        }
        assert_line(&site, "udp_in", "ok", "no wakes are wanted");
        assert_line(&site, "udp_out", "ok", "a notice reached");
    }
}

#[test]
fn a_check_after_too_many_leaves_out_what_it_may_not_ask_for() {
    let (site, _server) = enrolled();
    // Six a minute, for as long as it takes to use them up.
    let is_put_off = |report: &Vec<Line>| report.iter().all(|line| line.0 != "udp_in" || line.1 != "ok");
    let report = (0..60).map(|_| lines(&site).1).find(is_put_off).unwrap();
    let reason = "a device may have 6 wakes a minute sent to it for a check: try again in ";
    assert_line_of(&report, "udp_in", "skipped", reason);
    assert!(report.iter().all(|line| line.1 != "failed"), "{report:#?}");
}

/// A check that looks over a running agent's shoulder does not take its link away.
#[test]
fn a_check_leaves_the_running_agents_link_alone() {
    let (site, _server) = enrolled();
    site.ctl_json(&["device", "set", "kiosk", "--keep-connected", "on"]);
    let _agent = site.agent_process();
    site.sync();
    let since = site.status()["connected_since"].clone();
    assert!(since.is_u64(), "{since}");
    for _ in 0..3 {
        assert_line(&site, "device", "ok", "'kiosk'");
    }
    assert_eq!(site.status()["connected_since"], since);
}

#[test]
fn a_damaged_spool_is_named() {
    let (site, _server) = enrolled();
    assert!(site.emit("info", "lost").status.success());
    let segments = std::fs::read_dir(site.path("agent/spool/info")).unwrap();
    let segment = segments
        .map(|entry| entry.unwrap().path())
        .filter(|path| std::fs::metadata(path).unwrap().len() > 4096)
        .min()
        .unwrap();
    let file = std::fs::File::options().write(true).open(segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], 0).unwrap();
    assert_line(&site, "spool", "failed", "spool of info events");
}
