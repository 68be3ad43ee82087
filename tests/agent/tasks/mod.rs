//! Runs on a real agent, ordered by a server of the test's own making: what is executed, once, and what no
//! kill may change.

mod artifacts;

use std::path::PathBuf;

use crate::kit::{Running, Site, TaskServer, eventually, skipped};
use muster::wire::digest::Digest;
use muster::wire::id::RunId;
use muster::wire::task::{RunOrder, RunStage, digest_of};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A device with an application 'shop' whose one task runs a script that the test writes.
struct Kiosk {
    site: Site,
    server: TaskServer,
}

impl Kiosk {
    fn new(script: &str, task: &str) -> Self {
        let site = Site::new();
        let server = TaskServer::open(&site);
        let kiosk = Self { site, server };
        kiosk.site.configure("");
        let schema = "{ type = \"object\", properties = { count = { type = \"string\" } }, \
                      required = [\"count\"], additionalProperties = false }";
        kiosk.site.offer_work(script, "\"{count}\"", schema, task);
        kiosk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    fn start(&self) -> Running {
        self.site.agent_process()
    }

    /// An order for the task; the script finds the directory of the test in its argument.
    fn order(&self, run: u64) -> RunOrder {
        RunOrder {
            run: RunId(run),
            application: "shop".into(),
            kind: "work".into(),
            settings: serde_json::json!({ "count": self.site.directory.path() }).to_string(),
            timeout_seconds: 600,
            start_within_seconds: 600,
            may_repeat: false,
            artifact: None,
        }
    }

    fn number(&self, name: &str) -> i32 {
        let mut number = None;
        eventually(&format!("the script has written {name}"), || {
            number = std::fs::read_to_string(self.path(name)).ok().and_then(|text| text.trim().parse().ok());
            number.is_some()
        });
        number.unwrap()
    }

    fn supervisor(&self, run: u64) -> i32 {
        self.number(&format!("agent/runs/{}/lock", RunId(run)))
    }

    fn lines(&self, name: &str) -> usize {
        std::fs::read_to_string(self.path(name)).unwrap_or_default().lines().count()
    }

    /// Everything of a run is gone but its tombstone.
    fn wait_until_forgotten(&self, run: u64) {
        let path = self.path(&format!("agent/runs/{}", RunId(run)));
        eventually("the run is forgotten", || !path.exists());
    }
}

fn is_there(process: i32) -> bool {
    let is_zombie = std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|text| text.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")));
    test_kill_process(Pid::from_raw(process).unwrap()).is_ok() && !is_zombie
}

#[test]
fn a_run_is_executed_once_with_progress_and_output() {
    let script = "echo x >> $1/count\necho out; echo err >&2\necho 'progress: 40 copying files'\n\
                  echo $MUSTER_RUN $MUSTER_APPLICATION $MUSTER_TASK_KIND\ncat\nwhile [ ! -e $1/go ]; do sleep 0.05; done\necho end";
    let kiosk = Kiosk::new(script, "");
    let _agent = kiosk.start();
    let order = kiosk.order(1);
    kiosk.server.order(&order);
    kiosk.server.wait_for(order.run, "its progress is said", |update| {
        update.progress_percent == Some(40) && update.message == "copying files"
    });
    // The server has not heard, and asks again: nothing is executed twice.
    kiosk.server.order(&order);
    let status = kiosk.site.status();
    assert_eq!(status["runs"][0]["stage"], "running", "{status}");
    assert_eq!(status["runs"][0]["progress_percent"], 40, "{status}");
    std::fs::write(kiosk.path("go"), "").unwrap();
    let last = kiosk.server.final_report(&kiosk.site, order.run);
    assert_eq!((last.stage, last.exit_code), (RunStage::Succeeded, Some(0)), "{last:?}");
    let output = last.output.unwrap();
    let expected = format!("out\nerr\n{} shop work\n{}end\n", order.run, order.settings);
    assert_eq!(String::from_utf8(output.bytes).unwrap(), expected);
    kiosk.wait_until_forgotten(1);
    kiosk.server.order(&order);
    eventually("the end is said again", || {
        kiosk.server.heard(order.run).iter().filter(|update| update.stage == RunStage::Succeeded).count() > 1
    });
    assert_eq!(kiosk.lines("count"), 1);
    let heard = kiosk.server.heard(order.run);
    assert!(heard.is_sorted_by_key(|update| update.serial), "{heard:?}");
    // It is the same news, which the server tells by its number.
    assert!(heard.iter().filter(|update| update.stage.is_last()).all(|update| update.serial == last.serial));
}

#[test]
fn much_output_comes_as_its_beginning_and_its_end() {
    let kiosk = Kiosk::new("seq 1 40000; exit 3", "");
    let _agent = kiosk.start();
    kiosk.server.order(&kiosk.order(1));
    let last = kiosk.server.final_report(&kiosk.site, RunId(1));
    assert_eq!((last.stage, last.exit_code), (RunStage::Failed, Some(3)));
    assert_eq!(last.message, "exit code 3: 40000");
    let all: String = (1..=40_000).map(|number| format!("{number}\n")).collect();
    let heard = kiosk.server.heard(RunId(1));
    let head = heard.iter().filter_map(|update| update.output.as_ref()).find(|output| !output.is_tail);
    let (head, tail) = (head.unwrap(), last.output.unwrap());
    assert_eq!(head.bytes, all.as_bytes()[..head.bytes.len()]);
    assert_eq!(tail.bytes, all.as_bytes()[all.len() - tail.bytes.len()..]);
    assert!(tail.is_tail);
    assert_eq!(head.bytes.len() as u64 + tail.omitted_bytes + tail.bytes.len() as u64, all.len() as u64);
}

#[test]
fn the_last_line_of_progress_is_in_the_final_report() {
    let kiosk = Kiosk::new("echo 'progress: 20 begun'\necho 'progress: 70 nearly'\nexit 3", "");
    let _agent = kiosk.start();
    kiosk.server.order(&kiosk.order(1));
    let last = kiosk.server.final_report(&kiosk.site, RunId(1));
    assert_eq!((last.stage, last.progress_percent), (RunStage::Failed, Some(70)), "{last:?}");
}

#[test]
fn a_cancelled_run_is_ended_with_all_that_it_started() {
    let script =
        "sleep 1000 & echo $! > $1/child.new; mv $1/child.new $1/child\ntrap '' TERM\nwait; sleep 1000";
    let kiosk = Kiosk::new(script, "");
    let _agent = kiosk.start();
    kiosk.server.order(&kiosk.order(1));
    let child = kiosk.number("child");
    assert!(is_there(child));
    // One that waits behind it is never begun; one that nobody knows is named.
    kiosk.server.order(&kiosk.order(2));
    kiosk.server.wait_for(RunId(2), "the second is accepted", |update| update.stage == RunStage::Accepted);
    kiosk.server.want_only(&[RunId(9)]);
    assert_eq!(kiosk.server.final_report(&kiosk.site, RunId(1)).stage, RunStage::Cancelled);
    assert_eq!(kiosk.server.final_report(&kiosk.site, RunId(2)).stage, RunStage::Cancelled);
    assert_eq!(kiosk.server.final_report(&kiosk.site, RunId(9)).stage, RunStage::Unknown);
    eventually("what it started is gone", || !is_there(child));
    kiosk.wait_until_forgotten(1);
}

#[test]
fn a_killed_agent_costs_a_run_nothing() {
    let script = "echo x >> $1/count\necho begun\nwhile [ ! -e $1/go ]; do sleep 0.05; done\necho end";
    let kiosk = Kiosk::new(script, "");
    let agent = kiosk.start();
    kiosk.server.order(&kiosk.order(1));
    eventually("it has begun", || kiosk.lines("count") == 1);
    let before = kiosk.server.heard(RunId(1)).last().map_or(0, |update| update.serial);
    agent.kill();
    let agent = kiosk.start();
    eventually("the next agent names it", || kiosk.server.digest() == digest_of(RunId(1)));
    assert_eq!(kiosk.site.status()["runs"][0]["stage"], "running");
    // A second time, with the end while no agent runs; and the server does not answer for a while.
    kiosk.server.set_deaf(true);
    agent.kill();
    std::fs::write(kiosk.path("go"), "").unwrap();
    let result = kiosk.path(&format!("agent/runs/{}/result", RunId(1)));
    eventually("it ends without any agent", || result.exists());
    kiosk.start().kill();
    kiosk.server.set_deaf(false);
    let _agent = kiosk.start();
    let last = kiosk.server.final_report(&kiosk.site, RunId(1));
    assert_eq!(last.stage, RunStage::Succeeded);
    assert!(last.serial > before);
    assert_eq!(last.output.unwrap().bytes, b"begun\nend\n");
    kiosk.wait_until_forgotten(1);
    assert_eq!(kiosk.lines("count"), 1);
    let ends = kiosk.server.heard(RunId(1)).into_iter().filter(|update| update.stage.is_last()).count();
    assert_eq!(ends, 1);
    let syncs = kiosk.server.syncs();
    kiosk.site.sync();
    eventually("a sync names no run any more", || {
        kiosk.server.syncs() > syncs && kiosk.server.digest() == Digest::EMPTY
    });
}

#[test]
fn an_agent_that_ends_leaves_its_runs_to_their_supervisors() {
    let kiosk = Kiosk::new("while [ ! -e $1/go ]; do sleep 0.05; done", "");
    let agent = kiosk.start();
    kiosk.server.order(&kiosk.order(1));
    let supervisor = kiosk.supervisor(1);
    assert!(agent.end().success());
    assert!(is_there(supervisor));
    let _agent = kiosk.start();
    std::fs::write(kiosk.path("go"), "").unwrap();
    assert_eq!(kiosk.server.final_report(&kiosk.site, RunId(1)).stage, RunStage::Succeeded);
}

#[test]
fn a_killed_supervisor_is_an_interruption_and_its_program_ends() {
    let script = "echo x >> $1/count\necho 'progress: 30'\necho $$ > $1/program.new; mv $1/program.new $1/program\nexec sleep 1000";
    let kiosk = Kiosk::new(script, "repeatable = true");
    let _agent = kiosk.start();
    kiosk.server.order(&kiosk.order(1));
    let program = kiosk.number("program");
    kiosk.server.wait_for(RunId(1), "its progress is said", |update| update.progress_percent == Some(30));
    kill_process(Pid::from_raw(kiosk.supervisor(1)).unwrap(), Signal::KILL).unwrap();
    let last = kiosk.server.final_report(&kiosk.site, RunId(1));
    assert_eq!((last.stage, last.progress_percent), (RunStage::Failed, Some(30)), "{last:?}");
    assert!(last.message.starts_with("interrupted: "), "{last:?}");
    eventually("its program is gone", || !is_there(program));
    // A run that may repeat is executed again.
    std::fs::remove_file(kiosk.path("program")).unwrap();
    kiosk.server.order(&RunOrder { may_repeat: true, ..kiosk.order(2) });
    kiosk.number("program");
    std::fs::write(kiosk.path("script"), "echo x >> $1/count").unwrap();
    kill_process(Pid::from_raw(kiosk.supervisor(2)).unwrap(), Signal::KILL).unwrap();
    assert_eq!(kiosk.server.final_report(&kiosk.site, RunId(2)).stage, RunStage::Succeeded);
    assert_eq!(kiosk.lines("count"), 3);
}

#[test]
fn what_takes_too_long_is_ended() {
    let kiosk = Kiosk::new("echo begun; sleep 1000", "");
    let _agent = kiosk.start();
    kiosk.server.order(&RunOrder { timeout_seconds: 1, ..kiosk.order(1) });
    let last = kiosk.server.final_report(&kiosk.site, RunId(1));
    assert_eq!((last.stage, last.exit_code), (RunStage::TimedOut, None), "{last:?}");
    assert_eq!(last.message, "it took longer than 1 s and was ended");
    assert_eq!(last.output.unwrap().bytes, b"begun\n");
}

#[test]
fn what_a_program_left_over_is_ended_and_named() {
    let script = "begin() { sleep 1000 & until grep -q sleep /proc/$!/comm; do sleep 0.01; done; }\n\
                  begin; echo $! > $1/child.new; mv $1/child.new $1/child; begin; [ ! -e $1/fail ] || exit 3";
    let kiosk = Kiosk::new(script, "");
    let _agent = kiosk.start();
    for (run, message) in [(1, ""), (2, "exit code 3; ")] {
        let order = kiosk.order(run);
        kiosk.server.order(&order);
        let last = kiosk.server.final_report(&kiosk.site, order.run);
        let child = kiosk.number("child");
        let expected = format!("{message}2 processes were left over and ended: sleep ({child}), sleep (");
        assert!(last.message.starts_with(&expected), "{last:?}");
        eventually("it is ended", || !is_there(child));
        std::fs::write(kiosk.path("fail"), "").unwrap();
        std::fs::remove_file(kiosk.path("child")).unwrap();
    }
    // A program that leaves nothing behind has nothing to tell.
    std::fs::write(kiosk.path("script"), "true").unwrap();
    kiosk.server.order(&kiosk.order(3));
    assert_eq!(kiosk.server.final_report(&kiosk.site, RunId(3)).message, "");
}

#[test]
fn what_is_ended_here_is_no_run_of_another_agent_with_the_same_number() {
    let other = Kiosk::new("touch $1/begun; until [ -e $1/go ]; do sleep 0.05; done", "");
    let _agent_of_other = other.start();
    other.server.order(&other.order(1));
    eventually("it has begun", || other.path("begun").exists());
    let kiosk = Kiosk::new("sleep 1000", "");
    let _agent = kiosk.start();
    kiosk.server.order(&RunOrder { timeout_seconds: 1, ..kiosk.order(1) });
    assert_eq!(kiosk.server.final_report(&kiosk.site, RunId(1)).stage, RunStage::TimedOut);
    std::fs::write(other.path("go"), "").unwrap();
    let last = other.server.final_report(&other.site, RunId(1));
    assert_eq!(last.stage, RunStage::Succeeded, "{last:?}");
}

#[test]
fn not_now_is_no_end() {
    let kiosk = Kiosk::new(
        "echo x >> $1/count; [ -e $1/go ] || { echo a sale is on; echo again: 600; exit 75; }",
        "",
    );
    let _agent = kiosk.start();
    let order = kiosk.order(1);
    kiosk.server.order(&order);
    let last = kiosk.server.final_report(&kiosk.site, order.run);
    assert_eq!((last.stage, last.again_seconds, last.exit_code), (RunStage::NotNow, Some(600), Some(75)));
    assert_eq!(last.message, "a sale is on");
    kiosk.wait_until_forgotten(1);
    std::fs::write(kiosk.path("go"), "").unwrap();
    kiosk.server.order(&order);
    kiosk.server.wait_for(order.run, "it is executed when it is ordered again", |update| {
        update.stage == RunStage::Succeeded && update.serial > last.serial
    });
    assert_eq!(kiosk.lines("count"), 2);
}

#[test]
fn what_the_device_does_not_declare_is_rejected_with_the_reason() {
    let kiosk = Kiosk::new("echo x >> $1/count", "");
    let agent = kiosk.start();
    let order = |run: u64, application: &str, kind: &str, settings: &str| {
        let (application, kind, settings) = (application.into(), kind.into(), settings.into());
        kiosk.server.order(&RunOrder { application, kind, settings, ..kiosk.order(run) });
        let last = kiosk.server.final_report(&kiosk.site, RunId(run));
        assert_eq!(last.stage, RunStage::Rejected, "{last:?}");
        last.message
    };
    let exec = "{\"command\":[\"echo\",\"hello\"]}";
    let refused = order(1, "muster-agent", "exec", exec);
    assert!(refused.contains("[tasks] exec = true in its muster-agent.toml"), "{refused}");
    assert!(order(2, "bank", "work", "{}").contains("defines 'bank'"));
    assert!(order(3, "shop", "rob", "{}").contains("no kind of task 'rob'"));
    assert!(order(4, "shop", "work", "{\"count\":1}").contains("'count'"));
    assert_eq!(kiosk.lines("count"), 0);

    kiosk.site.configure("[tasks]\nexec = true\n");
    agent.hang_up();
    eventually("the configuration is read again", || kiosk.site.log("agent.log").contains("was read again"));
    kiosk.server.order(&RunOrder {
        application: "muster-agent".into(),
        kind: "exec".into(),
        settings: exec.into(),
        ..kiosk.order(6)
    });
    let last = kiosk.server.final_report(&kiosk.site, RunId(6));
    assert_eq!(last.stage, RunStage::Succeeded, "{last:?}");
    assert_eq!(last.output.unwrap().bytes, b"hello\n");
}

#[test]
fn a_run_has_the_user_that_its_file_names() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root may change the user");
        return;
    }
    let kiosk = Kiosk::new("id -un; id -Gn; echo $HOME $USER", "user = \"nobody\"\ndirectory = \"/tmp\"");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(kiosk.site.directory.path(), open).unwrap();
    let _agent = kiosk.start();
    kiosk.server.order(&kiosk.order(1));
    let last = kiosk.server.final_report(&kiosk.site, RunId(1));
    assert_eq!(last.stage, RunStage::Succeeded, "{last:?}");
    let said = String::from_utf8(last.output.unwrap().bytes).unwrap();
    assert!(said.starts_with("nobody\nnogroup\n") && said.ends_with(" nobody\n"), "{said}");
}
