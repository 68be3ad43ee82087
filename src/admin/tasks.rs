//! Tasks and their runs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::tz::TimeZone;

use super::error::ApiError;
use super::extract::{Body, Path, Query, page};
use super::{AdminContext, AdminShared};
use crate::fleet::task::definition::{Definition, Targets};
use crate::fleet::task::period::zoned_text;
use crate::store::query::{self, RunFilter, RunRow, TaskFilter, TaskRow};
use crate::store::{self, Store, zone};
use crate::wire::api::{
    CreatedTask, LateReport, NewTask, Page, Run, RunCount, RunDetail, RunQuery, RunState, Task, TaskDetail,
    TaskQuery, TaskTargets, WrittenOutput,
};
use crate::wire::id::{DeviceId, TaskId};
use crate::wire::time::WallTime;

fn task_id(text: &str) -> Result<TaskId, ApiError> {
    text.parse().map_err(|error| ApiError::invalid(format!("{error}")))
}

fn device_of(store: &Store, name: &str) -> Result<DeviceId, ApiError> {
    Ok(query::device_id(&*store.reader()?, name)?)
}

fn definition(store: &Store, new: &NewTask) -> Result<Definition, ApiError> {
    let targets = match &new.targets {
        TaskTargets::Devices(names) => {
            let devices = names.iter().map(|name| device_of(store, name));
            Targets::Devices(devices.collect::<Result<_, _>>()?)
        }
        TaskTargets::Group(path) => Targets::Group(store::normal_path(path)?),
        TaskTargets::All => Targets::All,
    };
    let default = Definition::new(targets);
    Ok(Definition {
        name: new.name.clone(),
        is_continuous: new.continuous,
        schedule: new.schedule.clone().unwrap_or(default.schedule.clone()),
        window: new.window.clone(),
        time_zone: new.time_zone.clone().unwrap_or_else(zone::system_name),
        expires_seconds: new.expires_seconds.unwrap_or(default.expires_seconds),
        timeout_seconds: new.timeout_seconds.unwrap_or(default.timeout_seconds),
        retries: new.retries,
        rate_per_minute: new.rate_per_minute,
        abort_percent: new.abort_percent,
        may_repeat: new.may_repeat,
        ..default
    })
}

pub(super) async fn create(
    State(shared): State<AdminShared>,
    Body(new): Body<NewTask>,
) -> Result<(StatusCode, Json<CreatedTask>), ApiError> {
    let work = move |context: &AdminContext| {
        let definition = definition(&context.store, &new)?;
        let (application, kind, settings) = (new.application, new.kind, new.settings);
        let task = store::NewTask { application, kind, settings, definition };
        let created = context.store.tasks().create(task, context.clock.ages().wall)?;
        context.device_notifier.tasks_changed();
        Ok(CreatedTask {
            id: created.id,
            devices: created.devices,
            offered: created.offered,
            due_at: created.due_at.into(),
            due_local: local(created.due_at, &created.time_zone),
            time_zone: created.time_zone,
        })
    };
    Ok((StatusCode::CREATED, Json(shared.run(work).await?)))
}

/// The names of the devices that a task names; those that are gone by their ids.
fn targets(store: &Store, targets: Targets) -> Result<TaskTargets, ApiError> {
    Ok(match targets {
        Targets::Devices(devices) => {
            let reader = store.reader()?;
            let name = |device: DeviceId| match query::name_of(&reader, device)? {
                Some(name) => Ok::<_, ApiError>(name),
                None => Ok(device.to_string()),
            };
            TaskTargets::Devices(devices.into_iter().map(name).collect::<Result<_, _>>()?)
        }
        Targets::Group(path) => TaskTargets::Group(path),
        Targets::All => TaskTargets::All,
    })
}

/// A time by the clocks of a zone; by UTC when nobody knows it any more.
fn local(time: WallTime, time_zone: &str) -> String {
    zoned_text(time, &zone::find(time_zone).unwrap_or(TimeZone::UTC))
}

fn to_api(store: &Store, row: TaskRow) -> Result<Task, ApiError> {
    Ok(Task {
        id: row.id,
        name: row.definition.name,
        application: row.application,
        kind: row.kind,
        targets: targets(store, row.definition.targets)?,
        schedule: row.definition.schedule,
        state: row.state,
        why: row.why,
        created_at: row.created_at.into(),
        next_at: row.next_at.map(Into::into),
        next_local: row.next_at.map(|at| local(at, &row.definition.time_zone)),
        time_zone: row.definition.time_zone,
        due_at: row.due_at.map(Into::into),
        runs: row.counts.into_iter().map(|(state, runs)| RunCount { state, runs }).collect(),
    })
}

