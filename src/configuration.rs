//! Layer 2: configuration files, TOML that people write. A wrong one is refused in one line with the file,
//! the line, the key, what is wrong and what is allowed: `musterd.toml:2: sync.interval = "8d" is not
//! allowed: a duration from 10s to 1w, such as "15m"`.
//!
//! The settings are structs with serde's `Deserialize` and `deny_unknown_fields`; values with units and
//! bounds are read by the functions here, for `deserialize_with`. They give a plain value or an `Option`.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{DeserializeOwned, Deserializer, Error, Unexpected, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::wire::named::ParseError;
use crate::wire::units::{format_duration, format_size, parse_duration, parse_size};

/// Most bytes of a value that a message repeats.
const SHOWN_BYTES_MAX: usize = 80;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Key, and what is allowed.
        message: String,
    },
}

impl ConfigError {
    /// Which file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Unreadable { path, .. } | Self::Wrong { path, .. } => path,
        }
    }
}

/// A text that is said to be from a file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The TOML document.
    pub text: &'a str,
    /// The file, for messages.
    pub path: &'a Path,
}

/// Place of a key in a document: its whole name, and its value unless the key itself is meant.
struct Place<'a> {
    key: String,
    value: Option<&'a Spanned<DeValue<'a>>>,
}

impl<'a> Source<'a> {
    /// Reads the text.
    ///
    /// # Errors
    /// When it is no TOML, or does not say what `T` asks for.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T, ConfigError> {
        toml::from_str(self.text).map_err(|error| self.refused(&error))
    }

    /// The refusal of a value that is there: `why` follows its name.
    #[must_use]
    pub fn wrong(self, key: &str, why: &str) -> ConfigError {
        let document = DeTable::parse(self.text).ok();
        let value = document.as_ref().and_then(|document| value_at(document.get_ref(), key));
        self.at(value.map_or(0, |value| value.span().start), format!("{key} {why}"))
    }

    /// Whether it says something for this key, whose name has those of its tables before it: `log.level`.
    #[must_use]
    pub fn has(self, key: &str) -> bool {
        DeTable::parse(self.text).is_ok_and(|document| value_at(document.get_ref(), key).is_some())
    }

    fn at(self, offset: usize, message: String) -> ConfigError {
        let before = self.text.as_bytes().iter().take(offset);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        ConfigError::Wrong { path: self.path.to_owned(), line, message }
    }

    fn refused(self, error: &toml::de::Error) -> ConfigError {
        let offset = error.span().map_or(0, |span| span.start);
        let message = error.message().replace('\n', ", ");
        let message = match DeTable::parse(self.text) {
            Err(_) => message,
            Ok(document) => match find(document.get_ref(), "", offset) {
                Some(place) => self.explained(&place, &message),
                None => message,
            },
        };
        self.at(offset, message)
    }

    /// The message with the key's whole name, what it says and what it may say.
    fn explained(self, Place { key, value }: &Place<'_>, message: &str) -> String {
        let (wrong, expected) = message.split_once(", expected ").unwrap_or((message, ""));
        if wrong.starts_with("unknown field ") {
            return unknown(key, &quoted(expected));
        }
        let Some(value) = value else { return format!("{key}: {message}") };
        let expected = match expected {
            "a boolean" => "true or false".into(),
            "a string" | "path string" | "a string or path" => "a text in quotation marks".into(),
            "a sequence" => "a list of texts, such as [\"a\", \"b\"]".into(),
            table if table.starts_with("struct ") => format!("a table: [{key}]"),
            other => other.replace('`', "\""),
        };
        let raw =
            self.text.get(value.span()).filter(|raw| raw.len() <= SHOWN_BYTES_MAX && !raw.contains('\n'));
        let said = raw.map_or(String::new(), |raw| format!(" = {raw}"));
        match wrong.split(' ').take(2).collect::<Vec<_>>()[..] {
            ["invalid", "type:"] => format!("{key} is {}, it must be {expected}", kind_of(value)),
            ["wanted", ..] => format!("{key} is {}, it must be a text in quotation marks", kind_of(value)),
            ["invalid", "value:"] => format!("{key}{said} is not allowed: {expected}"),
            ["unknown", "variant"] => {
                format!("{key}{said} is not allowed: {}", expected.trim_start_matches("one of "))
            }
            ["is" | "begins", ..] => format!("{key} {message}"),
            ["missing", "field"] => format!("{key}.{} is missing", quoted(message).concat()),
            _ => format!("{key}: {message}"),
        }
    }
}

/// The parts of a message that stand between backticks.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

fn value_at<'a>(table: &'a DeTable<'a>, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
    match key.split_once('.') {
        None => table.get(key),
        Some((first, rest)) => value_at(table.get(first)?.get_ref().as_table()?, rest),
    }
}

