//! `musterctl group`.

use super::Failure;
use super::arguments::GroupCommand;
use super::output::{Output, duration};
use crate::client::Client;
use crate::wire::api::{Keep, NewGroup};

pub(super) fn run(client: &mut Client, output: &mut Output, command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::Create { path, interval, keep_connected } => {
            let made = client.create_group(&NewGroup { path, interval_seconds: interval, keep_connected })?;
            if output.is_json {
                return output.json(&made);
            }
            let interval = made.interval_seconds.map(|seconds| duration(seconds.into()));
            let interval = interval.map_or(String::new(), |text| format!(", its devices sync every {text}"));
            let keep = made.keep_connected.map_or(String::new(), |keep| format!(", keep connected {keep}"));
            output.line(&format!("group {} is there{interval}{keep}", made.path))
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
    }
}
