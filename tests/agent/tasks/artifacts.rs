//! Runs with an artifact: fetched in parts, kept, checked and handed to the program, whatever happens
//! meanwhile.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Kiosk;
use crate::kit::minisign::Signer;
use crate::kit::{PART_BYTES, Parts, SmallDisk, TaskServer, eventually, skipped};
use muster::wire::artifact::Artifact;
use muster::wire::id::{ArtifactHash, RunId};
use muster::wire::task::{RunOrder, RunStage, RunUpdate};

const ANY: &str = "artifact = \"any\"";

/// Says what it was handed.
const SAYS: &str = "sha256sum < $MUSTER_ARTIFACT | cut -c1-64\n\
                    echo $MUSTER_ARTIFACT_SHA256 $MUSTER_ARTIFACT_NAME $MUSTER_ARTIFACT_COMMENT.";

/// A little more than six parts.
fn content() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).take(300_000).collect()
}

impl Kiosk {
    fn order_with(&self, run: u64, artifact: &Artifact) -> RunOrder {
        RunOrder { artifact: Some(artifact.clone()), ..self.order(run) }
    }

    fn file(&self, artifact: &Artifact, ending: &str) -> std::path::PathBuf {
        self.path(&format!("agent/artifacts/{}{ending}", artifact.hash))
    }

    fn last(&self, run: u64) -> RunUpdate {
        self.server.final_report(&self.site, RunId(run))
    }

    /// Orders a run, and waits until the device has the part below this byte.
    fn begin(&self, run: u64, artifact: &Artifact, below: u64) {
        self.server.set_parts(Parts::Below(below));
        self.server.order(&self.order_with(run, artifact));
        self.server.wait_until_given(below);
    }

    /// The run succeeds, with nothing but parts from this offset on.
    fn goes_on(&self, run: u64, artifact: &Artifact, offset: u64) {
        self.server.take_given();
        self.server.set_parts(Parts::Given);
        assert_said(&self.last(run), artifact);
        let parts: Vec<u64> =
            (offset..artifact.bytes).step_by(usize::try_from(PART_BYTES).unwrap()).collect();
        assert_eq!(self.server.take_given(), parts);
    }
}

