//! Forced syncs: devices are called, and what becomes of each is told as it becomes known.
//!
//! One task for each client that waits. Of a device that has not answered it holds the id; names are looked
//! up for a piece of the answer at a time. When the time is over, or the client goes away, what has not begun
//! is taken back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::response::Response;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::access::{May, Operate, Scope};
use super::connection::stopped;
use super::context::{AdminContext, Calls};
use super::error::ApiError;
use super::extract::Body;
use super::lines::{self, LinesSender};
use super::selection::moment;
use super::why::record_of;
use crate::fleet::filter::quoted;
use crate::store::{Among, StoreError, query};
use crate::wire::api::{
    CALL_SECONDS_DEFAULT, CALL_SECONDS_MAX, CallLine, CallOutcome, CallRequest, CalledDevice, ErrorCode,
};
use crate::wire::datagram::WakeReason;
use crate::wire::id::DeviceId;

/// Outcomes in one piece of the answer: some hundred kilobytes at most.
const PIECE_OUTCOMES_MAX: usize = 512;

pub(super) async fn call(
    May { shared, scope, .. }: May<Operate>,
    Body(request): Body<CallRequest>,
) -> Result<Response, ApiError> {
    let seconds = check(&request)?;
    let (reason, waits) = (reason(&request), request.wait);
    let place = if waits { Some(shared.capacity.wait()?) } else { None };
    let devices = shared.run(move |context| find(context, &scope, &request)).await?;
    let (sink, outcomes) = mpsc::unbounded_channel();
    let mut operation = None;
    if !devices.is_empty() {
        let called = shared.context.calls.call(&devices, reason, waits.then_some(sink));
        let number = called.map_err(|busy| ApiError::new(ErrorCode::Busy, busy.to_string()))?;
        operation = Some(number);
    }
    let (lines, answer) = lines::answer();
    let called = devices.len() as u64;
    let waiting = operation.filter(|_| waits).map(|number| Operation {
        calls: Arc::clone(&shared.context.calls),
        number,
        waiting: devices.iter().copied().collect(),
    });
    let deadline = Instant::now() + Duration::from_secs(seconds);
    tokio::spawn(async move {
        // Without a line nobody listens any more.
        let _ = tell(&shared, waits, Wait { called, devices, waiting, outcomes, deadline }, &lines).await;
        drop(place);
    });
    Ok(answer)
}

/// Time to wait, in seconds, when the request can be understood.
fn check(request: &CallRequest) -> Result<u64, ApiError> {
    let given = [!request.devices.is_empty(), request.group.is_some(), request.filter.is_some(), request.all];
    if given.iter().filter(|is_given| **is_given).count() != 1 {
        return Err(ApiError::invalid("whom to call: give exactly one of devices, group, where and all"));
    }
    let seconds = request.timeout_seconds.unwrap_or(CALL_SECONDS_DEFAULT);
    if !(1..=CALL_SECONDS_MAX).contains(&seconds) {
        let text = format!("timeout_seconds is {seconds}, it must be from 1 to {CALL_SECONDS_MAX}");
        return Err(ApiError::invalid(text));
    }
    Ok(seconds.into())
}

fn reason(request: &CallRequest) -> WakeReason {
    if request.is_fresh { WakeReason::Retrieve } else { WakeReason::Sync }
}

/// The devices to call, each once. A name that nobody has is refused before anybody is.
fn find(context: &AdminContext, scope: &Scope, request: &CallRequest) -> Result<Vec<DeviceId>, ApiError> {
    if request.devices.is_empty() {
        let group = request.group.as_deref().map(|path| format!("group:{}", quoted(path)));
        request.group.as_deref().map(|path| scope.group(path)).transpose()?;
        let filter = scope.filter(group.as_deref().or(request.filter.as_deref()))?;
        return Ok(context.store.selection().ids(&filter, Among::Approved, moment(context))?);
    }
    let reader = context.store.reader()?;
    let mut seen = HashSet::new();
    let mut devices = Vec::new();
    for name in &request.devices {
        let device = scope.device(&reader, name)?;
        if record_of(context, device).is_waiting() {
            return Err(StoreError::Waits(name.clone()).into());
        }
        if seen.insert(device) {
            devices.push(device);
        }
    }
    Ok(devices)
}

