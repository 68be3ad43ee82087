//! One device that sends events without end, beside others.

use std::time::{Duration, Instant};

use crate::kit::{Connection, Fixture, Program, Site, error_of, event, eventually, stored};
use muster::machine::rate::{EVENT_OVERHEAD_BYTES, EventRate};
use muster::wire::event::Severity;
use muster::wire::id::Epoch;
use muster::wire::message::{EventItem, Events, Later, Ping, ToAgent, ToServer};

fn send(wire: &mut Connection, from: u64, body: &[u8], begins_again: bool) {
    let items: Vec<_> = (from..from + 32).map(|sequence| EventItem { sequence, body }).collect();
    wire.send(&ToServer::Events(Events {
        spool_epoch: Epoch(5),
        highest: from + 31,
        items,
        acknowledged: None,
        sent_through: None,
        begins_again,
    }));
}

#[test]
fn a_device_that_floods_takes_its_rate_of_the_log_and_others_are_served() {
    let rate = EventRate { bytes_per_second: 16 << 10, burst_bytes: 1 << 20 };
    let fixture = Fixture::start_with(|config| {
        (config.journal.device_rate, config.journal.device_burst) = (rate.bytes_per_second, rate.burst_bytes);
    });
    let (bad, good) = (fixture.enrol("bad"), fixture.enrol("good"));
    let (mut flood, mut other) = (bad.connect(&fixture), good.connect(&fixture));
    let (begun, body, counters) = (
        Instant::now(),
        event(Severity::Info, "x".repeat(900)).to_bytes().unwrap(),
        fixture.server.counters(),
    );
    let event_bytes = body.len() as u64 + EVENT_OVERHEAD_BYTES;
    let (mut others, mut told) = (0, 0);
    while begun.elapsed() < Duration::from_secs(4) {
        // It does not wait for the time that it is told, and sends whatever comes next as if it had.
        let taken = counters.events_appended.get() - others;
        send(&mut flood, taken + 1, &body, true);
        send(&mut flood, taken + 33, &body, false);
        flood.send(&ToServer::Ping(Ping { next_seconds: None }));
        loop {
            match flood.read() {
                ToAgent::Later(Later { seconds, only_events: true }) => {
                    assert!((5..=300).contains(&seconds), "{seconds}");
                    told += 1;
                }
                ToAgent::Ack(_) => {}
                ToAgent::Pong => break,
                other => panic!("{other:?}"),
            }
        }
        others += 1;
        other.send_events(Epoch(6), others..=others);
        other.wait_for_ack(others);
    }
    let stored_bytes = (counters.events_appended.get() - others) * event_bytes;
    let allowed = rate.burst_bytes + rate.bytes_per_second * (begun.elapsed().as_secs() + 1) + (64 << 10);
    assert!(stored_bytes <= allowed, "{stored_bytes} of {allowed} bytes");
    assert!(told > 0 && counters.events_held.get() >= told, "{told}");
    assert!(others > 0 && stored_bytes >= rate.burst_bytes - (64 << 10), "{stored_bytes}");
    fixture.server.drain().unwrap();
}

#[test]
fn a_device_that_sends_too_much_says_so_and_brings_all_of_it_in_its_time() {
    let site = Site::new();
    let config = "[journal]\ndevice_rate = \"64KiB\"\ndevice_burst = \"1MiB\"\n";
    let server = site.server_with(&["--config", &site.write("musterd.toml", config)], &[]);
    let quiet = Site::at(site.address);
    for (device, name) in [(&site, "kiosk"), (&quiet, "quiet")] {
        let (token, address) = (site.token(), site.address.to_string());
        let enrolled = device.agent(&["enroll", "--server", &address, "--token", &token, "--name", name]);
        assert!(enrolled.status.success(), "{}", error_of(&enrolled));
        device.configure("[wake]\nport = 0\n");
    }
    let agents = [site.agent_process(), quiet.agent_process()];
    let mut program = Program::connect(&site);
    for batch in 0..20_u32 {
        let messages: Vec<_> = (0..100_u32)
            .map(|number| format!("{}{}", 1_000 + batch * 100 + number, "x".repeat(800)))
            .collect();
        program.emit("info", &messages);
    }
    let reasons = || site.shown()["reasons"].to_string();
    eventually("it is a reason of its status", || reasons().contains("it sends more events than it may"));
    let why = site.ctl_json(&["device", "why", "kiosk"]);
    assert!(why["text"].as_str().unwrap().contains("journal.device_rate"), "{why}");
    assert!(why["facts"]["events_held"].is_string(), "{why}");
    let problems = || site.status()["problems"].to_string();
    eventually("the device says so", || problems().contains("more events than the server takes of one"));
    site.sync();
    assert!(quiet.emit("info", "in between").status.success());
    quiet.wait_until_confirmed();
    assert!(!site.is_confirmed());
    eventually("everything is confirmed", || site.is_confirmed());
    eventually("the reason goes", || !reasons().contains("more events"));
    assert!(!problems().contains("more events"));
    let log = site.log("agent.log");
    assert_eq!(log.matches("has sent more events than the server takes").count(), 1, "{log}");
    agents.into_iter().for_each(|agent| assert!(agent.end().success()));
    assert!(server.end().success());
    let numbers: Vec<u32> = stored(&site)
        .into_iter()
        .filter(|(_, message)| message.len() > 800)
        .map(|(_, message)| message[..4].parse().unwrap())
        .collect();
    assert!(numbers.into_iter().eq(1_000..3_000), "each once, in their order");
}
