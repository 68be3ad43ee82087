//! Policies of groups, and settings of single devices: the list, and the place where one is changed, which
//! says which devices that concerns before it is saved.

use serde_json::{Map, Value};

use super::api::Api;
use super::form::{Fields, Form, Sent, invalid};
use super::page::{Answer, Cell, Link, Page, Part, Table, see};
use super::text::many;
use super::{devices, history, said};
use crate::fleet::settings;
use crate::fleet::why::shell_word;
use crate::wire::api::url::{path, with_query};
use crate::wire::api::{
    ApplicationSettings, ChangedKey, Drift, ErrorDetail, NewPolicy, Page as ListPage, Policy, PolicyQuery,
    PolicyRemoval, SettingsChanged,
};

pub(super) async fn show(api: Api, fields: Fields) -> Answer {
    let query = PolicyQuery {
        group: fields.some("group"),
        application: fields.some("application"),
        cursor: fields.some("cursor"),
        limit: None,
    };
    let mut command = "musterctl policy list".to_owned();
    for (name, value) in [("group", &query.group), ("application", &query.application)] {
        if let Some(value) = value {
            command = format!("{command} --{name} {}", shell_word(value));
        }
    }
    let page = Page::new("/policies", "Policies").command(command).said(&fields).with(
        Form::get("/policies", "")
            .line("group", "Group", fields.get("group"), "")
            .line("application", "Application", fields.get("application"), "")
            .button("", "Show"),
    );
    let list: ListPage<Policy> = match api.get(&with_query("/v1/policies", &query)).await {
        Ok(list) => list,
        Err(error) => return page.wrong(Some(error)).into(),
    };
    let next = list
        .next_cursor
        .map(|cursor| with_query("/policies", &PolicyQuery { cursor: Some(cursor), ..query.clone() }));
    let rows = list.items.into_iter().map(|policy| {
        [
            Cell::link(edit_url("group", &policy.group, &policy.application), &policy.application),
            Cell::text(&policy.group),
            Cell::Code(Value::Object(policy.settings).to_string()),
            Cell::text(policy.locks.join(", ")),
            Cell::when(policy.changed_at),
            Cell::link(history::url(&policy.group, &policy.application, None), "history"),
        ]
    });
    let heads = ["Application", "Group", "Settings", "Locked", "Changed", "Versions"];
    let new = edit_url("group", fields.get("group"), fields.get("application"));
    page.with(Table::new("Policies", heads, "There is no policy.").rows(rows).next(next))
        .with(Part::Links(vec![Link::new(new, "Make a policy")]))
        .into()
}

/// Address of the place where settings are changed: of a group, or of a device.
pub(super) fn edit_url(of: &str, at: &str, application: &str) -> String {
    with_query("/policies/edit", &serde_json::json!({ (of): at, "application": application }))
}

/// The owner of settings: a group, or a device by its id.
struct Holder {
    is_device: bool,
    at: String,
}

impl Holder {
    fn of(fields: &Fields) -> Self {
        let is_device = fields.given("device").is_some();
        Self { is_device, at: fields.get(if is_device { "device" } else { "group" }).trim().to_owned() }
    }

    fn command(&self, what: &str, application: &str) -> String {
        let (command, key) = if self.is_device { ("settings", "device") } else { ("policy", "group") };
        let (at, application) = (shell_word(&self.at), shell_word(application));
        format!("musterctl {command} {what} --{key} {at} --application {application}")
    }
}

pub(super) async fn edit(api: Api, fields: Fields) -> Answer {
    let (holder, application) = (Holder::of(&fields), fields.get("application").trim());
    let set = if holder.at.is_empty() || application.is_empty() {
        Ok(None)
    } else {
        now(&api, &holder, application).await
    };
    match set {
        Ok(set) => editor(&holder, &fields, set.as_ref(), None, None).into(),
        Err(error) => editor(&holder, &fields, None, None, Some(error)).into(),
    }
}

