//! Rates of faults, and their counts.

use std::fmt;

use muster::machine::random::Random;
use muster::wire::datagram::DropReason;

macro_rules! rates {
    ($($(#[$doc:meta])* $name:ident: $most:literal,)*) => {
        /// Rates of faults, each drawn anew for each seed (a swarm): out of 1,000 chances. Half of them never
        /// do.
        #[derive(Clone, Debug)]
        pub(crate) struct Rates {
            $($(#[$doc])* pub(crate) $name: u64,)*
            /// Longest way of a message.
            pub(crate) delay_microseconds: u64,
        }

        impl Rates {
            pub(crate) fn draw(random: &mut Random) -> Self {
                let mut rate = |most: u64| if random.up_to(1) == 0 { 0 } else { random.up_to(most) };
                Self { $($name: rate($most),)* delay_microseconds: 100 + rate(2_000_000) }
            }
        }
    };
}

rates! {
    link_break: 80,
    agent_crash: 30,
    server_crash: 60,
    roll_back: 15,
    restore: 15,
    disk_full: 20,
    /// A part of the journal is damaged while the server is down, after this many of 100 crashes.
    damage: 20,
    partition: 20,
    clock_jump: 20,
    /// A device has no room, and drops events that it did not deliver.
    spool_drop: 30,
    /// A device sends a shutdown notice and goes, or sleeps.
    leave: 20,
    /// A device gets another address, behind another box.
    move_away: 20,
    /// Somebody calls a device, or all of them.
    call: 100,
    /// Somebody edits a policy.
    edit: 150,
    /// Somebody makes a task, or cancels one.
    task: 150,
    datagram_loss: 600,
    datagram_copy: 300,
    /// A datagram that was seen is sent again, to anybody.
    replay: 400,
    /// A datagram of somebody without the key.
    forgery: 400,
    /// The disk takes nothing for a while.
    disk_hang: 20,
}

macro_rules! counts {
    ($($name:ident,)*) => {
        #[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
        pub(crate) struct Counts {
            $(pub(crate) $name: u64,)*
            pub(crate) drops: Drops,
        }

        impl Counts {
            pub(crate) fn plus(&self, other: &Self) -> Self {
                Self { $($name: self.$name + other.$name,)* drops: self.drops.plus(&other.drops) }
            }
        }
    };
}

counts! {
    steps, events, acknowledged, syncs, server_crashes, agent_crashes, roll_backs, restores, link_breaks,
    full_disks, no_room, new_epochs, server_stops, departures, resumes, moves, wakes_sent, wakes_taken,
    notices_sent, notices_taken, goodbyes, replays, forgeries, datagrams_lost, calls, reports, synced_on_link,
    synced_by_wake, synced_by_itself, unreachable, quiet_points, settings_taken, edits, runs_begun, runs_made,
    runs_cancelled, not_now, recalls, spool_drops, damages, clock_steps, aged, ended_by_time,
    occurrences, hostile_messages, held, hostile_jobs, server_epochs, disk_hangs, links_closed_on_hostile,
    notices_limited, beside, events_held, waits_for_room, superseded_elsewhere,
}

/// Datagrams that were dropped, by reason.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    pub(crate) fn note(&mut self, reason: DropReason) {
        self.0[reason.index()] += 1;
    }

    pub(crate) fn of(&self, reason: DropReason) -> u64 {
        self.0[reason.index()]
    }

    fn plus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] + other.0[at]))
    }
}

impl fmt::Debug for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(DropReason::ALL.iter().map(|reason| (reason.name(), self.of(*reason)))).finish()
    }
}
