//! Takes a TOML document apart, keeping where everything stands, so that an error can say it.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{DEFAULT_PORT, parse_address};
use crate::wire::units::{format_duration, format_size, parse_duration, parse_size};

/// Place in the text (a byte offset), and the fault.
type Wrong = (usize, String);

/// A whole document.
pub(super) struct Reader<'t> {
    table: DeTable<'t>,
}

/// One table of it, which may be left out.
pub(super) struct Section<'r, 't> {
    name: &'static str,
    table: Option<&'r DeTable<'t>>,
}

impl<'t> Reader<'t> {
    pub(super) fn parse(text: &'t str) -> Result<Self, Wrong> {
        let table = DeTable::parse(text).map_err(|error| {
            (error.span().map_or(0, |span| span.start), error.message().replace('\n', ", "))
        })?;
        Ok(Self { table: table.into_inner() })
    }

    pub(super) fn only_sections(&self, allowed: &[&str]) -> Result<(), Wrong> {
        self.table.keys().try_for_each(|key| known(key, "", allowed))
    }

    pub(super) fn section(&self, name: &'static str, allowed: &[&str]) -> Result<Section<'_, 't>, Wrong> {
        let Some(value) = self.table.get(name) else {
            return Ok(Section { name, table: None });
        };
        let table = value.get_ref().as_table().ok_or_else(|| {
            let message = format!("{name} is {}, it must be a table: [{name}]", kind_of(value));
            (value.span().start, message)
        })?;
        table.keys().try_for_each(|key| known(key, &format!("{name}."), allowed))?;
        Ok(Section { name, table: Some(table) })
    }
}

impl Section<'_, '_> {
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// The error that a value is not allowed.
    pub(super) fn wrong(&self, key: &str, why: &str) -> Wrong {
        (self.value(key).map_or(0, |value| value.span().start), format!("{}.{key} {why}", self.name))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, Wrong> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let text = value.get_ref().as_str();
        text.map(Some).ok_or_else(|| self.wrong_kind(key, value, "a text in quotation marks"))
    }

    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, Wrong> {
        match self.text(key)? {
            Some("") => Err(self.wrong(key, "is empty, it must be a path")),
            Some(path) if path == "~" || path.starts_with("~/") => {
                let why =
                    "begins with ~, which only a shell replaces: write the whole path, such as /home/NAME/…";
                Err(self.wrong(key, why))
            }
            text => Ok(text.map(PathBuf::from)),
        }
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, Wrong> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let texts = value.get_ref().as_array().and_then(|array| {
            array.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        texts.map(Some).ok_or_else(|| self.wrong_kind(key, value, "a list of texts, such as [\"a\", \"b\"]"))
    }

    pub(super) fn address(&self, key: &str) -> Result<Option<SocketAddr>, Wrong> {
        let text = self.text(key)?;
        text.map(|text| parse_address(text, DEFAULT_PORT))
            .transpose()
            .map_err(|why| self.wrong(key, &format!("is not allowed: {why}")))
    }

    pub(super) fn count(&self, key: &str, allowed: RangeInclusive<u64>) -> Result<Option<usize>, Wrong> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let range = format!("a whole number from {} to {}", allowed.start(), allowed.end());
        let integer = value.get_ref().as_integer().ok_or_else(|| self.wrong_kind(key, value, &range))?;
        let count = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        count
            .and_then(|count| u64::try_from(count).ok())
            .filter(|count| allowed.contains(count))
            .and_then(|count| usize::try_from(count).ok())
            .map(Some)
            .ok_or_else(|| self.wrong(key, &format!("= {integer} is not allowed: {range}")))
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Wrong> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let flag = value.get_ref().as_bool();
        flag.map(Some).ok_or_else(|| self.wrong_kind(key, value, "true or false"))
    }

    pub(super) fn duration(
        &self,
        key: &str,
        allowed: RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, Wrong> {
        let range = || {
            let (from, to) = (format_duration(*allowed.start()), format_duration(*allowed.end()));
            format!("a duration from {from} to {to}, such as \"15m\"")
        };
        self.in_range(key, &allowed, parse_duration, range)
    }

    pub(super) fn size(&self, key: &str, allowed: RangeInclusive<u64>) -> Result<Option<u64>, Wrong> {
        let range = || {
            let (from, to) = (format_size(*allowed.start()), format_size(*allowed.end()));
            format!("a size from {from} to {to}, such as \"64MiB\"")
        };
        self.in_range(key, &allowed, parse_size, range)
    }

    fn in_range<T: PartialOrd>(
        &self,
        key: &str,
        allowed: &RangeInclusive<T>,
        parse: impl Fn(&str) -> Result<T, String>,
        range: impl Fn() -> String,
    ) -> Result<Option<T>, Wrong> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let text = value.get_ref().as_str().ok_or_else(|| self.wrong_kind(key, value, &range()))?;
        match parse(text) {
            Ok(parsed) if allowed.contains(&parsed) => Ok(Some(parsed)),
            _ => Err(self.wrong(key, &format!("= \"{text}\" is not allowed: {}", range()))),
        }
    }

    fn value(&self, key: &str) -> Option<&Spanned<DeValue<'_>>> {
        self.table.and_then(|table| table.get(key))
    }

    fn wrong_kind(&self, key: &str, value: &Spanned<DeValue<'_>>, allowed: &str) -> Wrong {
        self.wrong(key, &format!("is {}, it must be {allowed}", kind_of(value)))
    }
}

fn kind_of(value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref().type_str() {
        kind @ ("integer" | "array") => format!("an {kind}"),
        "string" => "a text".into(),
        kind => format!("a {kind}"),
    }
}

/// Refuses a key that nobody reads: a mistyped setting that is silently ignored is the worst kind.
fn known(key: &Spanned<std::borrow::Cow<'_, str>>, prefix: &str, allowed: &[&str]) -> Result<(), Wrong> {
    let name = key.get_ref().as_ref();
    if allowed.contains(&name) {
        return Ok(());
    }
    let nearest = allowed.iter().map(|known| (distance(name, known), known)).min();
    let hint = match nearest {
        Some((steps, known)) if steps <= 1 + known.len() / 4 => format!("did you mean {prefix}{known}? "),
        _ => String::new(),
    };
    Err((
        key.span().start,
        format!("{prefix}{name} is not known: {hint}allowed here: {}", allowed.join(", ")),
    ))
}

/// Number of letters that must change to make one word of the other (Levenshtein). Long words are cut: a key
/// has few letters.
fn distance(a: &str, b: &str) -> usize {
    const LETTERS_MAX: usize = 40;
    let b: Vec<char> = b.chars().take(LETTERS_MAX).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().take(LETTERS_MAX).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
