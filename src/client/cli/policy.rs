//! `musterctl policy` and `musterctl settings`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::output::{NOTHING_THERE, Output, or_nothing, time};
use super::{Failure, history, json_file};
use crate::client::Client;
use crate::fleet::settings;
use crate::wire::api::{
    ApplicationSettings, ChangedDevice, ExplainedKey, LevelValue, NewPolicy, Policy, PolicyHistoryQuery,
    PolicyQuery, PolicyRemoval, SettingsChanged,
};
use crate::wire::printable;
use crate::wire::settings::Drift;
use crate::wire::units::count_that;

#[derive(Subcommand, Debug)]
pub(super) enum PolicyCommand {
    /// Set a group's policy for an application: settings for all its devices, and those of the groups below
    /// it
    #[command(after_help = "Examples:
  musterctl policy set --group /shops --application kiosk --file kiosk.json
  musterctl policy set --group / --application nginx --file nginx.json --lock gzip --lock tls.versions --now
  echo '{\"status\": {\"lost\": {\"critical_after\": \"1h\"}}}' | musterctl policy set --group /shops --application muster --file -

Connected devices learn it at once, a few hundred a second; the others at their slot, or woken with --now.")]
    Set {
        /// The group
        #[arg(long, value_name = "PATH")]
        group: String,
        #[command(flatten)]
        what: What,
        /// A key that groups below and devices can't change, as a dotted path; may be given several times
        #[arg(long, value_name = "KEY")]
        lock: Vec<String>,
    },
    /// A group's policy for an application, as it was set
    #[command(after_help = "Examples:
  musterctl policy show --group /shops --application kiosk")]
    Show {
        /// The group
        #[arg(long, value_name = "PATH")]
        group: String,
        /// The application
        #[arg(long, value_name = "NAME")]
        application: String,
    },
    /// All policies, by group and application
    #[command(after_help = "Examples:
  musterctl policy list
  musterctl policy list --application nginx --json | jq -r '.[].group'")]
    List {
        /// Only those of this group
        #[arg(long, value_name = "PATH")]
        group: Option<String>,
        /// Only those for this application
        #[arg(long, value_name = "NAME")]
        application: Option<String>,
    },
    /// Remove a group's policy for an application
    #[command(after_help = "Examples:
  musterctl policy remove --group /shops --application kiosk")]
    Remove {
        /// The group
        #[arg(long, value_name = "PATH")]
        group: String,
        /// The application
        #[arg(long, value_name = "NAME")]
        application: String,
        /// Wake devices that are not connected
        #[arg(long)]
        now: bool,
        /// Only say which devices would have other settings
        #[arg(long)]
        dry_run: bool,
    },
    /// Versions of a group's policy for an application, the newest first: the last 50, as far as they have
    /// room in 256 KiB
    #[command(after_help = "Examples:
  musterctl policy history --group /shops --application kiosk
  musterctl policy history --group /shops --application kiosk --diff 12")]
    History {
        /// The group
        #[arg(long, value_name = "PATH")]
        group: String,
        /// The application
        #[arg(long, value_name = "NAME")]
        application: String,
        /// Show what this revision changed
        #[arg(long, value_name = "REVISION")]
        diff: Option<u64>,
    },
    /// Set a group's policy to what it was in an earlier revision, which may be that there was none
    #[command(after_help = "Examples:
  musterctl policy revert --group /shops --application kiosk --revision 12 --dry-run
  musterctl policy revert --group /shops --application kiosk --revision 12 --now")]
    Revert {
        /// The group
        #[arg(long, value_name = "PATH")]
        group: String,
        /// The application
        #[arg(long, value_name = "NAME")]
        application: String,
        /// The revision, as 'musterctl policy history' lists it
        #[arg(long)]
        revision: u64,
        /// Wake devices that are not connected
        #[arg(long)]
        now: bool,
        /// Only say which devices would have other settings
        #[arg(long)]
        dry_run: bool,
    },
    /// Origin of each key of a device's settings, who locked it, and what it overrode
    #[command(after_help = "Examples:
  musterctl policy explain --device kiosk-17 --application kiosk")]
    Explain {
        /// The device's name or id
        #[arg(long, value_name = "NAME")]
        device: String,
        /// The application
        #[arg(long, value_name = "NAME")]
        application: String,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum SettingsCommand {
    /// Set a device's own settings for an application; what groups have locked stays
    #[command(after_help = "Examples:
  musterctl settings set --device kiosk-17 --application kiosk --file own.json --now")]
    Set {
        /// The device's name or id
        #[arg(long, value_name = "NAME")]
        device: String,
        #[command(flatten)]
        what: What,
    },
    /// Settings that a device's applications should have, and those that the device says that they have
    #[command(after_help = "Examples:
  musterctl settings show --device kiosk-17
  musterctl settings show --device kiosk-17 --application kiosk --json | jq '.[0].reported.state'")]
    Show {
        /// The device's name or id
        #[arg(long, value_name = "NAME")]
        device: String,
        /// Only of this application; its effective settings are shown as well
        #[arg(long, value_name = "NAME")]
        application: Option<String>,
    },
    /// Remove a device's own settings for an application
    #[command(after_help = "Examples:
  musterctl settings remove --device kiosk-17 --application kiosk")]
    Remove {
        /// The device's name or id
        #[arg(long, value_name = "NAME")]
        device: String,
        /// The application
        #[arg(long, value_name = "NAME")]
        application: String,
        /// Wake the device when it is not connected
        #[arg(long)]
        now: bool,
        /// Only say whether the device would have other settings
        #[arg(long)]
        dry_run: bool,
    },
}

/// Place of the settings, and the settings.
#[derive(Args, Debug)]
pub(super) struct What {
    /// The application
    #[arg(long, value_name = "NAME")]
    application: String,
    /// A file with one JSON object; '-' reads standard input
    #[arg(long, value_name = "F.json")]
    file: PathBuf,
    /// Reaction of a device when somebody else changes the settings [default: as the level above says, repair
    /// at the root]
    #[arg(long)]
    drift: Option<DriftArgument>,
    /// Wake devices that are not connected
    #[arg(long)]
    now: bool,
    /// Only say which devices would have other settings
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum DriftArgument {
    /// Put the ordered settings in place again, and say so
    Repair,
    /// Only say so
    Report,
}

impl What {
    fn at(self, at: String, locks: Vec<String>) -> Result<NewPolicy, Failure> {
        let settings = json_file::read(&self.file, settings::parse)?;
        let drift = self.drift.map(|drift| match drift {
            DriftArgument::Repair => Drift::Repair,
            DriftArgument::Report => Drift::Report,
        });
        settings::parse_locks(&locks, &settings)
            .map_err(|error| Failure::Usage(format!("--lock: {error}")))?;
        let (wake, dry_run) = (self.now, self.dry_run);
        Ok(NewPolicy { at, application: self.application, settings, locks, drift, wake, dry_run })
    }
}

pub(super) fn run(client: &mut Client, output: &mut Output, command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Set { group, what, lock } => {
            let new = what.at(group, lock)?;
            let changed = client.set_policy(&new)?;
            say(output, &changed, new.wake)
        }
        PolicyCommand::Remove { group: at, application, now, dry_run } => {
            let changed = client.remove_policy(&PolicyRemoval { at, application, wake: now, dry_run })?;
            say(output, &changed, now)
        }
        PolicyCommand::History { group, application, diff } => {
            let query = PolicyHistoryQuery { group, application, ..PolicyHistoryQuery::default() };
            history::show(client, output, query, diff)
        }
        PolicyCommand::Revert { group, application, revision, now, dry_run } => {
            let changed = history::revert(client, (group, application), revision, (now, dry_run))?;
            say(output, &changed, now)
        }
        PolicyCommand::Show { group, application } => {
            let query = PolicyQuery {
                group: Some(group.clone()),
                application: Some(application.clone()),
                ..PolicyQuery::default()
            };
            let mut found = Vec::new();
            for page in client.policies(query) {
                found.extend(page?);
            }
            let Some(policy) = found.pop() else {
                return Err(Failure::NotReached(format!("nothing is set for '{application}' in {group}")));
            };
            show(output, &policy)
        }
        PolicyCommand::List { group, application } => {
            let query = PolicyQuery { group, application, ..PolicyQuery::default() };
            output.list(
                &["GROUP", "APPLICATION", "REVISION", "KEYS", "LOCKED", "DRIFT", "CHANGED (UTC)"],
                client.policies(query),
                "no policies: set one with 'musterctl policy set'",
                |policy| {
                    vec![
                        policy.group.clone(),
                        policy.application.clone(),
                        policy.revision.to_string(),
                        policy.settings.len().to_string(),
                        or_nothing(policy.locks.join(", ")),
                        drift(policy.drift),
                        time(policy.changed_at),
                    ]
                },
            )
        }
        PolicyCommand::Explain { device, application } => {
            let keys = client.explain(&device, &application)?;
            if keys.is_empty() && !output.is_json {
                return output.line(&format!("nobody has set anything for '{application}' on {device}"));
            }
            output.list(
                &["KEY", "VALUE", "FROM", "LOCKED BY", "OVERRODE", "REFUSED"],
                std::iter::once(Ok(keys)),
                "",
                |key: &ExplainedKey| {
                    vec![
                        key.key.clone(),
                        key.value.to_string(),
                        key.from.clone(),
                        key.locked_by.clone().unwrap_or_else(|| NOTHING_THERE.into()),
                        levels(&key.overrode),
                        levels(&key.refused),
                    ]
                },
            )
        }
    }
}

pub(super) fn run_settings(
    client: &mut Client,
    output: &mut Output,
    command: SettingsCommand,
) -> Result<(), Failure> {
    match command {
        SettingsCommand::Set { device, what } => {
            let new = what.at(device, Vec::new())?;
            let changed = client.set_settings(&new)?;
            say(output, &changed, new.wake)
        }
        SettingsCommand::Remove { device: at, application, now, dry_run } => {
            let changed = client.remove_settings(&PolicyRemoval { at, application, wake: now, dry_run })?;
            say(output, &changed, now)
        }
        SettingsCommand::Show { device, application } => {
            let mut found = client.settings(&device)?;
            if let Some(wanted) = &application {
                found.retain(|one| one.application == *wanted);
            }
            let one = found.first().cloned().filter(|_| application.is_some() && !output.is_json);
            output.list(
                &["APPLICATION", "DESIRED", "REPORTED", "STATE", "IN PLACE", "SINCE (UTC)", "DETAIL"],
                std::iter::once(Ok(found)),
                "nobody has set anything for this device",
                row,
            )?;
            let Some(one) = one else { return Ok(()) };
            let text = printable::json_pretty(&one.settings).unwrap_or_default();
            output.line(&format!("\nwhat it should have:\n{text}"))
        }
    }
}

/// Desired and reported, side by side.
fn row(one: &ApplicationSettings) -> Vec<String> {
    let nothing = || NOTHING_THERE.to_owned();
    let reported = one.reported.as_ref();
    vec![
        one.application.clone(),
        one.desired_revision.map_or_else(|| "not taken".into(), |revision| revision.to_string()),
        reported.map_or_else(nothing, |reported| reported.revision.to_string()),
        reported.map_or_else(|| "not given yet".into(), |reported| reported.state.to_string()),
        reported
            .map(|reported| reported.applied_revision)
            .filter(|revision| *revision > 0)
            .map_or_else(nothing, |revision| revision.to_string()),
        reported.map_or_else(nothing, |reported| time(reported.since.into())),
        or_nothing(reported.map(|reported| reported.detail.clone()).unwrap_or_default()),
    ]
}

fn show(output: &mut Output, policy: &Policy) -> Result<(), Failure> {
    if output.is_json {
        return output.json(policy);
    }
    output.facts(vec![
        ("group", policy.group.clone()),
        ("application", policy.application.clone()),
        ("revision", format!("{}, {} UTC", policy.revision, time(policy.changed_at))),
        ("locked", or_nothing(policy.locks.join(", "))),
        ("drift", drift(policy.drift)),
    ])?;
    output.line(&printable::json_pretty(&policy.settings).unwrap_or_default())
}

fn say(output: &mut Output, changed: &SettingsChanged, wake: bool) -> Result<(), Failure> {
    if changed.revision.is_none() {
        let keys =
            |device: &ChangedDevice| device.keys.iter().map(|key| format!("\n    {key}")).collect::<String>();
        let names = changed.examples.iter().map(|device| format!("\n  {}{}", device.name, keys(device)));
        let names = names.collect::<String>();
        let would = count_that(changed.devices, "device", "would have", "would have");
        return output.answer(changed, |_| format!("{would} other settings{names}"));
    }
    let how = match (changed.devices, wake) {
        (0, _) => "",
        (_, true) => "; they are asked on their links, or woken",
        (_, false) => "; those that are connected are asked now, the others learn it at their slot",
    };
    let revision = changed.revision.map_or(String::new(), |revision| format!("revision {revision}: "));
    output.answer(changed, |_| format!("{revision}{} other settings{how}", devices(changed.devices)))
}

/// `1 device has`, `12 devices have`.
pub(super) fn devices(number: u64) -> String {
    count_that(number, "device", "has", "have")
}

pub(super) fn drift(drift: Option<Drift>) -> String {
    match drift {
        Some(Drift::Repair) => "repair",
        Some(Drift::Report) => "report",
        None => "inherited",
    }
    .to_owned()
}

fn levels(values: &[LevelValue]) -> String {
    or_nothing(
        values.iter().map(|said| format!("{} ({})", said.value, said.from)).collect::<Vec<_>>().join(", "),
    )
}
