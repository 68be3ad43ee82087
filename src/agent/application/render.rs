//! Settings as an application's file has them.

use std::collections::BTreeMap;

use serde_json::Value;

/// Format of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// JSON (RFC 8259), indented.
    Json,
    /// TOML 1.0.
    Toml,
    /// A line for each value. Objects within objects are written with dotted keys, a list as a line for each
    /// of its values.
    KeyValue {
        /// Between key and value.
        separator: String,
        /// Behind the value.
        line_end: String,
    },
}

/// Writes settings down.
///
/// # Errors
/// When the format can't hold them: names the key.
pub fn render(format: &Format, settings: &Value) -> Result<String, String> {
    if !settings.is_object() {
        return Err("settings must be a JSON object".to_owned());
    }
    match format {
        Format::Json => {
            let mut text = serde_json::to_string_pretty(settings).map_err(|error| error.to_string())?;
            text.push('\n');
            Ok(text)
        }
        Format::Toml => toml::to_string(&toml_value("", settings)?).map_err(|error| error.to_string()),
        Format::KeyValue { separator, line_end } => {
            let mut lines = BTreeMap::new();
            flatten("", settings, &mut lines)?;
            let mut text = String::new();
            for (key, values) in lines {
                checked_key(&key, separator)?;
                for value in values {
                    checked_value(&key, &value, line_end)?;
                    for piece in [&key, separator, &value, line_end, "\n"] {
                        text.push_str(piece);
                    }
                }
            }
            Ok(text)
        }
    }
}

fn toml_value(path: &str, value: &Value) -> Result<toml::Value, String> {
    Ok(match value {
        Value::Null => return Err(format!("'{path}': null can't be written in TOML")),
        Value::Bool(value) => toml::Value::Boolean(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => toml::Value::Integer(number),
            (None, Some(float)) if number.is_f64() => toml::Value::Float(float),
            _ => return Err(format!("'{path}': {number} is too large for TOML")),
        },
        Value::String(text) => toml::Value::String(text.clone()),
        Value::Array(values) => {
            let values = values.iter().map(|value| toml_value(path, value));
            toml::Value::Array(values.collect::<Result<_, _>>()?)
        }
        Value::Object(object) => {
            let entry = |(key, value)| Ok((String::clone(key), toml_value(&below(path, key), value)?));
            toml::Value::Table(object.iter().map(entry).collect::<Result<_, String>>()?)
        }
    })
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Collects the values under dotted keys. Depth is bounded by the JSON parser.
fn flatten(path: &str, value: &Value, lines: &mut BTreeMap<String, Vec<String>>) -> Result<(), String> {
    let values = match value {
        Value::Object(object) => {
            return object.iter().try_for_each(|(key, value)| {
                if key.is_empty() {
                    return Err(format!("'{path}' has an empty key"));
                }
                flatten(&below(path, key), value, lines)
            });
        }
        Value::Array(values) => {
            values.iter().map(|value| scalar(path, value)).collect::<Result<Vec<_>, _>>()?
        }
        value => vec![scalar(path, value)?],
    };
    match lines.insert(path.to_owned(), values) {
        None => Ok(()),
        Some(_) => Err(format!("'{path}' is there twice, once with the dot in its name")),
    }
}

fn scalar(path: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Null => Err(format!("'{path}': null can't be written as a line")),
        Value::Array(_) | Value::Object(_) => {
            Err(format!("'{path}': a list may hold texts, numbers and booleans only"))
        }
    }
}

fn checked_key(key: &str, separator: &str) -> Result<(), String> {
    let is_blank = |character: char| character.is_control() || character.is_whitespace();
    if key.contains(separator) || key.contains(is_blank) || key.starts_with('#') {
        return Err(format!(
            "the key {key:?} is not allowed: no blanks, no {separator:?} and no '#' at its start"
        ));
    }
    Ok(())
}

