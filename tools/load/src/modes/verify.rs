//! Whether every event that was acknowledged is stored, once.

use std::collections::HashMap;

use muster::wire::api::EventQuery;
use muster::wire::id::{DeviceId, Epoch};

use super::stage::Stage;
use crate::engine::spool::EVENT_KIND;
use crate::failure::Failure;

/// Events that the server has stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Stored {
    /// Different events.
    pub(crate) events: u64,
    /// Events that are there again.
    pub(crate) twice: u64,
    /// Sequence numbers that are left out below a device's highest.
    pub(crate) missing: u64,
}

/// Reads the server's whole list of events: for its own one, which has those of this run alone.
pub(crate) fn stored_events(stage: &mut Stage) -> Result<Stored, Failure> {
    let mut client = stage.subject.client()?;
    let phase = stage.steps.phase("comparing with the stored events", stage.workers.counts().acknowledged);
    let mut found = Vec::new();
    for page in client.events(EventQuery::default()) {
        let page = page.map_err(Failure::refused)?;
        // The server writes events of its own, of what becomes of devices.
        let ours = page.iter().filter(|event| event.kind == EVENT_KIND);
        found.extend(ours.map(|event| ((event.device_id, event.spool_epoch), event.sequence)));
        phase.set(found.len() as u64);
    }
    Ok(count(found))
}

fn count(found: Vec<((DeviceId, Epoch), u64)>) -> Stored {
    let mut histories: HashMap<(DeviceId, Epoch), Vec<u64>> = HashMap::new();
    for (history, sequence) in found {
        histories.entry(history).or_default().push(sequence);
    }
    let mut stored = Stored::default();
    for sequences in histories.values_mut() {
        sequences.sort_unstable();
        let all = sequences.len() as u64;
        sequences.dedup();
        let different = sequences.len() as u64;
        stored.events += different;
        stored.twice += all - different;
        stored.missing += sequences.last().copied().unwrap_or(0).saturating_sub(different);
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_is_there_twice_is_seen() {
        let one = (DeviceId(1), Epoch(5));
        let other = (DeviceId(2), Epoch(5));
        let whole = [(one, 2), (one, 1), (other, 1), (other, 2), (other, 3)];
        assert_eq!(count(whole.to_vec()), Stored { events: 5, twice: 0, missing: 0 });
        let broken = [(one, 2), (one, 2), (other, 1), (other, 4)];
        assert_eq!(count(broken.to_vec()), Stored { events: 3, twice: 1, missing: 3 });
        let later_epoch = [(one, 1), ((DeviceId(1), Epoch(6)), 1)];
        assert_eq!(count(later_epoch.to_vec()), Stored { events: 2, twice: 0, missing: 0 });
    }
}
