//! Whether a device is well: what is known of it, held against the [rules](Rules) of its group.

mod reason;
mod rules;
#[cfg(test)]
mod tests;

pub use reason::{Cause, REASONS_MAX, Reason, SharedIdentity, span};
pub use rules::{
    ApplicationRules, CertificateRules, ClockRules, DiskRules, LostRules, Rules, SettingsRules,
    TASK_WITHIN_MS_MAX, TaskRules,
};

use super::renewal::Life;
use crate::wire::section::{ApplicationCondition, Condition};
use crate::wire::settings::SettingsState;
use crate::wire::status::Status;
use crate::wire::time::WallTime;

/// The application among a device's statistics that the disk rule looks at.
pub const DISK_APPLICATION: &str = "muster-agent";

/// The number that it looks at.
pub const DISK_STATISTIC: &str = "disk_free_percent";

/// Part of a certificate's life, one in this many, that is left at most when its end is a warning, whatever
/// the rules say: half of what is left when it is due to be renewed.
const WARNING_SHARE_OF_LIFE: u64 = 6;

/// The same for one that is critical.
const CRITICAL_SHARE_OF_LIFE: u64 = 12;

/// A task whose latest run on a device did not end well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailedRun {
    /// The task's id, as people read it.
    pub task: String,
    /// The application whose task it is.
    pub application: String,
    /// The kind of task.
    pub kind: String,
    /// When it ended.
    pub at: WallTime,
    /// Its last message; may be empty.
    pub message: String,
}

/// Settings that a device should have and has said nothing of, though they are not new.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UntoldSettings {
    /// The application.
    pub application: String,
    /// Since when it should have them.
    pub since: WallTime,
}

/// Known facts about a device. Applications of which nothing bad is known may be left out.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Facts {
    /// Since when it counts as lost; `None`: it does not.
    pub lost_since: Option<WallTime>,
    /// The conditions of its managed applications.
    pub applications: Vec<ApplicationCondition>,
    /// Settings that did not reach it.
    pub untold: Vec<UntoldSettings>,
    /// Tasks whose latest run failed.
    pub failed_runs: Vec<FailedRun>,
    /// Free share of its disk; `None`: it has not said.
    pub disk_free_percent: Option<f64>,
    /// The dates of its certificate; `None`: not known.
    pub certificate: Option<Life>,
    /// Whether it has synced since its certificate was due to be renewed.
    pub has_synced_since_due: bool,
    /// Distance by which its clock is ahead of the server's; negative: behind.
    pub clock_ahead_minutes: i16,
    /// Another device seems to use its identity.
    pub shared_identity: Option<SharedIdentity>,
    /// Since when it waits for an administrator to approve it, and whether it is one that this server did not
    /// know any more; `None`: it does not wait.
    pub waits: Option<(WallTime, bool)>,
    /// Since when its events wait on it, as it sends more than its rate; `None`: they do not.
    pub events_held_since: Option<WallTime>,
    /// Since when it should have stored the pin of the server's next certificate; `None`: it has, or there is
    /// none.
    pub pin_missing_since: Option<WallTime>,
    /// Why the rules for it can't be read, so that it is judged by the defaults; `None`: they can.
    pub rules_error: Option<String>,
}

