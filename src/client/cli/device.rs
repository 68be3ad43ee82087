//! `musterctl device`.

use super::Failure;
use super::arguments::{DeviceCommand, DeviceSet, Switch};
use super::output::{NOTHING_THERE, Output, duration, time, time_or_nothing};
use crate::client::Client;
use crate::wire::api::{Device, DeviceChange, DeviceDetail, DeviceQuery};

pub(super) fn run(client: &mut Client, output: &mut Output, command: DeviceCommand) -> Result<(), Failure> {
    match command {
        DeviceCommand::List { group, presence, search } => {
            let query = DeviceQuery { group, presence, search, ..DeviceQuery::default() };
            output.list(
                &["NAME", "PRESENCE", "GROUP", "LAST SYNC (UTC)", "INTERVAL", "ID"],
                client.devices(query),
                "no devices",
                row,
            )
        }
        DeviceCommand::Show { device } => {
            let detail = client.device(&device)?;
            if output.is_json { output.json(&detail) } else { show(output, &detail) }
        }
        DeviceCommand::Set(set) => change(client, output, set),
        DeviceCommand::Remove { device } => {
            let removed = client.remove_device(&device)?;
            if output.is_json {
                return output.json(&removed);
            }
            output.line(&format!(
                "device {} ({}) is removed: it is refused from now on; its events stay",
                super::output::plain(&removed.name),
                removed.id
            ))
        }
    }
}

fn row(device: &Device) -> Vec<String> {
    let kept = if device.keep_connected { " (kept)" } else { "" };
    vec![
        device.name.clone(),
        format!("{}{kept}", device.presence),
        device.group.clone(),
        time_or_nothing(device.last_sync_at),
        duration(device.interval_seconds.into()),
        device.id.to_string(),
    ]
}

fn change(client: &mut Client, output: &mut Output, set: DeviceSet) -> Result<(), Failure> {
    let change = DeviceChange {
        name: set.name,
        group: set.group,
        keep_connected: set.keep_connected.map(|switch| switch == Switch::On),
        interval: set.interval,
    };
    let device = client.change_device(&set.device, &change)?;
    if output.is_json {
        return output.json(&device);
    }
    output.line(&format!(
        "device {}: group {}, keep connected {}, syncs every {}",
        super::output::plain(&device.name),
        device.group,
        if device.keep_connected { "on" } else { "off" },
        duration(device.interval_seconds.into()),
    ))
}

fn show(output: &mut Output, detail: &DeviceDetail) -> Result<(), Failure> {
    let device = &detail.device;
    let own = if detail.own_interval_seconds.is_some() { "its own" } else { "inherited" };
    let mut facts = vec![
        ("name", device.name.clone()),
        ("id", device.id.to_string()),
        ("group", device.group.clone()),
        ("presence", device.presence.to_string()),
        ("last seen", time_or_nothing(device.last_seen_at)),
        ("last sync", time_or_nothing(device.last_sync_at)),
        ("next sync by", time_or_nothing(detail.next_sync_at)),
        ("interval", format!("{} ({own})", duration(device.interval_seconds.into()))),
        ("keep connected", if device.keep_connected { "on" } else { "off" }.into()),
        ("enrolled", time(device.enrolled_at)),
        (
            "link",
            detail.link.as_ref().map_or(NOTHING_THERE.into(), |link| {
                format!("reactor {}, slot {}, generation {}", link.reactor, link.slot, link.generation)
            }),
        ),
        ("applications", detail.applications.to_string()),
        (
            "events stored",
            match detail.events.last_sequence {
                0 => "none".into(),
                last => format!("up to number {last} of spool {}", detail.events.spool_epoch),
            },
        ),
    ];
    if let Some(host) = &detail.host {
        facts.extend([
            ("host name", host.hostname.clone()),
            ("system", host.os_name.clone()),
            ("kernel", format!("{} ({})", host.kernel, host.architecture)),
            ("addresses", host.addresses.join(", ")),
            ("boot id", host.boot_id.clone()),
            ("agent", host.agent_version.clone()),
        ]);
    }
    output.facts(facts)?;
    output.line("")?;
    let sections = std::iter::once(Ok(detail.sections.clone()));
    output.list(&["SECTION", "REVISION", "DIGEST"], sections, "", |section| {
        vec![section.section.to_string(), section.revision.to_string(), section.digest.to_string()]
    })?;
    if detail.conditions.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let conditions = std::iter::once(Ok(detail.conditions.clone()));
    let heads = &["APPLICATION", "CONDITION", "SINCE (UTC)", "VERSION", "DETAIL"];
    output.list(heads, conditions, "", |condition| {
        vec![
            condition.application.clone(),
            condition.condition.to_string(),
            time(condition.since),
            condition.version.clone(),
            condition.detail.clone(),
        ]
    })
}
