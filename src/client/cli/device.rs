//! `musterctl device`.

use clap::Args;

use super::Failure;
use super::arguments::{DeviceCommand, DeviceRemove, DeviceSet, filter};
use super::output::{NOTHING_THERE, Output, duration, or_nothing, plain, time, time_or_nothing};
use super::{statistics, sync, task, token};
use crate::client::Client;
use crate::fleet::why::shell_word;
use crate::wire::api::device_table;
use crate::wire::api::{
    Approval, Certificate, ConditionStatus, Device, DeviceChange, DeviceDetail, DeviceQuery, FacetQuery,
    FacetValue, Facets, Keep, PersistentBy, Presence, ReEnrolment, SelectionApproval, SelectionChange,
    SelectionRemoval, UdpReach,
};
use crate::wire::datagram::NoticeKind;
use crate::wire::settings::SettingsState;
use crate::wire::units::count_that;

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["devices", "filter"]))]
pub(super) struct DeviceApprove {
    /// Their names or ids
    #[arg(value_name = "NAME")]
    devices: Vec<String>,
    /// Those that wait and that this filter lets through now, all or none ('musterctl device list --help')
    #[arg(long = "where", value_name = "FILTER", allow_hyphen_values = true, value_parser = filter, conflicts_with = "name")]
    filter: Option<String>,
    /// Don't ask, with --where
    #[arg(long)]
    yes: bool,
    /// Its name from now on; for one device
    #[arg(long, value_name = "NEW")]
    name: Option<String>,
    /// Their group; made when it doesn't exist [default: that of the token]
    #[arg(long, value_name = "PATH")]
    group: Option<String>,
}

pub(super) fn run(client: &mut Client, output: &mut Output, command: DeviceCommand) -> Result<(), Failure> {
    match command {
        DeviceCommand::List(list) => {
            let (sort, is_csv, is_counted) = (list.sort, list.csv, list.facets);
            let query = DeviceQuery { filter: list.filter(), sort, ..DeviceQuery::default() };
            if is_counted {
                return facets(client, output, query.filter);
            }
            if is_csv {
                return output.pieces(client.device_table(&query)?);
            }
            let row = |device: &Device| device_table::cells(device).into();
            output.list(&device_table::HEADS, client.devices(query), "no devices", row)
        }
        DeviceCommand::Show { device, now: false, .. } => show(client, output, &device),
        DeviceCommand::Show { device, now: true, timeout } => {
            let outcome = sync::retrieve(client, &device, timeout)?;
            show(client, output, &device)?;
            if outcome.is_synced() {
                return Ok(());
            }
            Err(Failure::NotReached(format!("{device}: {outcome}; shown is what is known from before")))
        }
        DeviceCommand::Sync(command) => sync::run(client, output, command),
        DeviceCommand::Why { device } => output.answer(&client.why(&device)?, |why| plain(&why.text)),
        DeviceCommand::Set(set) => change(client, output, set),
        DeviceCommand::Approve(asked) => approve(client, output, asked),
        DeviceCommand::ReEnrol { device, ttl } => {
            let created = client.re_enrol_device(&device, &ReEnrolment { ttl_seconds: Some(ttl) })?;
            if output.is_json {
                return output.json(&created);
            }
            let name = plain(created.info.device_name.as_deref().unwrap_or(&device));
            let what = format!(
                "For one machine, which takes the record of {name} over: the certificate that {name} has now dies then."
            );
            token::show(output, &created, &what)
        }
        DeviceCommand::Remove(asked) => remove(client, output, asked),
    }
}

/// Approves those of a selection together, and those that are named one after the other, as far as it goes:
/// the first that can't be ends it.
fn approve(client: &mut Client, output: &mut Output, asked: DeviceApprove) -> Result<(), Failure> {
    let DeviceApprove { devices, filter, yes, name, group } = asked;
    if let Some(filter) = filter {
        let mut asked = SelectionApproval { filter, group, dry_run: true };
        if !yes && output.may_ask() {
            let meant = client.approve_selection(&asked)?;
            output.confirm(&format!("{} approved", are(meant.devices)))?;
        }
        asked.dry_run = false;
        return output.answer(&client.approve_selection(&asked)?, |approved| {
            format!("{} approved: in sync within about a minute", are(approved.devices))
        });
    }
    if name.is_some() && devices.len() > 1 {
        return Err(Failure::Usage("--name is for one device: approve them one by one".into()));
    }
    let approval = Approval { name, group };
    let mut approved = Vec::new();
    for device in &devices {
        let device = client.approve_device(device, &approval)?;
        if !output.is_json {
            output.line(&format!(
                "device {} ({}) is approved, in group {}: it is in sync within about a minute",
                plain(&device.name),
                device.id,
                plain(&device.group)
            ))?;
        }
        approved.push(device);
    }
    if output.is_json { output.json(&approved) } else { Ok(()) }
}

