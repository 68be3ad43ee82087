//! Counters of an engine while it runs, for a reader in another thread or process.

use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Written by one engine, read by everybody.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[doc = $doc])* pub(crate) $name: AtomicU64,)*
        }

        /// Their values at one moment.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
        pub(crate) struct Counts {
            $($(#[doc = $doc])* pub(crate) $name: u64,)*
        }

        impl Counters {
            /// The values now.
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            /// Takes over what another process counts.
            pub(crate) fn set(&self, counts: &Counts) {
                $(self.$name.store(counts.$name, Ordering::Relaxed);)*
            }
        }

        impl Add for Counts {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }
        }

        impl Counts {
            /// Counts since an earlier look; gauges may have fallen, and are then 0.
            pub(crate) fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }
        }
    };
}

counters! {
    /// Agents that run now.
    running,
    /// Links that are open now, handshake done.
    open,
    /// Agents that have synced since they were started, or since the last mark, and still have that link.
    live,
    /// Handshakes that were finished with certificates.
    full,
    /// Handshakes that were resumed from a ticket.
    resumed,
    /// Connection attempts that came to nothing.
    failed,
    /// Open links that broke, or were closed by the server before their time.
    lost,
    /// Syncs that ended in sync.
    synced,
    /// Syncs that were due while the device had one under way.
    late,
    /// Number of times that the server said that it is busy.
    later,
    /// Events that happened.
    emitted,
    /// Events that the server acknowledged.
    acknowledged,
    /// Agents that came, synced and went again for the handshakes' sake.
    visits,
    /// Wakes that were taken.
    wakes,
    /// Bytes of messages to the server.
    payload_sent,
    /// Bytes of messages from the server.
    payload_received,
    /// Bytes of TLS to the server.
    wire_sent,
    /// Bytes of TLS from the server.
    wire_received,
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Counts `more` more.
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Counts one less.
pub(crate) fn uncount(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_between_two_looks_is_told() {
        let counters = Counters::default();
        add(&counters.acknowledged, 5);
        count(&counters.open);
        let before = counters.read();
        add(&counters.acknowledged, 7);
        uncount(&counters.open);
        let since = counters.read().since(&before);
        assert_eq!((since.acknowledged, since.open), (7, 0));
        assert_eq!((before + before).acknowledged, 10);
        counters.set(&before);
        assert_eq!(counters.read(), before);
    }
}
