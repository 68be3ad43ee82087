//! The steps in which the device is managed: an application of its own, a policy, a task, statistics.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::wire::api::{ConditionStatus, CreatedTask, RunQuery, RunState, SettingsStatus, TaskRun};
use crate::wire::id::TaskId;
use crate::wire::settings::SettingsState;

use super::process::{run_well, wait_for};
use super::steps::{DEVICE, Demo, GROUP};
use super::{Failure, shown};

/// The application that the demo brings: a kiosk. It writes what it has sold, and reads its settings again at
/// SIGHUP, and looks at them once a second, should a signal get lost between two commands of the shell.
const KIOSK: &str = "kiosk";

/// A kiosk, as a shell script: `$1` is its directory.
const KIOSK_SCRIPT: &str = r#"cd "$1" || exit 1
take_over() { cp settings.json in-force.json.new && mv in-force.json.new in-force.json; }
trap take_over HUP
echo $$ > kiosk.pid
sold=0
while :; do
    sold=$((sold + 1))
    printf '{"sold": {"value": %d, "unit": "articles"}}' "$sold" > statistics.json.new
    mv statistics.json.new statistics.json
    [ ! -f settings.json ] || cmp -s settings.json in-force.json || take_over
    sleep 1 & wait $!
done
"#;

/// Takes stock of some shelves, as a shell script, and says its progress.
const STOCKTAKING_SCRIPT: &str = r#"shelf=0
while [ "$shelf" -lt "$1" ]; do
    shelf=$((shelf + 1))
    echo "progress: $((100 * shelf / $1)) shelf $shelf of $1"
    echo "shelf $shelf: $((7 * shelf)) articles"
    sleep 0.9
done
"#;

/// The kiosk, running beside the demo. It is ended when this value goes.
pub(super) struct Kiosk {
    directory: PathBuf,
    child: Child,
}

