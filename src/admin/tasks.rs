//! Tasks and their runs.

use axum::Json;
use axum::http::StatusCode;

use super::access::{May, Operate, Scope, See};
use super::error::ApiError;
use super::extract::{Body, Path, Query, page};
use super::labels::select;
use super::{AdminContext, Answer, Created};
use crate::store::query::{self, RunFilter, TaskFilter};
use crate::store::{Among, StoreError, zone};
use crate::wire::api::{
    CreatedTask, NewTask, Page, RunDetail, RunQuery, Task, TaskDetail, TaskQuery, TaskRun, TaskTargets,
};
use crate::wire::id::{RunId, TaskId};

/// A task that may be seen.
fn seen(context: &AdminContext, scope: &Scope, id: TaskId) -> Result<TaskDetail, ApiError> {
    let reader = context.store.reader()?;
    let detail = query::task(&reader, id)?;
    scope.task(&reader, &detail.task)?;
    Ok(detail)
}

pub(super) async fn create(
    May { shared, scope, .. }: May<Operate>,
    Body(mut new): Body<NewTask>,
) -> Created<CreatedTask> {
    let work = move |context: &AdminContext| {
        let mut selected = Vec::new();
        let reader = context.store.reader()?;
        match &mut new.definition.targets {
            TaskTargets::Devices(names) => {
                for name in names {
                    *name = scope.device(&reader, name)?.to_string();
                }
            }
            TaskTargets::Filter(text) => {
                selected = select(context, &scope, text, Among::Approved)?;
                if scope.fleet().is_err() {
                    // By name, so that those who made it see it: a filter says nothing of groups.
                    new.definition.targets =
                        TaskTargets::Devices(selected.drain(..).map(|device| device.to_string()).collect());
                }
            }
            TaskTargets::Group(path) => scope.group(path)?,
            TaskTargets::All => scope.fleet()?,
        }
        drop(reader);
        new.definition.time_zone.get_or_insert_with(zone::system_name);
        let created = context.store.tasks().create(new, selected, context.clock.ages().wall)?;
        context.device_notifier.tasks_changed();
        Ok(created)
    };
    Ok((StatusCode::CREATED, Json(shared.run(work).await?)))
}

pub(super) async fn list(
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<TaskQuery>,
) -> Answer<Page<Task>> {
    let page = page(asked.limit, asked.cursor)?;
    let filter = TaskFilter { state: asked.state, application: asked.application };
    let work = move |context: &AdminContext| {
        let reader = context.store.reader()?;
        let mut page = query::tasks(&reader, &filter, &page)?;
        page.items.retain(|task| scope.task(&reader, task).is_ok());
        Ok(page)
    };
    shared.answer(work).await
}

pub(super) async fn show(May { shared, scope, .. }: May<See>, Path(id): Path<TaskId>) -> Answer<TaskDetail> {
    shared.answer(move |context| seen(context, &scope, id)).await
}

/// Ends a task. It is final at once; devices that are at work on it are told.
pub(super) async fn cancel(May { shared, scope, .. }: May<Operate>, Path(id): Path<TaskId>) -> Answer<Task> {
    let work = move |context: &AdminContext| {
        seen(context, &scope, id)?;
        context.store.tasks().cancel(id, context.clock.ages().wall)?;
        context.device_notifier.tasks_changed();
        Ok(query::task(&*context.store.reader()?, id)?.task)
    };
    shared.answer(work).await
}

pub(super) async fn runs(
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<RunQuery>,
) -> Answer<Page<TaskRun>> {
    if asked.task.is_none() && asked.device.is_none() {
        return Err(ApiError::invalid("name a task or a device whose runs are wanted"));
    }
    let page = page(asked.limit, asked.cursor)?;
    let work = move |context: &AdminContext| {
        let reader = context.store.reader()?;
        let device = asked.device.as_deref().map(|name| scope.device(&reader, name)).transpose()?;
        if let Some(task) = asked.task
            && device.is_none()
        {
            seen(context, &scope, task)?;
        }
        let filter = RunFilter { task: asked.task, device, state: asked.state };
        let now = context.clock.ages().wall;
        Ok(query::runs(&reader, &filter, &page, now)?)
    };
    shared.answer(work).await
}

pub(super) async fn run(May { shared, scope, .. }: May<See>, Path(id): Path<RunId>) -> Answer<RunDetail> {
    let work = move |context: &AdminContext| {
        let reader = context.store.reader()?;
        let detail = query::run(&reader, id, context.clock.ages().wall)?;
        if scope.device_or_fleet(&reader, Some(&detail.run.device_id.to_string())).is_err() {
            return Err(StoreError::NoRun(id).into());
        }
        Ok(detail)
    };
    shared.answer(work).await
}
