//! Tasks: the list, making one, and what becomes of it on each device.

use axum::extract::Path;
use serde_json::{Map, Value, json};

use super::api::Api;
use super::device::{run_state, runs_table};
use super::form::{Fields, Form, Sent, invalid};
use super::page::{Answer, Cell, Link, Page, Part, Table, see};
use super::text::many;
use super::{devices, said};
use crate::fleet::settings;
use crate::fleet::why::shell_word;
use crate::wire::api::device_table::duration;
use crate::wire::api::url::with_query;
use crate::wire::api::{
    CreatedTask, ErrorDetail, Facets, NewTask, Page as ListPage, RunDetail, Task, TaskDetail, TaskQuery,
    TaskRun, TaskState, TaskTargets,
};
use crate::wire::units::parse_duration;

pub(super) async fn show(api: Api, fields: Fields) -> Answer {
    let query = TaskQuery {
        state: fields.parsed("state")?,
        application: fields.some("application"),
        cursor: fields.some("cursor"),
        limit: None,
    };
    let list: ListPage<Task> = api.get(&with_query("/v1/tasks", &query)).await?;
    let next = list
        .next_cursor
        .map(|cursor| with_query("/tasks", &TaskQuery { cursor: Some(cursor), ..query.clone() }));
    let chosen = |state: Option<TaskState>| {
        let text = state.map_or_else(|| "all".to_owned(), |state| state.to_string());
        let url = with_query("/tasks", &TaskQuery { state, ..TaskQuery::default() });
        Link { is_chosen: state.is_some() && state == query.state, ..Link::new(url, text) }
    };
    let mut links = vec![Link::new("/tasks/new", "Make a task"), chosen(None)];
    links.extend(TaskState::ALL.map(Some).map(chosen));
    let rows = list.items.into_iter().map(|task| {
        [
            Cell::link(format!("/tasks/{}", task.id), title(&task)),
            Cell::text(format!("{}: {}", task.application, task.kind)),
            state(task.state),
            Cell::text(targets(&task.definition.targets)),
            counts(&task),
            Cell::text(&task.definition.schedule),
            Cell::when(task.created_at),
        ]
    });
    let heads = ["Task", "What", "State", "For", "Runs", "When", "Made"];
    let command = match query.state {
        Some(state) => format!("musterctl task list --state {state}"),
        None => "musterctl task list".to_owned(),
    };
    Page::new("/tasks", "Tasks")
        .command(command)
        .with(Part::Links(links))
        .with(Table::new("Tasks", heads, "There is no task.").rows(rows).next(next))
        .into()
}

fn title(task: &Task) -> String {
    task.definition.name.clone().unwrap_or_else(|| format!("task {}", task.id))
}

fn state(state: TaskState) -> Cell {
    let kind = match state {
        TaskState::Active => "warn",
        TaskState::Done => "good",
        TaskState::Aborted => "bad",
        TaskState::Cancelled => "",
    };
    Cell::State(kind, state.to_string())
}

fn targets(targets: &TaskTargets) -> String {
    match targets {
        TaskTargets::All => "all devices".to_owned(),
        TaskTargets::Group(path) => format!("group {path}"),
        TaskTargets::Filter(filter) => format!("where {filter}"),
        TaskTargets::Devices(devices) => many(devices.len() as u64, "device"),
    }
}

fn counts(task: &Task) -> Cell {
    let one = |count: &crate::wire::api::RunCount| format!("{} {}", count.runs, run_state(count.state).1);
    Cell::text(task.runs.iter().map(one).collect::<Vec<_>>().join(", "))
}

pub(super) async fn one(api: Api, Path(id): Path<String>, fields: Fields) -> Answer {
    page(&api, &id, &fields, None).await
}