impl Kiosk {
    /// Writes the kiosk, its definition for the agent into `definitions`, and starts it.
    pub(super) fn start(directory: &Path, definitions: &Path) -> Result<Self, Failure> {
        let wrong = |error: std::io::Error| Failure::new(format!("{}: {error}", directory.display()));
        fs::create_dir_all(directory).map_err(wrong)?;
        fs::create_dir_all(definitions).map_err(wrong)?;
        fs::write(directory.join("kiosk.sh"), KIOSK_SCRIPT).map_err(wrong)?;
        fs::write(directory.join("stocktaking.sh"), STOCKTAKING_SCRIPT).map_err(wrong)?;
        fs::write(definitions.join("kiosk.toml"), definition(directory)).map_err(wrong)?;
        let child = Command::new("sh")
            .arg(directory.join("kiosk.sh"))
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::new(format!("can't start a shell: {error}")))?;
        Ok(Self { directory: directory.to_owned(), child })
    }

    /// The settings that it last took over.
    fn in_force(&self) -> serde_json::Value {
        let text = fs::read_to_string(self.directory.join("in-force.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }
}

impl Drop for Kiosk {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The agent's definition of the kiosk: ten lines, and five for a kind of task.
fn definition(directory: &Path) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    format!(
        r#"name = "kiosk"

[condition]
pid_file = "{pid}"

[settings]
file = "{settings}"
format = "json"
validate = ["grep", "-q", "currency", "{{file}}"]
apply = ["sh", "-c", "kill -HUP $(cat {pid})"]

[statistics]
file = "{statistics}"

[[task]]
kind = "stocktaking"
command = ["sh", "{script}", "{{shelves}}"]
arguments = {{ type = "object", properties = {{ shelves = {{ type = "integer", minimum = 1 }} }}, required = ["shelves"], additionalProperties = false }}
timeout_seconds = 60
"#,
        script = at("stocktaking.sh"),
        pid = at("kiosk.pid"),
        settings = at("settings.json"),
        statistics = at("statistics.json"),
    )
}

impl Demo {
    pub(super) fn apply_a_policy(&mut self) -> Result<(), Failure> {
        let file =
            self.write("policy.json", r#"{"currency": "EUR", "receipt": {"paper": true, "lines": 40}}"#)?;
        let started = Instant::now();
        self.ctl(&[
            "policy",
            "set",
            "--group",
            GROUP,
            "--application",
            KIOSK,
            "--file",
            &file,
            "--lock",
            "currency",
            "--now",
        ])?;
        let report = self
            .wait_for_settings("the policy to be applied", |report| report.state == SettingsState::Applied)?;
        let took = started.elapsed();
        let in_force = wait_for("the kiosk to take its settings over", || {
            Ok(self.kiosk.as_ref().map(Kiosk::in_force).filter(|settings| settings["currency"] == "EUR"))
        })?;
        if in_force["receipt"]["lines"] != 40 {
            return Err(Failure::new(format!("the kiosk works with other settings: {in_force}")));
        }
        self.tell(
            "policy",
            &format!("settings for '{KIOSK}' in {GROUP}; the device was woken, checked them with the kiosk's own test, put them in place and had the kiosk take them over"),
            &[format!("revision {} applied {} after the command", report.applied_revision, shown(took))],
        );
        let own = self.write("own.json", r#"{"currency": "USD", "receipt": {"lines": 60}}"#)?;
        self.ctl(&["settings", "set", "--device", DEVICE, "--application", KIOSK, "--file", &own, "--now"])?;
        let revision = report.revision;
        self.wait_for_settings("the device's own settings", |report| {
            report.state == SettingsState::Applied && report.applied_revision > revision
        })?;
        let settings = wait_for("the kiosk to take them over", || {
            let settings = self.kiosk.as_ref().map(Kiosk::in_force);
            Ok(settings.filter(|settings| settings["receipt"]["lines"] == 60))
        })?;
        if settings["currency"] != "EUR" {
            return Err(Failure::new("a locked key was overridden"));
        }
        self.tell("lock", "the device's own settings asked for 60 lines and for US dollars; the currency is locked by the group", &[]);
        self.show(&["policy", "explain", "--device", DEVICE, "--application", KIOSK])
    }

    pub(super) fn reject_a_broken_policy(&mut self) -> Result<(), Failure> {
        let file = self.write("broken.json", r#"{"receipt": {"lines": 1}}"#)?;
        self.ctl(&["settings", "remove", "--device", DEVICE, "--application", KIOSK])?;
        self.ctl(&["policy", "set", "--group", GROUP, "--application", KIOSK, "--file", &file, "--now"])?;
        let report = self.wait_for_settings("the refusal", |report| report.state == SettingsState::Failed)?;
        let in_force = self.kiosk.as_ref().map(Kiosk::in_force).unwrap_or_default();
        if in_force["currency"] != "EUR" {
            return Err(Failure::new(format!("the refused settings are in force: {in_force}")));
        }
        self.tell(
            "broken policy",
            &format!("a policy without a currency was refused by the kiosk's own test; revision {} is still in place", report.applied_revision),
            &[],
        );
        self.quote("the device", &report.detail);
        let good = self.path("policy.json");
        self.ctl(&["policy", "set", "--group", GROUP, "--application", KIOSK, "--file", &good, "--now"])?;
        self.wait_for_settings("the good policy", |report| report.state == SettingsState::Applied).map(drop)
    }

    pub(super) fn show_statistics(&mut self) -> Result<(), Failure> {
        self.tell(
            "statistics",
            "numbers of the kiosk and of the agent, as they came with the last sync",
            &[],
        );
        self.ctl(&["device", "show", DEVICE, "--now"])?;
        self.show(&["device", "show", DEVICE])
    }

    /// A task while it runs, and one that is cancelled.
    pub(super) fn run_a_task(&mut self) -> Result<(), Failure> {
        let shelves = self.write("stocktaking.json", r#"{"shelves": 6}"#)?;
        let started = Instant::now();
        let task = self.make_a_task(&shelves)?;
        let mut seen = BTreeSet::new();
        let mut began = None;
        let run = self.wait_for_run("the task to end", task, |run| {
            if run.state == RunState::Running {
                began.get_or_insert_with(|| started.elapsed());
                seen.extend(run.progress_percent);
            }
            run.state.is_final()
        })?;
        if run.state != RunState::Succeeded {
            return Err(Failure::new(format!("the task did not succeed: {}", run.why)));
        }
        if seen.len() < 2 {
            return Err(Failure::new("the task's progress was not seen"));
        }
        let began =
            began.map_or_else(String::new, |after| format!("began {} after the command", shown(after)));
        let seen: Vec<_> = seen.iter().map(|percent| format!("{percent} %")).collect();
        self.tell(
            "task",
            &format!("'stocktaking' of '{KIOSK}', a kind of task that the device's own file declares; the device was woken for it"),
            &[began, format!("seen on its way at {}", seen.join(", ")), format!("done after {}", shown(started.elapsed()))],
        );
        self.show(&["task", "show", &task.to_string(), "--output"])?;

        let shelves = self.write("stocktaking.json", r#"{"shelves": 60}"#)?;
        let task = self.make_a_task(&shelves)?;
        self.wait_for_run("the second task to begin", task, |run| run.state == RunState::Running)?;
        self.ctl(&["task", "cancel", &task.to_string()])?;
        let cancelled = Instant::now();
        let run = self.wait_for_run("the device to end it", task, |run| run.late.is_some())?;
        if run.state != RunState::Cancelled {
            return Err(Failure::new(format!("a cancelled run is {}", run.state)));
        }
        self.tell(
            "cancelled task",
            "sixty shelves were too many: final on the server at once, ended on the device while it ran",
            &[format!("the device had ended it {} after the command", shown(cancelled.elapsed()))],
        );
        Ok(())
    }

    fn make_a_task(&mut self, settings: &str) -> Result<TaskId, Failure> {
        let made = self.ctl(&[
            "task",
            "create",
            "--application",
            KIOSK,
            "--kind",
            "stocktaking",
            "--group",
            GROUP,
            "--file",
            settings,
            "--json",
        ])?;
        let made: CreatedTask = serde_json::from_str(&made)
            .map_err(|error| Failure::new(format!("'task create' said {made}: {error}")))?;
        Ok(made.id)
    }

    /// Waits for the one run of a task.
    fn wait_for_run(
        &mut self,
        what: &str,
        task: TaskId,
        mut is_there: impl FnMut(&TaskRun) -> bool,
    ) -> Result<TaskRun, Failure> {
        wait_for(what, || {
            let query = RunQuery { task: Some(task), ..RunQuery::default() };
            let found = self.client.runs(query).next().transpose()?.unwrap_or_default();
            Ok(found.into_iter().next().filter(|run| is_there(run)))
        })
    }

    fn wait_for_settings(
        &mut self,
        what: &str,
        is_it: impl Fn(&SettingsStatus) -> bool,
    ) -> Result<SettingsStatus, Failure> {
        let find = |conditions: &[ConditionStatus]| {
            conditions.iter().find(|c| c.application == KIOSK).and_then(|c| c.settings.clone())
        };
        let device =
            self.wait_for_device(what, |device| find(&device.conditions).is_some_and(|r| is_it(&r)))?;
        find(&device.conditions).ok_or_else(|| Failure::new(format!("waited for {what}, in vain")))
    }

    fn write(&self, name: &str, text: &str) -> Result<String, Failure> {
        let path = self.path(name);
        fs::write(&path, text).map_err(|error| Failure::new(format!("{path}: {error}")))?;
        Ok(path)
    }

    /// Runs `musterctl` and says what it printed.
    fn ctl(&self, arguments: &[&str]) -> Result<String, Failure> {
        let server = self.server_address();
        let head = ["ctl", "--server", &server];
        let (output, _) = run_well(&head.into_iter().chain(arguments.iter().copied()).collect::<Vec<_>>())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Shows a command and what it prints.
    fn show(&self, arguments: &[&str]) -> Result<(), Failure> {
        println!("    $ musterctl {}", arguments.join(" "));
        for line in self.ctl(arguments)?.lines() {
            println!("    {line}");
        }
        Ok(())
    }
}