pub(super) async fn list(
    State(shared): State<AdminShared>,
    Query(asked): Query<TaskQuery>,
) -> Result<Json<Page<Task>>, ApiError> {
    let page = page(asked.limit, asked.cursor)?;
    let filter = TaskFilter { state: asked.state, application: asked.application };
    let work = move |context: &AdminContext| {
        let store = &context.store;
        let found = query::tasks(&*store.reader()?, &filter, &page)?;
        let items = found.items.into_iter().map(|row| to_api(store, row)).collect::<Result<_, _>>()?;
        Ok(Page::new(items, found.next))
    };
    shared.answer(work).await
}

pub(super) async fn show(
    State(shared): State<AdminShared>,
    Path(id): Path,
) -> Result<Json<TaskDetail>, ApiError> {
    let id = task_id(&id)?;
    let work = move |context: &AdminContext| {
        let store = &context.store;
        let row = query::task(&*store.reader()?, id)?;
        let definition = row.definition.clone();
        Ok(TaskDetail {
            settings: row.settings.clone(),
            task: to_api(store, row)?,
            continuous: definition.is_continuous,
            window: definition.window,
            expires_seconds: definition.expires_seconds,
            timeout_seconds: definition.timeout_seconds,
            retries: definition.retries,
            rate_per_minute: definition.rate_per_minute,
            abort_percent: definition.abort_percent,
            may_repeat: definition.may_repeat,
        })
    };
    shared.answer(work).await
}

/// Ends a task. It is final at once; devices that are at work on it are told.
pub(super) async fn cancel(
    State(shared): State<AdminShared>,
    Path(id): Path,
) -> Result<Json<Task>, ApiError> {
    let id = task_id(&id)?;
    let work = move |context: &AdminContext| {
        context.store.tasks().cancel(id, context.clock.ages().wall)?;
        context.device_notifier.tasks_changed();
        let row = query::task(&*context.store.reader()?, id)?;
        to_api(&context.store, row)
    };
    shared.answer(work).await
}

fn why(row: &RunRow, now: WallTime) -> String {
    let why = row.run.why(now);
    let is_due = row.run.state == RunState::Scheduled && row.run.not_before <= now;
    if is_due && !row.task_why.is_empty() { format!("{why}: {}", row.task_why) } else { why }
}

fn shown_run(row: RunRow, now: WallTime) -> Run {
    let until = match row.run.state {
        RunState::Scheduled => Some(row.run.expires_at),
        RunState::Pending => Some(row.run.begin_by),
        RunState::Delivered | RunState::Running => row.run.lease_until,
        _ => None,
    };
    Run {
        id: row.id,
        task: row.task,
        state: row.run.state,
        why: why(&row, now),
        until: until.map(Into::into),
        due_at: row.due_at.into(),
        attempt: row.run.attempt,
        changed_at: row.changed_at.into(),
        began_at: row.run.began_at.map(Into::into),
        progress_percent: row.run.progress_percent,
        exit_code: row.run.exit_code,
        late: row.run.late.map(|late| LateReport {
            stage: late.stage,
            message: late.message,
            at: late.at.into(),
        }),
        device: row.device_name,
        device_id: row.device,
        message: row.run.message,
        has_output: row.has_output,
    }
}

pub(super) async fn runs(
    State(shared): State<AdminShared>,
    Query(asked): Query<RunQuery>,
) -> Result<Json<Page<Run>>, ApiError> {
    if asked.task.is_none() && asked.device.is_none() {
        return Err(ApiError::invalid("name a task or a device whose runs are wanted"));
    }
    let page = page(asked.limit, asked.cursor)?;
    let work = move |context: &AdminContext| {
        let device = asked.device.as_deref().map(|name| device_of(&context.store, name)).transpose()?;
        let filter = RunFilter { task: asked.task, device, state: asked.state };
        let now = context.clock.ages().wall;
        let found = query::runs(&*context.store.reader()?, &filter, &page, now)?;
        let items = found.items.into_iter().map(|row| shown_run(row, now)).collect();
        Ok(Page::new(items, found.next))
    };
    shared.answer(work).await
}

pub(super) async fn run(
    State(shared): State<AdminShared>,
    Path(id): Path,
) -> Result<Json<RunDetail>, ApiError> {
    let id = id.parse().map_err(|error| ApiError::invalid(format!("{error}")))?;
    let work = move |context: &AdminContext| {
        let now = context.clock.ages().wall;
        let detail = query::run(&*context.store.reader()?, id, now)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let output = detail.row.has_output.then(|| WrittenOutput {
            head: text(&detail.head),
            tail: text(&detail.tail),
            omitted_bytes: detail.omitted_bytes,
        });
        Ok(RunDetail { run: shown_run(detail.row, now), output })
    };
    shared.answer(work).await
}
