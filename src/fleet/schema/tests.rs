use proptest::prelude::*;
use serde_json::{Value, json};

use super::Schema;

fn schema(value: &Value) -> Schema {
    Schema::parse(&value.to_string()).unwrap()
}

fn violation(schema: &Schema, value: &Value) -> String {
    schema.check(value).map_or_else(|violation| violation.to_string(), |()| "ok".into())
}

#[test]
fn what_is_allowed_passes_and_what_is_not_is_named_with_its_path() {
    let schema = schema(&json!({
        "type": "object",
        "properties": {
            "port": { "type": "integer", "minimum": 1, "maximum": 65535 },
            "level": { "enum": ["info", "debug"] },
            "ratio": { "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 },
            "hosts": { "type": "array", "items": { "type": "string", "minLength": 1 }, "maxItems": 2 },
            "tls": { "type": ["object", "null"], "additionalProperties": { "type": "boolean" } }
        },
        "required": ["port"],
        "additionalProperties": false
    }));
    let cases = [
        (json!({"port": 80}), "ok"),
        (json!({"port": 80.0, "level": "info", "tls": null}), "ok"),
        (json!({"port": 80, "tls": {"old": true}}), "ok"),
        (json!([]), "an array is not allowed, object is"),
        (json!({}), "'port': it is required and not there"),
        (json!({"port": "80"}), "'port': a string is not allowed, integer is"),
        (json!({"port": 0}), "'port': 0 is less than 1"),
        (json!({"port": 65536}), "'port': 65536 is more than 65535"),
        (json!({"port": 1.5}), "'port': a number is not allowed, integer is"),
        (json!({"port": 1, "ratio": 0}), "'ratio': 0 is not more than 0"),
        (json!({"port": 1, "ratio": 1}), "'ratio': 1 is not less than 1"),
        (json!({"port": 1, "level": "loud"}), "'level': \"loud\" is not allowed, \"info\", \"debug\" are"),
        (json!({"port": 1, "hosts": ["a", ""]}), "'hosts.1': 0 characters, at least 1 are wanted"),
        (json!({"port": 1, "hosts": ["a", "b", "c"]}), "'hosts': 3 elements, at most 2 are allowed"),
        (json!({"port": 1, "tls": {"old": 1}}), "'tls.old': a number is not allowed, boolean is"),
        (json!({"port": 1, "prt": 1}), "'prt': this key is not allowed, hosts, level, port, ratio, tls are"),
    ];
    for (value, expected) in cases {
        assert_eq!(violation(&schema, &value), expected, "{value}");
    }
    assert!(schema.check_partial(&json!({"level": "info"})).is_ok(), "what is required others may bring");
    assert!(schema.check_partial(&json!({"port": "80"})).is_err());
}

#[test]
fn a_keyword_that_would_not_be_kept_is_refused() {
    let refused = |value: Value| Schema::parse(&value.to_string()).unwrap_err().to_string();
    let nested = json!({"properties": {"a": {"pattern": "x"}}});
    assert_eq!(refused(nested), "schema at 'properties.a.pattern': this keyword is not known here");
    assert_eq!(refused(json!({"type": "text"})).split(": ").next(), Some("schema at 'type'"));
    assert_eq!(refused(json!({"minLength": -1})), "schema at 'minLength': must be a whole number, 0 or more");
    assert_eq!(refused(json!([])), "schema: a schema is an object");
    assert!(Schema::parse("{").unwrap_err().to_string().starts_with("schema: not JSON"));
    assert_eq!(Schema::parse("").unwrap(), Schema::default());
}

#[test]
fn a_schema_can_not_be_nested_without_an_end() {
    let mut value = json!({});
    for _ in 0..100 {
        value = json!({ "items": value });
    }
    assert!(Schema::from_value(&value).unwrap_err().reason.contains("deeper than 32"));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        "[a-c]{0,3}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever is declared, reading it and holding something against it ends without a panic; what passes
    /// whole passes in part.
    #[test]
    fn nothing_that_is_declared_or_set_panics(declared in any_value(), value in any_value()) {
        if let Ok(schema) = Schema::from_value(&declared)
            && schema.check(&value).is_ok()
        {
            prop_assert!(schema.check_partial(&value).is_ok());
        }
    }

    #[test]
    fn a_value_passes_the_schema_that_names_it_and_no_other_does(value in any_value(), other in any_value()) {
        let schema = schema(&json!({ "const": value }));
        prop_assert!(schema.check(&value).is_ok());
        prop_assert_eq!(schema.check(&other).is_ok(), value == other);
    }
}
