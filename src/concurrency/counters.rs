//! The server's counters, by name. Everything only rises, except the few that say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::strangers::Strangers;
use crate::machine::close::CloseReason;
use crate::wire::datagram::DropReason;

/// One number that many threads add to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes one off: only for the numbers that count what is there now.
    pub fn take_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counts since the server's start.
        #[derive(Debug)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
            closes: Vec<Counter>,
            drops: Vec<Counter>,
            /// Those of the closes that were of peers without a valid identity.
            pub strangers: Strangers,
        }

        impl Counters {
            /// All at zero.
            #[must_use]
            pub fn new() -> Arc<Self> {
                let closes = CloseReason::ALL.iter().map(|_| Counter::default()).collect();
                let drops = DropReason::ALL.iter().map(|_| Counter::default()).collect();
                Arc::new(Self { $($name: Counter::default(),)* closes, drops, strangers: Strangers::default() })
            }

            /// Every counter but the closes, by name.
            #[cfg(any(test, feature = "internals"))]
            #[must_use]
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Links that are open now.
    links_open,
    /// Links of devices that are open now.
    links_of_devices,
    /// Links of peers that are no devices, or not yet, and have ended their handshake, that are open now.
    links_of_strangers,
    /// Links that were accepted.
    links_accepted,
    /// Handshakes that were completed with certificates.
    handshakes_full,
    /// Handshakes that were completed from a ticket.
    handshakes_resumed,
    /// Bytes of plaintext that came in.
    bytes_received,
    /// Bytes of plaintext that were sent.
    bytes_sent,
    /// Messages that came in.
    messages_received,
    /// Events that were appended to the journal.
    events_appended,
    /// Events that came again and were not stored again.
    events_repeated,
    /// Events that were not taken because the journal had no room on its disk.
    events_refused,
    /// Times that a device was told to keep its events, as it had more than its rate.
    events_held,
    /// Acknowledgements that were sent.
    acks_sent,
    /// Syncs that ended well.
    syncs,
    /// Devices that enrolled.
    enrolments,
    /// Enrolments that were refused.
    enrolments_refused,
    /// Jobs that were handed to workers.
    jobs,
    /// Times that a link was not read because there was no room for its work.
    waits_for_room,
    /// Times that a link was not read because its device had used up its allowance.
    waits_for_rate,
    /// Handshakes that are under way now.
    handshakes_under_way,
    /// Processor time that handshakes took.
    handshake_microseconds,
    /// Turns that ended because handshakes had their time.
    handshake_budget_exhausted,
    /// Turns that ended with connections left in the backlog, as no more handshakes may begin.
    handshakes_held_back,
    /// Turns that ended with links left to be read.
    read_budget_exhausted,
    /// Devices that were told to come later.
    sent_away,
    /// Times that a connection could not be accepted for want of descriptors or memory.
    accept_failures,
    /// Turns of all reactors.
    turns,
    /// Turns that began late, by a second or more.
    late_turns,
    /// Links of devices that are to stay, that are open now.
    links_persistent,
    /// Datagrams that came in.
    datagrams_received,
    /// Datagrams that were sent.
    datagrams_sent,
    /// Notices that were believed.
    notices,
    /// Devices that were called.
    calls,
    /// Changes of presence that were put into the log of events.
    presence_changes,
}

impl Counters {
    /// A datagram was dropped.
    pub fn dropped(&self, reason: DropReason) {
        if let Some(counter) = self.drops.get(reason.index()) {
            counter.add_one();
        }
    }

    /// Datagrams that were dropped, for each reason.
    #[must_use]
    pub fn all_drops(&self) -> Vec<(DropReason, u64)> {
        DropReason::ALL.iter().zip(&self.drops).map(|(reason, counter)| (*reason, counter.get())).collect()
    }

    /// A link was closed.
    pub fn closed(&self, reason: CloseReason) {
        if let Some(counter) = self.closes.get(reason.index()) {
            counter.add_one();
        }
    }

    /// Links that were closed for one reason.
    #[must_use]
    pub fn closes(&self, reason: CloseReason) -> u64 {
        self.closes.get(reason.index()).map_or(0, Counter::get)
    }

    /// Links that were closed, for each reason.
    #[must_use]
    pub fn all_closes(&self) -> Vec<(CloseReason, u64)> {
        CloseReason::ALL.iter().map(|reason| (*reason, self.closes(*reason))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_close_is_counted_under_its_own_name() {
        let counters = Counters::new();
        counters.closed(CloseReason::Idle);
        let counted: Vec<_> = counters.all_closes().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(CloseReason::Idle, 1)]);
        assert!(counters.all().contains(&("links_open", 0)));
    }
}