fn assert_said(last: &RunUpdate, artifact: &Artifact) {
    assert_eq!(last.stage, RunStage::Succeeded, "{last:?}");
    let said = String::from_utf8(last.output.clone().unwrap().bytes).unwrap();
    let hash = artifact.hash;
    assert_eq!(said, format!("{hash}\n{hash} {} .\n", artifact.name));
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

#[test]
fn two_runs_share_an_artifact_that_comes_once_and_goes_with_the_last() {
    let script = format!(
        "echo x >> $1/count\n{SAYS}\nwhile [ ! -e $1/go ]; do sleep 0.05; done\n[ $2 = --file=$MUSTER_ARTIFACT ] || exit 9"
    );
    let kiosk = Kiosk::new(&script, "");
    let schema = "{ type = \"object\", properties = { count = { type = \"string\" } } }";
    kiosk.site.offer_work(&script, "\"{count}\", \"--file={artifact}\"", schema, ANY);
    let _agent = kiosk.start();
    let artifact = kiosk.server.artifact("fw 1.bin", content());
    for run in [1, 2] {
        kiosk.server.order(&kiosk.order_with(run, &artifact));
    }
    eventually("the first has begun", || kiosk.lines("count") == 1);
    let path = kiosk.file(&artifact, "");
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    std::fs::write(kiosk.path("go"), "").unwrap();
    for run in [1, 2] {
        assert_said(&kiosk.last(run), &artifact);
    }
    assert_eq!(kiosk.server.take_given().len(), 7);
    eventually("nothing is left of it", || files(path.parent().unwrap()) == 0);
    let heard = kiosk.server.heard(RunId(1));
    let waits = heard.iter().find(|update| update.message.starts_with("fetches its artifact: 0 of 300000 "));
    assert!(waits.is_some_and(|update| update.stage == RunStage::Accepted), "{heard:?}");
}

#[test]
fn a_killed_agent_goes_on_where_it_was() {
    let kiosk = Kiosk::new(SAYS, ANY);
    let agent = kiosk.start();
    let artifact = kiosk.server.artifact("fw.bin", content());
    kiosk.begin(1, &artifact, 3 * PART_BYTES);
    let part = kiosk.file(&artifact, ".part");
    eventually("it is kept", || part.metadata().is_ok_and(|found| found.len() == 3 * PART_BYTES));
    agent.kill();
    let _agent = kiosk.start();
    kiosk.goes_on(1, &artifact, 3 * PART_BYTES);
}

#[test]
fn a_lost_server_costs_no_part() {
    let kiosk = Kiosk::new(SAYS, ANY);
    let _agent = kiosk.start();
    let artifact = kiosk.server.artifact("fw.bin", content());
    kiosk.begin(1, &artifact, 2 * PART_BYTES);
    let status = kiosk.site.status();
    assert_eq!(status["runs"][0]["stage"], "accepted", "{status}");
    let message = status["runs"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("fetches its artifact: "), "{message}");
    let links = kiosk.server.links();
    kiosk.server.cut();
    eventually("it has come again", || {
        kiosk.site.agent(&["sync"]);
        kiosk.server.links() > links
    });
    kiosk.goes_on(1, &artifact, 2 * PART_BYTES);
}

#[test]
fn a_run_whose_time_is_over_leaves_what_has_come_to_the_next_time() {
    let kiosk = Kiosk::new(SAYS, ANY);
    let _agent = kiosk.start();
    let artifact = kiosk.server.artifact("fw.bin", content());
    kiosk.server.set_parts(Parts::Below(PART_BYTES));
    let order = RunOrder { start_within_seconds: 2, ..kiosk.order_with(1, &artifact) };
    kiosk.server.order(&order);
    let last = kiosk.last(1);
    assert_eq!(last.stage, RunStage::NotNow, "{last:?}");
    let expected = "did not begin within 2 s: fetches its artifact: 49152 of 300000 bytes are here";
    assert_eq!(last.message, expected);
    kiosk.wait_until_forgotten(1);
    kiosk.server.take_given();
    kiosk.server.set_parts(Parts::Given);
    kiosk.server.order(&kiosk.order_with(2, &artifact));
    assert_said(&kiosk.last(2), &artifact);
    assert_eq!(kiosk.server.take_given()[0], PART_BYTES);
}

#[test]
fn content_that_is_not_what_its_hash_says_is_never_handed_over() {
    let kiosk = Kiosk::new("echo x >> $1/count", ANY);
    let _agent = kiosk.start();
    let artifact = kiosk.server.artifact("fw.bin", content());
    kiosk.server.set_parts(Parts::Damaged);
    kiosk.server.order(&kiosk.order_with(1, &artifact));
    let last = kiosk.last(1);
    assert_eq!(last.stage, RunStage::Failed, "{last:?}");
    assert_eq!(last.message, "the content of its artifact is not what its hash says, 3 times");
    assert_eq!(kiosk.server.take_given().len(), 3 * 7);
    assert_eq!((kiosk.lines("count"), files(&kiosk.path("agent/artifacts"))), (0, 0));
    // It is the one that was wrong, and not for ever.
    kiosk.server.set_parts(Parts::Given);
    kiosk.server.order(&kiosk.order_with(2, &artifact));
    assert_eq!(kiosk.last(2).stage, RunStage::Succeeded);
    // A file that turns out to be longer than it can be, as after a power cut, is no beginning.
    eventually("nothing is left of it", || files(&kiosk.path("agent/artifacts")) == 0);
    std::fs::write(kiosk.file(&artifact, ".part"), vec![0; 300_001]).unwrap();
    kiosk.server.order(&kiosk.order_with(3, &artifact));
    assert_eq!(kiosk.last(3).stage, RunStage::Succeeded);
}

#[test]
fn what_a_device_does_not_take_is_said_and_not_fetched() {
    let kiosk = Kiosk::new("echo x >> $1/count", ANY);
    kiosk.site.configure("[artifacts]\nmebibytes_max = 1\n");
    let _agent = kiosk.start();
    let artifact = kiosk.server.artifact("fw.bin", content());
    let refused = |order: RunOrder, stage: RunStage, why: &str| {
        kiosk.server.order(&order);
        let last = kiosk.server.final_report(&kiosk.site, order.run);
        assert_eq!(last.stage, stage, "{last:?}");
        assert!(last.message.contains(why), "{last:?}");
    };
    let large = Artifact { bytes: (1 << 20) + 1, ..artifact.clone() };
    refused(
        kiosk.order_with(1, &large),
        RunStage::Rejected,
        "takes 1 MiB at most: [artifacts] mebibytes_max",
    );
    refused(kiosk.order(2), RunStage::Rejected, "'work' of shop needs an artifact, and the task has none");
    for (run, name) in [(3, "../fw.bin"), (4, ""), (5, "a\nb")] {
        let named = Artifact { name: name.into(), ..artifact.clone() };
        refused(kiosk.order_with(run, &named), RunStage::Rejected, "is no name of an artifact");
    }
    kiosk.server.set_parts(Parts::Refused("no run needs it"));
    let why = "the server does not give it its artifact: no run needs it";
    refused(kiosk.order_with(6, &artifact), RunStage::Failed, why);
    assert_eq!(kiosk.server.take_given(), [0; 0]);
    let offer = |task: &str| {
        kiosk.site.offer_work("true", "\"{count}\"", "{ properties = { count = {} } }", task);
    };
    offer("");
    let why = "'work' of shop takes no artifact, and the task has one";
    refused(kiosk.order_with(7, &artifact), RunStage::Rejected, why);
    offer("artifact = \"signed\"");
    let why = "takes signed artifacts alone, and 'fw.bin' has no signature";
    refused(kiosk.order_with(8, &artifact), RunStage::Rejected, why);
    assert_eq!((kiosk.lines("count"), files(&kiosk.path("agent/artifacts"))), (0, 0));
}

#[test]
fn a_signed_artifact_comes_with_its_comment_and_one_of_another_key_is_never_handed_over() {
    let (signer, other) = (Signer::new(), Signer::new());
    let kiosk = Kiosk::new(&format!("echo x >> $1/count\n{SAYS}"), "artifact = \"signed\"");
    kiosk.site.configure(&format!("[releases]\nkey = {:?}\n", signer.key()));
    let _agent = kiosk.start();
    let content = content();
    let artifact = kiosk.server.artifact("fw.bin", content.clone());
    let signed = |by: &Signer| Artifact { signature: Some(by.sign(&content, "fw 2")), ..artifact.clone() };
    kiosk.server.order(&kiosk.order_with(1, &signed(&other)));
    let last = kiosk.last(1);
    assert_eq!(last.stage, RunStage::Rejected, "{last:?}");
    assert!(last.message.starts_with("its signature is not one of the key "), "{last:?}");
    assert_eq!(kiosk.lines("count"), 0);
    eventually("it is gone", || files(&kiosk.path("agent/artifacts")) == 0);
    kiosk.server.order(&kiosk.order_with(2, &signed(&signer)));
    let said = String::from_utf8(kiosk.last(2).output.unwrap().bytes).unwrap();
    assert!(said.ends_with(" fw.bin fw 2.\n"), "{said}");
}

#[test]
fn a_cancelled_run_stops_its_download() {
    let kiosk = Kiosk::new(SAYS, ANY);
    let _agent = kiosk.start();
    let artifact = kiosk.server.artifact("fw.bin", content());
    kiosk.begin(1, &artifact, 2 * PART_BYTES);
    kiosk.server.want_only(&[]);
    assert_eq!(kiosk.last(1).stage, RunStage::Cancelled);
    eventually("nothing is left of it", || files(&kiosk.path("agent/artifacts")) == 0);
    kiosk.server.take_given();
    kiosk.server.set_parts(Parts::Given);
    // Another one is the next that comes.
    let other = kiosk.server.artifact("other", vec![1; 10]);
    kiosk.server.order(&kiosk.order_with(2, &other));
    assert_said(&kiosk.last(2), &other);
    assert_eq!(kiosk.server.take_given(), [0]);
}

#[test]
fn a_full_disk_puts_a_run_off_and_loses_nothing_else() {
    let site = crate::kit::Site::new();
    let data = site.path("agent");
    std::fs::create_dir(&data).unwrap();
    let Some(_disk) = SmallDisk::mount(&data, 64) else { return skipped("needs the right to mount") };
    let server = TaskServer::open(&site);
    let kiosk = Kiosk { site, server };
    kiosk.site.configure("");
    kiosk.site.offer_work(SAYS, "\"{count}\"", "{ properties = { count = {} } }", ANY);
    let _agent = kiosk.start();
    kiosk.site.sync();
    let artifact = kiosk.server.artifact("fw.bin", content());
    kiosk.begin(1, &artifact, 2 * PART_BYTES);
    let filler = data.join("filler");
    let mut fill = Command::new("dd");
    fill.args(["if=/dev/zero", "bs=4k"]).arg(format!("of={}", filler.display()));
    let _ = fill.stderr(Stdio::null()).status();
    kiosk.server.set_parts(Parts::Given);
    eventually("what has come of it makes room", || !kiosk.file(&artifact, ".part").exists());
    std::fs::File::options().write(true).open(&filler).unwrap().set_len(0).unwrap();
    let last = kiosk.last(1);
    assert_eq!(last.stage, RunStage::NotNow, "{last:?}");
    assert!(last.message.starts_with("its artifact can't be kept: No space left on device"), "{last:?}");
    let free = rustix::fs::statvfs(&data).unwrap();
    let bytes = (free.f_bavail * free.f_frsize).saturating_sub(2 << 20);
    std::fs::write(&filler, vec![1; usize::try_from(bytes).unwrap()]).unwrap();
    kiosk.server.take_given();
    kiosk.server.order(&kiosk.order_with(2, &artifact));
    let last = kiosk.last(2);
    assert_eq!(last.stage, RunStage::NotNow, "{last:?}");
    assert!(last.message.starts_with("no room for its artifact: 300000 bytes are to come, and "), "{last:?}");
    assert_eq!(kiosk.server.take_given(), [0; 0]);
    std::fs::remove_file(&filler).unwrap();
    kiosk.server.order(&kiosk.order_with(3, &artifact));
    assert_said(&kiosk.last(3), &artifact);
}

#[test]
fn a_run_of_another_user_can_read_its_artifact_and_nothing_beside_it() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root may change the user");
    }
    let script = format!(
        "{SAYS}\n[ $2 = $MUSTER_ARTIFACT ] || exit 8\n! ls $1/agent/artifacts 2> /dev/null || exit 9"
    );
    let kiosk = Kiosk::new(&script, "");
    let schema = "{ type = \"object\", properties = { count = { type = \"string\" } } }";
    let task = "artifact = \"any\"\nuser = \"nobody\"\ndirectory = \"/tmp\"";
    kiosk.site.offer_work(&script, "\"{count}\", \"{artifact}\"", schema, task);
    let directory = kiosk.site.directory.path();
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
    let _agent = kiosk.start();
    let artifact = kiosk.server.artifact("fw.bin", content());
    kiosk.server.order(&kiosk.order_with(1, &artifact));
    assert_said(&kiosk.last(1), &artifact);
}