/// Settings, locks and drift as they are.
type Set = (Map<String, Value>, Vec<String>, Option<Drift>);

async fn now(api: &Api, holder: &Holder, application: &str) -> Result<Option<Set>, ErrorDetail> {
    if holder.is_device {
        let url = format!("{}/settings", path("/v1/devices", &holder.at));
        let all: Vec<ApplicationSettings> = api.get(&url).await?;
        let own = all.into_iter().find(|one| one.application == application);
        return Ok(own.and_then(|one| one.own).map(|own| (own.settings, Vec::new(), own.drift)));
    }
    let query = PolicyQuery {
        group: Some(holder.at.clone()),
        application: Some(application.to_owned()),
        ..PolicyQuery::default()
    };
    let list: ListPage<Policy> = api.get(&with_query("/v1/policies", &query)).await?;
    Ok(list.items.into_iter().next().map(|policy| (policy.settings, policy.locks, policy.drift)))
}

pub(super) async fn change(api: Api, Sent(fields): Sent) -> Answer {
    let holder = Holder::of(&fields);
    let application = fields.get("application").trim();
    let base = if holder.is_device { "/v1/settings" } else { "/v1/policies" };
    let is_removal = fields.get("action") == "remove";
    let done = match fields.get("action") {
        "remove" => {
            let (wake, dry_run) = (!fields.get("wake").is_empty(), fields.get("sure").is_empty());
            let (at, application) = (holder.at.clone(), application.to_owned());
            let asked = PolicyRemoval { at, application, wake, dry_run };
            api.post::<SettingsChanged>(&format!("{base}/remove"), &asked).await
        }
        action => match new(&holder, &fields, action != "save") {
            Ok(new) => api.post::<SettingsChanged>(base, &new).await,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(changed) if changed.revision.is_none() && is_removal => removal(&holder, &fields, &changed).into(),
        Ok(changed) if changed.revision.is_none() => {
            editor(&holder, &fields, None, Some(&changed), None).into()
        }
        Ok(changed) => {
            let url = if holder.is_device { devices::device_url(&holder.at) } else { "/policies".to_owned() };
            Ok(see(&said::with(&url, "set", changed.devices)))
        }
        Err(error) => editor(&holder, &fields, None, None, Some(error)).into(),
    }
}

fn new(holder: &Holder, fields: &Fields, dry_run: bool) -> Result<NewPolicy, ErrorDetail> {
    let settings = settings::parse(fields.get("settings"));
    let settings = settings.map_err(|error| invalid(format!("settings: {error}")))?;
    let locks = fields.get("locks").split([',', ' ']).map(str::trim).filter(|lock| !lock.is_empty());
    let drift = match fields.get("drift") {
        "repair" => Some(Drift::Repair),
        "report" => Some(Drift::Report),
        _ => None,
    };
    Ok(NewPolicy {
        at: holder.at.clone(),
        application: fields.get("application").trim().to_owned(),
        settings,
        locks: locks.map(str::to_owned).collect(),
        drift,
        wake: !fields.get("wake").is_empty(),
        dry_run,
    })
}

fn editor(
    holder: &Holder,
    fields: &Fields,
    set: Option<&Set>,
    asked: Option<&SettingsChanged>,
    wrong: Option<ErrorDetail>,
) -> Page {
    let application = fields.get("application");
    let typed = |name: &str, now: String| fields.given(name).map_or(now, str::to_owned);
    let pretty = |set: &Set| serde_json::to_string_pretty(&set.0).unwrap_or_default();
    let settings = typed("settings", set.map_or_else(|| "{\n}".to_owned(), pretty));
    let drift = drift_value(set.and_then(|set| set.2));
    let form = Form::post("/policies/edit", "").line("application", "Application", application, "");
    let form = if holder.is_device {
        form.hidden("device", &holder.at)
    } else {
        let locks = typed("locks", set.map_or_else(String::new, |set| set.1.join(", ")));
        form.line("group", "Group", &holder.at, "").line(
            "locks",
            "Locked keys",
            &locks,
            "dotted paths that groups below and devices can't change",
        )
    };
    let form = form
        .area(
            "settings",
            "Settings (JSON)",
            &settings,
            "one object; 'Preview' says which devices would have other settings",
        )
        .choice(
            "drift",
            "When somebody else changes them on a device",
            &typed("drift", drift.to_owned()),
            [
                ("", "as the level above says"),
                ("repair", "put them in place again"),
                ("report", "only report it"),
            ],
        )
        .tick("wake", "Wake devices that are not connected", fields.get("wake"))
        .button("preview", "Preview")
        .button("save", "Save");
    let form = if set.is_some() || asked.is_some() { form.danger("remove", "Remove") } else { form };
    let title = if holder.is_device { "Settings of a device" } else { "Policy" };
    let is_named = !application.is_empty() && !holder.at.is_empty();
    let (title, command) = if is_named {
        (format!("{title}: {application}"), holder.command("set", application) + " --file settings.json")
    } else {
        (format!("{title}, new"), "musterctl policy set --help".to_owned())
    };
    let versions = Link::new(history::url(&holder.at, application, None), "Versions of this policy");
    Page::new("/policies", title)
        .command(command)
        .with_all(asked.into_iter().flat_map(preview))
        .with(form)
        .with_all((is_named && !holder.is_device).then(|| Part::Links(vec![versions])))
        .wrong(wrong)
}

pub(super) fn drift_value(drift: Option<Drift>) -> &'static str {
    match drift {
        None => "",
        Some(Drift::Repair) => "repair",
        Some(Drift::Report) => "report",
    }
}

