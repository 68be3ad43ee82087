//! `musterctl task create`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use super::{wait, words};
use crate::client::Client;
use crate::client::cli::arguments::filter;
use crate::client::cli::output::Output;
use crate::client::cli::{Failure, artifact, device, json_file};
use crate::fleet::settings;
use crate::fleet::task::definition::{
    EXPIRES_SECONDS_MAX, EXPIRES_SECONDS_MIN, RATE_PER_MINUTE_MAX, RETRIES_MAX, TIMEOUT_SECONDS_MAX,
};
use crate::fleet::task::schedule::Schedule;
use crate::fleet::task::window::Window;
use crate::wire::api::{NewTask, ParseError, TaskDefinition, TaskTargets};
use crate::wire::limits::TASK_SETTINGS_BYTES_MAX;
use crate::wire::units::{format_duration, parse_duration};

/// A task to create: its program, devices and times.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["device", "group", "filter", "all"]))]
pub(in crate::client::cli) struct TaskCreate {
    /// The application whose task it is
    #[arg(long, value_name = "NAME")]
    application: String,
    /// The kind of task, as the application's devices declare it
    #[arg(long, value_name = "KIND")]
    kind: String,
    /// On these devices, by name or id; takes several names, and may be given several times
    #[arg(long, value_name = "NAME", num_args = 1..)]
    device: Vec<String>,
    /// On every device of this group and the groups below it
    #[arg(long, value_name = "PATH")]
    group: Option<String>,
    /// On every device that this filter lets through now ('musterctl device list --help'): they stay the same
    #[arg(long = "where", value_name = "FILTER", allow_hyphen_values = true, value_parser = filter)]
    filter: Option<String>,
    /// On every device
    #[arg(long)]
    all: bool,
    /// Don't ask, with --where
    #[arg(long)]
    yes: bool,
    /// A file with the task's settings, one JSON object; '-' reads standard input [default: {}]
    #[arg(long, value_name = "F.json")]
    file: Option<PathBuf>,
    /// When: 'now', 'at' and a time, 'every' and a duration, or 'cron' and five fields
    #[arg(long, value_name = "SPEC", default_value = "now", value_parser = schedule)]
    schedule: String,
    /// For how long a run waits for its device, 1m to 30d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = expires)]
    expires: u32,
    /// Longest execution, at most 24h
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = timeout)]
    timeout: u32,
    /// Number of retries of a run that failed
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = up_to(0, RETRIES_MAX))]
    retries: u32,
    /// Its name, for people
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// In which hours of a day runs may begin, such as 22:00-05:00 [default: in all]
    #[arg(long, value_name = "FROM-UNTIL", value_parser = window)]
    window: Option<String>,
    /// By which zone's clocks schedule and window go: an IANA name, such as Europe/Berlin [default: the
    /// server's]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// On how many devices it begins within a minute at most [default: on all at once]
    #[arg(long, value_name = "N", value_parser = up_to(1, RATE_PER_MINUTE_MAX))]
    rate: Option<u32>,
    /// It is stopped when a larger share of its runs fails, in percent [default: it never is]
    #[arg(long, value_name = "P")]
    abort_percent: Option<u32>,
    /// Devices that come to the group, or enrol, later run it too
    #[arg(long, conflicts_with_all = ["device", "filter"])]
    continuous: bool,
    /// A run may be executed again when nobody can tell whether it was executed to its end
    #[arg(long)]
    may_repeat: bool,
    /// The artifact that its runs come with: the SHA-256 of one that the server has, or a file, which it is
    /// given first with the signature beside it ('musterctl artifact add')
    #[arg(long, value_name = "FILE|SHA-256")]
    artifact: Option<String>,
    /// Follow the task until it has ended, then show its runs; Ctrl-C ends the waiting and not the task
    #[arg(long, conflicts_with = "continuous")]
    wait: bool,
}

pub(super) fn run(client: &mut Client, output: &mut Output, asked: TaskCreate) -> Result<(), Failure> {
    let (waits, asks) = (asked.wait, !asked.yes && output.may_ask());
    let artifact = asked.artifact.clone();
    let mut new = asked.task()?;
    if let TaskTargets::Filter(filter) = &new.definition.targets
        && asks
    {
        device::confirm_approved(client, output, filter, "given the task")?;
    }
    let artifact = artifact.map(|artifact| artifact::meant(client, &artifact)).transpose()?;
    new.definition.artifact = artifact;
    let created = client.create_task(&new)?;
    let id = created.id;
    if waits {
        if !output.is_json {
            output.line(&format!("task {id}: {}", words::created(&created, &new.definition.schedule)))?;
        }
        return wait::until_ended(client, output, id);
    }
    output.answer(&created, |created| {
        let words = words::created(created, &new.definition.schedule);
        format!("task {id}: {words}\nwhat becomes of it: musterctl task show {id}")
    })
}

