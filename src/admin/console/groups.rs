//! Groups: the tree, and what each takes from those above it.

use serde_json::Value;

use super::api::Api;
use super::form::{Fields, Form, Sent, invalid};
use super::page::{Answer, Cell, Page, Part, Table, see};
use super::text::many;
use super::{devices, said, selection};
use crate::fleet::why::shell_word;
use crate::wire::api::device_table::duration;
use crate::wire::api::url::with_query;
use crate::wire::api::{
    ErrorDetail, Group, GroupInForce, GroupMove, GroupRemoval, Interval, Keep, NewGroup, Page as ListPage,
    PageQuery, SettingsChanged,
};

pub(super) async fn show(api: Api, fields: Fields) -> Answer {
    page(&api, &fields, None, None).await
}

pub(super) async fn change(api: Api, Sent(fields): Sent) -> Answer {
    match changed(&api, &fields).await {
        Ok(Done::Changed(done, devices)) => Ok(see(&said::with("/groups", done, devices))),
        Ok(Done::DryRun(devices)) => page(&api, &fields, None, Some(devices)).await,
        Err(error) => page(&api, &fields, Some(error), None).await,
    }
}

enum Done {
    Changed(&'static str, u64),
    /// This many devices would have other settings.
    DryRun(u64),
}

async fn changed(api: &Api, fields: &Fields) -> Result<Done, ErrorDetail> {
    let path = fields.get("path").trim().to_owned();
    let dry_run = fields.get("sure").is_empty();
    let changed: SettingsChanged = match fields.get("action") {
        "make" => {
            let interval_seconds = match fields.some("interval").map(|text| selection::interval(&text)) {
                None => None,
                Some(Ok(Interval::Seconds(seconds))) => Some(seconds),
                Some(Ok(Interval::Inherited)) => {
                    return Err(invalid("a group's interval is a duration, or left as it is"));
                }
                Some(Err(error)) => return Err(error),
            };
            let new = NewGroup { path, interval_seconds, keep_connected: fields.parsed::<Keep>("keep")? };
            let _: Value = api.post("/v1/groups", &new).await?;
            return Ok(Done::Changed("made", 0));
        }
        "move" => {
            let to = fields.get("to").trim().to_owned();
            api.post("/v1/groups/move", &GroupMove { from: path, to, dry_run }).await?
        }
        "remove" => {
            let recursive = !fields.get("recursive").is_empty();
            api.post("/v1/groups/remove", &GroupRemoval { path, recursive, dry_run }).await?
        }
        _ => return Err(invalid("there is no such action")),
    };
    let done = if fields.get("action") == "move" { "moved" } else { "removed" };
    Ok(if dry_run { Done::DryRun(changed.devices) } else { Done::Changed(done, changed.devices) })
}

async fn page(api: &Api, fields: &Fields, wrong: Option<ErrorDetail>, asked: Option<u64>) -> Answer {
    let query = PageQuery { limit: None, cursor: fields.some("cursor") };
    let list: ListPage<Group> = api.get(&with_query("/v1/groups", &query)).await?;
    let next = list
        .next_cursor
        .map(|cursor| with_query("/groups", &PageQuery { limit: None, cursor: Some(cursor) }));
    let heads = ["Group", "Devices", "Interval", "Keep connected", "Policies", "Change"];
    let table = Table::new("Groups", heads, "No group is yours to see.").rows(rows(&list.items)).next(next);
    let page = Page::new("/groups", "Groups").command("musterctl group list").said(fields);
    let page = match asked {
        None => page,
        Some(devices) => page.with(sure(fields, devices)),
    };
    page.with(table).with_all(forms(fields)).wrong(wrong).into()
}

/// Rows of the tree: settings that a group has from above are named with the group that has them.
fn rows(groups: &[Group]) -> Vec<[Cell; 6]> {
    let from = |text: String, of: &str, group: &Group| {
        if of == group.path { Cell::text(text) } else { Cell::text(format!("{text} (from {of})")) }
    };
    let row = |group: &Group| {
        let GroupInForce { interval_seconds, interval_from, keep_connected, keep_connected_from } =
            &group.in_force;
        let interval = match interval_from {
            Some(of) => from(duration(interval_seconds.unwrap_or_default().into()), of, group),
            None => Cell::text("the server's"),
        };
        let keep = match keep_connected_from {
            Some(of) => from(Keep::from(*keep_connected).to_string(), of, group),
            None => Cell::text("off"),
        };
        let query = |url: &str, name: &str| with_query(url, &serde_json::json!({ (name): group.path }));
        [
            Cell::link(devices::url(&devices::term("group", &group.path)), &group.path),
            Cell::Number(group.devices),
            interval,
            keep,
            Cell::link(query("/policies", "group"), "policies"),
            Cell::Change(query("/groups", "path"), "change"),
        ]
    };
    groups.iter().map(row).collect()
}

fn forms(fields: &Fields) -> [Part; 3] {
    let value = |name: &str| fields.get(name).to_owned();
    let path = value("path");
    let make = Form::post("/groups", "Make or change a group")
        .line("path", "Path", &path, "such as /berlin/kiosks; groups above it are made")
        .line("interval", "Interval", &value("interval"), "such as 15m; empty: as it is")
        .choice(
            "keep",
            "Keep connected",
            &value("keep"),
            [("", "as it is"), ("on", "on"), ("off", "off"), ("inherit", "as the group above says")],
        )
        .button("make", "Save");
    let rename = Form::post("/groups", "Move a group")
        .line("path", "From", &path, "")
        .line("to", "To", &value("to"), "its devices, policies and groups go with it")
        .button("move", "Continue");
    let remove = Form::post("/groups", "Remove a group")
        .line("path", "Path", &path, "")
        .tick(
            "recursive",
            "with the groups below; their devices belong to the group above then",
            fields.get("recursive"),
        )
        .danger("remove", "Continue");
    [make.into(), rename.into(), remove.into()]
}

/// Says how many devices a change concerns, and asks.
fn sure(fields: &Fields, devices: u64) -> Part {
    let (path, to) = (fields.get("path"), fields.get("to"));
    let form = Form::post("/groups", "").hidden("path", path).hidden("sure", "on");
    let (form, command) = if fields.get("action") == "move" {
        let form = form.hidden("to", to).button("move", format!("Move {path} to {to}"));
        (form, format!("musterctl group move {} {}", shell_word(path), shell_word(to)))
    } else {
        let form =
            form.hidden("recursive", fields.get("recursive")).danger("remove", format!("Remove {path}"));
        (form, format!("musterctl group remove {}", shell_word(path)))
    };
    let text =
        format!("{} would have other settings. The same in a terminal: {command}", many(devices, "device"));
    Part::Group(vec![Part::Notice(text), form.into()])
}
