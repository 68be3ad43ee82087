//! Origin of each key of effective settings.

use std::collections::BTreeMap;

use serde_json::Value;

use super::merge::{Watcher, merge_watched};
use super::{KeyPath, Level};
use crate::wire::api::{ExplainedKey, LevelValue};

/// Says of each key, in their order, where its value comes from.
#[must_use]
pub fn explain(levels: &[Level<'_>]) -> Vec<ExplainedKey> {
    let mut history = History { levels, keys: BTreeMap::new(), refused: Vec::new() };
    let merged = merge_watched(levels, &mut history);
    let History { keys, refused, .. } = history;
    let lock_of = |key: &KeyPath| {
        let locks = |level: &&Level<'_>| {
            let is_it = |lock: &&KeyPath| key.names().starts_with(lock.names());
            level.locks.iter().any(|lock| is_it(&lock) && lock.find(&merged.settings).is_some())
        };
        levels.iter().find(locks).map(|level| level.from.to_owned())
    };
    keys.into_iter()
        .map(|(key, Key { said, overrode })| {
            // A refused object concerns the keys within it, and one that would have replaced an object those
            // within that.
            let concerns =
                |names: &[String]| key.names().starts_with(names) || names.starts_with(key.names());
            let refused = refused.iter().filter(|(names, _)| concerns(names)).map(|(_, said)| said.clone());
            let LevelValue { from, value } = said;
            let (locked_by, refused) = (lock_of(&key), refused.collect());
            ExplainedKey { key: key.to_string(), value, from, locked_by, overrode, refused }
        })
        .collect()
}

struct Key {
    said: LevelValue,
    overrode: Vec<LevelValue>,
}

/// History of each key so far.
struct History<'a> {
    levels: &'a [Level<'a>],
    keys: BTreeMap<KeyPath, Key>,
    refused: Vec<(Vec<String>, LevelValue)>,
}

impl History<'_> {
    fn said(&self, level: usize, value: &Value) -> LevelValue {
        LevelValue { from: self.levels[level].from.to_owned(), value: value.clone() }
    }

    fn add(&mut self, level: usize, path: &mut Vec<String>, value: &Value, gone: &BTreeMap<KeyPath, Key>) {
        if let Value::Object(map) = value
            && !map.is_empty()
        {
            for (name, value) in map {
                path.push(name.clone());
                self.add(level, path, value, gone);
                path.pop();
            }
            return;
        }
        let key = KeyPath::new(path);
        let before = gone
            .iter()
            .filter(|(old, _)| old.names().starts_with(key.names()) || key.names().starts_with(old.names()));
        let mut overrode = Vec::new();
        for (_, Key { said, overrode: earlier }) in before {
            overrode.extend(earlier.iter().cloned());
            overrode.push(said.clone());
        }
        self.keys.insert(key, Key { said: self.said(level, value), overrode });
    }
}

impl Watcher for History<'_> {
    fn set(&mut self, level: usize, path: &[String], value: &Value) {
        // An empty object that was a key of its own is none any more when something is set within it.
        let is_of_it = |key: &KeyPath| key.names().starts_with(path) || path.starts_with(key.names());
        let gone: Vec<_> = self.keys.keys().filter(|key| is_of_it(key)).cloned().collect();
        let gone = gone.into_iter().filter_map(|key| self.keys.remove_entry(&key)).collect();
        self.add(level, &mut path.to_vec(), value, &gone);
    }

    fn refused(&mut self, level: usize, path: &[String], value: &Value) {
        let said = self.said(level, value);
        self.refused.push((path.to_vec(), said));
    }
}
