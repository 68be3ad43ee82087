//! Tasks and their runs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::error::ApiError;
use super::extract::{Body, Path, Query, page};
use super::selection::{filter, moment};
use super::{Admin, AdminContext, Answer, Created};
use crate::store::query::{self, RunFilter, TaskFilter};
use crate::store::{Store, zone};
use crate::wire::api::{
    CreatedTask, NewTask, Page, RunDetail, RunQuery, Task, TaskDetail, TaskQuery, TaskRun, TaskTargets,
};
use crate::wire::id::{DeviceId, RunId, TaskId};

fn device_of(store: &Store, name: &str) -> Result<DeviceId, ApiError> {
    Ok(query::device_id(&*store.reader()?, name)?)
}

pub(super) async fn create(State(shared): Admin, Body(mut new): Body<NewTask>) -> Created<CreatedTask> {
    let work = move |context: &AdminContext| {
        let mut selected = Vec::new();
        match &mut new.definition.targets {
            TaskTargets::Devices(names) => {
                for name in names {
                    *name = device_of(&context.store, name)?.to_string();
                }
            }
            TaskTargets::Filter(text) => {
                selected = context.store.selection().ids(&filter(Some(text))?, moment(context))?;
            }
            TaskTargets::Group(_) | TaskTargets::All => {}
        }
        new.definition.time_zone.get_or_insert_with(zone::system_name);
        let created = context.store.tasks().create(new, selected, context.clock.ages().wall)?;
        context.device_notifier.tasks_changed();
        Ok(created)
    };
    Ok((StatusCode::CREATED, Json(shared.run(work).await?)))
}

pub(super) async fn list(State(shared): Admin, Query(asked): Query<TaskQuery>) -> Answer<Page<Task>> {
    let page = page(asked.limit, asked.cursor)?;
    let filter = TaskFilter { state: asked.state, application: asked.application };
    let work = move |context: &AdminContext| Ok(query::tasks(&*context.store.reader()?, &filter, &page)?);
    shared.answer(work).await
}

pub(super) async fn show(State(shared): Admin, Path(id): Path<TaskId>) -> Answer<TaskDetail> {
    shared.answer(move |context| Ok(query::task(&*context.store.reader()?, id)?)).await
}

/// Ends a task. It is final at once; devices that are at work on it are told.
pub(super) async fn cancel(State(shared): Admin, Path(id): Path<TaskId>) -> Answer<Task> {
    let work = move |context: &AdminContext| {
        context.store.tasks().cancel(id, context.clock.ages().wall)?;
        context.device_notifier.tasks_changed();
        Ok(query::task(&*context.store.reader()?, id)?.task)
    };
    shared.answer(work).await
}

pub(super) async fn runs(State(shared): Admin, Query(asked): Query<RunQuery>) -> Answer<Page<TaskRun>> {
    if asked.task.is_none() && asked.device.is_none() {
        return Err(ApiError::invalid("name a task or a device whose runs are wanted"));
    }
    let page = page(asked.limit, asked.cursor)?;
    let work = move |context: &AdminContext| {
        let device = asked.device.as_deref().map(|name| device_of(&context.store, name)).transpose()?;
        let filter = RunFilter { task: asked.task, device, state: asked.state };
        let now = context.clock.ages().wall;
        Ok(query::runs(&*context.store.reader()?, &filter, &page, now)?)
    };
    shared.answer(work).await
}

pub(super) async fn run(State(shared): Admin, Path(id): Path<RunId>) -> Answer<RunDetail> {
    let work = move |context: &AdminContext| {
        Ok(query::run(&*context.store.reader()?, id, context.clock.ages().wall)?)
    };
    shared.answer(work).await
}
