//! The one thing that the agent is at beside its usual work.

use super::leaving::{Asleep, Leaving};
use super::moving::Move;

/// One thing at a time. A move that is under way when the device goes to sleep goes on when it is back.
#[derive(Default)]
pub(super) enum Mode {
    /// Its usual work.
    #[default]
    Working,
    /// To another server, as soon as the old one can be left.
    Moving(Box<Move>),
    /// A shutdown notice is being said.
    Leaving(Leaving, Option<Box<Move>>),
    /// The device is about to sleep, or sleeps, or has just woken up.
    Asleep(Asleep, Option<Box<Move>>),
}

impl Mode {
    /// The shutdown notice that is being said.
    pub(super) fn leaving(&self) -> Option<&Leaving> {
        match self {
            Self::Leaving(leaving, _) => Some(leaving),
            Self::Working | Self::Moving(_) | Self::Asleep(..) => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn leaving_mut(&mut self) -> Option<&mut Leaving> {
        match self {
            Self::Leaving(leaving, _) => Some(leaving),
            Self::Working | Self::Moving(_) | Self::Asleep(..) => None,
        }
    }

    /// Whether a shutdown notice is being said.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving().is_some()
    }

    /// Since when the device is about to sleep, or sleeps.
    pub(super) fn asleep(&self) -> Option<Asleep> {
        match self {
            Self::Asleep(asleep, _) => Some(*asleep),
            Self::Working | Self::Moving(_) | Self::Leaving(..) => None,
        }
    }

    /// A shutdown notice begins, whatever the agent was at.
    pub(super) fn leave(&mut self, leaving: Leaving) {
        let (_, moving) = self.take();
        *self = Self::Leaving(leaving, moving);
    }

    /// The shutdown notice is said, and the device sleeps from now on.
    pub(super) fn sleep(&mut self, asleep: Asleep) -> Option<Leaving> {
        let (leaving, moving) = self.take();
        *self = Self::Asleep(asleep, moving);
        leaving
    }

    /// Back at the usual work, or at the move.
    pub(super) fn resume(&mut self) -> Option<Leaving> {
        let (leaving, moving) = self.take();
        *self = moving.map_or(Self::Working, Self::Moving);
        leaving
    }

    fn take(&mut self) -> (Option<Leaving>, Option<Box<Move>>) {
        match std::mem::take(self) {
            Self::Working => (None, None),
            Self::Moving(moving) => (None, Some(moving)),
            Self::Leaving(leaving, moving) => (Some(leaving), moving),
            Self::Asleep(_, moving) => (None, moving),
        }
    }
}
