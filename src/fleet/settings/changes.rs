//! Differences between two settings, key by key.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::KeyPath;
use crate::wire::api::{ChangedKey, PolicyVersion};

/// Keys that differ, in their order.
#[must_use]
pub fn changes(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<ChangedKey> {
    let mut keys: BTreeMap<KeyPath, [Option<&Value>; 2]> = BTreeMap::new();
    for (side, settings) in [before, after].into_iter().enumerate() {
        leaves(settings, &mut Vec::new(), &mut |key, value| keys.entry(key).or_default()[side] = Some(value));
    }
    let changed = keys.into_iter().filter(|(_, [before, after])| before != after);
    changed
        .map(|(key, [before, after])| ChangedKey {
            key: key.to_string(),
            before: before.cloned(),
            after: after.cloned(),
        })
        .collect()
}

/// Calls `found` with each value that is no object, or an empty one.
fn leaves<'v>(
    settings: &'v Map<String, Value>,
    path: &mut Vec<String>,
    found: &mut impl FnMut(KeyPath, &'v Value),
) {
    for (name, value) in settings {
        path.push(name.clone());
        match value {
            Value::Object(below) if !below.is_empty() => leaves(below, path, found),
            leaf => found(KeyPath::new(path), leaf),
        }
        path.pop();
    }
}

/// Differences between two versions of a policy: keys, and as `(locked)` and `(drift)` what is said of them.
/// `None`, and a version in which the policy was removed, have nothing.
#[must_use]
pub fn changed_version(before: Option<&PolicyVersion>, after: &PolicyVersion) -> Vec<ChangedKey> {
    let nothing = Map::new();
    let settings = |version: Option<&'_ PolicyVersion>| version.and_then(|version| version.settings.clone());
    let (old, new) = (settings(before), settings(Some(after)));
    let mut changed = changes(old.as_ref().unwrap_or(&nothing), new.as_ref().unwrap_or(&nothing));
    let locks = |version: &PolicyVersion| {
        let mut locks = version.locks.clone();
        locks.sort();
        (!locks.is_empty()).then(|| Value::from(locks.join(", ")))
    };
    let drift = |version: &PolicyVersion| version.drift.map(|drift| serde_json::json!(drift));
    let mut differ = |key: &str, before: Option<Value>, after: Option<Value>| {
        if before != after {
            changed.push(ChangedKey { key: key.to_owned(), before, after });
        }
    };
    differ("(locked)", before.and_then(locks), locks(after));
    differ("(drift)", before.and_then(drift), drift(after));
    changed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::settings::Drift;
    use crate::wire::time::WallTime;

    fn version(settings: &Value, locks: &[&str], drift: Option<Drift>) -> PolicyVersion {
        PolicyVersion {
            revision: 1,
            changed_at: WallTime(0).into(),
            changed_by: String::new(),
            settings: settings.as_object().cloned(),
            locks: locks.iter().map(|lock| (*lock).to_owned()).collect(),
            drift,
        }
    }

    fn told(before: Option<&PolicyVersion>, after: &PolicyVersion) -> Vec<String> {
        changed_version(before, after).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn changes_are_told_key_by_key() {
        let before = json!({"a": {"b.c": 1, "d": [1]}, "e": {}, "same": null});
        let after = json!({"a": {"b.c": 2}, "e": {"f": null}, "same": null});
        let (before, after) =
            (version(&before, &["e", "a"], None), version(&after, &["a", "e"], Some(Drift::Report)));
        let changes = [
            "a.b\\.c: 1 -> 2",
            "a.d: [1] -> nothing",
            "e: {} -> nothing",
            "e.f = null",
            "(drift) = \"report\"",
        ];
        assert_eq!(told(Some(&before), &after), changes);
        assert_eq!(told(Some(&after), &after), Vec::<String>::new());
        let removed = version(&Value::Null, &[], None);
        let changes = ["a.b\\.c: 2 -> nothing", "e.f: null -> nothing", "same: null -> nothing"];
        let more = ["(locked): \"a, e\" -> nothing", "(drift): \"report\" -> nothing"];
        assert_eq!(told(Some(&after), &removed), [&changes[..], &more].concat());
        assert_eq!(told(None, &removed), Vec::<String>::new());
    }
}
