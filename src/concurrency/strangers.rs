//! Connections that ended without a valid identity, for the log: counted, and summarised now and then.
//!
//! Health checks, port scans and floods come without end, and thousands of them in a second: a line for each
//! would cost more than they do. Reactors count them here by reason, with an example of each; one thread asks
//! every second whether there is something to say.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::counters::Counter;
use crate::machine::close::CloseReason;

/// Longest pause between two lines about the same reason. It doubles from one second on for as long as the
/// reason goes on.
const PAUSE_SECONDS_MAX: u64 = 60;

/// The count of one reason.
#[derive(Debug, Default)]
struct Ended {
    count: Counter,
    has_example: AtomicBool,
    example: Mutex<String>,
}

/// Counts of connections that ended without a valid identity, by reason.
#[derive(Debug)]
pub struct Strangers {
    by_reason: Vec<Ended>,
}

impl Default for Strangers {
    fn default() -> Self {
        Self { by_reason: CloseReason::ALL.iter().map(|_| Ended::default()).collect() }
    }
}

impl Strangers {
    /// One has ended. It is asked for its name only when there is no example of this reason yet.
    pub fn ended(&self, reason: CloseReason, name: impl FnOnce() -> String) {
        self.note_example(reason, name);
        if let Some(ended) = self.by_reason.get(reason.index()) {
            ended.count.add_one();
        }
    }

    /// One is about to end, and its name is known better now than it will be then.
    pub fn note_example(&self, reason: CloseReason, name: impl FnOnce() -> String) {
        let Some(ended) = self.by_reason.get(reason.index()) else { return };
        if !ended.has_example.load(Ordering::Relaxed) && !ended.has_example.swap(true, Ordering::Relaxed) {
            *ended.example.lock() = name();
        }
    }

    /// Their number since the start.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_reason.iter().map(|ended| ended.count.get()).sum()
    }

    /// Takes the example out: the next one will be new.
    fn take_example(&self, place: usize) -> String {
        let Some(ended) = self.by_reason.get(place) else { return String::new() };
        let example = std::mem::take(&mut *ended.example.lock());
        ended.has_example.store(false, Ordering::Relaxed);
        example
    }
}

/// The last summary of one reason.
#[derive(Clone, Copy, Default)]
struct Said {
    count: u64,
    pause_seconds: u64,
    next_second: u64,
}

/// Writes the summaries, and remembers what it has said.
pub struct StrangerSummary {
    said: Vec<Said>,
}

impl Default for StrangerSummary {
    fn default() -> Self {
        Self { said: vec![Said::default(); CloseReason::ALL.len()] }
    }
}

impl StrangerSummary {
    /// The line to write now, `second` seconds since some start; asked once a second. A reason that is new is
    /// said at once, one that goes on ever less often, and nothing when nobody came.
    pub fn line(&mut self, strangers: &Strangers, second: u64) -> Option<String> {
        let mut is_due = false;
        let mut news = Vec::new();
        for (place, (said, ended)) in self.said.iter_mut().zip(&strangers.by_reason).enumerate() {
            let new = ended.count.get().wrapping_sub(said.count);
            if new > 0 {
                news.push((new, place));
                is_due |= second >= said.next_second;
            } else if second >= said.next_second.saturating_add(PAUSE_SECONDS_MAX) {
                said.pause_seconds = 0;
            }
        }
        if !is_due {
            return None;
        }
        news.sort_unstable_by_key(|(new, place)| (u64::MAX - new, *place));
        let mut parts = Vec::new();
        for (new, place) in &news {
            let said = &mut self.said[*place];
            said.count += new;
            said.pause_seconds = (2 * said.pause_seconds).clamp(1, PAUSE_SECONDS_MAX);
            said.next_second = second.saturating_add(said.pause_seconds);
            let example = strangers.take_example(*place);
            let shown = if example.is_empty() { String::new() } else { format!(" (such as {example})") };
            parts.push(format!("{} {new}{shown}", CloseReason::ALL[*place]));
        }
        let total: u64 = news.iter().map(|(new, _)| new).sum();
        let connections = if total == 1 { "connection" } else { "connections" };
        Some(format!("{total} {connections} ended without a valid identity: {}", parts.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_said_at_once_then_ever_less_often_and_never_for_nothing() {
        let (strangers, mut summary) = (Strangers::default(), StrangerSummary::default());
        assert_eq!(summary.line(&strangers, 0), None);
        strangers.ended(CloseReason::PeerReset, || "192.0.2.1:7".into());
        for _ in 0..17_999 {
            strangers.ended(CloseReason::PeerReset, || panic!("one example is enough"));
        }
        strangers.ended(CloseReason::NotTls, || "192.0.2.2:8".into());
        assert_eq!(
            summary.line(&strangers, 1).unwrap(),
            "18001 connections ended without a valid identity: peer_reset 18000 (such as 192.0.2.1:7), \
             not_tls 1 (such as 192.0.2.2:8)"
        );
        assert_eq!(summary.line(&strangers, 2), None);

        // One a second for ten minutes: some ten lines, then one a minute, and none is left out.
        let (mut lines, mut counted) = (Vec::new(), 0);
        for second in 3..603 {
            strangers.ended(CloseReason::PeerReset, || "192.0.2.3:9".into());
            if let Some(line) = summary.line(&strangers, second) {
                assert!(line.ends_with(" (such as 192.0.2.3:9)"), "with an example of its own: {line}");
                counted += line.split(' ').next().unwrap().parse::<u64>().unwrap();
                lines.push(second);
            }
        }
        assert!((12..=17).contains(&lines.len()), "{lines:?}");
        assert!(counted > 540, "{counted} in {lines:?}");
        // Another reason meanwhile is not kept for later.
        strangers.ended(CloseReason::ForeignCertificate, || "192.0.2.4:1".into());
        let line = summary.line(&strangers, 604).unwrap();
        assert!(line.contains("foreign_certificate 1 (such as 192.0.2.4:1)"), "{line}");
        assert_eq!(summary.line(&strangers, 605), None);
        // After a quiet time it is news again.
        for second in 606..800 {
            assert_eq!(summary.line(&strangers, second), None);
        }
        strangers.ended(CloseReason::PeerReset, String::new);
        assert_eq!(
            summary.line(&strangers, 800).unwrap(),
            "1 connection ended without a valid identity: peer_reset 1"
        );
        strangers.ended(CloseReason::PeerReset, String::new);
        assert!(summary.line(&strangers, 801).is_some(), "the pause begins with a second again");
        assert_eq!(strangers.total(), 18_604);
    }
}
