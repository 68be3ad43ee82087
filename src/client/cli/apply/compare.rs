//! Differences between files and a server.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::files::{Wanted, WantedPolicy, WantedTag};
use super::{Change, Work};
use crate::client::cli::Failure;
use crate::client::{Client, ClientError};
use crate::fleet::settings;
use crate::wire::api::{
    NewGroup, NewPolicy, NewTask, Policy, PolicyQuery, PolicyRemoval, TagRule, Task, TaskQuery, TaskState,
    TaskTargets, View,
};

fn all<T>(pages: impl Iterator<Item = Result<Vec<T>, ClientError>>) -> Result<Vec<T>, ClientError> {
    let mut all = Vec::new();
    for page in pages {
        all.extend(page?);
    }
    Ok(all)
}

/// Changes to make, in this order; and things that no file speaks of.
pub(super) fn compare(client: &mut Client, wanted: Wanted) -> Result<(Vec<Change>, Vec<Change>), Failure> {
    let (mut changes, mut beyond) = (Vec::new(), Vec::new());
    groups(client, wanted.groups, &mut changes)?;
    views(client, wanted.views, &mut changes, &mut beyond)?;
    tags(client, wanted.tags, &mut changes, &mut beyond)?;
    policies(client, wanted.policies, &mut changes, &mut beyond)?;
    if !wanted.tasks.is_empty() {
        let there = all(client.tasks(TaskQuery::default()))?;
        for task in wanted.tasks {
            changes.extend(compare_task(client, &there, task)?);
        }
    }
    Ok((changes, beyond))
}

/// Something that no file speaks of.
fn surplus(kind: &'static str, name: String, work: Work) -> Change {
    Change { action: "remove", kind, name, details: Vec::new(), work }
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
    let unnamed = there.into_keys().filter(|name| !names.contains(name));
    beyond.extend(unnamed.map(|name| surplus("view", name.clone(), Work::RemoveView(name))));
    Ok(())
}

fn tags(
    client: &mut Client,
    wanted: Vec<WantedTag>,
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
    beyond.extend(by_rule.map(|(name, _)| surplus("tag", name.clone(), Work::RemoveTag(name))));
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
    beyond.extend(there.into_keys().map(|(at, application)| {
        let name = format!("{application} on {at}");
        surplus(
            "policy",
            name,
            Work::RemovePolicy(PolicyRemoval { at, application, wake: false, dry_run: false }),
        )
    }));
    Ok(())
}

/// The task of this name that was made last is what the file means, whatever became of it: one that is done
/// is not done again, and one that was cancelled stays so.
fn compare_task(client: &mut Client, there: &[Task], mut task: NewTask) -> Result<Option<Change>, Failure> {
    if let TaskTargets::Devices(names) = &mut task.definition.targets {
        for name in names {
            *name = client.device(name)?.device.id.to_string();
        }
    }
    let is_it = |other: &&Task| {
        other.application == task.application && other.definition.name == task.definition.name
    };
    let named = there.iter().filter(is_it);
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
    let changed = settings::changes(old.unwrap_or(&Map::new()), new);
    changed.iter().map(ToString::to_string).collect()
}
