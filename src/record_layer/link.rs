//! An established connection, as small as it gets.

use super::error::OpenError;
use super::opening::OpeningBurst;
use super::sealing::SealingBurst;
use super::secret::Half;
use super::secret::Secret;
use super::suite::Suite;

/// Most memory of a link's records. It is the larger part of what an idle link may cost.
pub const SLIM_LINK_BYTES_MAX: usize = 144;

const _: () = assert!(size_of::<SlimLink>() <= SLIM_LINK_BYTES_MAX);

/// Begin of one direction: its traffic secret, as long as the suite's hash, and the number of its next
/// record. The caller that hands the secret over wipes it.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// The traffic secret.
    pub secret: &'a [u8],
    /// The number of the next record.
    pub sequence: u64,
}

/// One end of an established connection: a secret and a number for each direction, and what it must remember
/// of the peer.
///
/// It owns no key and no buffer. A key is made for a burst of records and dropped with it, and a burst holds
/// the link, so that no other can be under way.
#[derive(Debug)]
pub struct SlimLink {
    opening: Half,
    sealing: Half,
    suite: Suite,
    state: State,
}

/// State of a link besides its secrets and numbers.
#[derive(Debug)]
pub(super) struct State {
    pub(super) receiving: Receiving,
    pub(super) sending: Sending,
    /// Records in a row that brought nothing.
    pub(super) empty_records: u8,
    /// KeyUpdates that are not outweighed by records with data.
    pub(super) key_updates_ahead: u8,
    /// The peer wants a KeyUpdate before the next data (RFC 8446 section 4.6.3).
    pub(super) owes_key_update: bool,
    /// The peer has been asked for one and has not sent it.
    pub(super) has_asked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receiving {
    Open,
    /// The peer has said that nothing more comes.
    Closed,
    /// It failed, and does so in the same way ever after.
    Failed(OpenError),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sending {
    Open,
    Closed,
}

impl SlimLink {
    /// From what a handshake has agreed on. `None` when a secret is not as long as the suite's are.
    #[must_use]
    pub fn new(suite: Suite, opening: Start<'_>, sealing: Start<'_>) -> Option<Self> {
        let half = |start: Start<'_>| Some(Half::new(Secret::new(suite, start.secret)?, start.sequence));
        Some(Self {
            opening: half(opening)?,
            sealing: half(sealing)?,
            suite,
            state: State {
                receiving: Receiving::Open,
                sending: Sending::Open,
                empty_records: 0,
                key_updates_ahead: 0,
                owes_key_update: false,
                has_asked: false,
            },
        })
    }

    /// To open records that have arrived.
    pub fn opening_burst(&mut self) -> OpeningBurst<'_> {
        OpeningBurst::new(self.suite, &mut self.opening, &mut self.state)
    }

    /// To seal records that are to leave.
    pub fn sealing_burst(&mut self) -> SealingBurst<'_> {
        let opened = self.opening.sequence();
        SealingBurst::new(self.suite, &mut self.sealing, &mut self.state, opened)
    }

    /// Protection of its records.
    #[must_use]
    #[cfg(test)]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The numbers of the next record to be opened and of the next to be sealed.
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn sequences(&self) -> (u64, u64) {
        (self.opening.sequence(), self.sealing.sequence())
    }

    /// Whether this key and initialization vector are those that records are opened with. Compared in
    /// constant time.
    #[must_use]
    pub fn opens_with(&self, key: &[u8], iv: &[u8]) -> bool {
        self.opening.has_key(self.suite, key, iv)
    }

    /// Whether this key and initialization vector are those that records are sealed with. Compared in
    /// constant time.
    #[must_use]
    pub fn seals_with(&self, key: &[u8], iv: &[u8]) -> bool {
        self.sealing.has_key(self.suite, key, iv)
    }

    /// Whether the peer waits for a KeyUpdate of ours. It is sealed before the next data without being asked
    /// for.
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn owes_key_update(&self) -> bool {
        self.state.owes_key_update
    }
}
