use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::wire::api::{ExplainedKey, LevelValue};

#[derive(Debug)]
struct Owned {
    from: String,
    settings: Map<String, Value>,
    locks: Vec<KeyPath>,
    drift: Option<Drift>,
}

impl Owned {
    fn level(&self) -> Level<'_> {
        Level { from: &self.from, settings: &self.settings, locks: &self.locks, drift: self.drift }
    }
}

fn owned(from: &str, settings: &Value, locks: &[&str]) -> Owned {
    let settings = parse(&settings.to_string()).unwrap();
    let locks = locks.iter().map(|lock| (*lock).to_owned()).collect::<Vec<_>>();
    let locks = parse_locks(&locks, &settings).unwrap();
    Owned { from: from.into(), settings, locks, drift: None }
}

fn merged(levels: &[Owned]) -> Value {
    let levels: Vec<_> = levels.iter().map(Owned::level).collect();
    Value::Object(merge(&levels).settings)
}

#[test]
fn levels_override_from_the_root_down_except_what_is_locked() {
    let levels = [
        owned("/", &json!({"currency": "EUR", "receipt": {"lines": 40, "logo": "a"}}), &["currency"]),
        owned("/shops", &json!({"receipt": {"lines": 60}, "hosts": [1, 2]}), &["receipt.lines"]),
        owned("device", &json!({"currency": "USD", "receipt": {"lines": 1, "logo": "b"}, "hosts": [3]}), &[]),
    ];
    assert_eq!(
        merged(&levels),
        json!({"currency": "EUR", "receipt": {"lines": 60, "logo": "b"}, "hosts": [3]})
    );
}

#[test]
fn a_lock_freezes_what_lies_below_it_and_what_it_lies_in() {
    let top = || owned("/", &json!({"tls": {"versions": {"min": 12}}}), &["tls.versions"]);
    for (below, kept) in [
        (json!({"tls": {"versions": {"max": 13}}}), json!({"tls": {"versions": {"min": 12}}})),
        (json!({"tls": null}), json!({"tls": {"versions": {"min": 12}}})),
        (json!({"tls": {"versions": 3, "on": true}}), json!({"tls": {"versions": {"min": 12}, "on": true}})),
    ] {
        assert_eq!(merged(&[top(), owned("/a", &below, &[])]), kept, "{below}");
    }
}

#[test]
fn each_key_is_explained() {
    let levels = [
        owned("/", &json!({"currency": "EUR", "lines": 40}), &["currency"]),
        owned("/shops", &json!({"lines": 60}), &[]),
        owned("device", &json!({"currency": "USD", "lines": 80, "tax.rate": 7}), &[]),
    ];
    let levels: Vec<_> = levels.iter().map(Owned::level).collect();
    let said = |from: &str, value: Value| LevelValue { from: from.into(), value };
    let explained = |key: &str, said: LevelValue, locked_by: Option<&str>, overrode, refused| ExplainedKey {
        key: key.into(),
        value: said.value,
        from: said.from,
        locked_by: locked_by.map(str::to_owned),
        overrode,
        refused,
    };
    assert_eq!(
        explain(&levels),
        [
            explained(
                "currency",
                said("/", json!("EUR")),
                Some("/"),
                vec![],
                vec![said("device", json!("USD"))]
            ),
            explained(
                "lines",
                said("device", json!(80)),
                None,
                vec![said("/", json!(40)), said("/shops", json!(60))],
                vec![]
            ),
            explained("tax\\.rate", said("device", json!(7)), None, vec![], vec![]),
        ]
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let error = |text: &str| parse(text).unwrap_err().to_string();
    assert_eq!(error("{\"a\": 1,\n \"b\" 2}"), "line 2, column 6: expected `:`");
    assert!(error("{\"a\": 1,\n \"a\": 2}").starts_with("line 2, column 2: the key \"a\" is there already"));
    assert!(error("{\"a\": 18446744073709551616}").starts_with("line 1, column 7: the number 184"));
    assert_eq!(error("[1]"), "settings are one JSON object, such as {\"port\": 80}");
    assert_eq!(error("{\"a\": {\"\": 1}}"), "a key of 'a' has an empty name");
    let deep = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
    assert!(error(&deep).ends_with("is nested deeper than 32 levels"));
    let large = json!({ "a": "x".repeat(SETTINGS_BYTES_MAX) }).to_string();
    assert!(error(&large).contains("at most 32768 are allowed"));
    let settings = parse("{\"a\": {\"b\": 1}}").unwrap();
    let lock = |lock: &str| parse_locks(&[lock.into()], &settings).map_err(|error| error.to_string());
    assert_eq!(lock("a.c"), Err("'a.c' can't be locked: the settings have no such key".into()));
    assert!(lock("a..b").unwrap_err().contains("names no key"));
    assert_eq!(lock("a.b").unwrap().len(), 1);
}

#[test]
fn the_nearest_word_on_drift_counts() {
    let mut levels = [owned("/", &json!({}), &[]), owned("/a", &json!({}), &[])];
    let drift = |levels: &[Owned]| merge(&levels.iter().map(Owned::level).collect::<Vec<_>>()).drift;
    assert_eq!(drift(&levels), Drift::Repair);
    levels[0].drift = Some(Drift::Report);
    assert_eq!(drift(&levels), Drift::Report);
    levels[1].drift = Some(Drift::Repair);
    assert_eq!(drift(&levels), Drift::Repair);
}

fn any_map() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![(0..3_i64).prop_map(Value::from), Just(Value::Null), Just(json!({}))];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        prop::collection::btree_map("[ab.]", inner, 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    });
    prop::collection::btree_map("[ab.]", value, 0..3).prop_map(|map| map.into_iter().collect())
}

