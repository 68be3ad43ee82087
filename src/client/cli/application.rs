//! `musterctl application`.

use super::Failure;
use super::arguments::ApplicationCommand;
use super::output::Output;
use crate::client::Client;
use crate::wire::api::ApplicationQuery;

pub(super) fn run(
    client: &mut Client,
    output: &mut Output,
    command: ApplicationCommand,
) -> Result<(), Failure> {
    let ApplicationCommand::List { device, name, version, devices } = command;
    let query = ApplicationQuery { device, name, version, ..ApplicationQuery::default() };
    if devices {
        let heads = &["APPLICATION", "VERSION", "DEVICE", "ID"];
        return output.list(
            heads,
            client.installations(query),
            "no such application on any device",
            |item| {
                vec![item.name.clone(), item.version.clone(), item.device.clone(), item.device_id.to_string()]
            },
        );
    }
    let heads = &["APPLICATION", "VERSION", "DEVICES", "PUBLISHER"];
    output.list(heads, client.applications(query), "no such application on any device", |application| {
        vec![
            application.name.clone(),
            application.version.clone(),
            application.devices.to_string(),
            application.publisher.clone(),
        ]
    })
}
