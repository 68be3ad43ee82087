//! Commands to an engine. The same words go to a thread and, as a line of JSON, to another process.

use serde::{Deserialize, Serialize};

/// One of several engines that share a fleet: device `i` belongs to the engine `i % of`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Share {
    /// Which engine.
    pub(crate) number: usize,
    /// Of how many.
    pub(crate) of: usize,
}

impl Share {
    /// This engine's part of the first `count` devices, or of something else that is counted: the parts add
    /// up.
    pub(crate) fn part(self, count: usize) -> usize {
        (count + self.of - 1 - self.number) / self.of
    }

    /// Its part of a rate.
    pub(crate) fn rate(self, per_second: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a handful of engines")]
        let of = self.of as f64;
        per_second / of
    }
}

/// Events that devices have from now on.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct EventLoad {
    /// The first `devices` devices have them.
    pub(crate) devices: usize,
    /// A second in all, spread evenly in time, over random devices, whatever becomes of earlier ones; left
    /// out: each device has `in_flight` of them under way.
    pub(crate) rate: Option<f64>,
    /// Number that each device has under way, without a rate.
    pub(crate) in_flight: usize,
}

/// Visits: devices that come with a full handshake, sync and go again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Visits {
    /// The first `devices` devices take turns.
    pub(crate) devices: usize,
    /// Number of those on their way at a time.
    pub(crate) at_a_time: usize,
}

/// Command to an engine. Numbers of devices are of the whole fleet; an engine works out its share.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EngineCommand {
    /// The first `devices` devices run; others end.
    Run {
        /// Their number.
        devices: usize,
        /// Number of those that may be on their way to their first sync at a time.
        at_a_time: usize,
        /// Number of those that may be started a second in all; left out: as many as there is room for.
        rate: Option<f64>,
    },
    /// Devices that do not run forget the tickets that they were given: their next handshakes are full ones.
    /// Those that run keep theirs for when they lose the server.
    ForgetTickets,
    /// A fleet comes back: a device that syncs from now on counts as live, no other does.
    Mark,
    /// Events begin.
    Events(EventLoad),
    /// No new events.
    StopEvents,
    /// The running devices sync, at a rate a second in all, or each again as soon as it is done.
    Syncs {
        /// A second in all.
        rate: Option<f64>,
    },
    /// No more syncs than are due.
    StopSyncs,
    /// Visits begin.
    Visits(Visits),
    /// No new visits; those on their way are cut short.
    StopVisits,
    /// Tell what was timed since the last time.
    Take,
    /// End.
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_even() {
        for of in 1..8 {
            for devices in [0, 1, 7, 8, 1_000, 19_001] {
                let parts: Vec<_> = (0..of).map(|number| Share { number, of }.part(devices)).collect();
                assert_eq!(parts.iter().sum::<usize>(), devices);
                assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1);
                for (number, part) in parts.iter().enumerate() {
                    assert_eq!(*part, (0..devices).filter(|device| device % of == number).count());
                }
            }
        }
    }

    #[test]
    fn commands_survive_the_way_between_processes() {
        for order in [
            EngineCommand::Run { devices: 5, at_a_time: 2, rate: Some(7.5) },
            EngineCommand::Events(EventLoad { devices: 3, rate: Some(0.1), in_flight: 1 }),
            EngineCommand::Syncs { rate: None },
            EngineCommand::Take,
        ] {
            let line = serde_json::to_string(&order).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<EngineCommand>(&line).unwrap(), order);
        }
    }
}
