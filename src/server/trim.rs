//! When free memory is given back.

/// Links that must have gone, or handshakes that must have been made, before it is worth looking for free
/// memory: each handshake takes about 10 KB for as long as it lasts.
const LINKS_MIN: u64 = 128;

/// Handshakes, and links that end, in a second in which nothing much goes on, at most.
const QUIET_MAX: u64 = 32;

/// When a start is over: what it needed of memory is given back then.
const START_LOOKS: u32 = 2;

/// After how many looks memory is given back once more: by then what the end of a storm itself needed is free
/// too.
const AFTERMATH_LOOKS: u32 = 2;

/// The next step of giving memory back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trim {
    Nothing,
    /// Caches are to be emptied. With the next look that is done, and what they held is given back.
    EmptyCaches,
    GiveBack,
}

/// When to give memory back.
///
/// The allocator keeps what a storm of handshakes or a fleet of links took, since its heaps end where the
/// last thing that is still in use lies. When the storm is over, its free pages are given back to the system
/// at once. Told once a second.
#[derive(Default)]
pub(super) struct Trimmer {
    links_most: u64,
    links_last: u64,
    handshakes_trimmed: u64,
    handshakes_last: u64,
    looks: u32,
    stage: Stage,
}

/// Progress of giving memory back.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Done,
    /// Caches were told to empty themselves.
    Emptied,
    /// It was given back, and will be once more after this many looks.
    Aftermath(u32),
}

impl Trimmer {
    /// Looks whether much was in use that is not any more, and nothing much is going on.
    pub(super) fn look(&mut self, links_open: u64, handshakes: u64) -> Trim {
        self.looks = self.looks.saturating_add(1);
        let is_quiet = links_open + QUIET_MAX >= self.links_last
            && handshakes.saturating_sub(self.handshakes_last) < QUIET_MAX;
        (self.links_last, self.handshakes_last) = (links_open, handshakes);
        self.links_most = self.links_most.max(links_open);
        if self.stage == Stage::Emptied {
            self.stage = Stage::Aftermath(AFTERMATH_LOOKS);
            return Trim::GiveBack;
        }
        let gone = self.links_most - links_open;
        let made = handshakes.saturating_sub(self.handshakes_trimmed);
        let is_worth_it = gone >= LINKS_MIN.max(self.links_most / 8) || made >= LINKS_MIN;
        if is_quiet && is_worth_it || self.looks == START_LOOKS {
            (self.links_most, self.handshakes_trimmed) = (links_open, handshakes);
            self.stage = Stage::Emptied;
            return Trim::EmptyCaches;
        }
        match self.stage {
            Stage::Aftermath(0 | 1) if is_quiet => {
                self.stage = Stage::Done;
                return Trim::GiveBack;
            }
            Stage::Aftermath(looks) => self.stage = Stage::Aftermath(looks.saturating_sub(1)),
            Stage::Done | Stage::Emptied => {}
        }
        Trim::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::Trim::{EmptyCaches, GiveBack, Nothing};
    use super::*;

    /// One whose start is over.
    fn started() -> Trimmer {
        let mut trimmer = Trimmer::default();
        assert_eq!([(); 4].map(|()| trimmer.look(0, 0)), [Nothing, EmptyCaches, GiveBack, Nothing]);
        trimmer
    }

    #[test]
    fn memory_is_given_back_when_a_storm_is_over_and_not_while_it_lasts() {
        let mut trimmer = started();
        assert_eq!(trimmer.look(5_000, 5_000), Nothing, "they are coming");
        assert_eq!(trimmer.look(9_000, 9_000), Nothing);
        assert_eq!(trimmer.look(9_000, 9_000), EmptyCaches, "all are there");
        assert_eq!(trimmer.look(9_000, 9_010), GiveBack);
        assert_eq!(trimmer.look(9_000, 9_010), Nothing, "once is enough");
        assert_eq!(trimmer.look(3_000, 9_010), Nothing, "they are going");
        assert_eq!(trimmer.look(3_000, 9_010), EmptyCaches);
        assert_eq!(trimmer.look(2_990, 9_020), GiveBack);
        assert_eq!(trimmer.look(2_990, 9_020), Nothing);
        assert_eq!(trimmer.look(2_990, 9_020), GiveBack, "what the end of the storm needed");
        for _ in 0..10 {
            assert_eq!(trimmer.look(2_990, 9_020), Nothing, "what comes and goes all day is no storm");
        }
    }
}
