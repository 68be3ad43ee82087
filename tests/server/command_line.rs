//! The commands of `musterd` that need no running server, as a user runs them.

use std::process::Output;

use crate::kit;

fn musterd(arguments: &[&str]) -> Output {
    kit::musterd(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_right_configuration_is_said_to_be_right() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/musterd.toml");
    let output = musterd(&["check-config", "--config", shipped]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout),
        format!("{shipped}: ok (data in /var/lib/muster, devices connect to 0.0.0.0:13000)\n")
    );
}

#[test]
fn a_wrong_configuration_is_told_in_one_line_with_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("musterd.toml");
    std::fs::write(&file, "[sync]\n\ninterval = \"soon\"\n").unwrap();
    let file = file.to_str().unwrap();
    for command in ["check-config", "run"] {
        let output = musterd(&[command, "--config", file]);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(
            text(&output.stderr),
            format!(
                "musterd: {file}:3: sync.interval = \"soon\" is not allowed: a duration from 10s to 1w, such as \"15m\"\n"
            )
        );
    }
}

#[test]
fn bad_usage_ends_with_code_2_and_says_what_is_allowed() {
    let output = musterd(&["run", "--listen", "muster.example"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("'muster.example' is not an address"), "{output:?}");
    let output = musterd(&["run", "--udp", "somewhere"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(musterd(&["fly"]).status.code(), Some(2));
}

#[test]
fn help_shows_examples_everywhere() {
    for command in [&["--help"][..], &["run", "--help"], &["check-config", "--help"]] {
        let output = musterd(command);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("Examples:"), "{command:?}");
    }
}

/// A journal that the library wrote, read with the command: an event, and a record that this version can't
/// read.
#[test]
fn a_journal_is_verified_and_dumped_and_damage_is_told() {
    use muster::journal::{FileStorage, Journal, Options, Position, Record};
    use muster::machine::record;
    use muster::wire::event::{Event, Severity};
    use muster::wire::id::Epoch;
    use muster::wire::time::WallTime;

    let data = tempfile::tempdir().unwrap();
    let directory = data.path().join("journal");
    let data = data.path().to_str().unwrap();
    let event = Event {
        severity: Severity::Error,
        application: "backup".into(),
        kind: "backup.failed\u{1b}[2J".into(),
        message: "no \"room\"".into(),
        occurred_at: WallTime(1),
        fields: vec![("disk".into(), "sdb".into())],
    };
    let mut payload = Vec::new();
    record::encode(Epoch(7), &event.to_bytes().unwrap(), &mut payload);
    let storage = FileStorage::open(&directory).unwrap();
    let options = Options { segment_bytes: 1 << 20, ..Options::server() };
    let mut opened = Journal::open(storage, options, Position(0), 1, |_| {}).unwrap();
    for (sequence, payload) in [(1, payload.as_slice()), (2, b"short")] {
        opened.journal.append(&Record { wall_ms: 1_000, device: 0xabc, sequence, payload }).unwrap();
        opened.flusher.flush_once().unwrap();
    }

    let output = musterd(&["journal", "verify", "--data", data]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("in use by another process"), "{output:?}");
    drop(opened);

    let output = musterd(&["journal", "verify", "--data", data]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("2 records"), "{output:?}");
    assert!(text(&output.stdout).ends_with("ok\n"), "{output:?}");
    let json: serde_json::Value =
        serde_json::from_slice(&musterd(&["journal", "verify", "--data", data, "--json"]).stdout).unwrap();
    assert_eq!((&json["records"], &json["damages"]), (&2.into(), &serde_json::json!([])));

    let lines = text(&musterd(&["journal", "dump", "--data", data]).stdout);
    let lines: Vec<&str> = lines.lines().collect();
    assert!(
        lines[0].ends_with(
            " 1970-01-01T00:00:01.000Z 0000000000000abc #1 error backup backup.failed\\u{1b}[2J \"no \\\"room\\\"\" disk=\"sdb\""
        ),
        "{lines:?}"
    );
    assert!(lines[1].ends_with(" #2 5 bytes that this version can't read"), "{lines:?}");
    let json: serde_json::Value =
        serde_json::from_slice(&musterd(&["journal", "dump", "--data", data, "--json"]).stdout).unwrap();
    assert_eq!(json[0]["event"]["fields"]["disk"], "sdb");
    assert_eq!((&json[0]["spool_epoch"], &json[0]["source"]), (&"0000000000000007".into(), &"device".into()));
    assert_eq!(json[1]["event"], serde_json::Value::Null);

    // One byte of an acknowledged record, with a later watermark after it: that is damage, not a torn tail.
    let segment = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(13).position(|window| window == b"backup.failed").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let output = musterd(&["journal", "verify", "--data", data]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("damage from position"), "{output:?}");
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    assert_eq!(musterd(&["journal", "verify", "--data", data]).status.code(), Some(0));

    // One byte of the header: nothing is lost, and it is told for as long as the file is there.
    bytes[20] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    for set_aside in [0, 1] {
        let output = musterd(&["journal", "verify", "--data", data, "--json"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&json["records"], &json["set_aside"]), (&2.into(), &set_aside.into()));
        assert_eq!(text(&musterd(&["journal", "dump", "--data", data]).stdout).lines().count(), 2);
        // A start sets it aside.
        let storage = FileStorage::open(&directory).unwrap();
        let opened = Journal::open(storage, options, Position(0), 1, |_| {}).unwrap();
        assert_eq!(opened.journal.stats().set_aside, 1);
    }
}

#[test]
fn a_journal_that_is_not_there_is_named() {
    let output = musterd(&["journal", "verify", "--data", "/nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("musterd: journal /nowhere/journal: "), "{output:?}");
}