async fn page(api: &Api, id: &str, fields: &Fields, wrong: Option<ErrorDetail>) -> Answer {
    let query = json!({ "task": id, "cursor": fields.some("cursor"), "state": fields.some("state") });
    let (url, runs) = (crate::wire::api::url::path("/v1/tasks", id), with_query("/v1/runs", &query));
    let (detail, runs) = tokio::join!(api.get::<TaskDetail>(&url), api.get::<ListPage<TaskRun>>(&runs));
    let (TaskDetail { task, settings }, runs) = (detail?, runs?);
    let here = format!("/tasks/{}", task.id);
    let next = runs
        .next_cursor
        .map(|cursor| with_query(&here, &json!({ "cursor": cursor, "state": fields.some("state") })));
    let definition = &task.definition;
    let facts = vec![
        ("State", state(task.state)),
        ("Runs", counts(&task)),
        ("What", Cell::text(format!("{}: {}", task.application, task.kind))),
        ("For", Cell::text(targets(&definition.targets))),
        ("When", Cell::text(format!("{} ({})", definition.schedule, definition.time_zone()))),
        ("Hours", Cell::text(definition.window.clone().unwrap_or_default())),
        ("Next due", Cell::when(task.next_at)),
        ("Waits for a device", Cell::text(duration(definition.expires_seconds.into()))),
        ("Longest execution", Cell::text(duration(definition.timeout_seconds.into()))),
        ("Made", Cell::when(task.created_at)),
        ("Settings", Cell::Code(Value::Object(settings).to_string())),
        ("Artifact", Cell::text(definition.artifact.map_or_else(String::new, |hash| hash.to_string()))),
    ];
    let is_active = task.state == TaskState::Active;
    let cancel = Form::post(here, "").danger("cancel", "Cancel this task");
    let mut page = Page::new("/tasks", title(&task))
        .command(format!("musterctl task show {}", task.id))
        .said(fields)
        .with(Part::Facts(facts))
        .with_all((!task.why.is_empty()).then(|| Part::text(task.why.clone())))
        .with_all(is_active.then_some(Part::Form(cancel)))
        .with(Part::heading("Runs"))
        .with(runs_table(runs.items).next(next))
        .wrong(wrong);
    page.is_live = is_active;
    page.into()
}

pub(super) async fn cancel(api: Api, Path(id): Path<String>, Sent(fields): Sent) -> Answer {
    let url = format!("{}/cancel", crate::wire::api::url::path("/v1/tasks", &id));
    match api.post::<Task>(&url, &json!({})).await {
        Ok(task) => Ok(see(&said::with(&format!("/tasks/{}", task.id), "cancelled", 0))),
        Err(error) => page(&api, &id, &fields, Some(error)).await,
    }
}

pub(super) async fn run(api: Api, Path(id): Path<String>) -> Answer {
    let detail: RunDetail = api.get(&crate::wire::api::url::path("/v1/runs", &id)).await?;
    let run = detail.run;
    let (kind, word) = run_state(run.state);
    let mut page = Page::new("/tasks", format!("Run {}", run.id))
        .command(format!("musterctl task show {}", run.task))
        .with(Part::Facts(vec![
            ("State", Cell::State(kind, word)),
            ("Device", Cell::link(devices::device_url(run.device_id), run.device)),
            ("Task", Cell::link(format!("/tasks/{}", run.task), run.task.to_string())),
            ("Attempt", Cell::Number(run.attempt.into())),
            ("Due", Cell::when(run.due_at)),
            ("Began", Cell::when(run.began_at)),
            ("In this state", Cell::when(run.changed_at)),
            ("Exit code", Cell::text(run.exit_code.map_or_else(String::new, |code| code.to_string()))),
            ("Message", Cell::text(run.message)),
        ]))
        .with(Part::text(run.why));
    page.is_live = !run.state.is_final();
    match detail.output {
        None => page.with(Part::text("Its program has written nothing that came here.")),
        Some(output) => {
            let omitted = format!("{} were left out here.", many(output.omitted_bytes, "byte"));
            let page = page.with(Part::heading("Output")).with(Part::Written(output.head));
            if output.tail.is_empty() {
                page
            } else {
                page.with(Part::text(omitted)).with(Part::Written(output.tail))
            }
        }
    }
    .into()
}

pub(super) async fn new(fields: Fields) -> Page {
    form(&fields, None, None)
}

pub(super) async fn make(api: Api, Sent(fields): Sent) -> Answer {
    match made(&api, &fields).await {
        Ok(Made::Task(task)) => Ok(see(&said::with(&format!("/tasks/{}", task.id), "task", task.devices))),
        Ok(Made::DryRun(devices)) => form(&fields, Some(devices), None).into(),
        Err(error) => form(&fields, None, Some(error)).into(),
    }
}

enum Made {
    Task(CreatedTask),
    /// It is for this many devices.
    DryRun(u64),
}

