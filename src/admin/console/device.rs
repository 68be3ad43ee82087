//! One device: why it is as it is, what it has and does, and what can be done about it.

use axum::extract::Path;
use axum::http::Method;

use super::api::Api;
use super::form::{Fields, Form, Sent, invalid};
use super::page::{Answer, Cell, Page, Part, Plot, Table, see};
use super::selection::{called, interval};
use super::{access, devices, events, policies, said};
use crate::fleet::why::shell_word;
use crate::wire::api::device_table::{NOTHING_THERE, duration, or_nothing};
use crate::wire::api::quantity::quantity;
use crate::wire::api::url::{path, with_query};
use crate::wire::api::{
    ApplicationSettings, Approval, CallRequest, CreatedToken, Device, DeviceChange, DeviceDetail,
    ErrorDetail, EventRecord, ExplainedKey, Keep, LevelValue, Page as ListPage, Presence, ReEnrolment,
    RunState, Selected, StatisticSeries, TagChange, TaskRun, Why,
};
use crate::wire::section::Condition;
use crate::wire::settings::SettingsState;
use crate::wire::units::format_duration;

/// Length of a plot: 24 hours.
const PLOT_MILLISECONDS: u64 = 24 * 60 * 60 * 1_000;

/// Longest distance between two points that are joined: three that are missing.
const GAP_MILLISECONDS: u64 = 20 * 60 * 1_000;

/// Runs and events that are listed.
const LISTED_MAX: u32 = 10;

pub(super) async fn show(api: Api, Path(device): Path<String>, fields: Fields) -> Answer {
    page(&api, &device, &fields, None).await
}

pub(super) async fn change(api: Api, Path(device): Path<String>, Sent(fields): Sent) -> Answer {
    let url = path("/v1/devices", &device);
    let done = match fields.get("action") {
        "re-enrol" => match api.post(&format!("{url}/re-enrol"), &ReEnrolment::default()).await {
            Ok(made) => return token(&made).into(),
            Err(error) => Err(error),
        },
        _ => changed(&api, &url, &device, &fields).await,
    };
    match done {
        Ok("removed") => Ok(see(&said::with("/devices", "removed", 0))),
        Ok(done) => Ok(see(&said::with(&devices::device_url(device), done, 1))),
        Err(error) => page(&api, &device, &fields, Some(error)).await,
    }
}

async fn changed(api: &Api, url: &str, device: &str, fields: &Fields) -> Result<&'static str, ErrorDetail> {
    match fields.get("action") {
        "sync" => {
            let asked = CallRequest { devices: vec![device.to_owned()], ..CallRequest::default() };
            called(api, &asked).await?;
            Ok("called")
        }
        "approve" => {
            let asked = Approval { name: fields.some("name"), group: fields.some("group") };
            let _: Device = api.post(&format!("{url}/approve"), &asked).await?;
            Ok("approved")
        }
        "set" => {
            let change = DeviceChange {
                name: fields.some("name"),
                group: fields.some("group"),
                keep_connected: fields.parsed::<Keep>("keep")?,
                interval: fields.some("interval").map(|text| interval(&text)).transpose()?,
            };
            let _: Device = api.send(Method::PATCH, url, &change).await?;
            Ok("saved")
        }
        action @ ("tag" | "untag") => {
            let takes = action == "untag";
            let asked = TagChange { devices: vec![device.to_owned()], takes, ..TagChange::default() };
            let _: Selected = api.post(&path("/v1/tags", fields.get("tag").trim()), &asked).await?;
            Ok(if takes { "untagged" } else { "tagged" })
        }
        "remove" if fields.get("sure").is_empty() => {
            Err(invalid("tick the box first: a removed device is refused from then on"))
        }
        "remove" => {
            let _: Device = api.delete(url).await?;
            Ok("removed")
        }
        _ => Err(invalid("there is no such action")),
    }
}