#[test]
fn a_large_artifact_costs_the_agent_no_memory() {
    let kiosk = Kiosk::new(SAYS, ANY);
    let agent = kiosk.start();
    kiosk.site.sync();
    let small = kiosk.server.artifact("small", content());
    kiosk.server.order(&kiosk.order_with(1, &small));
    assert_said(&kiosk.last(1), &small);
    let before = agent.memory_bytes("VmHWM");
    let large = kiosk.server.artifact("large", vec![7; 24 << 20]);
    kiosk.server.order(&kiosk.order_with(2, &large));
    assert_said(&kiosk.last(2), &large);
    let grown = agent.memory_bytes("VmHWM") - before;
    assert!(grown < 4 << 20, "{grown} bytes more");
}

#[test]
fn an_interrupted_run_has_its_artifact_when_it_is_executed_again() {
    let script = format!("echo x >> $1/count\nif [ ! -e $1/go ]; then sleep 1000; fi\n{SAYS}");
    let kiosk = Kiosk::new(&script, "artifact = \"any\"\nrepeatable = true");
    let _agent = kiosk.start();
    let artifact = kiosk.server.artifact("fw.bin", content());
    kiosk.server.order(&RunOrder { may_repeat: true, ..kiosk.order_with(1, &artifact) });
    eventually("it has begun", || kiosk.lines("count") == 1);
    std::fs::write(kiosk.path("go"), "").unwrap();
    kill(&kiosk);
    assert_said(&kiosk.last(1), &artifact);
    assert_eq!((kiosk.lines("count"), kiosk.server.take_given().len()), (2, 7));
}