/// The status, since when, and every reason.
fn status(device: &Device) -> Vec<(&'static str, String)> {
    let since = device.status_since.map_or(String::new(), |since| format!(" since {} (UTC)", time(since)));
    let mut facts = vec![("status", format!("{}{since}", device.status))];
    let mut label = "why";
    for reason in &device.reasons {
        facts.push((label, format!("{}: {}", reason.level, reason.text)));
        label = "";
    }
    facts
}

/// State of an application's settings.
fn settings(condition: &ConditionStatus) -> String {
    let Some(settings) = &condition.settings else { return NOTHING_THERE.into() };
    let applied = match settings.applied_revision {
        0 => "none in place".into(),
        revision => format!("revision {revision} in place"),
    };
    match settings.state {
        SettingsState::Applied => format!("applied, revision {}", settings.revision),
        state if settings.applied_revision == settings.revision => {
            format!("{state}, revision {}", settings.revision)
        }
        state => format!("{state}, revision {} ({applied})", settings.revision),
    }
}

/// Text about an application, and about its settings.
fn detail(condition: &ConditionStatus) -> String {
    let of_settings = condition.settings.as_ref().map_or("", |settings| settings.detail.as_str());
    match (condition.detail.as_str(), of_settings) {
        (detail, "") => detail.to_owned(),
        ("", settings) => format!("settings: {settings}"),
        (detail, settings) => format!("{detail}; settings: {settings}"),
    }
}

fn change(client: &mut Client, output: &mut Output, set: DeviceSet) -> Result<(), Failure> {
    let change = DeviceChange {
        name: set.name,
        group: set.group,
        keep_connected: set.keep_connected,
        interval: set.interval,
    };
    if let Some(filter) = set.filter {
        let mut asked = SelectionChange { filter, change, dry_run: true };
        if !set.yes && output.may_ask() {
            let meant = client.change_selection(&asked)?;
            output.confirm(&format!("{} changed", are(meant.devices)))?;
        }
        asked.dry_run = false;
        return output.answer(&client.change_selection(&asked)?, |changed| {
            format!("{} changed", are(changed.devices))
        });
    }
    output.answer(&client.change_device(&set.device.unwrap_or_default(), &change)?, |device| {
        format!(
            "device {}: group {}, keep connected {}, syncs every {}",
            plain(&device.name),
            device.group,
            Keep::from(device.keep_connected),
            duration(device.interval_seconds.into()),
        )
    })
}

/// Says how many of those that a filter lets through would be called or given something, and goes on when
/// that is wanted.
pub(super) fn confirm_approved(
    client: &mut Client,
    output: &Output,
    filter: &str,
    what: &str,
) -> Result<(), Failure> {
    let meant = client.facets(&FacetQuery { filter: Some(filter.to_owned()) })?.approved();
    output.confirm(&format!("{} {what}", are(meant)))
}

fn are(devices: u64) -> String {
    count_that(devices, "device", "is", "are")
}

/// Removes a device, or those of a selection.
fn remove(client: &mut Client, output: &mut Output, asked: DeviceRemove) -> Result<(), Failure> {
    let Some(filter) = asked.filter else {
        let removed = client.remove_device(&asked.device.unwrap_or_default())?;
        return output.answer(&removed, |removed| {
            let name = plain(&removed.name);
            format!("device {name} ({}) is removed: it is refused from now on; its events stay", removed.id)
        });
    };
    let mut removal = SelectionRemoval { filter, dry_run: true };
    if !asked.yes && output.may_ask() {
        let meant = client.remove_selection(&removal)?;
        output.confirm(&format!("{} removed, and refused from then on", are(meant.devices)))?;
    }
    removal.dry_run = false;
    output.answer(&client.remove_selection(&removal)?, |removed| {
        format!("{} removed: refused from now on; the events stay", are(removed.devices))
    })
}

/// Counts of a selection.
fn facets(client: &mut Client, output: &mut Output, filter: Option<String>) -> Result<(), Failure> {
    let facets = client.facets(&FacetQuery { filter })?;
    if output.is_json {
        return output.json(&facets);
    }
    let Facets { devices, presence, status, os, group, tag } = facets;
    let named = [("presence", presence), ("status", status), ("system", os), ("group", group), ("tag", tag)];
    let mut rows = vec![("all", FacetValue { value: String::new(), devices })];
    rows.extend(named.into_iter().flat_map(|(by, values)| values.into_iter().map(move |value| (by, value))));
    output.list(&["BY", "VALUE", "DEVICES"], std::iter::once(Ok(rows)), "", |(by, value)| {
        vec![(*by).to_owned(), or_nothing(value.value.clone()), value.devices.to_string()]
    })
}