/// Whether the device is well, and all that is against it: the worst first, at most [`REASONS_MAX`] of it.
#[must_use]
pub fn judge(facts: &Facts, rules: &Rules, now: WallTime) -> (Status, Vec<Reason>) {
    let mut found = Found { reasons: Vec::new() };
    if let Some((since, was_unknown)) = facts.waits {
        found.add(Status::Warning, || Cause::WaitingForApproval { since, was_unknown });
    }
    if let Some(since) = facts.lost_since {
        let lost_for = now.0.saturating_sub(since.0);
        let level = worse_of(
            rules.lost.warning_after_ms.is_some_and(|limit| lost_for >= limit),
            rules.lost.critical_after_ms.is_some_and(|limit| lost_for >= limit),
        );
        found.add(level, || Cause::Lost { since });
    }
    for application in &facts.applications {
        judge_application(application, rules, now, &mut found);
    }
    for untold in &facts.untold {
        judge_pending(&untold.application, untold.since, rules, now, &mut found);
    }
    for run in &facts.failed_runs {
        if now.0.saturating_sub(run.at.0) < rules.task.within_ms {
            found.add(rules.task.failed, || Cause::Task {
                task: run.task.clone(),
                application: run.application.clone(),
                kind: run.kind.clone(),
                at: run.at,
                message: reason::short(&run.message),
            });
        }
    }
    if let Some(free) = facts.disk_free_percent {
        let level = worse_of(
            rules.disk.warning_below_percent.is_some_and(|limit| free < limit),
            rules.disk.critical_below_percent.is_some_and(|limit| free < limit),
        );
        found.add(level, || Cause::Disk { free_percent: free.clamp(0.0, 100.0).floor() });
    }
    if let Some(life) = facts.certificate {
        let left = life.expires_at.0.saturating_sub(now.0);
        // It is renewed long before: what is left then of a short life is no reason.
        let within = |limit: u64, share| left < limit.min(life.milliseconds() / share);
        let level = worse_of(
            rules.certificate.warning_before_ms.is_some_and(|limit| within(limit, WARNING_SHARE_OF_LIFE)),
            rules.certificate.critical_before_ms.is_some_and(|limit| within(limit, CRITICAL_SHARE_OF_LIFE)),
        );
        let is_not_renewed = facts.has_synced_since_due;
        // A device that is away is none the worse for it.
        let level = if is_not_renewed { level } else { level.min(Status::Warning) };
        found.add(level, || Cause::Certificate { expires_at: life.expires_at, is_not_renewed });
    }
    let clock_off_ms = u64::from(facts.clock_ahead_minutes.unsigned_abs()) * 60_000;
    let level = worse_of(
        rules.clock.warning_beyond_ms.is_some_and(|limit| clock_off_ms > limit),
        rules.clock.critical_beyond_ms.is_some_and(|limit| clock_off_ms > limit),
    );
    found.add(level, || Cause::Clock { ahead_minutes: facts.clock_ahead_minutes });
    if let Some(shared) = &facts.shared_identity {
        found.add(Status::Warning, || Cause::SharedIdentity(shared.clone()));
    }
    if let Some(since) = facts.events_held_since {
        found.add(Status::Warning, || Cause::EventsHeld { since });
    }
    if let Some(since) = facts.pin_missing_since
        && now.0.saturating_sub(since.0) >= rules.certificate.pin_missing_for_ms
    {
        found.add(rules.certificate.pin_missing, || Cause::PinMissing { since });
    }
    if let Some(why) = &facts.rules_error {
        found.add(Status::Warning, || Cause::Rules { why: reason::short(why) });
    }
    found.end()
}

fn judge_application(application: &ApplicationCondition, rules: &Rules, now: WallTime, found: &mut Found) {
    let limits = rules.of(&application.application);
    let level = match application.condition {
        Condition::Running => Status::Ok,
        Condition::Unknown => limits.unknown,
        Condition::Stopped => limits.stopped,
        Condition::Failed => limits.failed,
        Condition::NotInstalled => limits.not_installed,
    };
    found.add(level, || Cause::Application {
        application: application.application.clone(),
        condition: application.condition,
        since: application.since,
        detail: reason::short(&application.detail),
    });
    let Some(settings) = &application.settings else { return };
    let level = match settings.state {
        SettingsState::Applied => Status::Ok,
        SettingsState::Failed => rules.settings.failed,
        SettingsState::Drifted => rules.settings.drifted,
        SettingsState::Pending => {
            return judge_pending(&application.application, settings.since, rules, now, found);
        }
    };
    found.add(level, || Cause::Settings {
        application: application.application.clone(),
        state: settings.state,
        since: settings.since,
        detail: reason::short(&settings.detail),
    });
}

fn judge_pending(application: &str, since: WallTime, rules: &Rules, now: WallTime, found: &mut Found) {
    if now.0.saturating_sub(since.0) < rules.settings.pending_for_ms {
        return;
    }
    found.add(rules.settings.pending, || Cause::Settings {
        application: application.to_owned(),
        state: SettingsState::Pending,
        since,
        detail: String::new(),
    });
}

fn worse_of(is_warning: bool, is_critical: bool) -> Status {
    match (is_warning, is_critical) {
        (_, true) => Status::Critical,
        (true, false) => Status::Warning,
        (false, false) => Status::Ok,
    }
}

struct Found {
    reasons: Vec<Reason>,
}

impl Found {
    fn add(&mut self, level: Status, cause: impl FnOnce() -> Cause) {
        if level != Status::Ok {
            self.reasons.push(Reason { level, cause: cause() });
        }
    }

    fn end(mut self) -> (Status, Vec<Reason>) {
        // Stable: among equals they stay as they were found, so that the same facts give the same list.
        self.reasons.sort_by_key(|reason| std::cmp::Reverse(reason.level));
        self.reasons.truncate(REASONS_MAX);
        let status = self.reasons.first().map_or(Status::Ok, |reason| reason.level);
        (status, self.reasons)
    }
}
