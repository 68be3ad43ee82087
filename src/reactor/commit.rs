//! When what a reactor has appended to the journal is made durable.

use super::backend::{Backend, Flushed};
use crate::machine::commit_delay::CommitDelay;

/// A reactor's work for the journal, and its wait for more.
#[derive(Default)]
pub(super) struct Commit {
    state: State,
    pub(super) delay: CommitDelay,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Everything was handed on.
    #[default]
    Nothing,
    /// Something was appended.
    Appended,
    /// Others made something durable when this reactor wanted to: it is notified when they are done, and what
    /// comes until then goes with it.
    BehindOthers,
}

impl Commit {
    /// Something was appended.
    pub(super) fn note_appended(&mut self) {
        if self.state == State::Nothing {
            self.state = State::Appended;
        }
    }

    /// Whether something has to be made durable.
    pub(super) fn is_due(&self) -> bool {
        self.state != State::Nothing
    }

    /// Whether others are waited for.
    pub(super) fn is_behind_others(&self) -> bool {
        self.state == State::BehindOthers
    }

    /// Makes durable what was appended: in this thread if that is a matter of a moment and the thread has
    /// nothing else to do, else in the journal's.
    pub(super) fn flush(&mut self, backend: &impl Backend, is_idle: bool) {
        if std::mem::take(&mut self.state) == State::Nothing {
            return;
        }
        self.delay.end();
        match is_idle.then(|| backend.flush_here()) {
            Some(Flushed::Done) => {}
            Some(Flushed::ByOthers) => self.state = State::BehindOthers,
            Some(Flushed::NotHere) | None => backend.flush(),
        }
    }
}
