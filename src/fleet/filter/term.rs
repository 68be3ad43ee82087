//! The terms of a filter: a key and a value, or a text.

use std::time::Duration;

use super::words::Word;
use super::{FilterError, Subject};
use crate::fleet::version::VersionExpression;
use crate::wire::pattern::{contains, fits};
use crate::wire::presence::Presence;
use crate::wire::status::Status;
use crate::wire::time::WallTime;
use crate::wire::units::parse_duration;

/// The keys, each with an example.
pub const KEYS: [&str; 13] = [
    "name:ber*",
    "host:*.example.org",
    "group:/berlin",
    "tag:kiosk",
    "os:debian",
    "version:<0.2",
    "app:openssl<3.0.14",
    "presence:lost",
    "status:critical",
    "seen:>2h",
    "synced:>1d",
    "pins:missing",
    "view:old-ones",
];

/// One condition.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Term {
    /// The name or the host's name contains it.
    Text(String),
    Name(String),
    Host(String),
    Os(String),
    AgentVersion(VersionExpression),
    Presence(Presence),
    Status(Status),
    Seen(Age),
    Synced(Age),
    HasPins(bool),
    /// The lookup at this place.
    Found(usize),
}

/// A time that has passed since something. Of what never was it is longer than any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Age {
    is_longer: bool,
    than: Duration,
}

/// A fact that has to be looked up elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// The devices of the group with this path, and of the groups below it.
    Group(String),
    /// The devices that have a tag whose name fits this pattern.
    Tag(String),
    /// The devices that the filter of the view with this name lets through.
    View(String),
    /// The devices that have an application.
    Application {
        /// A pattern of its name.
        name: String,
        /// Which versions; `None`: any.
        version: Option<VersionExpression>,
    },
}

/// A text as a filter has it: what is in it stands for itself, but for `*` and `?`.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Reads a word of a filter that begins behind `at` characters.
pub(super) fn read(at: usize, word: &Word, lookups: &mut Vec<Lookup>) -> Result<Term, FilterError> {
    let Some(key_bytes) = word.key_bytes else {
        if word.text.is_empty() {
            return Err(FilterError::new(at, "this text is empty"));
        }
        return Ok(Term::Text(word.text.clone()));
    };
    let (key, value) = (&word.text[..key_bytes], &word.text[key_bytes + 1..]);
    let place = |byte: usize| word.place(key_bytes + 1 + byte);
    let wrong = |message: String| FilterError::new(place(0), message);
    if value.is_empty() {
        return Err(FilterError::new(word.place(key_bytes), format!("behind '{key}:' a value is missing")));
    }
    let owned = || value.to_owned();
    Ok(match key {
        "name" => Term::Name(owned()),
        "host" => Term::Host(owned()),
        "group" => {
            let path = group(value).ok_or_else(|| {
                wrong(format!(
                    "'{value}' is not a group path: names separated by '/', such as /berlin/kiosks"
                ))
            })?;
            found(Lookup::Group(path), lookups)
        }
        "tag" => found(Lookup::Tag(owned()), lookups),
        "view" => found(Lookup::View(owned()), lookups),
        "os" => Term::Os(owned()),
        "version" => Term::AgentVersion(version(value).map_err(wrong)?),
        "app" => {
            let operator = word.operator_bytes.map_or(value.len(), |at| at - key_bytes - 1);
            let (name, versions) = value.split_at(operator);
            if name.is_empty() {
                return Err(wrong("before the version the application's name is missing".into()));
            }
            let wrong = |message| FilterError::new(place(operator), message);
            let version = (!versions.is_empty()).then(|| version(versions)).transpose().map_err(wrong)?;
            found(Lookup::Application { name: name.to_owned(), version }, lookups)
        }
        "presence" => Term::Presence(value.parse().map_err(|error| wrong(String::from(error)))?),
        "status" => Term::Status(value.parse().map_err(|error| wrong(String::from(error)))?),
        "seen" => Term::Seen(age(value).map_err(wrong)?),
        "synced" => Term::Synced(age(value).map_err(wrong)?),
        "pins" => Term::HasPins(match value {
            "stored" => true,
            "missing" => false,
            _ => return Err(wrong(format!("'{value}' is neither stored nor missing"))),
        }),
        _ => {
            let keys = KEYS.map(|example| example.split(':').next().unwrap_or_default()).join(", ");
            return Err(FilterError::new(
                at,
                format!("there is no key '{key}': it is one of {keys}; a text with a colon needs quotes"),
            ));
        }
    })
}

/// The term for something that is looked up, once for all that ask the same.
fn found(lookup: Lookup, lookups: &mut Vec<Lookup>) -> Term {
    let known = lookups.iter().position(|known| *known == lookup);
    Term::Found(known.unwrap_or_else(|| {
        lookups.push(lookup);
        lookups.len() - 1
    }))
}

/// A path in its one form: it begins with a slash, and ends with none.
fn group(path: &str) -> Option<String> {
    let inner = path.trim_matches('/');
    let is_path = path == "/" || !inner.is_empty() && !inner.contains("//");
    is_path.then(|| format!("/{inner}"))
}

/// A version alone stands for itself.
fn version(text: &str) -> Result<VersionExpression, String> {
    let has_operator = text.starts_with(['<', '>', '=', '!']);
    let expression = if has_operator { text.to_owned() } else { format!("={text}") };
    expression.parse().map_err(String::from)
}

fn age(text: &str) -> Result<Age, String> {
    let (is_longer, duration) = match (text.strip_prefix('>'), text.strip_prefix('<')) {
        (Some(duration), _) => (true, duration),
        (None, Some(duration)) => (false, duration),
        (None, None) => {
            return Err(format!("'{text}' is not how long ago: '>' or '<' and a duration, such as >2h"));
        }
    };
    Ok(Age { is_longer, than: parse_duration(duration)? })
}

impl Age {
    fn holds(self, then: WallTime, now: WallTime) -> bool {
        let ago = Duration::from_millis(now.0.saturating_sub(then.0));
        (then == WallTime(0) || ago > self.than) == self.is_longer
    }
}

impl Term {
    pub(super) fn matches(&self, device: &impl Subject, now: WallTime) -> bool {
        match self {
            Self::Text(text) => contains(device.name(), text) || contains(device.hostname(), text),
            Self::Name(pattern) => fits(pattern, device.name()),
            Self::Host(pattern) => fits(pattern, device.hostname()),
            Self::Os(text) => {
                let (id, name) = device.os();
                fits(text, id) || fits(text, name) || contains(name, text)
            }
            Self::AgentVersion(expression) => {
                let version = device.agent_version();
                !version.is_empty() && expression.holds_for(version)
            }
            Self::Presence(presence) => device.presence() == *presence,
            Self::Status(status) => device.status() == *status,
            Self::Seen(age) => age.holds(device.last_seen(), now),
            Self::Synced(age) => age.holds(device.last_sync(), now),
            Self::HasPins(has_pins) => device.has_pins() == *has_pins,
            Self::Found(lookup) => device.is_found(*lookup),
        }
    }
}