/// Every path that leads anywhere in the settings.
fn paths(map: &Map<String, Value>, at: &mut Vec<String>, out: &mut Vec<KeyPath>) {
    for (name, value) in map {
        at.push(name.clone());
        out.push(KeyPath::new(at));
        if let Value::Object(below) = value {
            paths(below, at, out);
        }
        at.pop();
    }
}

fn any_level() -> impl Strategy<Value = Owned> {
    (any_map(), prop::collection::vec(any::<prop::sample::Index>(), 0..2), "[a-c]{1,4}").prop_map(
        |(settings, chosen, from)| {
            let mut all = Vec::new();
            paths(&settings, &mut Vec::new(), &mut all);
            let chosen = chosen.into_iter().filter(|_| !all.is_empty());
            let locks = chosen.map(|index| all[index.index(all.len())].clone()).collect();
            Owned { from, settings, locks, drift: None }
        },
    )
}

proptest! {
    #[test]
    fn a_path_survives_its_text(names in prop::collection::vec("[a.\\\\]{1,3}", 1..4)) {
        let path = KeyPath::new(&names);
        prop_assert_eq!(path.to_string().parse::<KeyPath>().unwrap(), path);
    }

    /// A key that a level locks stays as it was at that level, whatever stands below.
    #[test]
    fn a_locked_key_never_changes_below_its_lock(
        above in prop::collection::vec(any_level(), 1..4), below in prop::collection::vec(any_level(), 0..4),
    ) {
        let locks: Vec<_> = above.iter().flat_map(|level| level.locks.clone()).collect();
        let upper: Vec<_> = above.iter().map(Owned::level).collect();
        let all: Vec<_> = above.iter().chain(&below).map(Owned::level).collect();
        let (then, now) = (merge(&upper).settings, merge(&all).settings);
        for lock in locks.iter().filter(|lock| lock.find(&then).is_some()) {
            prop_assert_eq!(lock.find(&now), lock.find(&then), "{}", lock);
        }
    }

    /// The same levels have the same text, and so the same digest, in whatever order their keys and locks
    /// were written down.
    #[test]
    fn the_merge_does_not_depend_on_the_order_of_edits(levels in prop::collection::vec(any_level(), 0..4)) {
        let again: Vec<Owned> = levels
            .iter()
            .map(|level| Owned {
                from: level.from.clone(),
                settings: level.settings.iter().rev().map(|(key, value)| (key.clone(), value.clone())).collect(),
                locks: level.locks.iter().rev().cloned().collect(),
                drift: None,
            })
            .collect();
        let text = |levels: &[Owned]| merge(&levels.iter().map(Owned::level).collect::<Vec<_>>()).text();
        prop_assert_eq!(text(&levels), text(&again));
        prop_assert_eq!(parse(&text(&levels)).map(|_| ()), check(&parse(&text(&levels)).unwrap_or_default()));
    }

    /// The keys that are explained, with their values, are the merged settings.
    #[test]
    fn what_is_explained_is_what_is_merged(levels in prop::collection::vec(any_level(), 0..5)) {
        let levels: Vec<_> = levels.iter().map(Owned::level).collect();
        let merged = merge(&levels).settings;
        let explained = explain(&levels);
        let mut leaves = Vec::new();
        paths(&merged, &mut Vec::new(), &mut leaves);
        leaves.retain(|path| !matches!(path.find(&merged), Some(Value::Object(map)) if !map.is_empty()));
        leaves.sort();
        prop_assert_eq!(explained.iter().map(|one| one.key.parse::<KeyPath>().unwrap()).collect::<Vec<_>>(), leaves);
        for one in &explained {
            prop_assert_eq!(one.key.parse::<KeyPath>().unwrap().find(&merged), Some(&one.value));
            if one.refused.iter().any(|said| said.value != one.value) {
                prop_assert!(one.locked_by.is_some() || !one.refused.is_empty());
            }
        }
    }
}
