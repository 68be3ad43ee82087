//! The runs of a device, as `musterctl device show` has them.

use std::collections::HashMap;

use super::{runs, words};
use crate::client::cli::Failure;
use crate::client::cli::output::{Output, time};
use crate::client::{Client, ClientError};
use crate::wire::api::{ErrorCode, RunQuery, TaskRun};
use crate::wire::id::{DeviceId, TaskId};
use crate::wire::units::count;

/// Runs that are looked through for those that have not ended, in runs: a device has fewer at a time.
const LOOKED_THROUGH: u32 = 100;

/// Runs that have not ended and are shown, in runs: for each its task is asked for.
const OPEN_MAX: usize = 10;

/// Runs that are shown when all have ended, in runs.
const ENDED_MAX: usize = 5;

/// Runs of a device, with what their tasks are.
#[derive(Default)]
pub(in crate::client::cli) struct OnDevice {
    runs: Vec<TaskRun>,
    /// Application and kind.
    tasks: HashMap<TaskId, String>,
    /// Number of others that have not ended.
    more: usize,
}

/// The runs of a device that have not ended; when there are none, its latest.
///
/// # Errors
/// When the server can't be reached or refuses.
pub(in crate::client::cli) fn on_device(
    client: &mut Client,
    device: DeviceId,
) -> Result<OnDevice, ClientError> {
    let query =
        RunQuery { device: Some(device.to_string()), limit: Some(LOOKED_THROUGH), ..RunQuery::default() };
    let first = client.runs(query).next().transpose();
    // The device was removed since it was asked for, or the server knows no tasks.
    let Some(latest) = unless_gone(first)?.flatten() else { return Ok(OnDevice::default()) };
    let (runs, more) = chosen(latest);
    let mut tasks = HashMap::new();
    for run in &runs {
        if !tasks.contains_key(&run.task)
            && let Some(detail) = unless_gone(client.task(run.task))?
        {
            tasks.insert(run.task, format!("{}/{}", detail.task.application, detail.task.kind));
        }
    }
    Ok(OnDevice { runs, tasks, more })
}

impl OnDevice {
    /// Shows them, when there are any.
    pub(in crate::client::cli) fn show(self, output: &mut Output) -> Result<(), Failure> {
        let Self { runs, tasks, more } = self;
        if runs.is_empty() {
            return Ok(());
        }
        output.line("")?;
        let heads = &["TASK", "APPLICATION/KIND", "STATE", "SINCE (UTC)", "WHY"];
        output.list(heads, std::iter::once(Ok(runs)), "", |run| {
            vec![
                run.task.to_string(),
                tasks.get(&run.task).cloned().unwrap_or_else(|| "gone".into()),
                words::state(run.state).to_owned(),
                time(run.changed_at),
                runs::why(run),
            ]
        })?;
        match more {
            0 => Ok(()),
            more => output.line(&format!("{} more did not end yet", count(more as u64, "run"))),
        }
    }
}

/// Those that have not ended and how many more of these there are, or else the latest. They come with the
/// latest first.
fn chosen(latest: Vec<TaskRun>) -> (Vec<TaskRun>, usize) {
    let (mut open, mut ended): (Vec<_>, Vec<_>) = latest.into_iter().partition(|run| !run.state.is_final());
    if open.is_empty() {
        ended.truncate(ENDED_MAX);
        return (ended, 0);
    }
    let more = open.len().saturating_sub(OPEN_MAX);
    open.truncate(OPEN_MAX);
    (open, more)
}

/// The answer; nothing when what was asked for is not there.
fn unless_gone<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Some(ErrorCode::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::api::RunState;

    #[test]
    fn what_has_not_ended_is_shown_before_what_has() {
        let runs = |states: &[(RunState, usize)]| {
            let all = states.iter().flat_map(|(state, times)| std::iter::repeat_n(*state, *times));
            all.map(|state| runs::tests::run("kiosk-17", state)).collect::<Vec<_>>()
        };
        let (shown, more) = chosen(runs(&[(RunState::Succeeded, 3), (RunState::Pending, 12)]));
        assert_eq!((shown.len(), more), (OPEN_MAX, 2));
        assert!(shown.iter().all(|run| run.state == RunState::Pending));
        let (shown, more) = chosen(runs(&[(RunState::Failed, 1), (RunState::Succeeded, 9)]));
        assert_eq!((shown.len(), more), (ENDED_MAX, 0));
        assert_eq!(shown[0].state, RunState::Failed, "the latest");
        assert_eq!(chosen(Vec::new()), (Vec::new(), 0));
    }
}
