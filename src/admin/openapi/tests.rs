//! The description, held against the kept examples of what the API reads and answers.

use super::*;

/// Of examples that are queries: their members are parameters, and no document.
const QUERY: &str = "Query";

/// The name of what only a server with the console takes.
const OF_CONSOLE: &str = "OpenIdAnswer";

/// A list's examples are those of this path's answer.
const LISTS: [(&str, &str); 2] =
    [("Page<InstalledApplication>", "/v1/applications"), ("Page<EventRecord>", "/v1/events")];

macro_rules! kept {
    ($($name:literal),+) => {
        [$(include_str!(concat!("../../wire/api/snapshots/", $name, ".json"))),+]
    };
}

const KEPT: [&str; 15] = kept!(
    "api_token",
    "application",
    "audit",
    "call",
    "certificate",
    "device",
    "error",
    "event",
    "group",
    "policy",
    "status",
    "tag",
    "task",
    "token",
    "user"
);

/// Checks a value against a schema, as far as the description uses JSON Schema. Collects the members that the
/// schema names; `*` stands for all.
fn check(
    document: &Value,
    schema: &Value,
    value: &Value,
    named: &mut BTreeSet<String>,
) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(&reference[1..]).ok_or_else(|| format!("{reference} leads nowhere"))?;
        return check(document, target, value, named);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check(document, part, value, named)?;
    }
    if let Some(choices) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let mut fitting = Vec::new();
        let mut reasons = Vec::new();
        for choice in choices {
            let mut names = BTreeSet::new();
            match check(document, choice, value, &mut names) {
                Ok(()) => fitting.push(names),
                Err(reason) => reasons.push(reason),
            }
        }
        let [names] = &mut fitting[..] else {
            return Err(format!("{value} fits {}: {reasons:?}", fitting.len()));
        };
        named.append(names);
    }
    let is_of = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => false,
    };
    let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    if types != [Value::Null] && !types.iter().any(is_of) {
        return Err(format!("{value} is none of {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        return Err(format!("{value} is none of {}", schema["enum"]));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(name).is_none() {
            return Err(format!("{name} is missing in {value}"));
        }
    }
    for item in value.as_array().into_iter().flatten().filter(|_| !schema["items"].is_null()) {
        matches(document, &schema["items"], item)?;
    }
    let more = &schema["additionalProperties"];
    let mut members = value.as_object().into_iter().flat_map(Map::keys);
    if *more == false
        && let Some(name) = members.find(|name| schema["properties"][name.as_str()].is_null())
    {
        return Err(format!("{name} is not allowed"));
    }
    let takes_all = more.is_object()
        || *more == true
        || (schema["type"] == "object" && schema["properties"].is_null() && *more != false)
        || schema.as_object().is_some_and(|schema| schema.keys().all(|key| key == "description"));
    if takes_all {
        named.insert("*".to_owned());
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        if !schema["properties"][name].is_null() {
            named.insert(name.clone());
            matches(document, &schema["properties"][name], member)
                .map_err(|reason| format!("{name}: {reason}"))?;
        } else if more.is_object() {
            matches(document, more, member)?;
        }
    }
    Ok(())
}

/// The same, of a value all of whose members must be named.
fn matches(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let mut named = BTreeSet::new();
    check(document, schema, value, &mut named)?;
    all_named(value, &named)
}

fn all_named(value: &Value, named: &BTreeSet<String>) -> Result<(), String> {
    let mut members = value.as_object().into_iter().flat_map(Map::keys);
    match members.find(|name| !named.contains(*name) && !named.contains("*")) {
        Some(name) => Err(format!("{name} is not described")),
        None => Ok(()),
    }
}

#[test]
fn every_kept_example_is_what_the_description_says() {
    let document = document();
    let mut checked = 0;
    for file in KEPT {
        let file: Value = serde_json::from_str(file).unwrap();
        for (name, examples) in file.as_object().unwrap() {
            if name.ends_with(QUERY) || (name == OF_CONSOLE && !cfg!(feature = "console")) {
                continue;
            }
            let schema = match LISTS.iter().find(|(list, _)| list == name) {
                Some((_, path)) => {
                    &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
                }
                None => &document["components"]["schemas"][name],
            };
            assert!(!schema.is_null(), "{name} is not described");
            for example in examples.as_array().unwrap() {
                matches(&document, schema, example).unwrap_or_else(|reason| panic!("{name}: {reason}"));
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn the_check_of_examples_finds_what_is_wrong() {
    let document = document();
    let schema = &document["components"]["schemas"]["Status"];
    let kept: Value = serde_json::from_str(include_str!("../../wire/api/snapshots/status.json")).unwrap();
    let good = &kept["Status"][0];
    assert_eq!(matches(&document, schema, good), Ok(()));
    for (pointer, wrong) in [
        ("/version", json!(1)),
        ("/uptime_seconds", json!(null)),
        ("/devices/lost", json!("x")),
        ("/devices", json!({})),
        ("/journal/condition", json!("none of them")),
        ("/journal/damages/0", json!({ "from": 1, "to": 2, "what": "x", "more": 3 })),
        ("/limits", json!({})),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = wrong;
        assert!(matches(&document, schema, &bad).is_err(), "{pointer}");
    }
}

/// All references of a value.
fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn references_lead_somewhere_and_operations_have_names_of_their_own() {
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100);
    for reference in found {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
    }
    let mut names = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
            let given = operation["parameters"].as_array().unwrap().iter().filter(|one| one["in"] == "path");
            assert_eq!(given.count(), path.matches('{').count(), "{method} {path}");
            assert_ne!(operation["description"], "", "{method} {path}");
        }
    }
    assert!(!document.to_string().contains("[`"));
}
