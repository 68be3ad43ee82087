//! `musterctl apply`: what files say becomes what the server has, for people who keep a fleet in git.
//!
//! All of it is compared first; nothing is changed before every file was understood. Each change says for
//! itself what it needs, so that a run that was cut off goes on where it was.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Failure;
use super::output::{Output, plain};
use crate::client::{Client, ClientError};
use crate::wire::api::{
    NewGroup, NewPolicy, NewTask, Policy, PolicyQuery, PolicyRemoval, TagRule, TaskQuery, TaskState,
    TaskTargets, View,
};
use crate::wire::id::TaskId;
use crate::wire::units::count;
use files::{Wanted, WantedPolicy};

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
    let (mut changes, beyond) = compare(client, wanted)?;
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
            if let Some(former) = former {
                client.cancel_task(*former)?;
            }
            client.create_task(task).map(drop)
        }
        Work::RemovePolicy(removal) => client.remove_policy(removal).map(drop),
        Work::RemoveTag(name) => client.remove_tag(name).map(drop),
        Work::RemoveView(name) => client.remove_view(name).map(drop),
    }
}

fn all<T>(pages: impl Iterator<Item = Result<Vec<T>, ClientError>>) -> Result<Vec<T>, ClientError> {
    let mut all = Vec::new();
    for page in pages {
        all.extend(page?);
    }
    Ok(all)
}

/// Changes to make, in this order; and things that no file speaks of.
fn compare(client: &mut Client, wanted: Wanted) -> Result<(Vec<Change>, Vec<Change>), Failure> {
    let (mut changes, mut beyond) = (Vec::new(), Vec::new());
    groups(client, wanted.groups, &mut changes)?;
    views(client, wanted.views, &mut changes, &mut beyond)?;
    tags(client, wanted.tags, &mut changes, &mut beyond)?;
    policies(client, wanted.policies, &mut changes, &mut beyond)?;
    for task in wanted.tasks {
        changes.extend(compare_task(client, task)?);
    }
    Ok((changes, beyond))
}

fn groups(client: &mut Client, wanted: Vec<NewGroup>, changes: &mut Vec<Change>) -> Result<(), Failure> {
    let there = all(client.groups())?;
    for group in wanted {
        let before = there.iter().find(|other| other.path == group.path);
        let mut details = Vec::new();
        if let Some(seconds) = group.interval_seconds {
            let old = before.and_then(|before| before.interval_seconds);
            differ(&mut details, "interval_seconds", old.as_ref(), &seconds);
        }
        if let Some(keep) = group.keep_connected {
            let old = before.map(|before| before.keep_connected);
            if old != Some(keep.own()) {
                details.push(format!("keep_connected = {keep}"));
            }
        }
        let is_there = before.is_some() || group.path == "/";
        if !is_there || !details.is_empty() {
            let (action, name) = (made(is_there), group.path.clone());
            changes.push(Change { action, kind: "group", name, details, work: Work::Group(group) });
        }
    }
    Ok(())
}

fn views(
    client: &mut Client,
    wanted: Vec<View>,
    changes: &mut Vec<Change>,
    beyond: &mut Vec<Change>,
) -> Result<(), Failure> {
    let there: BTreeMap<_, _> = client.views()?.into_iter().map(|view| (view.name, view.filter)).collect();
    let names: BTreeSet<_> = wanted.iter().map(|view| view.name.clone()).collect();
    for view in wanted {
        let (old, name) = (there.get(&view.name), view.name.clone());
        let mut details = Vec::new();
        differ(&mut details, "where", old, &view.filter);
        if !details.is_empty() {
            let action = made(old.is_some());
            changes.push(Change { action, kind: "view", name, details, work: Work::View(view) });
        }
    }
    beyond.extend(there.into_keys().filter(|name| !names.contains(name)).map(|name| Change {
        action: "remove",
        kind: "view",
        name: name.clone(),
        details: Vec::new(),
        work: Work::RemoveView(name),
    }));
    Ok(())
}

fn tags(
    client: &mut Client,
    wanted: Vec<files::WantedTag>,
    changes: &mut Vec<Change>,
    beyond: &mut Vec<Change>,
) -> Result<(), Failure> {
    let there: BTreeMap<_, _> = client.tags()?.into_iter().map(|tag| (tag.name, tag.rule)).collect();
    let names: BTreeSet<_> = wanted.iter().map(|tag| tag.name.clone()).collect();
    for tag in wanted {
        let old = there.get(&tag.name);
        let mut details = Vec::new();
        differ(&mut details, "rule", old.and_then(Option::as_ref), &tag.rule);
        if !details.is_empty() {
            let work = Work::Tag(tag.name.clone(), TagRule { rule: Some(tag.rule) });
            changes.push(Change { action: made(old.is_some()), kind: "tag", name: tag.name, details, work });
        }
    }
    // Tags that were given by hand are nobody's rule.
    let by_rule = there.into_iter().filter(|(name, rule)| rule.is_some() && !names.contains(name));
    beyond.extend(by_rule.map(|(name, _)| Change {
        action: "remove",
        kind: "tag",
        name: name.clone(),
        details: Vec::new(),
        work: Work::RemoveTag(name),
    }));
    Ok(())
}