/// An operation that somebody waits for. Dropped before all have answered, it is taken back.
struct Operation {
    calls: Arc<dyn Calls>,
    number: u64,
    waiting: HashSet<DeviceId>,
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.waiting.is_empty() {
            self.calls.cancel(self.number);
        }
    }
}

/// State of a client's wait.
struct Wait {
    called: u64,
    /// In the order in which they were called.
    devices: Vec<DeviceId>,
    waiting: Option<Operation>,
    outcomes: mpsc::UnboundedReceiver<(DeviceId, CallOutcome)>,
    deadline: Instant,
}

/// The client went away, or the server stops.
struct Gone;

async fn tell(shared: &Arc<Shared>, waits: bool, wait: Wait, lines: &LinesSender) -> Result<(), Gone> {
    let Wait { called, devices, waiting, mut outcomes, deadline } = wait;
    let mut piece = Vec::new();
    write(&mut piece, &CallLine::Called { devices: called })?;
    send(lines, piece).await?;
    if !waits {
        return Ok(());
    }
    let mut synced = 0;
    if let Some(mut operation) = waiting {
        let mut came = Vec::new();
        while !operation.waiting.is_empty() {
            let many = tokio::select! {
                // An outcome that is there counts, however late it is looked at.
                biased;
                many = outcomes.recv_many(&mut came, PIECE_OUTCOMES_MAX) => many,
                () = tokio::time::sleep_until(deadline) => 0,
                () = lines.closed() => return Err(Gone),
                () = stopped(shared.stopping.clone()) => return Err(Gone),
            };
            if many == 0 {
                break;
            }
            came.retain(|(device, _)| operation.waiting.remove(device));
            if came.is_empty() {
                continue;
            }
            synced += came.iter().filter(|(_, outcome)| outcome.is_synced()).count() as u64;
            tell_outcomes(shared, std::mem::take(&mut came), lines).await?;
        }
        let late: Vec<DeviceId> =
            devices.into_iter().filter(|device| operation.waiting.contains(device)).collect();
        // A call that has not begun by now must not begin behind the back of those who were told that it did
        // not.
        drop(operation);
        for some in late.chunks(PIECE_OUTCOMES_MAX) {
            let some = some.iter().map(|device| (*device, CallOutcome::TimedOut)).collect();
            tell_outcomes(shared, some, lines).await?;
        }
    }
    let mut piece = Vec::new();
    write(&mut piece, &CallLine::Done { synced, failed: called - synced })?;
    send(lines, piece).await
}

async fn tell_outcomes(
    shared: &Arc<Shared>,
    outcomes: Vec<(DeviceId, CallOutcome)>,
    lines: &LinesSender,
) -> Result<(), Gone> {
    let work = move |context: &AdminContext| {
        let reader = context.store.reader()?;
        let mut devices = Vec::with_capacity(outcomes.len());
        for (id, outcome) in outcomes {
            let name = query::name_of(&reader, id)?.unwrap_or_else(|| id.to_string());
            devices.push(CalledDevice { id, name, outcome });
        }
        Ok(devices)
    };
    // A store that can't be asked ends the answer, which says by its missing end that it is not whole.
    let devices = shared.run(work).await.map_err(|_| Gone)?;
    let mut piece = Vec::new();
    for device in devices {
        write(&mut piece, &CallLine::Device(device))?;
    }
    send(lines, piece).await
}

fn write<T: Serialize>(piece: &mut Vec<u8>, line: &T) -> Result<(), Gone> {
    serde_json::to_writer(&mut *piece, line).map_err(|_| Gone)?;
    piece.push(b'\n');
    Ok(())
}

/// Waits until the client has taken what came before.
async fn send(lines: &LinesSender, piece: Vec<u8>) -> Result<(), Gone> {
    lines.send(Bytes::from(piece)).await.map_err(|_| Gone)
}
