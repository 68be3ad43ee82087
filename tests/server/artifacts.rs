//! Artifacts at a server: taken in, fetched by devices that need them and by those that do not, over a kill.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::kit::run_device::{RunDevice, offer, work_until};
use crate::kit::{Musterd, SmallDisk, error_of, eventually, musterctl, skipped, wait_for};
use muster::wire::artifact::{ArtifactPart, ArtifactUse, Fetch};
use muster::wire::id::ArtifactHash;
use muster::wire::limits::ARTIFACT_PART_BYTES_MAX;
use muster::wire::message::{ToAgent, ToServer};
use muster::wire::task::{RunOrder, RunStage, RunUpdate};
use serde_json::Value;

/// Content of several parts, different for each number.
fn content(number: u8) -> Vec<u8> {
    (0..300_000_u32).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1] ^ number).collect()
}

struct Scene {
    directory: tempfile::TempDir,
    server: Musterd,
}

impl Scene {
    fn start(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Musterd::start(directory.path(), configuration);
        Self { directory, server }
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn add(&self, number: u8) -> ArtifactHash {
        let file = self.file("firmware.bin", &content(number));
        self.server.ctl(&["artifact", "add", &file])["hash"].as_str().unwrap().parse().unwrap()
    }

    fn device(&self, name: &str) -> RunDevice {
        RunDevice::new(&self.server.enrol(name), &self.server, offer("kiosk", "flash", ArtifactUse::Any))
    }

    /// Makes a task for this device or these, and waits until the first has its order.
    fn ordered(&self, device: &mut RunDevice, name: &str, artifact: ArtifactHash) -> (String, RunOrder) {
        let task = self.create(&["--device", name], artifact);
        let order = wait_for("the run", || device.sync().pop());
        device.report(RunUpdate::new(order.run, 1, RunStage::Accepted));
        (task, order)
    }

    fn create(&self, more: &[&str], artifact: ArtifactHash) -> String {
        let artifact = artifact.to_string();
        let create = ["task", "create", "--application", "kiosk", "--kind", "flash", "--artifact", &artifact];
        self.server.ctl(&[&create, more].concat())["id"].as_str().unwrap().to_owned()
    }

    /// Names of the files in the artifacts' directory.
    fn names(&self) -> Vec<String> {
        let listed = std::fs::read_dir(self.directory.path().join("data/artifacts")).unwrap();
        listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        error_of(&musterctl(&self.server.data, arguments).output().unwrap())
    }

    fn restart(self) -> Self {
        let Self { directory, server } = self;
        server.stop();
        let server = Musterd::start(directory.path(), "");
        Self { directory, server }
    }
}

fn refusal(device: &mut RunDevice, hash: ArtifactHash, offset: u64) -> String {
    loop {
        match device.ask(Fetch { hash, offset }) {
            ArtifactPart { refusal: Some(refusal), .. } => return refusal,
            ArtifactPart { again_seconds: Some(_), .. } => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            part => panic!("{} bytes came", part.bytes.len()),
        }
    }
}

#[test]
fn a_device_has_an_artifact_while_a_run_of_its_needs_it_and_no_longer() {
    let scene = Scene::start("");
    let (mut device, mut other) = (scene.device("kiosk-1"), scene.device("kiosk-2"));
    device.sync();
    other.sync();
    let hash = scene.add(1);
    let is_none_of_its = |refusal: String| refusal.contains("no run of this device needs it");
    assert!(is_none_of_its(refusal(&mut device, hash, 0)), "it has no run");
    let (task, order) = scene.ordered(&mut device, "kiosk-1", hash);
    let artifact = order.artifact.unwrap();
    assert_eq!((artifact.name.as_str(), artifact.bytes), ("firmware.bin", 300_000));
    assert_eq!(device.fetch(&artifact).unwrap(), content(1));
    assert!(is_none_of_its(refusal(&mut other, hash, 0)), "the run is another device's");
    assert!(is_none_of_its(refusal(&mut device, ArtifactHash::of(b"unknown"), 0)));
    assert!(device.ask(Fetch { hash, offset: 300_000 }).bytes.is_empty(), "there are no more");
    for beyond in [300_001, u64::MAX] {
        assert!(refusal(&mut device, hash, beyond).contains("it has 300000 bytes"));
    }
    let said = scene.refused(&["artifact", "remove", &hash.to_string()]);
    assert!(said.contains(&format!("task {task} needs the artifact")), "{said}");
    scene.server.ctl(&["task", "cancel", &task]);
    assert!(is_none_of_its(refusal(&mut device, hash, 0)), "it is cancelled");
    // As people write it.
    scene.server.ctl(&["artifact", "remove", &hash.to_string().to_uppercase()]);
    assert_eq!(scene.names(), Vec::<String>::new());
}

#[test]
fn a_file_that_was_cut_changed_or_lost_is_refused_until_it_is_added_again() {
    let scene = Scene::start("");
    let mut device = scene.device("kiosk-1");
    device.sync();
    let hash = scene.add(1);
    let (_, order) = scene.ordered(&mut device, "kiosk-1", hash);
    let scene = scene.restart();
    device.move_to(&scene.server);
    let artifact = order.artifact.unwrap();
    assert_eq!(device.fetch(&artifact).unwrap(), content(1), "after a restart it is read once, and is whole");
    let path = scene.directory.path().join("data/artifacts").join(hash.to_string());
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"damage", 100_000).unwrap();
    assert!(refusal(&mut device, hash, 0).contains("its file has another content"));
    file.set_len(100).unwrap();
    assert!(refusal(&mut device, hash, 0).contains("its file has another length"));
    let listed = scene.server.ctl(&["artifact", "list"]);
    assert!(listed[0]["fault"].as_str().unwrap().contains("another length"), "{listed}");
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(&mut device, hash, 0).contains("its file is missing"));
    assert_eq!(scene.add(1), hash);
    assert_eq!(device.fetch(&artifact).unwrap(), content(1));
    assert_eq!(scene.server.ctl(&["artifact", "list"])[0]["fault"], Value::Null);
}

