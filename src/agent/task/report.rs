//! Reports of a run, and their numbers.

use std::path::Path;

use super::files::{self, Outcome, Progress, REPORTED, Reported};
use crate::agent::checksummed::Content;
use crate::wire::id::RunId;
use crate::wire::task::{RunOutput, RunStage, RunUpdate};

/// Serial numbers that are reserved with one write.
const RESERVED_AT_ONCE: u32 = 32;

/// First number when nobody knows which were used: above all that a run could have used.
const SERIAL_AFTER_LOSS: u32 = 1 << 24;

/// The serial numbers of one run. They never go back, over restarts either.
#[derive(Debug, Default)]
pub(super) struct Serials {
    last: u32,
    reported: Reported,
}

impl Serials {
    /// Numbers above this one.
    pub(super) fn above(last: u32) -> Self {
        Self { last, reported: Reported::default() }
    }

    /// Goes on where the disk says that an earlier agent may have been.
    pub(super) fn resume(directory: &Path, above: u32) -> Self {
        let lost = Reported { reserved: SERIAL_AFTER_LOSS, last_from: None };
        let reported = match files::read::<Reported>(directory, REPORTED) {
            Ok(Content::Whole(reported)) => reported,
            Ok(Content::Absent) => Reported::default(),
            Ok(Content::Torn) | Err(_) => lost,
        };
        Self { last: reported.reserved.max(above), reported }
    }

    /// The next number.
    pub(super) fn next(&mut self, directory: &Path) -> u32 {
        self.last = self.last.saturating_add(1);
        if self.last > self.reported.reserved {
            self.reported.reserved = self.last.saturating_add(RESERVED_AT_ONCE);
            self.write(directory);
        }
        self.last
    }

    /// The number of the first update of the final report: the same whenever it is said.
    pub(super) fn last_from(&mut self, directory: &Path) -> u32 {
        if let Some(from) = self.reported.last_from {
            return from;
        }
        let from = self.last.saturating_add(1);
        self.reported = Reported { reserved: from.saturating_add(1), last_from: Some(from) };
        self.last = self.reported.reserved;
        self.write(directory);
        from
    }

    fn write(&self, directory: &Path) {
        if let Err(error) = files::write(directory, REPORTED, &self.reported) {
            // The report itself is worth more than its number.
            log::warn!("{}: {REPORTED} can't be written: {error}", directory.display());
        }
    }
}

/// News of a run that is not over.
pub(super) fn news(run: RunId, serial: u32, stage: RunStage, progress: &Progress) -> RunUpdate {
    RunUpdate {
        progress_percent: progress.percent,
        message: progress.message.clone(),
        ..RunUpdate::new(run, serial, stage)
    }
}

/// The final report, with the output: one update, or two when the output has a beginning and an end.
pub(super) fn final_report(run: RunId, from: u32, outcome: Outcome) -> Vec<RunUpdate> {
    let part = |is_tail, bytes: Vec<u8>, omitted_bytes| {
        (!bytes.is_empty()).then_some(RunOutput { is_tail, bytes, omitted_bytes })
    };
    let mut head = part(false, outcome.head, 0);
    let tail = part(true, outcome.tail, outcome.omitted_bytes);
    let last = |output| RunUpdate {
        run,
        serial: from.saturating_add(1),
        stage: outcome.stage,
        progress_percent: match outcome.stage {
            RunStage::Succeeded => Some(100),
            _ => outcome.progress_percent,
        },
        exit_code: outcome.exit_code,
        message: outcome.message.clone(),
        again_seconds: outcome.again_seconds,
        output,
    };
    let first = match &tail {
        Some(_) => head.take(),
        None => None,
    };
    let first = first.map(|head| RunUpdate {
        output: Some(head),
        ..news(run, from, RunStage::Running, &Progress::default())
    });
    first.into_iter().chain([last(tail.or(head))]).collect()
}

/// The serial number of the last update of [`final_report`].
pub(super) fn last_serial(from: u32) -> u32 {
    from.saturating_add(1)
}
