//! Dotted paths: how a key within settings is named.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::wire::named::ParseError;

/// Names a key within settings: `receipt.lines`. A dot or backslash that belongs to a name has a backslash
/// before it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyPath(Vec<String>);

impl KeyPath {
    /// The names, the outermost first; never empty.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    pub(super) fn new(names: &[String]) -> Self {
        Self(names.to_vec())
    }

    /// Returns the value there.
    #[must_use]
    pub fn find<'v>(&self, settings: &'v Map<String, Value>) -> Option<&'v Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(settings.get(first)?, |value, name| value.as_object()?.get(name))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> =
            self.0.iter().map(|name| name.replace('\\', "\\\\").replace('.', "\\.")).collect();
        f.pad(&shown.join("."))
    }
}

impl FromStr for KeyPath {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = || {
            ParseError::from(format!(
                "'{text}' names no key: names separated by dots are wanted, such as receipt.lines (a dot within a name is \
                 written \\.)"
            ))
        };
        let (mut names, mut name) = (Vec::new(), String::new());
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '.' => names.push(std::mem::take(&mut name)),
                '\\' => match letters.next() {
                    Some(escaped @ ('.' | '\\')) => name.push(escaped),
                    _ => return Err(bad()),
                },
                letter => name.push(letter),
            }
        }
        names.push(name);
        if names.iter().any(String::is_empty) { Err(bad()) } else { Ok(Self(names)) }
    }
}