impl TaskCreate {
    fn task(self) -> Result<NewTask, Failure> {
        if self.wait && recurs(&self.schedule) {
            return Err(Failure::Usage("--wait: a task that is due again and again does not end".into()));
        }
        let targets = match (self.all, self.group, self.filter) {
            (true, ..) => TaskTargets::All,
            (false, Some(path), _) => TaskTargets::Group(path),
            (false, None, Some(filter)) => TaskTargets::Filter(filter),
            (false, None, None) => TaskTargets::Devices(self.device),
        };
        let settings = self.file.as_deref().map_or_else(|| Ok(Map::new()), read)?;
        let definition = TaskDefinition {
            name: self.name,
            targets,
            continuous: self.continuous,
            schedule: self.schedule,
            window: self.window,
            time_zone: self.time_zone,
            expires_seconds: self.expires,
            timeout_seconds: self.timeout,
            retries: self.retries,
            rate_per_minute: self.rate,
            abort_percent: self.abort_percent,
            may_repeat: self.may_repeat,
            artifact: None,
        };
        Ok(NewTask { application: self.application, kind: self.kind, settings, definition })
    }
}

/// Whether a schedule, as it was said, may be due more than once.
pub(super) fn recurs(schedule: &str) -> bool {
    schedule.parse::<Schedule>().is_ok_and(|schedule| schedule.is_recurring())
}

fn read(path: &Path) -> Result<Map<String, Value>, Failure> {
    json_file::read(path, settings)
}

/// A task's settings are not merged with others: all that is asked of them is that they are one object, and
/// not too large.
fn settings(text: &str) -> Result<Map<String, Value>, String> {
    let settings = settings::parse_object(text).map_err(|error| error.to_string())?;
    let bytes = serde_json::to_string(&settings).map_or(usize::MAX, |text| text.len());
    if bytes > TASK_SETTINGS_BYTES_MAX {
        return Err(format!(
            "{bytes} bytes of settings, at most {TASK_SETTINGS_BYTES_MAX} are allowed for a task"
        ));
    }
    Ok(settings)
}

/// Checked here, so that what is wrong is said before anybody is asked; the server decides.
fn schedule(text: &str) -> Result<String, ParseError> {
    text.parse::<Schedule>().map(|_| text.to_owned())
}

fn window(text: &str) -> Result<String, ParseError> {
    text.parse::<Window>().map(|_| text.to_owned())
}

fn expires(text: &str) -> Result<u32, String> {
    seconds(text, EXPIRES_SECONDS_MIN, EXPIRES_SECONDS_MAX)
}

fn timeout(text: &str) -> Result<u32, String> {
    seconds(text, 1, TIMEOUT_SECONDS_MAX)
}

/// A duration.
fn seconds(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let duration = parse_duration(text)?;
    let seconds = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    if duration.subsec_nanos() == 0 && (least..=most).contains(&seconds) {
        return Ok(seconds);
    }
    let written = |seconds: u32| format_duration(std::time::Duration::from_secs(seconds.into()));
    Err(format!("'{text}' is not allowed: whole seconds, from {} to {}", written(least), written(most)))
}