/// The token of a re-enrolment, which is shown this once.
fn token(made: &CreatedToken) -> Page {
    let name = made.info.device_name.clone().unwrap_or_default();
    Page::new("/devices", format!("A token for {name}"))
        .command(format!("musterctl device re-enrol {}", shell_word(&name)))
        .with(Part::text("One machine takes the device's record over with it. It is shown this once:"))
        .with(Part::Written(made.token.clone()))
        .with(Part::Facts(vec![("Good until", Cell::when(made.info.expires_at))]))
        .with_all(access::to_paste(made))
}

async fn page(api: &Api, device: &str, fields: &Fields, wrong: Option<ErrorDetail>) -> Answer {
    let url = path("/v1/devices", device);
    let of_device = |list| with_query(list, &serde_json::json!({ "device": device, "limit": LISTED_MAX }));
    let (why, settings, runs) = (format!("{url}/why"), format!("{url}/settings"), of_device("/v1/runs"));
    let events = of_device("/v1/events");
    let (detail, why, settings, runs, events) = tokio::join!(
        api.get::<DeviceDetail>(&url),
        api.get::<Why>(&why),
        api.get::<Vec<ApplicationSettings>>(&settings),
        api.get::<ListPage<TaskRun>>(&runs),
        api.get::<ListPage<EventRecord>>(&events),
    );
    let (detail, why) = (detail?, why?);
    let name = detail.device.name.clone();
    let mut command = format!("musterctl device show {}", shell_word(&name));
    let mut page = Page::new("/devices", name.clone())
        .said(fields)
        .with(Part::Facts(vec![
            ("Presence", devices::presence(detail.device.presence)),
            ("Status", devices::status(detail.device.status)),
            (
                "Group",
                Cell::link(devices::url(&format!("group:{}", detail.device.group)), &detail.device.group),
            ),
            ("Tags", Cell::text(detail.tags.join(", "))),
        ]))
        .with(Part::text(why.text))
        .with_all(reasons(&detail.device))
        .with(actions(device, &detail, fields))
        .with(Part::heading("Facts"))
        .with(Part::Facts(facts(&detail)))
        .with(Part::heading("Applications under management"))
        .with(conditions(&detail))
        .with(Part::heading("Settings"))
        .with(settings_table(device, settings?));
    if let Some(application) = fields.some("explain") {
        let url = with_query(
            &format!("{url}/settings/explain"),
            &serde_json::json!({ "application": application }),
        );
        command = format!(
            "musterctl policy explain --device {} --application {}",
            shell_word(&name),
            shell_word(&application)
        );
        page = page
            .with(Part::heading(format!("Origin of the settings of {application}")))
            .with(explained(api.get(&url).await?));
    }
    page = page.with(Part::heading("Runs of tasks")).with(runs_table(runs?.items));
    page = page.with(Part::heading("Events")).with(events::table(events?.items));
    if !detail.statistics.is_empty() {
        page = page.with(Part::heading("Statistics")).with_all(detail.statistics.iter().map(plot));
    }
    page.with(remove_form(device, &name)).command(command).wrong(wrong).into()
}

fn reasons(device: &Device) -> Option<Part> {
    let rows = device.reasons.iter().map(|reason| [devices::status(reason.level), Cell::text(&reason.text)]);
    let table = Table::new("Reasons of the status", ["Level", "Reason"], "").rows(rows);
    (!device.reasons.is_empty()).then_some(Part::Table(table))
}

fn actions(device: &str, detail: &DeviceDetail, typed: &Fields) -> Part {
    let url = devices::device_url(device);
    let value = |name: &str, now: &str| typed.given(name).unwrap_or(now).to_owned();
    let row = &detail.device;
    if row.presence == Presence::Waiting {
        return Form::post(url, "Let it in")
            .line("name", "Name", &value("name", &row.name), "")
            .line("group", "Group", &value("group", &row.group), "made when it doesn't exist")
            .button("approve", "Approve")
            .into();
    }
    let own = detail.own_keep_connected.map_or(Keep::Inherited, Keep::from);
    let interval = detail.own_interval_seconds.map_or_else(
        || "inherit".to_owned(),
        |seconds| format_duration(std::time::Duration::from_secs(seconds.into())),
    );
    let change = Form::post(url.clone(), "Change it")
        .line("name", "Name", &value("name", &row.name), "")
        .line("group", "Group", &value("group", &row.group), "made when it doesn't exist")
        .line("interval", "Interval", &value("interval", &interval), "such as 15m, or inherit")
        .choice(
            "keep",
            "Keep connected",
            &value("keep", &own.to_string()),
            [("inherit", "as its group says"), ("on", "on"), ("off", "off")],
        )
        .button("set", "Save");
    let tag = Form::post(url.clone(), "Tags")
        .line("tag", "Tag", typed.get("tag"), "letters, digits, '-', '_' and '.'")
        .button("tag", "Give")
        .button("untag", "Take");
    let sync = Form::post(url, "").button("sync", "Sync now");
    Part::Group(vec![sync.into(), Part::Folded("Change it".into(), vec![change.into(), tag.into()])])
}