fn checked_value(key: &str, value: &str, line_end: &str) -> Result<(), String> {
    // Whatever a reader takes for the end of a line.
    let ends_line = |character: char| {
        character.is_control() && character != '\t' || matches!(character, '\u{2028}' | '\u{2029}')
    };
    if value.contains(ends_line) {
        return Err(format!("'{key}': line breaks and control characters are not allowed in its value"));
    }
    if !line_end.is_empty() && value.contains(line_end) {
        return Err(format!("'{key}': '{line_end}' is not allowed in its value, it ends the line"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn key_value(separator: &str, line_end: &str) -> Format {
        Format::KeyValue { separator: separator.into(), line_end: line_end.into() }
    }

    #[test]
    fn each_format_is_written() {
        let settings = json!({"b": {"d": [1, true], "c": "x y"}, "a": 1.5});
        assert_eq!(render(&key_value("=", ""), &settings).unwrap(), "a=1.5\nb.c=x y\nb.d=1\nb.d=true\n");
        let nginx = json!({"return": "200 \"blue\"", "server_tokens": "off"});
        assert_eq!(
            render(&key_value(" ", ";"), &nginx).unwrap(),
            "return 200 \"blue\";\nserver_tokens off;\n"
        );
        let json = render(&Format::Json, &settings).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), settings);
        let simple = json!({"t": {"u": "v"}, "z": 1});
        let text = render(&Format::Toml, &simple).unwrap();
        assert_eq!(serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap(), simple);
    }

    #[test]
    fn what_a_format_cannot_hold_is_refused_with_its_key() {
        let lines = key_value("=", "");
        let cases = [
            (&lines, json!({"a": {"b": "x\ny=1"}}), "'a.b': line breaks"),
            (&lines, json!({"a": "x\u{2028}y"}), "'a': line breaks"),
            (&lines, json!({"a=b": 1}), "\"a=b\" is not allowed"),
            (&lines, json!({"a\nb": 1}), "is not allowed"),
            (&lines, json!({"#a": 1}), "is not allowed"),
            (&lines, json!({"": 1}), "empty key"),
            (&lines, json!({"a": null}), "'a': null"),
            (&lines, json!({"a": [[1]]}), "'a': a list"),
            (&lines, json!({"a.b": 1, "a": {"b": 2}}), "'a.b' is there twice"),
            (&key_value(" ", ";"), json!({"a": "1; b 2"}), "'a': ';' is not allowed"),
            (&key_value(" ", ";"), json!({"a b": "1"}), "\"a b\" is not allowed"),
            (&Format::Toml, json!({"a": {"b": null}}), "'a.b': null"),
            (&Format::Toml, json!({"a": u64::MAX}), "'a': 18446744073709551615"),
            (&Format::Json, json!([1]), "must be a JSON object"),
        ];
        for (format, settings, expected) in cases {
            let error = render(format, &settings).unwrap_err();
            assert!(error.contains(expected), "{settings}: {error}");
        }
    }

    fn any_settings() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "[a-z;=\\n ]{0,6}".prop_map(Value::from),
        ];
        let tree = leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::btree_map("[a-z.= \\n]{1,3}", inner.clone(), 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
                prop::collection::vec(inner, 0..3).prop_map(Value::from),
            ]
        });
        prop::collection::btree_map("[a-z]{1,3}", tree, 0..5)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        /// Nothing within a value can become a line, or a key, of its own.
        #[test]
        fn lines_are_read_back_as_they_were_meant(settings in any_settings()) {
            let mut meant = BTreeMap::new();
            if let (Ok(text), Ok(())) =
                (render(&key_value("=", ";"), &settings), flatten("", &settings, &mut meant))
            {
                let meant: Vec<(String, String)> = meant
                    .into_iter()
                    .flat_map(|(key, values)| values.into_iter().map(move |value| (key.clone(), value)))
                    .collect();
                let read: Vec<(String, String)> = text
                    .lines()
                    .map(|line| line.strip_suffix(';').unwrap().split_once('=').unwrap())
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect();
                prop_assert_eq!(read, meant);
            }
        }

        #[test]
        fn toml_and_json_are_read_back(settings in any_settings()) {
            let text = render(&Format::Toml, &settings).unwrap();
            prop_assert_eq!(serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap(), settings.clone());
            let text = render(&Format::Json, &settings).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), settings);
        }
    }
}