fn up_to(least: u32, most: u32) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(least)..=i64::from(most))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::client::cli::arguments::{Arguments, Command};
    use crate::client::cli::task::TaskCommand;

    fn parse(more: &[&str]) -> Result<TaskCreate, clap::Error> {
        let head = ["musterctl", "task", "create", "--application", "kiosk", "--kind", "backup"];
        let parsed = Arguments::try_parse_from(head.iter().chain(more))?;
        let Command::Task(TaskCommand::Create(create)) = parsed.command else { panic!("{parsed:?}") };
        Ok(*create)
    }

    fn refused(more: &[&str]) -> String {
        parse(more).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        let new = parse(&["--all"]).unwrap().task().unwrap();
        let written = serde_json::to_value(&new).unwrap();
        let wanted = json!({
            "application": "kiosk", "kind": "backup", "settings": {}, "targets": "all", "name": null,
            "continuous": false, "schedule": "now", "window": null, "time_zone": null,
            "expires_seconds": 86_400, "timeout_seconds": 600, "retries": 0, "rate_per_minute": null,
            "abort_percent": null, "may_repeat": false, "artifact": null,
        });
        let default = serde_json::to_value(TaskDefinition::new(TaskTargets::All)).unwrap();
        assert!(default.as_object().unwrap().iter().all(|(key, value)| written[key] == *value));
        assert_eq!(written, wanted);
    }

    #[test]
    fn all_that_is_said_is_asked_for() {
        let more = "--group /shops --expires 24h --timeout 10m --retries 3 --name n --window 22:00-05:00 --rate 60 \
                    --abort-percent 10 --continuous --may-repeat";
        let mut more: Vec<&str> = more.split_whitespace().collect();
        more.extend(["--schedule", "cron 0 3 * * *"]);
        let new = parse(&more).unwrap().task().unwrap().definition;
        assert_eq!(new.targets, TaskTargets::Group("/shops".into()));
        assert_eq!((new.expires_seconds, new.timeout_seconds, new.retries), (86_400, 600, 3));
        assert_eq!((new.name.as_deref(), new.window.as_deref()), (Some("n"), Some("22:00-05:00")));
        assert_eq!((new.rate_per_minute, new.abort_percent), (Some(60), Some(10)));
        assert_eq!(new.schedule, "cron 0 3 * * *");
        assert!(new.continuous && new.may_repeat);
    }

    #[test]
    fn devices_are_named_one_by_one_or_together() {
        let create = parse(&["--device", "a", "b", "--retries", "1", "--device", "c"]).unwrap();
        assert_eq!(create.device, ["a", "b", "c"]);
        let whom = "<--device <NAME>...|--group <PATH>|--where <FILTER>|--all>";
        assert!(refused(&[]).contains(whom), "{}", refused(&[]));
        let filtered = parse(&["--where", "os:debian"]).unwrap().task().unwrap().definition;
        assert_eq!(filtered.targets, TaskTargets::Filter("os:debian".into()));
        for both in [
            ["--all", "--group", "/"].as_slice(),
            &["--all", "--device", "a"],
            &["--where", "a", "--all"],
            &["--where", "a", "--continuous"],
        ] {
            assert!(refused(both).contains("cannot be used with"), "{}", refused(both));
        }
        assert!(refused(&["--device", "a", "--continuous"]).contains("cannot be used with"));
    }

    #[test]
    fn what_can_not_be_is_refused_before_the_server_is_asked() {
        for (option, value, why) in [
            ("--schedule", "at noon", "'noon' is not a time"),
            ("--schedule", "daily", "'daily' is not a schedule ('now', 'at' and a time"),
            ("--window", "22-5", "'22-5' is not a window"),
            ("--expires", "59s", "'59s' is not allowed: whole seconds, from 1m to 4w2d"),
            ("--expires", "31d", "'31d' is not allowed"),
            ("--timeout", "1s500ms", "'1s500ms' is not allowed: whole seconds, from 1s to 1d"),
            ("--timeout", "10", "'10' is not a duration"),
            ("--retries", "21", "21 is not in 0..=20"),
            ("--rate", "0", "0 is not in 1..=60000"),
        ] {
            let text = refused(&["--all", option, value]);
            assert!(text.contains(why), "{text}");
        }
    }

    #[test]
    fn nobody_waits_for_a_task_without_an_end() {
        let recurring = parse(&["--all", "--wait", "--schedule", "every 6h"]).unwrap();
        let Err(Failure::Usage(text)) = recurring.task() else { panic!() };
        assert_eq!(text, "--wait: a task that is due again and again does not end");
        assert!(refused(&["--all", "--wait", "--continuous"]).contains("cannot be used with"));
        assert!(parse(&["--all", "--wait", "--schedule", "now"]).unwrap().task().is_ok());
    }

    #[test]
    fn settings_are_one_object_of_so_many_bytes() {
        assert_eq!(
            settings(" {\"\": [1]} ").unwrap().len(),
            1,
            "names of keys are the application's business"
        );
        assert!(settings("[]").unwrap_err().starts_with("settings are one JSON object"));
        assert!(settings("{\n oops}").unwrap_err().starts_with("line 2, column 2: "));
        let of = |bytes: usize| format!("{{\"text\": \"{}\"}}", "x".repeat(bytes - "{\"text\":\"\"}".len()));
        assert!(settings(&of(TASK_SETTINGS_BYTES_MAX)).is_ok());
        assert_eq!(
            settings(&of(TASK_SETTINGS_BYTES_MAX + 1)).unwrap_err(),
            "16385 bytes of settings, at most 16384 are allowed for a task"
        );
    }
}
