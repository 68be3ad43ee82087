//! Filters: which devices are meant, as people write it: `os:debian version:<0.2 seen:>2h -name:ber*`.
//!
//! ```text
//! filter = all *("or" all)         what "or" joins binds less than what blanks join
//! all    = one *(["and"] one)
//! one    = ("-" / "not") one / "(" filter ")" / key ":" value / text
//! ```
//!
//! Values and texts with blanks, parentheses or a colon stand in double quotes, in which `\` stands before a
//! quote or a backslash. Everything is compared in whatever case of ASCII letters.

mod parser;
mod term;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::wire::presence::Presence;
use crate::wire::status::Status;
use crate::wire::time::WallTime;
pub use parser::{DEPTH_MAX, FILTER_BYTES_MAX, TERMS_MAX};
use term::Term;
pub use term::{KEYS, Lookup, quoted};

/// A fault of a filter.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message} (at character {} of the filter)", .at + 1)]
pub struct FilterError {
    /// Number of characters before the place.
    pub at: usize,
    /// The fault, and what is allowed.
    pub message: String,
}

impl FilterError {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    /// The filter, and a caret under the place, for a terminal.
    #[must_use]
    pub fn pointing(&self, filter: &str) -> String {
        let shown: String = filter.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
        format!("{}\n  {shown}\n  {}^", self.message, " ".repeat(self.at))
    }
}

/// A filter that was understood. The one of an empty text lets everything through.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Filter {
    text: String,
    root: Node,
    lookups: Vec<Lookup>,
}

/// A condition, made of others or not.
#[derive(Clone, PartialEq, Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Term(Term),
}

impl Default for Node {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

/// One device, as a filter asks about it. Each fact is asked for only when it is needed.
pub trait Subject {
    /// Its name.
    fn name(&self) -> &str;
    /// The host's name; empty when it has not said.
    fn hostname(&self) -> &str;
    /// Id and name of its system; empty when it has not said.
    fn os(&self) -> (&str, &str);
    /// Version of its agent; empty when it has not said.
    fn agent_version(&self) -> &str;
    /// Its status, as it was judged last.
    fn status(&self) -> Status;
    /// Its presence.
    fn presence(&self) -> Presence;
    /// When it was last heard; zero: never.
    fn last_seen(&self) -> WallTime;
    /// When its last sync ended; zero: none did.
    fn last_sync(&self) -> WallTime;
    /// Whether it has stored what it is to trust of the server.
    fn has_pins(&self) -> bool;
    /// Whether it is one of those that [`Filter::lookups`] at this place means.
    fn is_found(&self, lookup: usize) -> bool;
}

impl Filter {
    /// Facts that have to be looked up elsewhere before a device is asked about.
    #[must_use]
    pub fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    /// Whether the device is let through at this time.
    #[must_use]
    pub fn matches(&self, device: &impl Subject, now: WallTime) -> bool {
        self.root.matches(device, now)
    }
}

impl Node {
    fn matches(&self, device: &impl Subject, now: WallTime) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.matches(device, now)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(device, now)),
            Self::Not(node) => !node.matches(device, now),
            Self::Term(term) => term.matches(device, now),
        }
    }
}

/// As it was written.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
