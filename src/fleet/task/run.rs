//! One run of a task on one device: what its device says, what the server wants and what time alone makes of
//! it.
//!
//! ```text
//! Scheduled ──release──▶ Pending ──Accepted──▶ Delivered ──Running──▶ Running
//!     ▲ │                 │ ▲ │                  │    │                 │  │
//!     ├─┼──window closed──┘ │ │                  │    │                 │  │
//!     │ └──────expiry─────┼─┼─┴──▶ Expired       │    └──final report───┴──┼──▶ Succeeded, Failed, TimedOut,
//!     └───────NotNow──────┴─┼────────────────────┴─────────────────────────┤    Rejected, Cancelled
//!                           └──────Unknown, and it may be repeated─────────┘
//! ```
//!
//! A final state never changes: what the device says later is kept beside it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::bounded::clip;
use crate::wire::limits::TEXT_BYTES_MAX;
pub use crate::wire::run_state::RunState;
use crate::wire::task::{RunStage, RunUpdate};
use crate::wire::time::WallTime;
use crate::wire::units::format_duration;

/// In how many seconds a run is ordered again when its device said 'not now' and not until when.
pub const AGAIN_SECONDS: u32 = 300;

/// The shortest time after which it is ordered again, whatever the device asked for.
pub const AGAIN_SECONDS_MIN: u32 = 5;

/// And the longest.
pub const AGAIN_SECONDS_MAX: u32 = 86_400;

/// A device's report of a run after its state was final.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Late {
    /// Its stage, as the device said.
    pub stage: RunStage,
    /// The device's message. May be empty.
    pub message: String,
    /// When the server heard it.
    pub at: WallTime,
}

/// A task's rules for its runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunRules {
    /// Longest execution.
    pub timeout_seconds: u32,
    /// For how long a device that has it may say nothing of it.
    pub lease_seconds: u32,
    /// Whether it may be executed again when nobody can tell whether it was executed to its end.
    pub may_repeat: bool,
    /// Before this no device is given up: the server was not there to hear it.
    pub deaf_until: WallTime,
}

/// Latest times of a run that is made, or changed, now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latest {
    /// The time.
    pub now: WallTime,
    /// When it would expire.
    pub expires_at: WallTime,
    /// When its task's window closes, if it has one: at once when it is not open.
    pub closes_at: Option<WallTime>,
    /// For how long a device that has it may say nothing of it.
    pub lease_seconds: u32,
}

/// One run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RunProgress {
    /// Its state.
    pub state: RunState,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// Before this it is not ordered.
    pub not_before: WallTime,
    /// When it expires unless its device has accepted it.
    pub expires_at: WallTime,
    /// Until when it is ordered: when its task's window closes, or it expires.
    pub begin_by: WallTime,
    /// When the server first heard that it is being executed.
    pub began_at: Option<WallTime>,
    /// End of the time in which its device must be heard of.
    pub lease_until: Option<WallTime>,
    /// Of the last report; zero when there was none since it was ordered.
    pub serial: u32,
    /// Its progress, when that is known.
    pub progress_percent: Option<u8>,
    /// The program's exit code, when there is one.
    pub exit_code: Option<i32>,
    /// The last message of the device, or of the server. At most [`TEXT_BYTES_MAX`] bytes.
    pub message: String,
    /// The device's last report after the state was final.
    pub late: Option<Late>,
}

impl RunProgress {
    /// A run that waits for its time.
    #[must_use]
    pub fn new(attempt: u32, not_before: WallTime, expires_at: WallTime) -> Self {
        Self {
            state: RunState::Scheduled,
            attempt,
            not_before,
            expires_at,
            begin_by: expires_at,
            began_at: None,
            lease_until: None,
            serial: 0,
            progress_percent: None,
            exit_code: None,
            message: String::new(),
            late: None,
        }
    }

    /// Orders it of its device, when its time has come and has not passed. `closes_at`: when its task's
    /// window closes, if it has one: then it waits again unless its device has accepted it. Returns whether
    /// it did.
    pub fn release(&mut self, closes_at: Option<WallTime>, now: WallTime) -> bool {
        let is_due = self.state == RunState::Scheduled && now >= self.not_before && now < self.expires_at;
        if is_due {
            self.state = RunState::Pending;
            self.begin_by = closes_at.map_or(self.expires_at, |at| at.min(self.expires_at));
            self.message.clear();
        }
        is_due
    }

    /// Puts it off until then, unless it has been released: it waits for something, and the message says for
    /// what.
    pub fn put_off(&mut self, until: WallTime, message: String) {
        if self.state == RunState::Scheduled {
            self.not_before = until;
            self.message = message;
        }
    }

    /// Ends it as what its device does not do, as far as is known here, unless it has been released.
    pub fn reject(&mut self, why: &str) {
        if self.state == RunState::Scheduled {
            self.end(RunState::Rejected, bounded(why));
        }
    }