fn remove_form(device: &str, name: &str) -> Part {
    let form =
        Form::post(devices::device_url(device), "Remove it, or have another machine take its record over")
            .tick("sure", &format!("refuse {name} from now on"), "")
            .danger("remove", "Remove")
            .button("re-enrol", "Make a token to re-enrol it");
    Part::Folded("Remove or re-enrol".into(), vec![form.into()])
}

fn facts(detail: &DeviceDetail) -> Vec<(&'static str, Cell)> {
    let row = &detail.device;
    let keep = if row.keep_connected { "on" } else { "off" };
    let own = |is_own: bool| if is_own { "its own" } else { "inherited" };
    let mut facts = vec![
        ("Last seen", Cell::when(row.last_seen_at)),
        ("Last sync", Cell::when(row.last_sync_at)),
        ("Next sync", Cell::when(detail.next_sync_at)),
        (
            "Interval",
            Cell::text(format!(
                "{} ({})",
                duration(row.interval_seconds.into()),
                own(detail.own_interval_seconds.is_some())
            )),
        ),
        ("Keep connected", Cell::text(format!("{keep} ({})", own(detail.own_keep_connected.is_some())))),
        ("Address", Cell::text(detail.address.clone().unwrap_or_default())),
        ("Wakes by UDP", Cell::text(detail.udp_reach.to_string())),
    ];
    if let Some(host) = &detail.host {
        facts.extend([
            ("System", Cell::text(&host.os_name)),
            ("Kernel", Cell::text(format!("{} {}", host.kernel, host.architecture))),
            ("Host name", Cell::text(&host.hostname)),
            ("Agent", Cell::text(&host.agent_version)),
        ]);
    }
    if let Some(certificate) = &detail.certificate {
        facts.push(("Certificate until", Cell::when(certificate.expires_at)));
    }
    let installed = with_query("/applications", &serde_json::json!({ "device": row.id }));
    let events = with_query("/events", &serde_json::json!({ "device": row.id }));
    facts.extend([
        ("Installed", Cell::link(installed, super::text::many(detail.applications, "application"))),
        ("Events", Cell::link(events, "its events")),
        ("Enrolled", Cell::when(row.enrolled_at)),
        ("Id", Cell::Code(row.id.to_string())),
    ]);
    facts
}

fn conditions(detail: &DeviceDetail) -> Table {
    let rows = detail.conditions.iter().map(|one| {
        let kind = match one.condition {
            Condition::Running => "good",
            Condition::Failed => "bad",
            Condition::Stopped => "warn",
            _ => "",
        };
        [
            Cell::text(&one.application),
            Cell::State(kind, one.condition.to_string()),
            Cell::when(one.since),
            Cell::text(&one.version),
            Cell::text(&one.detail),
        ]
    });
    let heads = ["Application", "Condition", "Since", "Version", "Detail"];
    Table::new("Applications under management", heads, "It has reported none.").rows(rows)
}