/// The key or the value that stands at `offset`, the innermost one.
fn find<'a>(table: &'a DeTable<'a>, above: &str, offset: usize) -> Option<Place<'a>> {
    table.iter().find_map(|(name, value)| {
        let key = format!("{above}{}", name.get_ref());
        let below = format!("{key}.");
        let inner = match value.get_ref() {
            DeValue::Table(table) => find(table, &below, offset),
            DeValue::Array(items) => {
                let tables = items.iter().filter_map(|item| item.get_ref().as_table());
                tables.into_iter().find_map(|table| find(table, &below, offset))
            }
            _ => None,
        };
        inner.or_else(|| match offset {
            _ if value.span().contains(&offset) => Some(Place { key, value: Some(value) }),
            _ if name.span().contains(&offset) => Some(Place { key, value: None }),
            _ => None,
        })
    })
}

fn kind_of(value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref().type_str() {
        kind @ ("integer" | "array") => format!("an {kind}"),
        "string" => "a text".into(),
        kind => format!("a {kind}"),
    }
}

/// Refuses a key that nobody reads: a mistyped setting that is silently ignored is the worst kind.
fn unknown(key: &str, allowed: &[&str]) -> String {
    let (above, name) = key.rsplit_once('.').map_or(("", key), |(above, name)| (above, name));
    let dot = if above.is_empty() { "" } else { "." };
    let nearest = allowed.iter().map(|known| (distance(name, known), known)).min();
    let hint = match nearest {
        Some((steps, known)) if steps <= 1 + known.len() / 4 => {
            format!("did you mean {above}{dot}{known}? ")
        }
        _ => String::new(),
    };
    format!("{key} is not known: {hint}allowed here: {}", allowed.join(", "))
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

/// A value that has to be `expected`, and is when `read` gives something.
struct Expected<R> {
    expected: String,
    read: R,
}

impl<T, R: Fn(&str) -> Option<T>> Visitor<'_> for Expected<R> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A text that `read` understands; else the message says that `expected` is.
///
/// # Errors
/// When it is something else.
pub fn text<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    expected: String,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(Expected { expected, read })
}

/// A duration, from `MIN` to `MAX` seconds.
///
/// # Errors
/// When it is none, or out of bounds.
pub fn duration<'de, const MIN: u64, const MAX: u64, T: From<Duration>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let (from, to) = (Duration::from_secs(MIN), Duration::from_secs(MAX));
    let range = (format_duration(from), format_duration(to));
    let expected = format!("a duration from {} to {}, such as \"15m\"", range.0, range.1);
    let read = |text: &str| parse_duration(text).ok().filter(|duration| (from..=to).contains(duration));
    text(deserializer, expected, read).map(T::from)
}

/// A size, from `MIN` to `MAX` bytes.
///
/// # Errors
/// When it is none, or out of bounds.
pub fn size<'de, const MIN: u64, const MAX: u64, T: From<u64>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let expected = format!("a size from {} to {}, such as \"64MiB\"", format_size(MIN), format_size(MAX));
    let read = |text: &str| parse_size(text).ok().filter(|size| (MIN..=MAX).contains(size));
    text(deserializer, expected, read).map(T::from)
}

/// A path, not empty, and none that only a shell understands.
///
/// # Errors
/// When it is something else.
pub fn path<'de, T: From<PathBuf>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let path: String = text(deserializer, "a text in quotation marks".into(), |text| Some(text.to_owned()))?;
    match path.as_str() {
        "" => Err(Error::custom("is empty, it must be a path")),
        path if path == "~" || path.starts_with("~/") => Err(Error::custom(
            "begins with ~, which only a shell replaces: write the whole path, such as /home/NAME/…",
        )),
        path => Ok(T::from(PathBuf::from(path))),
    }
}

/// An address to listen on: an IP address, and a port unless it is `PORT`.
///
/// # Errors
/// When it is something else.
pub fn address<'de, const PORT: u16, T: From<SocketAddr>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let address: String =
        text(deserializer, "a text in quotation marks".into(), |text| Some(text.to_owned()))?;
    let address = parse_address(&address, PORT);
    address.map(T::from).map_err(|error| Error::custom(format_args!("is not allowed: {error}")))
}

/// Reads a socket address; a missing port is `default_port`.
///
/// # Errors
/// When it is no IP address. Names are not resolved: a server listens on addresses.
pub fn parse_address(text: &str, default_port: u16) -> Result<SocketAddr, ParseError> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text.parse()
        .or_else(|_| bare.parse().map(|address| SocketAddr::new(address, default_port)))
        .map_err(|_| ParseError::is_not(text, "an address (IP:PORT, such as 0.0.0.0:13000 or [::]:13000)"))
}

/// A whole number, from `MIN` to `MAX`.
///
/// # Errors
/// When it is none, or out of bounds.
pub fn count<'de, const MIN: u64, const MAX: u64, T: From<N>, N: TryFrom<u64>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct Count<const MIN: u64, const MAX: u64>;

    impl<const MIN: u64, const MAX: u64> Visitor<'_> for Count<MIN, MAX> {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a whole number from {MIN} to {MAX}")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
            let count = u64::try_from(number).ok().filter(|count| (MIN..=MAX).contains(count));
            count.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
        }
    }

    let count = deserializer.deserialize_u64(Count::<MIN, MAX>)?;
    let count = N::try_from(count).map_err(|_| Error::custom("is more than this machine can hold"))?;
    Ok(T::from(count))
}