fn policies(
    client: &mut Client,
    wanted: Vec<WantedPolicy>,
    changes: &mut Vec<Change>,
    beyond: &mut Vec<Change>,
) -> Result<(), Failure> {
    let there = all(client.policies(PolicyQuery::default()))?;
    let mut there: BTreeMap<_, Policy> = there
        .into_iter()
        .map(|policy| ((policy.group.clone(), policy.application.clone()), policy))
        .collect();
    for policy in wanted {
        let old = there.remove(&(policy.group.clone(), policy.application.clone()));
        let mut details = settings_details(old.as_ref().map(|old| &old.settings), &policy.settings);
        let locks = |locks: &[String]| locks.iter().cloned().collect::<BTreeSet<_>>();
        let old_locks = old.as_ref().map(|old| locks(&old.locks)).unwrap_or_default();
        if old_locks != locks(&policy.locks) {
            details.push(format!("locks: {}", policy.locks.join(", ")));
        }
        if old.as_ref().and_then(|old| old.drift) != policy.drift {
            let drift = policy.drift.map_or(Value::Null, |drift| serde_json::json!(drift));
            details.push(format!("drift: {drift}"));
        }
        // Settings without a key are settings too.
        if old.is_none() || !details.is_empty() {
            let name = format!("{} on {}", policy.application, policy.group);
            let WantedPolicy { group: at, application, settings, locks, drift } = policy;
            let work = Work::Policy(NewPolicy {
                at,
                application,
                settings,
                locks,
                drift,
                wake: false,
                dry_run: false,
            });
            changes.push(Change { action: made(old.is_some()), kind: "policy", name, details, work });
        }
    }
    beyond.extend(there.into_keys().map(|(at, application)| Change {
        action: "remove",
        kind: "policy",
        name: format!("{application} on {at}"),
        details: Vec::new(),
        work: Work::RemovePolicy(PolicyRemoval { at, application, wake: false }),
    }));
    Ok(())
}

/// The task of this name that was made last is what the file means, whatever became of it: one that is done
/// is not done again, and one that was cancelled stays so.
fn compare_task(client: &mut Client, mut task: NewTask) -> Result<Option<Change>, Failure> {
    if let TaskTargets::Devices(names) = &mut task.definition.targets {
        for name in names {
            *name = client.device(name)?.device.id.to_string();
        }
    }
    let query = TaskQuery { application: Some(task.application.clone()), ..TaskQuery::default() };
    let named =
        all(client.tasks(query))?.into_iter().filter(|other| other.definition.name == task.definition.name);
    let Some(old) = named.max_by_key(|other| other.created_at) else {
        let name = task.definition.name.clone().unwrap_or_default();
        let work = Work::Task(None, Box::new(task));
        return Ok(Some(Change { action: "create", kind: "task", name, details: Vec::new(), work }));
    };
    let mut definition = task.definition.clone();
    if definition.time_zone.is_none() {
        definition.time_zone.clone_from(&old.definition.time_zone);
    }
    let as_map = |value: Result<Value, serde_json::Error>| match value {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let old_definition = as_map(serde_json::to_value(&old.definition));
    let mut details = settings_details(Some(&old_definition), &as_map(serde_json::to_value(&definition)));
    if old.kind != task.kind {
        details.push(format!("kind: {} -> {}", old.kind, task.kind));
    }
    let old_settings = client.task(old.id)?.settings;
    let settings = settings_details(Some(&old_settings), &task.settings);
    details.extend(settings.into_iter().map(|detail| format!("settings.{detail}")));
    if details.is_empty() {
        return Ok(None);
    }
    let name = definition.name.unwrap_or_default();
    let former = (old.state == TaskState::Active).then_some(old.id);
    Ok(Some(Change {
        action: "replace",
        kind: "task",
        name,
        details,
        work: Work::Task(former, Box::new(task)),
    }))
}

fn made(is_there: bool) -> &'static str {
    if is_there { "change" } else { "create" }
}

fn differ<T: PartialEq + Serialize>(details: &mut Vec<String>, name: &str, old: Option<&T>, new: &T) {
    let json = |value: &T| serde_json::json!(value).to_string();
    match old {
        Some(old) if old == new => {}
        Some(old) => details.push(format!("{name}: {} -> {}", json(old), json(new))),
        None => details.push(format!("{name} = {}", json(new))),
    }
}

/// Keys that differ, by their dotted paths.
fn settings_details(old: Option<&Map<String, Value>>, new: &Map<String, Value>) -> Vec<String> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    old.iter().for_each(|old| leaves(old, "", &mut before));
    leaves(new, "", &mut after);
    let mut details = Vec::new();
    for (key, value) in &after {
        differ(&mut details, key, before.get(key), value);
    }
    let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
    details.extend(gone.map(|(key, value)| format!("{key}: {value} -> nothing")));
    details
}

fn leaves<'v>(map: &'v Map<String, Value>, above: &str, all: &mut BTreeMap<String, &'v Value>) {
    for (key, value) in map {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        match value {
            Value::Object(below) if !below.is_empty() => leaves(below, &path, all),
            leaf => drop(all.insert(path, leaf)),
        }
    }
}
