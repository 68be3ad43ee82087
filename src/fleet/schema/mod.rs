//! Shape of settings: a small part of JSON Schema (draft 2020-12, json-schema.org), which devices declare and
//! both sides check by.
//!
//! Known are `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `minProperties`,
//! `maxProperties`, `items`, `minItems`, `maxItems`, `minimum`, `maximum`, `exclusiveMinimum`,
//! `exclusiveMaximum`, `minLength`, `maxLength`, and the annotations `title`, `description`, `default`,
//! `examples`, `$schema`, `$comment`. Anything else is refused when the schema is read: a rule that would not
//! be kept must not look as if it were.

mod check;
mod parse;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::wire::named::named;

/// Deepest nesting of a schema, in levels; a value can't be checked deeper than its schema goes.
pub const DEPTH_MAX: usize = 32;

/// A schema that was read.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Schema {
    /// Allowed types; empty: any.
    types: Vec<Type>,
    /// Allowed values, from `enum` or `const`.
    values: Option<Vec<Value>>,
    properties: Vec<(String, Schema)>,
    required: Vec<String>,
    additional: Additional,
    items: Option<Box<Schema>>,
    /// Entries of an object, elements of an array, characters of a text, in this order: least and most.
    entries: Bounds<u64>,
    elements: Bounds<u64>,
    characters: Bounds<u64>,
    number: Bounds<f64>,
    /// Whether the bounds of a number are themselves not allowed.
    number_exclusive: Bounds<f64>,
}

/// Members that an object may have beside its `properties`.
#[derive(Clone, PartialEq, Debug, Default)]
enum Additional {
    #[default]
    Anything,
    Nothing,
    Such(Box<Schema>),
}

/// Least and most.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Bounds<N> {
    least: Option<N>,
    most: Option<N>,
}

impl<N> Default for Bounds<N> {
    fn default() -> Self {
        Self { least: None, most: None }
    }
}

named! {
    /// Type of a value.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    Type {
        /// `null`.
        Null = "null",
        /// `true` or `false`.
        Boolean = "boolean",
        /// A number without a fraction.
        Integer = "integer",
        /// Any number.
        Number = "number",
        /// A text.
        String = "string",
        /// A list.
        Array = "array",
        /// Names and values.
        Object = "object",
    }
}

/// Why a text is no schema that is known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema{}: {reason}", if path.is_empty() { String::new() } else { format!(" at '{path}'") })]
pub struct SchemaError {
    /// Place in the schema, as a dotted path; empty at its root.
    pub path: String,
    /// The fault.
    pub reason: String,
}

/// Violation of a schema by a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", if path.is_empty() { String::new() } else { format!("'{path}': ") })]
pub struct Violation {
    /// Place in the value, as a dotted path; empty at its root.
    pub path: String,
    /// The fault, and what is allowed.
    pub reason: String,
}

impl Schema {
    /// Reads a schema. An empty text allows everything.
    ///
    /// # Errors
    /// When it is not JSON, or uses what is not known here: where, and what.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let value = serde_json::from_str(text)
            .map_err(|error| SchemaError { path: String::new(), reason: format!("not JSON: {error}") })?;
        Self::from_value(&value)
    }

    /// Reads a schema that was decoded already.
    ///
    /// # Errors
    /// As [`Schema::parse`].
    pub fn from_value(value: &Value) -> Result<Self, SchemaError> {
        parse::schema(value, "", 0)
    }

    /// Checks a value.
    ///
    /// # Errors
    /// The first thing that is not allowed, in the order of the value's keys.
    pub fn check(&self, value: &Value) -> Result<(), Violation> {
        check::value(self, value, "", true)
    }

    /// Checks a part of a value, in which required keys may be missing: others bring them.
    ///
    /// # Errors
    /// As [`Schema::check`].
    pub fn check_partial(&self, value: &Value) -> Result<(), Violation> {
        check::value(self, value, "", false)
    }
}

/// The path of something within something.
fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