fn settings_table(device: &str, settings: Vec<ApplicationSettings>) -> Table {
    let rows = settings.into_iter().map(|one| {
        let explain =
            with_query(&devices::device_url(device), &serde_json::json!({ "explain": one.application }));
        let (kind, state, detail) = match one.reported {
            None => ("", NOTHING_THERE.to_owned(), String::new()),
            Some(report) => {
                let kind = if report.state == SettingsState::Applied { "good" } else { "warn" };
                (kind, report.state.to_string(), report.detail)
            }
        };
        let change = policies::edit_url("device", device, &one.application);
        [
            Cell::link(explain, one.application),
            Cell::State(kind, state),
            Cell::text(detail),
            Cell::Code(serde_json::Value::Object(one.settings).to_string()),
            Cell::Change(change, "set its own"),
        ]
    });
    let heads = ["Application (explain)", "On the device", "Detail", "As they should be", "Change"];
    Table::new("Settings", heads, "No policy and no settings of its own concern it.").rows(rows)
}

fn explained(keys: Vec<ExplainedKey>) -> Table {
    let levels = |levels: Vec<LevelValue>| {
        let texts = levels.into_iter().map(|level| format!("{} ({})", level.value, level.from));
        Cell::text(texts.collect::<Vec<_>>().join(", "))
    };
    let rows = keys.into_iter().map(|key| {
        [
            Cell::Code(key.key),
            Cell::Code(key.value.to_string()),
            Cell::text(key.from),
            Cell::text(key.locked_by.unwrap_or_default()),
            levels(key.overrode),
            levels(key.refused),
        ]
    });
    let heads = ["Key", "Value", "From", "Locked by", "Overrode", "Refused"];
    Table::new("Origin of each key", heads, "There are no settings for it.").rows(rows)
}

/// A run's state: its colour's name, and the word.
pub(super) fn run_state(state: RunState) -> (&'static str, String) {
    let kind = match state {
        RunState::Succeeded => "good",
        RunState::Failed | RunState::TimedOut | RunState::Rejected => "bad",
        RunState::Running | RunState::Expired => "warn",
        _ => "",
    };
    (kind, state.to_string().replace('_', " "))
}

/// A table of runs.
pub(super) fn runs_table(runs: Vec<TaskRun>) -> Table {
    let rows = runs.into_iter().map(|run| {
        let (kind, word) = run_state(run.state);
        [
            Cell::link(format!("/runs/{}", run.id), run.id.to_string()),
            Cell::link(format!("/tasks/{}", run.task), run.task.to_string()),
            Cell::link(devices::device_url(run.device_id), run.device),
            Cell::State(kind, word),
            Cell::when(run.due_at),
            Cell::text(or_nothing(if run.message.is_empty() { run.why } else { run.message })),
        ]
    });
    Table::new("Runs", ["Run", "Task", "Device", "State", "Due", "Why"], "There are no runs.").rows(rows)
}

/// A day of a number.
fn plot(series: &StatisticSeries) -> Part {
    let points: Vec<(u64, f64)> = series.points.iter().map(|(at, value)| (at.0.0, value.0)).collect();
    let fold = |start, pick: fn(f64, f64) -> f64| points.iter().map(|point| point.1).fold(start, pick);
    let (lowest, highest) = (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max));
    let begin = super::text::now().0.saturating_sub(PLOT_MILLISECONDS);
    let range = if highest > lowest { highest - lowest } else { 1.0 };
    let corner = |(at, value): &(u64, f64)| {
        let x = at.saturating_sub(begin) as f64 * 288.0 / PLOT_MILLISECONDS as f64;
        format!("{x:.1},{:.1}", 57.0 - (value - lowest) * 54.0 / range)
    };
    let is_joined = |a: &(u64, f64), b: &(u64, f64)| b.0.saturating_sub(a.0) <= GAP_MILLISECONDS;
    let line = |stretch: &[(u64, f64)]| stretch.iter().map(corner).collect::<Vec<_>>().join(" ");
    let text =
        |value: f64| if value.is_finite() { quantity(value, &series.unit) } else { NOTHING_THERE.into() };
    Part::Plot(Plot {
        title: format!("{}: {}", series.application, series.name),
        latest: series.value.map_or_else(|| NOTHING_THERE.into(), |value| text(value.0)),
        lowest: text(lowest),
        highest: text(highest),
        lines: points.chunk_by(is_joined).map(line).collect(),
    })
}
