//! Real processes whose wall clock steps while they run, the monotonic clock left alone: libfaketime moves
//! it. If that is missing the tests say so and pass.

use std::path::PathBuf;

use crate::kit::{Running, Site, error_of, event, eventually, now, skipped, write_journal};
use muster::wire::event::Severity;
use muster::wire::time::WallTime;
use serde_json::Value;

const DAY_SECONDS: i64 = 86_400;

/// Path at which Debian's package libfaketime puts the library for programs with threads, below the directory
/// of the architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A wall clock that a test sets while a process runs.
pub(crate) struct FakeClock {
    library: String,
    file: PathBuf,
}

impl FakeClock {
    /// `None`, said aloud, where there is no libfaketime.
    pub(crate) fn of(site: &Site, name: &str) -> Option<Self> {
        let found = std::fs::read_dir("/usr/lib").unwrap().find_map(|entry| {
            let library = entry.ok()?.path().join(LIBRARY);
            library.exists().then(|| library.to_str().unwrap().to_owned())
        });
        let Some(library) = found else {
            skipped("libfaketime is not installed (apt-get install faketime)");
            return None;
        };
        let clock = Self { library, file: site.path(name) };
        clock.set(0);
        Some(clock)
    }

    /// So far ahead of the machine's clock from now on, in seconds; negative: behind.
    pub(crate) fn set(&self, seconds: i64) {
        // Renamed into place: it is read all the time.
        let draft = self.file.with_extension("draft");
        std::fs::write(&draft, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(&draft, &self.file).unwrap();
    }

    pub(crate) fn environment(&self) -> [(&str, &str); 5] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ]
    }
}

fn now_ms() -> u64 {
    now().0
}

fn status(site: &Site) -> Value {
    site.ctl_json(&["status"])
}

fn wait_for_clock(site: &Site, condition: &str) {
    eventually("the server notices what its clock does", || status(site)["clock"]["condition"] == condition);
}

/// The server's events about its clock, the oldest first.
fn clock_events(site: &Site) -> Vec<String> {
    let of_clock = site.events("muster", "clock").into_iter();
    of_clock.map(|event| event["fields"]["change"].as_str().unwrap().to_owned()).collect()
}

fn wait_for_event(site: &Site, change: &str) {
    eventually("the server says what its clock did", || {
        clock_events(site).last().is_some_and(|last| last == change)
    });
}

fn token_state(site: &Site, id: &Value) -> (String, WallTime) {
    let tokens = site.ctl_json(&["token", "list"]);
    let token = tokens.as_array().unwrap().iter().find(|token| token["id"] == *id).unwrap();
    let expires_at = token["expires_at"].as_str().unwrap().parse().unwrap();
    (token["state"].as_str().unwrap().to_owned(), expires_at)
}

/// A journal with segments of 1 MiB, of which none is older than a day.
fn server(site: &Site, clock: &FakeClock) -> Running {
    let config = site.write("musterd.toml", "[journal]\nsegment_size = \"1MiB\"\nretention_age = \"1d\"\n");
    site.server_with(&["--config", &config], &clock.environment())
}

#[test]
fn a_clock_that_is_ahead_for_a_while_costs_nothing() {
    let site = Site::new();
    let Some(clock) = FakeClock::of(&site, "server.clock") else { return };
    std::fs::create_dir_all(site.path("server/journal")).unwrap();
    let long = event(Severity::Info, "m".repeat(2_000));
    write_journal(&site.path("server/journal"), &long, now_ms() - 300_000, |_, segments| segments == 6);
    let server = server(&site, &clock);
    assert_eq!(status(&site)["clock"]["condition"], "ok");
    let token = site.ctl_json(&["token", "create", "--ttl", "1h", "--uses", "3"]);
    assert!(site.enroll(token["token"].as_str().unwrap()).status.success());
    let agent = site.agent_process();
    eventually("the device syncs", || !site.shown()["last_sync_at"].is_null());
    // From here on nobody is there to say that the device is well.
    agent.kill();
    eventually("the link ends", || site.shown()["presence"] == "idle");

    clock.set(200 * DAY_SECONDS);
    wait_for_clock(&site, "doubted");
    wait_for_event(&site, "forward");
    // A configuration that is read again has the journal look at once for what is old.
    server.hang_up();
    eventually("the configuration is read again", || {
        site.log("server.log").contains("configuration read again")
    });
    // Everything is judged within a minute; what the step did with the device's times is done with the next
    // look.
    eventually("the device's times follow the clock", || {
        let next: WallTime = site.shown()["next_sync_at"].as_str().unwrap().parse().unwrap();
        next.0 > now_ms() + 199 * 86_400_000
    });
    let ahead = status(&site);
    assert!(ahead["uptime_seconds"].as_u64().unwrap() < 86_400, "{ahead}");
    assert_eq!(ahead["devices"]["lost"], 0, "{ahead}");
    assert!(ahead["journal"]["segments"].as_u64().unwrap() >= 6, "{ahead}");
    assert!(ahead["clock"]["ahead_seconds"].as_u64().unwrap().abs_diff(200 * 86_400) < 100, "{ahead}");
    let human = site.ctl_human(&["status"]);
    assert!(human.contains("DOUBTED, 28w"), "{human}");
    let other = Site::at(site.address);
    let enrolled = other.enroll(token["token"].as_str().unwrap());
    assert!(enrolled.status.success(), "a token's hour is not over: {}", error_of(&enrolled));

    clock.set(0);
    wait_for_clock(&site, "ok");
    wait_for_event(&site, "right");
    eventually("the device's times follow the clock back", || {
        let next: WallTime = site.shown()["next_sync_at"].as_str().unwrap().parse().unwrap();
        next.0 < now_ms() + 3_600_000
    });
    let right = status(&site);
    assert!(right["journal"]["segments"].as_u64().unwrap() >= 6, "{right}");
    assert_eq!(right["devices"]["lost"], 0, "{right}");
    assert_eq!(token_state(&site, &token["id"]).0, "valid");
    assert!(server.end().success());
}

