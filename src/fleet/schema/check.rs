//! A value, held against a schema.

use serde_json::{Map, Value};

use super::{Additional, Bounds, Schema, Type, Violation, below};

/// Longest list of allowed values or names that an error shows, in entries.
const SHOWN_MAX: usize = 12;

pub(super) fn value(
    schema: &Schema,
    value: &Value,
    path: &str,
    needs_required: bool,
) -> Result<(), Violation> {
    let fail = |reason: String| Err(Violation { path: path.to_owned(), reason });
    if !schema.types.is_empty() && !schema.types.iter().any(|kind| is_of(value, *kind)) {
        let wanted: Vec<_> = schema.types.iter().map(|kind| kind.name()).collect();
        return fail(format!("{} is not allowed, {} is", kind_of(value), wanted.join(" or ")));
    }
    if let Some(values) = &schema.values
        && !values.iter().any(|allowed| is_equal(allowed, value))
    {
        return fail(format!("{value} is not allowed, {} are", list(values.iter())));
    }
    match value {
        Value::Object(map) => object(schema, map, path, needs_required),
        Value::Array(elements) => {
            if let Some(reason) = count(elements.len(), schema.elements, "elements") {
                return fail(reason);
            }
            let Some(items) = &schema.items else { return Ok(()) };
            elements.iter().enumerate().try_for_each(|(index, element)| {
                self::value(items, element, &below(path, &index.to_string()), needs_required)
            })
        }
        Value::String(text) => match count(text.chars().count(), schema.characters, "characters") {
            Some(reason) => fail(reason),
            None => Ok(()),
        },
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            let (inside, beyond) = (schema.number, schema.number_exclusive);
            match (inside.least, inside.most, beyond.least, beyond.most) {
                (Some(least), ..) if number < least => fail(format!("{number} is less than {least}")),
                (_, Some(most), ..) if number > most => fail(format!("{number} is more than {most}")),
                (_, _, Some(least), _) if number <= least => {
                    fail(format!("{number} is not more than {least}"))
                }
                (.., Some(most)) if number >= most => fail(format!("{number} is not less than {most}")),
                _ => Ok(()),
            }
        }
        Value::Null | Value::Bool(_) => Ok(()),
    }
}

fn object(
    schema: &Schema,
    map: &Map<String, Value>,
    path: &str,
    needs_required: bool,
) -> Result<(), Violation> {
    let missing = schema.required.iter().find(|name| !map.contains_key(*name));
    if let Some(missing) = missing.filter(|_| needs_required) {
        return Err(Violation {
            path: below(path, missing),
            reason: "it is required and not there".to_owned(),
        });
    }
    // Other levels may bring what is missing, but may not take away what is too much.
    let bounds = if needs_required { schema.entries } else { Bounds { least: None, ..schema.entries } };
    if let Some(reason) = count(map.len(), bounds, "keys") {
        return Err(Violation { path: path.to_owned(), reason });
    }
    for (name, value) in map {
        let path = below(path, name);
        match (schema.properties.iter().find(|(known, _)| known == name), &schema.additional) {
            (Some((_, schema)), _) => self::value(schema, value, &path, needs_required)?,
            (None, Additional::Anything) => {}
            (None, Additional::Such(schema)) => self::value(schema, value, &path, needs_required)?,
            (None, Additional::Nothing) => {
                let reason = if schema.properties.is_empty() {
                    "no keys are allowed here".to_owned()
                } else {
                    format!(
                        "this key is not allowed, {} are",
                        list(schema.properties.iter().map(|(name, _)| name))
                    )
                };
                return Err(Violation { path, reason });
            }
        }
    }
    Ok(())
}

fn count(count: usize, bounds: Bounds<u64>, what: &str) -> Option<String> {
    let count = count as u64;
    match (bounds.least, bounds.most) {
        (Some(least), _) if count < least => Some(format!("{count} {what}, at least {least} are wanted")),
        (_, Some(most)) if count > most => Some(format!("{count} {what}, at most {most} are allowed")),
        _ => None,
    }
}

fn is_of(value: &Value, kind: Type) -> bool {
    match (kind, value) {
        (Type::Null, Value::Null)
        | (Type::Boolean, Value::Bool(_))
        | (Type::Number, Value::Number(_))
        | (Type::String, Value::String(_))
        | (Type::Array, Value::Array(_))
        | (Type::Object, Value::Object(_)) => true,
        // 1.0 is an integer (JSON Schema Validation, section 6.1.1).
        (Type::Integer, Value::Number(number)) => {
            number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        _ => false,
    }
}

/// 1 and 1.0 are the same number (JSON Schema Core, section 4.2.2).
fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn list<T: ToString>(values: impl Iterator<Item = T>) -> String {
    let mut shown: Vec<_> = values.take(SHOWN_MAX + 1).map(|value| value.to_string()).collect();
    if shown.len() > SHOWN_MAX {
        shown[SHOWN_MAX] = "…".to_owned();
    }
    shown.join(", ")
}
