//! `musterctl group`.

use super::Failure;
use super::arguments::GroupCommand;
use super::output::{Output, duration};
use super::policy::devices;
use crate::client::Client;
use crate::wire::api::{GroupMove, GroupRemoval, Keep, NewGroup, SettingsChanged};
use crate::wire::units::count;

pub(super) fn run(client: &mut Client, output: &mut Output, command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::Create { path, interval, keep_connected } => {
            let made = client.create_group(&NewGroup { path, interval_seconds: interval, keep_connected })?;
            output.answer(&made, |made| {
                let interval = made.interval_seconds.map(|seconds| duration(seconds.into()));
                let interval =
                    interval.map_or(String::new(), |text| format!(", its devices sync every {text}"));
                let keep =
                    made.keep_connected.map_or(String::new(), |keep| format!(", keep connected {keep}"));
                format!("group {} is there{interval}{keep}", made.path)
            })
        }
        GroupCommand::List => output.list(
            &["GROUP", "DEVICES", "INTERVAL", "KEEP CONNECTED"],
            client.groups(),
            "no groups",
            |group| {
                let interval = group.interval_seconds.map(|seconds| duration(seconds.into()));
                vec![
                    group.path.clone(),
                    group.devices.to_string(),
                    interval.unwrap_or_else(|| "inherited".into()),
                    group.keep_connected.map_or("inherited".into(), |keep| Keep::from(keep).to_string()),
                ]
            },
        ),
        GroupCommand::Move { path, new_path, dry_run } => {
            let asked = GroupMove { from: path.clone(), to: new_path.clone(), dry_run: true };
            let expected = client.move_group(&asked)?;
            if dry_run {
                return would(output, &expected);
            }
            warn(output, &expected)?;
            let changed = client.move_group(&GroupMove { dry_run: false, ..asked })?;
            done(output, &changed, &format!("{path} is {new_path} now"))
        }
        GroupCommand::Remove { path, recursive, dry_run } => {
            let asked = GroupRemoval { path: path.clone(), recursive, dry_run: true };
            let expected = client.remove_group(&asked)?;
            if dry_run {
                return would(output, &expected);
            }
            warn(output, &expected)?;
            let changed = client.remove_group(&GroupRemoval { dry_run: false, ..asked })?;
            done(output, &changed, &format!("group {path} is removed"))
        }
    }
}

fn would(output: &mut Output, expected: &SettingsChanged) -> Result<(), Failure> {
    if output.is_json { output.json(expected) } else { warn(output, expected) }
}

/// Before it is done.
fn warn(output: &mut Output, expected: &SettingsChanged) -> Result<(), Failure> {
    match output.is_json {
        true => Ok(()),
        false => output.line(&format!("{} would have other settings", count(expected.devices, "device"))),
    }
}

fn done(output: &mut Output, changed: &SettingsChanged, what: &str) -> Result<(), Failure> {
    output.answer(changed, |changed| {
        let revision = changed.revision.unwrap_or_default();
        format!("{what}; revision {revision}: {} other settings", devices(changed.devices))
    })
}