#[test]
fn of_many_questions_on_one_link_one_is_answered_at_a_time() {
    const QUESTIONS: usize = 2_000;
    let scene = Scene::start("");
    let mut device = scene.device("kiosk-1");
    device.sync();
    let hash = scene.add(1);
    scene.ordered(&mut device, "kiosk-1", hash);
    let fetch = ToServer::Fetch(Fetch { hash, offset: 0 });
    let mut frames = Vec::new();
    (0..QUESTIONS).for_each(|_| fetch.write_to(&mut frames));
    let connection = device.connection();
    connection.send_bytes(&frames);
    let (mut answers, mut parts) = (0, 0);
    while answers < QUESTIONS {
        if let ToAgent::ArtifactPart(part) = connection.read() {
            answers += 1;
            assert!(part.bytes.is_empty() || part.bytes.len() == ARTIFACT_PART_BYTES_MAX);
            parts += usize::from(!part.bytes.is_empty());
            assert!(part.refusal.is_none() && part.again_seconds.is_some() == part.bytes.is_empty());
        }
    }
    assert!((1..QUESTIONS / 2).contains(&parts), "{parts} parts");
}

/// Sends the head of an upload that announces this many bytes, and some of them.
fn upload(data: &Path, name: &str, announced: usize, sent: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(data.join("admin.sock")).unwrap();
    let head =
        format!("POST /v1/artifacts?name={name} HTTP/1.1\r\nhost: x\r\ncontent-length: {announced}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(sent).unwrap();
    stream
}

#[test]
fn an_upload_that_ends_in_the_middle_leaves_nothing_nor_does_a_kill() {
    let scene = Scene::start("");
    let half = vec![7; 1 << 20];
    let cut = upload(&scene.server.data, "x", 2 << 20, &half);
    eventually("it has begun", || scene.names().len() == 1);
    drop(cut);
    eventually("nothing is left of it", || scene.names().is_empty());
    let _held = upload(&scene.server.data, "x", 2 << 20, &half);
    eventually("another has begun", || scene.names().len() == 1);
    let Scene { directory, server } = scene;
    server.kill();
    let scene = Scene { server: Musterd::start(directory.path(), ""), directory };
    assert_eq!(scene.names(), Vec::<String>::new(), "the next start removes it");
    assert_eq!(scene.server.ctl(&["artifact", "list"]), Value::Array(Vec::new()));
}

#[test]
fn an_upload_is_refused_in_words_before_it_has_come() {
    let scene = Scene::start("[artifacts]\ntotal_size = \"1MiB\"\n");
    let answer = |mut stream: UnixStream| {
        let mut text = [0; 512];
        let read = stream.read(&mut text).unwrap();
        String::from_utf8_lossy(&text[..read]).into_owned()
    };
    let said = answer(upload(&scene.server.data, "x", 5 << 30, b""));
    assert!(said.contains("413") && said.contains("4294967296"), "{said}");
    let said = answer(upload(&scene.server.data, "x", 2 << 20, b""));
    assert!(said.contains("409") && said.contains("[artifacts] total_size"), "{said}");
    for path in ["..%2F..%2Fetc%2Fpasswd", "a%2Fb", "..", "%00"] {
        let said = answer(upload(&scene.server.data, path, 1, b""));
        assert!(said.contains("400") && said.contains("can't be the name of an artifact"), "{path}: {said}");
    }
    let large = scene.file("large.bin", &vec![0; 2 << 20]);
    let said = scene.refused(&["artifact", "add", &large]);
    assert!(said.contains("more than the 1MiB that they may"), "{said}");
    assert_eq!(scene.names(), Vec::<String>::new());
    let said = scene.refused(&["artifact", "remove", "xyz"]);
    assert!(said.contains("64 hexadecimal digits"), "{said}");
}

#[test]
fn a_disk_without_room_refuses_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let Some(_disk) = SmallDisk::mount(&data, 64) else {
        return skipped("needs mount(8), as root: a full disk and artifacts");
    };
    let settings = "[journal]\nsegment_size = \"1MiB\"\nretention_size = \"4MiB\"\n";
    let server = Musterd::start_on(directory.path(), &data, settings);
    let large = directory.path().join("large.bin");
    std::fs::File::create(&large).unwrap().set_len(63 << 20).unwrap();
    let large = large.display().to_string();
    let said = error_of(&musterctl(&server.data, &["artifact", "add", &large]).output().unwrap());
    assert!(said.contains("disk is full"), "{said}");
    assert_eq!(std::fs::read_dir(server.data.join("artifacts")).unwrap().count(), 0);
    let small = directory.path().join("small.bin");
    std::fs::write(&small, b"small").unwrap();
    server.ctl(&["artifact", "add", &small.display().to_string()]);
}