#[test]
fn a_token_made_while_the_clock_was_ahead_lives_as_long_as_it_was_given_and_an_expired_one_stays_so() {
    let site = Site::new();
    let Some(clock) = FakeClock::of(&site, "server.clock") else { return };
    let server = server(&site, &clock);
    let short = site.ctl_json(&["token", "create", "--ttl", "1s"]);
    eventually("its second is over", || token_state(&site, &short["id"]).0 == "expired");
    assert!(server.end().success());

    clock.set(3_650 * DAY_SECONDS);
    let started = self::server(&site, &clock);
    assert_eq!(status(&site)["clock"]["condition"], "doubted");
    wait_for_event(&site, "started_ahead");
    let hour = site.ctl_json(&["token", "create", "--ttl", "1h"]);
    assert!(token_state(&site, &hour["id"]).1.0 > now_ms() + 3_600 * 86_400_000);
    assert!(started.end().success());

    clock.set(-DAY_SECONDS);
    let server = self::server(&site, &clock);
    wait_for_event(&site, "started_behind");
    eventually("the token lives its hour", || {
        let (state, expires_at) = token_state(&site, &hour["id"]);
        state == "valid" && expires_at.0 < now_ms()
    });
    assert_eq!(token_state(&site, &short["id"]).0, "expired");
    let refused = site.enroll(short["token"].as_str().unwrap());
    assert!(error_of(&refused).contains("expired"), "{}", error_of(&refused));
    assert!(server.end().success());
}

#[test]
fn events_behind_a_record_of_a_wrong_clock_are_found_by_time() {
    let site = Site::new();
    let Some(clock) = FakeClock::of(&site, "server.clock") else { return };
    let server = server(&site, &clock);
    let token = site.token();
    assert!(site.enroll(&token).status.success());
    let agent = site.agent_process();
    assert!(site.emit("info", "before").status.success());
    site.wait_until_confirmed();
    clock.set(-20_000 * DAY_SECONDS);
    wait_for_event(&site, "back");
    assert!(site.emit("info", "in 1972").status.success());
    site.wait_until_confirmed();
    clock.set(0);
    wait_for_event(&site, "forward");
    assert!(site.emit("info", "after").status.success());
    site.wait_until_confirmed();
    let events = site.ctl_json(&["event", "list", "--since", "1h"]);
    let messages: Vec<_> = events.as_array().unwrap().iter().map(|event| &event["message"]).collect();
    for (message, is_found) in [("before", true), ("in 1972", false), ("after", true)] {
        assert_eq!(messages.iter().any(|found| **found == message), is_found, "{message}: {messages:?}");
    }
    drop(agent);
    assert!(server.end().success());
}

#[test]
fn a_devices_clock_far_from_the_servers_is_a_reason_there_until_it_is_right() {
    let site = Site::new();
    let Some(clock) = FakeClock::of(&site, "agent.clock") else { return };
    let server = site.server();
    site.enrol();
    clock.set(-20 * 60);
    let agent = site.agent_process_with(&clock.environment());
    let reasons = || site.shown()["reasons"].to_string();
    eventually("the clock is a reason", || reasons().contains("its clock is 20 min behind the server's"));
    assert_eq!(site.shown()["status"], "warning");
    clock.set(0);
    eventually("the reason is gone", || {
        site.agent(&["sync"]);
        !reasons().contains("clock")
    });
    drop(agent);
    assert!(server.end().success());
}
