//! Why a device's status is what it is: kept as facts, so that it changes only when they do, and told in
//! words when somebody asks.

use serde::{Deserialize, Serialize};

use crate::wire::bounded::clip;
use crate::wire::clone_policy::ClonePolicy;
use crate::wire::section::Condition;
use crate::wire::settings::SettingsState;
use crate::wire::status::Status;
use crate::wire::time::WallTime;

/// Most reasons that are kept for one device: after sixteen an administrator asks the device.
pub const REASONS_MAX: usize = 16;

/// Longest detail that is repeated in a reason; the whole of it stands with what it is about.
const DETAIL_BYTES_MAX: usize = 160;

/// One thing that is against a device.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reason {
    /// Its level.
    pub level: Status,
    /// Its cause.
    #[serde(flatten)]
    pub cause: Cause,
}

/// Cause against a device.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// It should have come and has not.
    Lost {
        /// Since when.
        since: WallTime,
    },
    /// An application does not do its work.
    Application {
        /// Which.
        application: String,
        /// Its condition.
        condition: Condition,
        /// Since when, by the device's clock.
        since: WallTime,
        /// Why; may be empty.
        detail: String,
    },
    /// The latest run of a task failed.
    Task {
        /// The task's id.
        task: String,
        /// Whose task.
        application: String,
        /// Which kind.
        kind: String,
        /// When the run ended.
        at: WallTime,
        /// Its last message; may be empty.
        message: String,
    },
    /// Settings are not in place.
    Settings {
        /// Of which application.
        application: String,
        /// Their state.
        state: SettingsState,
        /// Since when.
        since: WallTime,
        /// Why; may be empty.
        detail: String,
    },
    /// The disk is nearly full.
    Disk {
        /// Its free share, in whole percent.
        free_percent: f64,
    },
    /// The device's certificate is near its end, or past it.
    Certificate {
        /// Until when it is good.
        expires_at: WallTime,
        /// Whether it was due, and the device has synced since: its renewal does not work.
        #[serde(default)]
        is_not_renewed: bool,
    },
    /// The device's clock is far from the server's.
    Clock {
        /// Distance by which it is ahead; negative: behind. As far as the number goes.
        ahead_minutes: i16,
    },
    /// Two devices seem to use one identity.
    SharedIdentity(SharedIdentity),
    /// It waits for an administrator to approve it.
    WaitingForApproval {
        /// Since when.
        since: WallTime,
        /// It came with a certificate of this server that was not known here any more.
        was_unknown: bool,
    },
    /// A rotation of the server's key is under way, and the device has not stored the next pin.
    PinMissing {
        /// Since when it should have.
        since: WallTime,
    },
    /// Its events wait on it, as it sends more than its rate.
    EventsHeld {
        /// Since when.
        since: WallTime,
    },
    /// The rules for the device can't be read.
    Rules {
        /// Why.
        why: String,
    },
}

/// Signs that two devices use one identity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SharedIdentity {
    /// Since when there are any.
    pub since: WallTime,
    /// Addresses from which those were heard.
    pub addresses: Vec<String>,
    /// The server's answer to it.
    #[serde(default)]
    pub policy: ClonePolicy,
}

impl Reason {
    /// For people, as it is now: `nginx failed 3h ago: …`.
    #[must_use]
    pub fn text(&self, now: WallTime) -> String {
        let ago = |since: &WallTime| format!("{} ago", span(now.0.saturating_sub(since.0)));
        let lasting = |since: &WallTime| format!("for {}", span(now.0.saturating_sub(since.0)));
        match &self.cause {
            Cause::Lost { since } => format!("lost {}", lasting(since)),
            Cause::Application { application, condition, since, detail } => {
                let text = match condition {
                    Condition::Failed => format!("{application} failed {}", ago(since)),
                    Condition::Stopped => format!("{application} stopped {}", ago(since)),
                    Condition::NotInstalled => format!("{application} is not installed"),
                    Condition::Unknown => format!("whether {application} runs is not known"),
                    Condition::Running => format!("{application} runs"),
                };
                with_detail(text, detail)
            }
            Cause::Task { application, kind, at, message, .. } => {
                with_detail(format!("task {kind} of {application} failed {}", ago(at)), message)
            }
            Cause::Settings { application, state, since, detail } => {
                let text = match state {
                    SettingsState::Failed => {
                        format!("settings of {application} could not be applied {}", ago(since))
                    }
                    SettingsState::Drifted => {
                        format!("settings of {application} were changed on the device {}", ago(since))
                    }
                    SettingsState::Pending => format!("settings of {application} pending {}", lasting(since)),
                    SettingsState::Applied => format!("settings of {application} are applied"),
                };
                with_detail(text, detail)
            }
            Cause::Disk { free_percent } => format!("disk: {free_percent} % free"),
            Cause::Clock { ahead_minutes } => {
                let off = span(u64::from(ahead_minutes.unsigned_abs()) * 60_000);
                let least = if [i16::MIN, i16::MAX].contains(ahead_minutes) { "at least " } else { "" };
                let way = if *ahead_minutes < 0 { "behind" } else { "ahead of" };
                format!("its clock is {least}{off} {way} the server's")
            }
            Cause::SharedIdentity(SharedIdentity { since, addresses, policy }) => {
                let from = if addresses.is_empty() {
                    String::new()
                } else {
                    format!(" (heard from {})", addresses.join(", "))
                };
                let answer = match policy {
                    ClonePolicy::Warn => "enrol one of them anew",
                    ClonePolicy::Fork => {
                        "the copy was sent to enrol as a device of its own and still comes as this one"
                    }
                    ClonePolicy::Refuse => "the copy is refused, enrol it anew",
                };
                format!("two devices seem to use this identity {}{from}: {answer}", lasting(since))
            }
            Cause::WaitingForApproval { since, was_unknown: false } => {
                format!(
                    "waiting for approval {}: 'musterctl device approve', or 'device remove'",
                    lasting(since)
                )
            }
            Cause::WaitingForApproval { since, was_unknown: true } => format!(
                "waiting for approval {}, as it is not known here any more: 'musterctl device approve', or 'device remove'",
                lasting(since)
            ),
            Cause::EventsHeld { since } => {
                format!("it sends more events than it may, some wait on it {}", lasting(since))
            }
            Cause::PinMissing { since } => format!(
                "it has not stored the pin of the server's next certificate {}: it has to sync before 'musterctl certificate retire'",
                lasting(since)
            ),
            Cause::Rules { why } => format!("the rules for its status are wrong: {why}"),
            Cause::Certificate { expires_at, is_not_renewed } => {
                let end = if *expires_at <= now {
                    format!("its certificate expired {}", ago(expires_at))
                } else {
                    format!("its certificate expires in {}", span(expires_at.0.saturating_sub(now.0)))
                };
                let then = if *is_not_renewed {
                    "and is not renewed although it syncs: 'muster-agent status' there and the server's log say why"
                } else {
                    "and is renewed when it comes"
                };
                format!("{end} {then}")
            }
        }
    }
}

fn with_detail(text: String, detail: &str) -> String {
    if detail.is_empty() { text } else { format!("{text}: {detail}") }
}

/// A text in one line and short enough to stand in a list.
pub(super) fn short(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    if line.len() <= DETAIL_BYTES_MAX {
        return line.to_owned();
    }
    format!("{}…", clip(line, DETAIL_BYTES_MAX))
}

/// A length of time in its largest unit that is not a fraction.
#[must_use]
pub fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