#[test]
fn a_backup_brings_the_artifacts_along() {
    let scene = Scene::start("");
    let hash = scene.add(1);
    let file = scene.directory.path().join("backup.tar");
    let (data, to) = (scene.server.data.clone(), scene.directory.path().join("restored"));
    crate::kit::succeed(&mut crate::kit::musterd(&[
        "backup",
        file.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ]));
    let restore = ["restore", file.to_str().unwrap(), "--data", to.to_str().unwrap()];
    crate::kit::succeed(&mut crate::kit::musterd(&restore));
    let kept = std::fs::read(to.join("artifacts").join(hash.to_string())).unwrap();
    assert_eq!(kept, content(1));
    let server = Musterd::start_on(scene.directory.path(), &to, "");
    let listed = server.ctl(&["artifact", "list"]);
    assert_eq!((&listed[0]["hash"], &listed[0]["fault"]), (&hash.to_string().into(), &Value::Null));
}

/// A good release for all, then a broken one that a rate and a limit of failures stop, then a better one.
#[test]
fn a_broken_release_reaches_few_of_five_hundred_devices() {
    const DEVICES: usize = 500;
    const RATE: usize = 20;
    let scene = Scene::start("");
    let devices = scene.server.enrol_many(DEVICES);
    let offer = || offer("kiosk", "flash", ArtifactUse::Any);
    let of = |device| RunDevice::new(device, &scene.server, offer());
    let mut devices: Vec<_> = devices.iter().map(of).collect();
    let broken = content(2);
    let execute = |_: &RunOrder, fetched: &[u8]| match fetched.len() == broken.len() && fetched == broken {
        true => Err("it does not start".to_owned()),
        false => Ok(()),
    };
    devices.iter_mut().for_each(|device| device.work(execute));
    for (number, rate, state) in [(1, 60_000, "done"), (2, RATE, "aborted"), (3, 60_000, "done")] {
        let (hash, rate) = (scene.add(number), rate.to_string());
        let task = scene.create(&["--all", "--rate", &rate, "--abort-percent", "10"], hash);
        let detail = || scene.server.ctl(&["task", "show", &task, "--state", "failed"])["task"].clone();
        work_until(&mut devices, &execute, || detail()["state"] != "active");
        let detail = detail();
        assert_eq!(detail["state"], state, "{detail}");
        let runs = |state: &str| {
            let counts = detail["runs"].as_array().unwrap();
            let count = counts.iter().find(|count| count["state"] == state);
            count.map_or(0, |count| usize::try_from(count["runs"].as_u64().unwrap()).unwrap())
        };
        match number {
            2 => {
                let failed = runs("failed");
                assert!((5..=RATE).contains(&failed), "{detail}");
                assert_eq!(failed + runs("cancelled"), DEVICES, "{detail}");
            }
            _ => assert_eq!(runs("succeeded"), DEVICES, "{detail}"),
        }
    }
    let put_off: u64 = devices.iter().map(|device| device.put_off).sum();
    println!("parts put off: {put_off}");
}
