//! Changes of all devices that a filter lets through: it is said how many there are before it is done.

use serde_json::Value;

use super::api::Api;
use super::form::{Fields, Form, Sent, invalid};
use super::page::{Answer, Page, Part, see};
use super::text::many;
use super::{devices, said};
use crate::fleet::why::shell_word;
use crate::wire::api::url::{path, with_query};
use crate::wire::api::{
    CallLine, CallRequest, DeviceChange, ErrorDetail, Facets, Interval, Keep, Selected, SelectionApproval,
    SelectionChange, SelectionRemoval, TagChange,
};
use crate::wire::units::parse_duration;

/// Changes: name, text, and what the command calls it.
const CHANGES: [(&str, &str); 8] = [
    ("group", "Move to the group"),
    ("tag", "Give the tag"),
    ("untag", "Take the tag"),
    ("interval", "Sync at the interval"),
    ("keep", "Keep connected (on, off, inherit)"),
    ("sync", "Sync now"),
    ("approve", "Approve those that wait (into the group)"),
    ("remove", "Remove"),
];

/// The forms under a list, when there is something in it.
pub(super) fn forms(filter: &str, devices: u64, typed: &Fields) -> Option<Part> {
    let form = Form::post("/selection", "Change all of them")
        .hidden("where", filter)
        .choice("change", "Change", typed.get("change"), CHANGES)
        .line(
            "value",
            "Value",
            typed.get("value"),
            "a group, a tag, an interval such as 15m; nothing for the others",
        )
        .button("", "Continue");
    let view = Form::post("/selection", "Keep this filter as a view")
        .hidden("where", filter)
        .hidden("change", "view")
        .line("view", "Name of the view", typed.get("view"), "then view:NAME stands for this filter")
        .button("", "Save");
    let mut forms = vec![Part::Form(form)];
    forms.extend((!filter.is_empty()).then_some(Part::Form(view)));
    (devices > 0).then_some(Part::Folded("Change all of these devices".into(), forms))
}

/// Does it when the number is the one that was said, and else says it.
pub(super) async fn change(api: Api, Sent(fields): Sent) -> Answer {
    let done =
        if fields.get("change") == "view" { save(&api, &fields).await } else { changed(&api, &fields).await };
    match done {
        Ok(answer) => answer,
        Err(error) => devices::page(&api, &fields, Some(error)).await,
    }
}

async fn save(api: &Api, fields: &Fields) -> Result<Answer, ErrorDetail> {
    let (name, filter) = (fields.get("view"), fields.get("where"));
    let _: Value = api.post("/v1/views", &serde_json::json!({ "name": name, "where": filter })).await?;
    Ok(Ok(see(&said::with(&devices::url(&format!("view:{name}")), "saved", 0))))
}

async fn changed(api: &Api, fields: &Fields) -> Result<Answer, ErrorDetail> {
    let (filter, change) = (fields.get("where"), fields.get("change"));
    let meant = asked(api, fields, true).await?;
    if fields.get("sure") == meant.to_string() {
        let number = asked(api, fields, false).await?;
        let done = match change {
            "sync" => "called",
            "tag" => "tagged",
            "untag" => "untagged",
            "approve" => "approved-devices",
            "remove" => "removed-devices",
            _ => "changed",
        };
        return Ok(Ok(see(&said::with(&devices::url(filter), done, number))));
    }
    let (_, text) = CHANGES.into_iter().find(|(name, _)| *name == change).unwrap_or_default();
    let whom = many(meant, "device");
    let button = format!("{text} {}: {whom}", fields.get("value"));
    let form = Form::post("/selection", "")
        .hidden("where", filter)
        .hidden("change", change)
        .hidden("value", fields.get("value"))
        .hidden("sure", &meant.to_string());
    let form = if change == "remove" { form.danger("", button) } else { form.button("", button) };
    let is_other = fields.given("sure").map(|_| Part::Notice("The number has changed meanwhile.".into()));
    Ok(Page::new("/devices", format!("Change {whom}?"))
        .command(command(fields))
        .with_all(is_other)
        .with(Part::text(format!("This is about {whom}, now. Filter: {filter}")))
        .with(form)
        .with(Part::Links(vec![super::page::Link::new(devices::url(filter), "Back to the list")]))
        .into())
}

/// Asks for the change, or how many devices it would be.
async fn asked(api: &Api, fields: &Fields, dry_run: bool) -> Result<u64, ErrorDetail> {
    let (filter, value) = (fields.get("where").to_owned(), fields.get("value").trim());
    let mut change = DeviceChange::default();
    match fields.get("change") {
        "group" => change.group = Some(value.to_owned()),
        "interval" => change.interval = Some(interval(value)?),
        "keep" => change.keep_connected = Some(value.parse::<Keep>().map_err(invalid)?),
        name @ ("tag" | "untag") => {
            let asked =
                TagChange { filter: Some(filter), takes: name == "untag", dry_run, ..TagChange::default() };
            return Ok(api.post::<Selected>(&path("/v1/tags", value), &asked).await?.devices);
        }
        "sync" if dry_run => {
            let url = with_query("/v1/facets", &serde_json::json!({ "where": filter }));
            return Ok(api.get::<Facets>(&url).await?.approved());
        }
        "sync" => {
            let asked = CallRequest { filter: Some(filter), ..CallRequest::default() };
            return called(api, &asked).await;
        }
        "approve" => {
            let group = Some(value.to_owned()).filter(|group| !group.is_empty());
            let asked = SelectionApproval { filter, group, dry_run };
            return Ok(api.post::<Selected>("/v1/device-approvals", &asked).await?.devices);
        }
        "remove" => {
            let asked = SelectionRemoval { filter, dry_run };
            return Ok(api.post::<Selected>("/v1/device-removals", &asked).await?.devices);
        }
        _ => return Err(invalid("choose a change")),
    }
    let asked = SelectionChange { filter, change, dry_run };
    Ok(api.post::<Selected>("/v1/device-changes", &asked).await?.devices)
}

/// Has devices called, and waits for none of them: their number.
pub(super) async fn called(api: &Api, asked: &CallRequest) -> Result<u64, ErrorDetail> {
    match api.post::<CallLine>("/v1/syncs", asked).await? {
        CallLine::Called { devices } => Ok(devices),
        _ => Ok(0),
    }
}

/// An interval, as people write it.
pub(super) fn interval(text: &str) -> Result<Interval, ErrorDetail> {
    if text == "inherit" {
        return Ok(Interval::Inherited);
    }
    let seconds = parse_duration(text).map_err(invalid)?.as_secs();
    Ok(Interval::Seconds(u32::try_from(seconds).unwrap_or(u32::MAX)))
}

/// The same in a terminal.
fn command(fields: &Fields) -> String {
    let value = shell_word(fields.get("value"));
    let (command, behind) = match fields.get("change") {
        "group" => ("musterctl device set".to_owned(), format!(" --group {value}")),
        "interval" => ("musterctl device set".to_owned(), format!(" --interval {value}")),
        "keep" => ("musterctl device set".to_owned(), format!(" --keep-connected {value}")),
        "tag" => (format!("musterctl tag set {value}"), String::new()),
        "untag" => (format!("musterctl tag unset {value}"), String::new()),
        "sync" => ("musterctl device sync".to_owned(), String::new()),
        "approve" if fields.get("value").trim().is_empty() => {
            ("musterctl device approve".to_owned(), String::new())
        }
        "approve" => ("musterctl device approve".to_owned(), format!(" --group {value}")),
        _ => ("musterctl device remove".to_owned(), String::new()),
    };
    devices::with_filter(&command, fields.get("where")) + &behind
}
