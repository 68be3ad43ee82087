//! The process that an agent runs in.

use crate::agent::settings::LogLevel;
use crate::wire::time::Moment;

/// The process that an agent runs in, as far as it hears of the agent. A program that embeds one hears
/// nothing.
pub trait Surroundings: Send {
    /// It runs.
    fn ready(&self) {}

    /// Its loop turns. Returns by when that must be told again; `None`: that matters to nobody.
    fn turns(&self, _now: Moment) -> Option<Moment> {
        None
    }

    /// Its configuration is being read again; [`ready`](Self::ready) tells that this is over.
    fn reloading(&self) {}

    /// It has come in sync.
    fn synced(&self) {}

    /// It is about to end.
    fn stopping(&self) {}

    /// Its state, for people.
    fn status(&self, _text: &str) {}

    /// The log should have lines of this level and above.
    fn set_log_level(&self, _level: LogLevel) {}
}

/// A program that embeds an agent.
#[derive(Debug)]
pub struct Embedding;

impl Surroundings for Embedding {}