/// Its presence, and its own word on that.
fn presence(detail: &DeviceDetail) -> String {
    let said = match (detail.device.presence, detail.departure) {
        (Presence::ShutDown, Some(NoticeKind::Reboot)) => " (it said that it reboots)",
        (Presence::Lost, Some(NoticeKind::Reboot)) => " (it said that it reboots, and did not come back)",
        _ => "",
    };
    format!("{}{said}", device_table::words(detail.device.presence))
}

/// Whether its link stays open, and why.
fn keep_connected(detail: &DeviceDetail) -> String {
    let keep = Keep::from(detail.device.keep_connected);
    match (detail.persistent_by, detail.waits_for_room, detail.own_keep_connected) {
        (_, true, _) => {
            "off: as many are kept connected as max_persistent_connections allows; it waits for room".into()
        }
        (Some(PersistentBy::Unreachable), ..) => "off, and kept all the same: wakes do not reach it".into(),
        (.., Some(_)) => format!("{keep} (its own)"),
        (.., None) => format!("{keep} (inherited)"),
    }
}

/// Address at which it hears wakes, and whether they reach it.
fn wakes(detail: &DeviceDetail) -> String {
    let Some(port) = detail.udp_port else {
        return match &detail.address {
            Some(address) => format!("it has named no UDP port; it is at {address}"),
            None => NOTHING_THERE.into(),
        };
    };
    let reach = match detail.udp_reach {
        UdpReach::Reached => "wakes reach it",
        UdpReach::Unreached => "wakes do not reach it",
        UdpReach::Unknown => "whether wakes reach it is not known",
        UdpReach::Probing => "whether wakes reach it is being tried",
    };
    let address = detail.address.as_deref().unwrap_or("an unknown address");
    format!("{reach}: UDP port {port} at {address}")
}

/// The certificate that it uses, and when it has another.
fn certificate(detail: &DeviceDetail) -> String {
    let Some(certificate) = &detail.certificate else { return NOTHING_THERE.into() };
    let Certificate { number, key_type, expires_at, renews_at, is_due } = *certificate;
    let renewal = match renews_at {
        _ if is_due => "is renewed with its next sync".into(),
        Some(at) => format!("is renewed about {} (UTC)", time(at)),
        None => "when it is renewed is not known".into(),
    };
    format!("number {number} ({key_type}), until {}, {renewal}", time_or_nothing(expires_at))
}

fn show(client: &mut Client, output: &mut Output, name_or_id: &str) -> Result<(), Failure> {
    let detail = client.device(name_or_id)?;
    if output.is_json {
        return output.json(&detail);
    }
    let runs = task::on_device(client, detail.device.id)?;
    show_facts(output, &detail)?;
    show_tables(output, &detail)?;
    runs.show(output)?;
    statistics::show(output, &detail.statistics)
}

fn show_facts(output: &mut Output, detail: &DeviceDetail) -> Result<(), Failure> {
    let device = &detail.device;
    let own = if detail.own_interval_seconds.is_some() { "its own" } else { "inherited" };
    let mut facts = vec![
        ("name", device.name.clone()),
        ("id", device.id.to_string()),
        ("group", device.group.clone()),
        ("tags", or_nothing(detail.tags.join(", "))),
        ("presence", presence(detail)),
    ];
    facts.extend(status(device));
    facts.extend([
        ("last seen", time_or_nothing(device.last_seen_at)),
        ("last sync", time_or_nothing(device.last_sync_at)),
        ("next sync", time_or_nothing(detail.next_sync_at)),
        ("interval", format!("{} ({own})", duration(device.interval_seconds.into()))),
        ("keep connected", keep_connected(detail)),
        ("wakes", wakes(detail)),
        ("enrolled", time(device.enrolled_at)),
        ("certificate", certificate(detail)),
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
    ]);
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
    if detail.udp_reach == UdpReach::Unreached && detail.persistent_by.is_none() && !detail.waits_for_room {
        output.line(&plain(&format!(
            "\nhint: it can't be called between its syncs; to keep its link open: musterctl device set {} \
             --keep-connected on",
            shell_word(&device.name)
        )))?;
    }
    Ok(())
}

/// Its sections, and the condition of its applications.
fn show_tables(output: &mut Output, detail: &DeviceDetail) -> Result<(), Failure> {
    output.line("")?;
    let sections = std::iter::once(Ok(detail.sections.clone()));
    output.list(&["SECTION", "REVISION", "DIGEST"], sections, "", |section| {
        vec![section.section.to_string(), section.revision.to_string(), section.digest.to_string()]
    })?;
    if !detail.conditions.is_empty() {
        output.line("")?;
        let conditions = std::iter::once(Ok(detail.conditions.clone()));
        let heads = &["APPLICATION", "CONDITION", "SINCE (UTC)", "VERSION", "SETTINGS", "DETAIL"];
        output.list(heads, conditions, "", |condition| {
            vec![
                condition.application.clone(),
                condition.condition.to_string(),
                time(condition.since),
                condition.version.clone(),
                settings(condition),
                self::detail(condition),
            ]
        })?;
    }
    Ok(())
}
