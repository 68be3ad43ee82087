//! When free memory is given back.

/// Links that must have gone, or handshakes that must have been made, before it is worth looking for free memory, in links: each handshake
/// takes about 12 KB for as long as it lasts.
const LINKS_MIN: u64 = 128;

/// Handshakes, and links that end, in a second in which nothing much goes on, at most.
const QUIET_MAX: u64 = 32;

/// When to give memory back.
///
/// The allocator keeps what a storm of handshakes or a fleet of links took, since its heaps end where the last thing that is still in use
/// lies. When the storm is over, its free pages are given back to the system at once. Told once a second.
#[derive(Default)]
pub(super) struct Trimmer {
    links_most: u64,
    links_last: u64,
    handshakes_trimmed: u64,
    handshakes_last: u64,
}

impl Trimmer {
    /// Whether now is the time: much was in use that is not any more, and nothing much is going on.
    pub(super) fn is_due(&mut self, links_open: u64, handshakes: u64) -> bool {
        let is_quiet = links_open + QUIET_MAX >= self.links_last
            && handshakes.saturating_sub(self.handshakes_last) < QUIET_MAX;
        (self.links_last, self.handshakes_last) = (links_open, handshakes);
        self.links_most = self.links_most.max(links_open);
        let gone = self.links_most - links_open;
        let made = handshakes.saturating_sub(self.handshakes_trimmed);
        let is_due = is_quiet && (gone >= LINKS_MIN.max(self.links_most / 8) || made >= LINKS_MIN);
        if is_due {
            (self.links_most, self.handshakes_trimmed) = (links_open, handshakes);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_a_storm_is_over_and_not_while_it_lasts() {
        let mut trimmer = Trimmer::default();
        assert!(!trimmer.is_due(0, 0));
        assert!(!trimmer.is_due(5_000, 5_000), "they are coming");
        assert!(!trimmer.is_due(9_000, 9_000));
        assert!(trimmer.is_due(9_000, 9_000), "all are there");
        assert!(!trimmer.is_due(9_000, 9_010), "once is enough");
        assert!(!trimmer.is_due(3_000, 9_010), "they are going");
        assert!(trimmer.is_due(3_000, 9_010));
        assert!(!trimmer.is_due(2_990, 9_020), "what comes and goes all day is no storm");
    }
}
