//! A schema, read from JSON.

use serde_json::{Map, Value};

use super::{Additional, Bounds, DEPTH_MAX, Schema, SchemaError, Type, below};

pub(super) fn schema(value: &Value, path: &str, depth: usize) -> Result<Schema, SchemaError> {
    let fail = |path: &str, reason: String| SchemaError { path: path.to_owned(), reason };
    if depth > DEPTH_MAX {
        return Err(fail(path, format!("nested deeper than {DEPTH_MAX} levels")));
    }
    let Value::Object(map) = value else {
        return Err(fail(path, "a schema is an object".to_owned()));
    };
    let mut schema = Schema::default();
    for (keyword, value) in map {
        let path = below(path, keyword);
        let wrong = |wanted: &str| Err(fail(&path, format!("must be {wanted}")));
        match keyword.as_str() {
            "type" => schema.types = types(value).ok_or_else(|| fail(&path, type_names()))?,
            "enum" => match value {
                Value::Array(values) => schema.values = Some(values.clone()),
                _ => return wrong("an array of values"),
            },
            "const" => schema.values = Some(vec![value.clone()]),
            "properties" => match value {
                Value::Object(properties) => schema.properties = properties_of(properties, &path, depth)?,
                _ => return wrong("an object of schemas"),
            },
            "required" => match texts(value) {
                Some(names) => schema.required = names,
                None => return wrong("an array of names"),
            },
            "additionalProperties" => {
                schema.additional = match value {
                    Value::Bool(true) => Additional::Anything,
                    Value::Bool(false) => Additional::Nothing,
                    value => Additional::Such(Box::new(self::schema(value, &path, depth + 1)?)),
                };
            }
            "items" => schema.items = Some(Box::new(self::schema(value, &path, depth + 1)?)),
            "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" => {
                let Some(number) = value.as_f64() else { return wrong("a number") };
                let bounds: &mut Bounds<f64> = if keyword.starts_with("exclusive") {
                    &mut schema.number_exclusive
                } else {
                    &mut schema.number
                };
                let bound = if keyword.ends_with("inimum") { &mut bounds.least } else { &mut bounds.most };
                *bound = Some(number);
            }
            "minProperties" | "maxProperties" | "minItems" | "maxItems" | "minLength" | "maxLength" => {
                let Some(count) = value.as_u64() else { return wrong("a whole number, 0 or more") };
                let bounds: &mut Bounds<u64> = match &keyword[3..] {
                    "Properties" => &mut schema.entries,
                    "Items" => &mut schema.elements,
                    _ => &mut schema.characters,
                };
                let bound = if keyword.starts_with("min") { &mut bounds.least } else { &mut bounds.most };
                *bound = Some(count);
            }
            "title" | "description" | "default" | "examples" | "$schema" | "$comment" => {}
            _ => return Err(fail(&path, "this keyword is not known here".to_owned())),
        }
    }
    Ok(schema)
}

fn properties_of(
    properties: &Map<String, Value>,
    path: &str,
    depth: usize,
) -> Result<Vec<(String, Schema)>, SchemaError> {
    let one =
        |(name, value): (&String, &Value)| Ok((name.clone(), schema(value, &below(path, name), depth + 1)?));
    properties.iter().map(one).collect()
}

fn types(value: &Value) -> Option<Vec<Type>> {
    let of_name = |name: &Value| Type::ALL.into_iter().find(|kind| name.as_str() == Some(kind.name()));
    match value {
        Value::Array(names) if !names.is_empty() => names.iter().map(of_name).collect(),
        name => Some(vec![of_name(name)?]),
    }
}

fn type_names() -> String {
    let names = Type::ALL.map(Type::name).join(", ");
    format!("must be one of {names}, or an array of them")
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}