    /// Takes what its device says of it. Returns whether that changed something.
    ///
    /// A report that is not newer than the last one changes nothing, and neither does one of a run that the
    /// device was not told.
    pub fn report(&mut self, update: &RunUpdate, rules: &RunRules, now: WallTime) -> bool {
        if update.stage == RunStage::Unknown {
            return self.lose(rules);
        }
        // One that waits again because its window closed may have been accepted before that.
        let was_told = self.state != RunState::Scheduled || self.begin_by < self.expires_at;
        if update.serial <= self.serial || !was_told {
            return false;
        }
        self.serial = update.serial;
        let message = bounded(&update.message);
        if self.state.is_final() {
            self.late = Some(Late { stage: update.stage, message, at: now });
            return true;
        }
        self.lease_until = Some(plus_seconds(now, rules.lease_seconds));
        self.message = message;
        self.progress_percent =
            update.progress_percent.map(|percent| percent.min(100)).or(self.progress_percent);
        self.exit_code = update.exit_code.or(self.exit_code);
        match update.stage {
            RunStage::Accepted if self.state == RunState::Running => {}
            RunStage::Accepted => self.state = RunState::Delivered,
            RunStage::Running => {
                self.state = RunState::Running;
                self.began_at.get_or_insert(now);
            }
            RunStage::Succeeded => self.state = RunState::Succeeded,
            RunStage::Failed | RunStage::Unknown => self.state = RunState::Failed,
            RunStage::TimedOut => self.state = RunState::TimedOut,
            RunStage::Rejected => self.state = RunState::Rejected,
            RunStage::Cancelled => self.state = RunState::Cancelled,
            RunStage::NotNow => {
                let again = update.again_seconds.unwrap_or(AGAIN_SECONDS);
                self.not_before = plus_seconds(now, again.clamp(AGAIN_SECONDS_MIN, AGAIN_SECONDS_MAX));
                self.start_over(RunState::Scheduled);
            }
        }
        if self.state.is_final() {
            self.lease_until = None;
        }
        true
    }

    /// Nobody wants it any more. Returns whether that changed something: what has ended stays as it ended.
    pub fn cancel(&mut self, now: WallTime) -> bool {
        let is_open = !self.state.is_final();
        if is_open {
            self.end(RunState::Cancelled, format!("cancelled on the server at {now}"));
        }
        is_open
    }

    /// Does what time alone does to it: expires it, or gives its device up. Returns whether that changed
    /// something.
    ///
    /// A final change waits for a time without doubt (`may_expire`); a window closes by any.
    pub fn tick(&mut self, rules: &RunRules, may_expire: bool, now: WallTime) -> bool {
        if self.ends_by_itself_at(rules).is_none_or(|at| now < at) {
            return false;
        }
        let has_window = self.state == RunState::Pending && self.begin_by < self.expires_at;
        if !may_expire && !has_window {
            return false;
        }
        match self.state {
            RunState::Scheduled => {
                self.end(RunState::Expired, "its time passed before it was ordered".into());
            }
            RunState::Pending if has_window && (now < self.expires_at || !may_expire) => {
                self.state = RunState::Scheduled;
                self.not_before = self.begin_by;
                self.message = "its window closed before its device accepted it".into();
            }
            RunState::Pending => {
                self.end(RunState::Expired, "its time passed before its device accepted it".into());
            }
            _ if self.lease_until.is_some_and(|until| now < until) => {
                let timeout = duration(rules.timeout_seconds);
                self.end(
                    RunState::TimedOut,
                    format!("not ended by its device within its timeout of {timeout}"),
                );
            }
            _ => {
                let lease = u64::from(rules.lease_seconds) * 1_000;
                let since = self.lease_until.map_or(now, |until| WallTime(until.0.saturating_sub(lease)));
                self.end(RunState::TimedOut, format!("its device was not heard of since {since}"));
            }
        }
        true
    }

    /// The clock was set forward, and that is believed: the lengths of time that have begun stay as long.
    pub fn go_along(&mut self, milliseconds: u64) {
        let times = [Some(&mut self.expires_at), Some(&mut self.begin_by)];
        let times = times.into_iter().chain([self.began_at.as_mut(), self.lease_until.as_mut()]);
        for time in times.flatten() {
            time.0 = time.0.saturating_add(milliseconds);
        }
    }

    /// Puts right what a clock that was ahead has put further away than it can be now; `changed_at` is when
    /// its state changed last. Returns whether that changed something. A run that has ended stays as it
    /// ended.
    pub fn bring_near(&mut self, changed_at: WallTime, latest: &Latest) -> bool {
        if self.state.is_final() {
            return false;
        }
        let before = self.times();
        let now = latest.now;
        self.expires_at = self.expires_at.min(latest.expires_at);
        let closes_at = latest.closes_at.filter(|_| self.state == RunState::Pending);
        self.begin_by = self.begin_by.min(closes_at.unwrap_or(latest.expires_at)).min(latest.expires_at);
        self.began_at = self.began_at.map(|at| at.min(now));
        self.lease_until = self.lease_until.map(|until| until.min(plus_seconds(now, latest.lease_seconds)));
        let ahead = changed_at.0.saturating_sub(now.0);
        self.not_before = WallTime(self.not_before.0.saturating_sub(ahead));
        ahead > 0 || self.times() != before
    }

