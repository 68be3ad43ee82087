//! `musterctl apply`: what files say becomes what the server has, for people who keep a fleet in git.
//!
//! All of it is compared first; nothing is changed before every file was understood. Each change says for
//! itself what it needs, so that a run that was cut off goes on where it was.

mod compare;
mod files;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Failure;
use super::output::{Output, plain};
use crate::client::{Client, ClientError};
use crate::wire::api::{NewGroup, NewPolicy, NewTask, PolicyRemoval, TagRule, View};
use crate::wire::id::TaskId;
use crate::wire::units::count;

/// Directory of the files, and how far its word goes.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  musterctl apply -f fleet --dry-run
  musterctl apply -f fleet --prune

All files of the directory and its folders whose names end in .toml are read:

  [[group]]
  path = '/shops/berlin'
  interval_seconds = 900

  [[view]]
  name = 'silent'
  where = 'seen:>7d'

  [[tag]]
  name = 'kiosks'
  rule = 'name:kiosk-*'

  [[policy]]
  group = '/shops'
  application = 'kiosk'
  locks = ['url']
  settings = { url = 'https://example.org' }

  [[task]]
  name = 'nightly backup'
  application = 'backup'
  kind = 'run'
  targets = { group = '/shops' }
  schedule = 'cron 0 3 * * *'

A task is known again by its name: another definition takes its place, and one that is done is not done again.
Devices learn of policies as with 'policy set'.")]
pub(super) struct ApplyArguments {
    /// The directory
    #[arg(short = 'f', long = "file", value_name = "DIR")]
    directory: PathBuf,
    /// Only say what would be changed
    #[arg(long)]
    dry_run: bool,
    /// Remove policies, views and tags by rule that no file speaks of
    #[arg(long)]
    prune: bool,
}

/// A difference between the files and the server.
#[derive(Serialize, Debug)]
struct Change {
    action: &'static str,
    kind: &'static str,
    name: String,
    /// Each value that becomes another, in words.
    details: Vec<String>,
    #[serde(skip)]
    work: Work,
}

#[derive(Debug)]
enum Work {
    Group(NewGroup),
    View(View),
    Tag(String, TagRule),
    Policy(NewPolicy),
    /// In place of this one.
    Task(Option<TaskId>, Box<NewTask>),
    RemovePolicy(PolicyRemoval),
    RemoveTag(String),
    RemoveView(String),
}

pub(super) fn run(
    client: &mut Client,
    output: &mut Output,
    ApplyArguments { directory, dry_run, prune }: &ApplyArguments,
) -> Result<(), Failure> {
    let wanted = files::read(directory)?;
    let (mut changes, beyond) = compare::compare(client, wanted)?;
    let left = if *prune { 0 } else { beyond.len() };
    if *prune {
        changes.extend(beyond);
    }
    for (made, change) in changes.iter().enumerate() {
        if !*dry_run {
            carry_out(client, &change.work).map_err(|error| {
                let before = count(made as u64, "change");
                let name = plain(&change.name);
                Failure::NotReached(format!("{} {name}: {error} ({before} made before that)", change.kind))
            })?;
        }
        if !output.is_json {
            let sign = match change.action {
                "create" => '+',
                "remove" => '-',
                _ => '~',
            };
            let mut lines = format!("{sign} {} {}", change.kind, plain(&change.name));
            change.details.iter().for_each(|detail| lines.push_str(&format!("\n    {}", plain(detail))));
            output.line(&lines)?;
        }
    }
    if output.is_json {
        return output.json(&changes);
    }
    let done = match (changes.is_empty(), *dry_run) {
        (true, _) => "the server has all that the files say".to_owned(),
        (false, true) => {
            format!("{} would be made; nothing was changed", count(changes.len() as u64, "change"))
        }
        (false, false) => format!("{} made", count(changes.len() as u64, "change")),
    };
    let left = match left {
        0 => String::new(),
        left => format!(
            "; not in the files, and left alone: {} (--prune removes that)",
            count(left as u64, "thing")
        ),
    };
    output.line(&format!("{done}{left}"))
}

fn carry_out(client: &mut Client, work: &Work) -> Result<(), ClientError> {
    match work {
        Work::Group(group) => client.create_group(group).map(drop),
        Work::View(view) => client.save_view(view).map(drop),
        Work::Tag(name, rule) => client.set_tag_rule(name, rule).map(drop),
        Work::Policy(policy) => client.set_policy(policy).map(drop),
        Work::Task(former, task) => {
            // First, as it may be refused: then the former one goes on.
            client.create_task(task)?;
            former.map_or(Ok(()), |former| client.cancel_task(former).map(drop))
        }
        Work::RemovePolicy(removal) => client.remove_policy(removal).map(drop),
        Work::RemoveTag(name) => client.remove_tag(name).map(drop),
        Work::RemoveView(name) => client.remove_view(name).map(drop),
    }
}
