//! The result of several levels.

use serde_json::{Map, Value};

use super::{KeyPath, Level};
use crate::wire::settings::Drift;

/// The settings that come of some levels.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Merged {
    /// The settings.
    pub settings: Map<String, Value>,
    /// The device's reaction when somebody else changes them.
    pub drift: Drift,
}

impl Merged {
    /// The one text of these settings: keys sorted, no blanks.
    #[must_use]
    pub fn text(&self) -> String {
        // Maps of JSON values can always be written.
        serde_json::to_string(&self.settings).unwrap_or_default()
    }
}

/// Hears what happens while levels are merged.
pub(super) trait Watcher {
    /// The level sets a key; whatever was there, and below it, is gone.
    fn set(&mut self, level: usize, path: &[String], value: &Value);
    /// The level would set a key that is locked.
    fn refused(&mut self, level: usize, path: &[String], value: &Value);
}

/// Hears nothing.
pub(super) struct Nobody;

impl Watcher for Nobody {
    fn set(&mut self, _: usize, _: &[String], _: &Value) {}
    fn refused(&mut self, _: usize, _: &[String], _: &Value) {}
}

/// Merges levels, the outermost first.
#[must_use]
pub fn merge(levels: &[Level<'_>]) -> Merged {
    merge_watched(levels, &mut Nobody)
}

pub(super) fn merge_watched(levels: &[Level<'_>], watcher: &mut impl Watcher) -> Merged {
    let mut merged = Merged::default();
    let mut locked: Vec<&KeyPath> = Vec::new();
    for (number, level) in levels.iter().enumerate() {
        let mut step = Step { level: number, locked: &locked, path: Vec::new(), watcher: &mut *watcher };
        step.lay_over(&mut merged.settings, level.settings);
        // A key that does not exist can't be frozen; a policy is refused that would lock it.
        locked.extend(level.locks.iter().filter(|lock| lock.find(&merged.settings).is_some()));
        merged.drift = level.drift.unwrap_or(merged.drift);
    }
    merged
}

/// One level, on its way over those above it.
struct Step<'a, W> {
    level: usize,
    locked: &'a [&'a KeyPath],
    path: Vec<String>,
    watcher: &'a mut W,
}

impl<W: Watcher> Step<'_, W> {
    fn lay_over(&mut self, target: &mut Map<String, Value>, source: &Map<String, Value>) {
        for (key, value) in source {
            self.path.push(key.clone());
            self.set(target, key, value);
            self.path.pop();
        }
    }

    fn set(&mut self, target: &mut Map<String, Value>, key: &str, value: &Value) {
        let path = &self.path[..];
        if self.locked.iter().any(|lock| path.starts_with(lock.names())) {
            return self.watcher.refused(self.level, path, value);
        }
        if let (Some(Value::Object(below)), Value::Object(over)) = (target.get_mut(key), value) {
            return self.lay_over(below, over);
        }
        // Replacing an object would take what is locked within it away.
        if self.locked.iter().any(|lock| lock.names().starts_with(path)) {
            return self.watcher.refused(self.level, path, value);
        }
        self.watcher.set(self.level, path, value);
        target.insert(key.to_owned(), value.clone());
    }
}