fn kill(kiosk: &Kiosk) {
    let supervisor = rustix::process::Pid::from_raw(kiosk.supervisor(1)).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_function_of_a_program_is_handed_its_artifact() {
    let site = crate::kit::Site::new();
    let server = TaskServer::open(&site);
    let kiosk = Kiosk { site, server };
    let say = |task: &muster::Task| {
        let path = task.artifact().unwrap();
        let output = ArtifactHash::of(&std::fs::read(path).unwrap()).to_string().into_bytes();
        muster::TaskEnd { exit_code: 0, output }
    };
    let shop = muster::Application::new("shop", "1");
    let shop = shop.task_with_artifact("work", "{}", muster::ArtifactUse::Any, say);
    let agent = muster::Agent::builder(kiosk.path("agent")).application(shop).wake_port(0);
    let agent = agent.build().unwrap().start().unwrap();
    agent.sync().unwrap();
    assert!(!kiosk.path("agent/artifacts").exists(), "nothing is written before there is one");
    let artifact = kiosk.server.artifact("fw.bin", content());
    kiosk.server.order(&kiosk.order_with(1, &artifact));
    let last = kiosk.last(1);
    assert_eq!(last.output.unwrap().bytes, artifact.hash.to_string().into_bytes());
    eventually("nothing is left of it", || files(&kiosk.path("agent/artifacts")) == 0);
    agent.stop(muster::StopReason::Shutdown).unwrap();
}
