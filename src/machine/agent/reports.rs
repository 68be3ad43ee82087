//! Reports of runs, on their way to the server: said until they are acknowledged, in order.

use std::collections::VecDeque;

use crate::wire::id::RunId;
use crate::wire::limits::{RUN_UPDATES_BYTES_TARGET, RUNS_PER_MESSAGE_MAX};
use crate::wire::message::ToServer;
use crate::wire::task::{RunAck, RunUpdate, RunUpdates, RunsStored};
use crate::wire::time::Moment;

/// Longest time until the server acknowledges: without room it lets reports go, and they are said again.
const AGAIN_SECONDS: u64 = 30;

/// The sending half of the reports.
#[derive(Debug, Default)]
pub(super) struct RunReports {
    /// Oldest first. The first `sent` of them are on their way.
    waiting: VecDeque<RunUpdate>,
    sent: usize,
    sent_at: Option<Moment>,
}

impl RunReports {
    /// There is news of a run. News of progress that was not sent yet is replaced by it.
    pub(super) fn push(&mut self, update: RunUpdate) {
        let is_superseded = |waiting: &RunUpdate| {
            waiting.run == update.run && !waiting.stage.is_last() && waiting.output.is_none()
        };
        let mut index = 0;
        let sent = self.sent;
        self.waiting.retain(|waiting| {
            index += 1;
            index <= sent || !is_superseded(waiting)
        });
        self.waiting.push_back(update);
    }

    pub(super) fn is_pending(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next message, when none is on its way; after a while without an answer the same again.
    pub(super) fn next_message(&mut self, now: Moment) -> Option<Vec<u8>> {
        if self.deadline().is_some_and(|deadline| now < deadline) || self.waiting.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let mut updates = Vec::new();
        for update in self.waiting.iter().take(RUNS_PER_MESSAGE_MAX) {
            if bytes >= RUN_UPDATES_BYTES_TARGET {
                break;
            }
            bytes +=
                update.message.len() + update.output.as_ref().map_or(0, |output| output.bytes.len()) + 64;
            updates.push(update.clone());
        }
        self.sent = updates.len();
        self.sent_at = Some(now);
        let mut frame = Vec::with_capacity(bytes);
        ToServer::Runs(RunUpdates { updates }).write_to(&mut frame);
        Some(frame)
    }

    /// When the next message may be sent; `None`: at once, if there is any.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.sent_at.map(|at| at.plus_seconds(AGAIN_SECONDS))
    }

    /// The server has stored these.
    pub(super) fn acknowledge(&mut self, stored: &RunsStored) {
        let is_stored = |update: &RunUpdate| {
            stored.acks.iter().any(|RunAck { run, serial }| *run == update.run && update.serial <= *serial)
        };
        self.waiting.retain(|update| !is_stored(update));
        self.rewind();
    }

    /// Nothing is on its way any more: the link is gone.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
        self.sent_at = None;
    }

    pub(super) fn forget(&mut self, run: RunId) {
        self.waiting.retain(|update| update.run != run);
        self.sent = self.sent.min(self.waiting.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;
    use crate::wire::task::{RunOutput, RunStage};

    fn update(run: u64, serial: u32, stage: RunStage) -> RunUpdate {
        RunUpdate::new(RunId(run), serial, stage)
    }

    fn serials(frame: Option<Vec<u8>>) -> Vec<(u64, u32)> {
        let Some(frame) = frame else { return Vec::new() };
        let (body, _) = frame::split(&frame).unwrap().unwrap();
        let ToServer::Runs(RunUpdates { updates }) = ToServer::from_body(body).unwrap() else { panic!() };
        updates.into_iter().map(|update| (update.run.0, update.serial)).collect()
    }

    fn acks(acks: &[(u64, u32)]) -> RunsStored {
        let ack = |&(run, serial): &(u64, u32)| RunAck { run: RunId(run), serial };
        RunsStored { acks: acks.iter().map(ack).collect() }
    }

    #[test]
    fn only_the_last_of_unsent_progress_is_said_and_the_final_report_always() {
        let mut reports = RunReports::default();
        reports.push(update(1, 1, RunStage::Accepted));
        reports.push(update(1, 2, RunStage::Running));
        reports.push(update(2, 1, RunStage::Accepted));
        assert_eq!(serials(reports.next_message(Moment(0))), [(1, 2), (2, 1)]);
        reports.push(update(1, 3, RunStage::Running));
        reports.push(update(1, 4, RunStage::Succeeded));
        assert_eq!(serials(reports.next_message(Moment(1))), [], "one message at a time");
        reports.acknowledge(&acks(&[(1, 2), (2, 1)]));
        assert_eq!(serials(reports.next_message(Moment(2))), [(1, 4)]);
        reports.acknowledge(&acks(&[(1, 4)]));
        assert!(!reports.is_pending());
    }

    #[test]
    fn what_was_not_acknowledged_is_said_again() {
        let mut reports = RunReports::default();
        reports.push(update(1, 1, RunStage::Succeeded));
        assert_eq!(serials(reports.next_message(Moment(0))), [(1, 1)]);
        assert_eq!(serials(reports.next_message(Moment(0).plus_seconds(AGAIN_SECONDS))), [(1, 1)]);
        reports.rewind();
        assert_eq!(serials(reports.next_message(Moment(1))), [(1, 1)]);
        reports.forget(RunId(1));
        reports.rewind();
        assert_eq!(serials(reports.next_message(Moment(2))), []);
    }

    #[test]
    fn two_outputs_of_the_largest_size_fit_frames() {
        let mut reports = RunReports::default();
        for serial in 1..=3 {
            let bytes = vec![7; crate::wire::limits::RUN_OUTPUT_PART_BYTES_MAX];
            let output = Some(RunOutput { is_tail: false, bytes, omitted_bytes: 0 });
            reports.push(RunUpdate { output, ..update(1, serial, RunStage::Running) });
        }
        for serial in 1..=3 {
            assert_eq!(serials(reports.next_message(Moment(0))), [(1, serial)]);
            reports.acknowledge(&acks(&[(1, serial)]));
        }
    }
}
