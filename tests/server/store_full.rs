//! A database whose disk is really full, of a real server.

use std::io::Write as _;

use crate::kit::{Musterd, SmallDisk, eventually, musterctl, skipped, succeed, wait_for};

#[test]
fn status_tells_of_a_store_without_room_and_of_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let store = data.join("store");
    std::fs::create_dir(&store).unwrap();
    let Some(_disk) = SmallDisk::mount(&store, 4) else {
        skipped("a file system can't be mounted here (only root may)");
        return;
    };
    let configuration = "[journal]\nsegment_size = \"1MiB\"\nretention_size = \"4MiB\"\n";
    let server = Musterd::start_on(data, data, configuration);
    let store_of = || {
        let status = server.ctl(&["status"]);
        assert_eq!(status["journal"]["condition"], "ok");
        status["store"].clone()
    };
    assert_eq!(store_of()["condition"], "ok");

    let filler = store.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let create = || musterctl(data, &["token", "create"]).output().unwrap();
    let refused =
        wait_for("a token to be refused", || Some(create()).filter(|output| !output.status.success()));
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("disk is full: make room"), "{said}");
    let full = store_of();
    assert_eq!(full["condition"], "full", "{full}");
    assert_eq!(store_of()["condition"], "full", "to ask for it changes nothing");
    assert!(full["since"].is_string() && full["reason"].as_str().unwrap().contains("disk is full"), "{full}");
    let shown = succeed(&mut musterctl(data, &["status"]));
    assert!(shown.lines().any(|line| line.starts_with("store") && line.contains("NO ROOM since")), "{shown}");

    drop(file);
    std::fs::remove_file(&filler).unwrap();
    eventually("there is room again, and it is said", || store_of()["condition"] == "ok");
    succeed(&mut musterctl(data, &["token", "create"]));
}