async fn made(api: &Api, fields: &Fields) -> Result<Made, ErrorDetail> {
    let filter = fields.get("where").trim();
    let settings: Map<String, Value> = match fields.some("settings") {
        None => Map::new(),
        Some(text) => settings::parse_object(&text).map_err(|error| invalid(format!("settings: {error}")))?,
    };
    let seconds = |name: &str| -> Result<Option<u64>, ErrorDetail> {
        fields.some(name).map(|text| Ok(parse_duration(&text).map_err(invalid)?.as_secs())).transpose()
    };
    let targets = if filter.is_empty() { json!("all") } else { json!({ "where": filter }) };
    let mut new = json!({
        "application": fields.get("application").trim(),
        "kind": fields.get("kind").trim(),
        "settings": settings,
        "name": fields.some("name"),
        "targets": targets,
        "window": fields.some("window"),
        "time_zone": fields.some("time_zone"),
        "rate_per_minute": fields.parsed::<u32>("rate")?,
        "abort_percent": fields.parsed::<u32>("abort")?,
        "retries": fields.parsed::<u32>("retries")?.unwrap_or(0),
        "artifact": fields.some("artifact"),
        "may_repeat": !fields.get("repeat").is_empty(),
    });
    for (name, value) in [("expires_seconds", seconds("expires")?), ("timeout_seconds", seconds("timeout")?)]
    {
        if let Some(value) = value {
            new[name] = json!(value);
        }
    }
    if let Some(schedule) = fields.some("schedule") {
        new["schedule"] = json!(schedule);
    }
    let new: NewTask = serde_json::from_value(new).map_err(|error| invalid(error.to_string()))?;
    let url = with_query("/v1/facets", &json!({ "where": filter }));
    let meant = api.get::<Facets>(&url).await?.approved();
    if fields.get("sure") != meant.to_string() {
        return Ok(Made::DryRun(meant));
    }
    Ok(Made::Task(api.post("/v1/tasks", &new).await?))
}

/// Fields of the form, and what the command calls each.
const OPTIONS: [(&str, &str); 12] = [
    ("application", "application"),
    ("kind", "kind"),
    ("name", "name"),
    ("schedule", "schedule"),
    ("window", "window"),
    ("time_zone", "time-zone"),
    ("expires", "expires"),
    ("timeout", "timeout"),
    ("rate", "rate"),
    ("abort", "abort-percent"),
    ("retries", "retries"),
    ("artifact", "artifact"),
];

fn form(fields: &Fields, asked: Option<u64>, wrong: Option<ErrorDetail>) -> Page {
    let value = |name: &str| fields.get(name).to_owned();
    let text = if asked.is_some() { "Make it" } else { "Continue" };
    let notice = asked.map(|devices| Part::Notice(format!("It is for {}, now.", many(devices, "device"))));
    let form = Form::post("/tasks/new", "")
        .line("application", "Application", &value("application"), "whose task it is")
        .line("kind", "Kind", &value("kind"), "as the application's devices declare it")
        .filter("On the devices (empty: all)", &value("where"), wrong.as_ref())
        .area("settings", "Settings (JSON)", &value("settings"), "one object; empty: none")
        .line(
            "artifact",
            "Artifact",
            &value("artifact"),
            "its SHA-256 (musterctl artifact list); empty: none",
        )
        .line("schedule", "When", &value("schedule"), "now, at TIME, every DURATION, cron FIELDS; empty: now")
        .line("window", "In which hours", &value("window"), "such as 22:00-05:00; empty: in all")
        .line("time_zone", "Time zone", &value("time_zone"), "such as Europe/Berlin; empty: the server's")
        .line("expires", "Waits for a device", &value("expires"), "such as 24h, which it is when empty")
        .line("timeout", "Longest execution", &value("timeout"), "such as 10m, which it is when empty")
        .line("rate", "Devices a minute", &value("rate"), "empty: all at once")
        .line("abort", "Ends when more fail (%)", &value("abort"), "empty: never")
        .line("retries", "Retries", &value("retries"), "")
        .line("name", "Name", &value("name"), "for people; may be empty")
        .tick("repeat", "May be executed again when its end is not known", fields.get("repeat"));
    let form = match asked {
        Some(devices) => form.hidden("sure", &devices.to_string()),
        None => form,
    };
    let filter = fields.get("where").trim();
    let whom = if filter.is_empty() { "--all".to_owned() } else { format!("--where {}", shell_word(filter)) };
    let mut command = "musterctl task create".to_owned();
    for (name, option) in OPTIONS {
        if let Some(value) = fields.some(name) {
            command = format!("{command} --{option} {}", shell_word(&value));
        }
    }
    command = format!("{command} {whom}");
    for (name, option) in [("settings", "--file settings.json"), ("repeat", "--may-repeat")] {
        command = if fields.get(name).is_empty() { command } else { format!("{command} {option}") };
    }
    if fields.get("kind").is_empty() {
        "musterctl task create --help".clone_into(&mut command);
    }
    Page::new("/tasks", "Make a task")
        .command(command)
        .with_all(notice)
        .with(form.button("", text))
        .wrong(wrong)
}