    fn times(&self) -> (WallTime, WallTime, WallTime, Option<WallTime>, Option<WallTime>) {
        (self.not_before, self.expires_at, self.begin_by, self.began_at, self.lease_until)
    }

    /// Time of the next call of [`RunProgress::release`] or [`RunProgress::tick`]; never, once it is final.
    ///
    /// A run that is due and has to wait for its turn shows a time that has passed.
    #[must_use]
    pub fn wake_at(&self, rules: &RunRules) -> Option<WallTime> {
        let end = self.ends_by_itself_at(rules)?;
        Some(if self.state == RunState::Scheduled { end.min(self.not_before) } else { end })
    }

    /// When time alone ends it.
    fn ends_by_itself_at(&self, rules: &RunRules) -> Option<WallTime> {
        let lease = rules.lease_seconds;
        let (longest, lease_until) = match self.state {
            RunState::Scheduled => return Some(self.expires_at),
            RunState::Pending => return Some(self.begin_by),
            // A device begins before the expiry or not at all: that it still only has it, long after, is no
            // use.
            RunState::Delivered => (plus_seconds(self.expires_at, lease), self.lease_until),
            RunState::Running => {
                let began = self.began_at.unwrap_or(self.expires_at);
                (plus_seconds(plus_seconds(began, rules.timeout_seconds), lease), self.lease_until)
            }
            _ => return None,
        };
        Some(lease_until.map_or(longest, |until| until.min(longest)).max(rules.deaf_until))
    }

    /// Its device does not know it. A run that was never accepted is ordered again anyway.
    fn lose(&mut self, rules: &RunRules) -> bool {
        if !matches!(self.state, RunState::Delivered | RunState::Running) {
            return false;
        }
        if rules.may_repeat {
            self.message = "the device lost it: it is ordered again".into();
            self.start_over(RunState::Pending);
        } else {
            self.end(RunState::Failed, "the device lost it".into());
        }
        true
    }

    fn start_over(&mut self, state: RunState) {
        self.state = state;
        self.begin_by = self.expires_at;
        self.serial = 0;
        self.began_at = None;
        self.lease_until = None;
        self.progress_percent = None;
        self.exit_code = None;
    }

    fn end(&mut self, state: RunState, message: String) {
        self.state = state;
        self.message = message;
        self.lease_until = None;
    }

    /// Why it is where it is, and what it waits for, in one sentence for people.
    #[must_use]
    pub fn why(&self, now: WallTime) -> String {
        let sentence = match self.state {
            RunState::Scheduled if now < self.not_before && self.not_before < self.expires_at => {
                format!("waits for its time, {}", self.not_before)
            }
            RunState::Scheduled if now < self.not_before => {
                format!("has no time left to be ordered in: it expires at {}", self.expires_at)
            }
            RunState::Scheduled => format!("waits for its turn until {}", self.expires_at),
            RunState::Pending => format!("waits for its device until {}", self.begin_by),
            RunState::Delivered => format!("is on its device, which will begin with it{}", self.lease()),
            RunState::Running => {
                let progress = self.progress_percent.map(|percent| format!(", {percent} % done"));
                let began = self.began_at.map(|at| format!(" since {at}"));
                let (began, progress) = (began.unwrap_or_default(), progress.unwrap_or_default());
                format!("is being executed{began}{progress}{}", self.lease())
            }
            RunState::Succeeded => "succeeded".into(),
            // Devices say the code in their message as well.
            RunState::Failed => match self.exit_code.filter(|_| !self.message.starts_with("exit code ")) {
                Some(code) => format!("failed with exit code {code}"),
                None => "failed".into(),
            },
            RunState::TimedOut => "timed out".into(),
            RunState::Rejected => "was rejected by its device".into(),
            RunState::Cancelled if self.message.starts_with("cancelled ") => return self.message.clone(),
            RunState::Cancelled => "was cancelled".into(),
            RunState::Expired => format!("expired at {}", self.expires_at),
        };
        if self.message.is_empty() { sentence } else { format!("{sentence}: {}", self.message) }
    }

    fn lease(&self) -> String {
        self.lease_until.map(|at| format!(" and must be heard of by {at}")).unwrap_or_default()
    }
}

fn plus_seconds(time: WallTime, seconds: u32) -> WallTime {
    WallTime(time.0.saturating_add(u64::from(seconds) * 1_000))
}

fn duration(seconds: u32) -> String {
    format_duration(Duration::from_secs(u64::from(seconds)))
}

/// The text, cut at a character's end so that it has at most [`TEXT_BYTES_MAX`] bytes.
fn bounded(text: &str) -> String {
    clip(text, TEXT_BYTES_MAX).to_owned()
}

#[cfg(test)]
mod tests;