/// Asks before settings are removed.
fn removal(holder: &Holder, fields: &Fields, asked: &SettingsChanged) -> Page {
    let application = fields.get("application");
    let (of, thing) = if holder.is_device { ("device", "settings") } else { ("group", "policy") };
    let form = Form::post("/policies/edit", "")
        .hidden(of, &holder.at)
        .hidden("application", application)
        .hidden("wake", fields.get("wake"))
        .hidden("sure", "on")
        .danger("remove", format!("Remove the {thing}"));
    let back = Link::new(edit_url(of, &holder.at, application), "Back");
    Page::new("/policies", format!("Remove the {thing} for {application}?"))
        .command(holder.command("remove", application))
        .with_all(preview(asked))
        .with(form)
        .with(Part::Links(vec![back]))
}

/// Most keys of a device that are shown.
const KEYS_MAX: usize = 50;

/// The devices that would have other settings, and how: those with the same changes together.
fn preview(asked: &SettingsChanged) -> Vec<Part> {
    let would = many(asked.devices, "device");
    let mut parts = vec![Part::Notice(format!("Not saved yet. {would} would have other settings."))];
    let mut alike: Vec<(&[ChangedKey], Vec<&str>)> = Vec::new();
    for device in &asked.examples {
        match alike.iter_mut().find(|(keys, _)| *keys == device.keys) {
            Some((_, names)) => names.push(&device.name),
            None => alike.push((&device.keys, vec![&device.name])),
        }
    }
    for (keys, names) in alike {
        let names = names.join(", ");
        parts.push(Part::heading(names.clone()));
        if keys.is_empty() {
            parts.push(Part::text("Only what is done about changes by somebody else differs."));
            continue;
        }
        let shown = &keys[..keys.len().min(KEYS_MAX)];
        parts.push(
            history::keys(format!("What would change on {names}"), ["Key", "Now", "Then"], shown).into(),
        );
        if keys.len() > KEYS_MAX {
            parts.push(Part::text(format!("And {} more keys.", keys.len() - KEYS_MAX)));
        }
    }
    let more = asked.devices.saturating_sub(asked.examples.len() as u64);
    if more > 0 && !asked.examples.is_empty() {
        parts.push(Part::text(format!("And {} more.", super::text::count(more))));
    }
    parts
}
