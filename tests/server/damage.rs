//! A real server on a journal that is damaged, or shorter than its database remembers.

use muster::wire::event::{Event, Severity};

use crate::kit::{Musterd, event, fail, musterctl, musterd, segments, succeed, write_journal};

#[test]
fn a_bad_header_costs_no_event_and_stays_in_status() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let journal = data.join("journal");
    Musterd::start_on(data, data, "").stop();
    for path in segments(&journal, "journal") {
        std::fs::remove_file(path).unwrap();
    }
    let long = Event { kind: "backup.failed".into(), ..event(Severity::Error, "x".repeat(4000)) };
    write_journal(&journal, &long, 1_000, |events, _| events == 900);
    let damaged = segments(&journal, "journal")[1].clone();
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[18] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    // Stamps of 1970: retention by age would delete every one of these segments at once.
    for start_number in 1..=2 {
        let server = Musterd::start_on(data, data, "");
        let status = server.ctl(&["status"]);
        let journal_status = &status["journal"];
        assert_eq!(journal_status["condition"], "damaged", "{journal_status}");
        assert_eq!(journal_status["set_aside_segments"], 1);
        assert_eq!(journal_status["set_aside_bytes"], 1 << 20);
        let shown = succeed(&mut musterctl(data, &["status"]));
        assert!(shown.lines().any(|line| line.starts_with("journal") && line.contains("DAMAGED")), "{shown}");
        if start_number == 1 {
            assert!(
                journal_status["damages"][0]["what"].as_str().unwrap().contains("header"),
                "{journal_status}"
            );
        }
        let events = server.ctl(&["event", "list", "--limit", "1000"]);
        let of_segment = events.as_array().unwrap().iter().filter(|event| event["kind"] == "backup.failed");
        assert!(of_segment.count() >= 240, "the segment's events are shown");
        let log = server.stop();
        assert!(log.contains("the journal is damaged"), "{log}");
        assert_eq!(segments(&journal, "damaged"), [damaged.with_extension("damaged")]);
    }
    fail(musterd(&["journal", "verify", "--data"]).arg(data));
}

#[test]
fn a_journal_that_is_gone_is_told_and_its_positions_are_not_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    Musterd::start_on(data, data, "").stop();
    for path in segments(&data.join("journal"), "journal") {
        std::fs::remove_file(path).unwrap();
    }
    let remembered = 10_000_000_u64;
    let database = rusqlite::Connection::open(data.join("store/muster.db")).unwrap();
    let sql = "INSERT INTO meta (key, value) VALUES ('journal_position', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1";
    database.execute(sql, [remembered.to_be_bytes()]).unwrap();
    drop(database);
    for _ in 0..2 {
        let server = Musterd::start_on(data, data, "");
        let journal = &server.ctl(&["status"])["journal"];
        assert_eq!(journal["condition"], "damaged", "{journal}");
        let damage = &journal["damages"][0];
        assert_eq!((&damage["from"], &damage["to"]), (&0.into(), &remembered.into()), "{journal}");
        assert!(journal["durable_position"].as_u64().unwrap() >= remembered, "{journal}");
        let log = server.stop();
        assert!(log.contains("damage from position 0 to 10000000"), "{log}");
    }
    let first =
        segments(&data.join("journal"), "journal")[0].file_stem().unwrap().to_str().unwrap().to_owned();
    assert!(first.parse::<u64>().unwrap() >= remembered);
}
