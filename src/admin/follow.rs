//! Events as they become durable: newline-delimited JSON, without end.
//!
//! One task a follower. It reads a batch from the log, hands it to the connection, and reads the next only
//! when that was taken: a slow follower costs one batch of memory, however far behind it is.

pub(super) mod reader;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::response::Response;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Shared;
use super::access::{May, See};
use super::connection::stopped;
use super::context::{AdminContext, EventLog};
use super::error::ApiError;
use super::events::{Filter, name_devices, wanted_device};
use super::extract::{Query, bounded};
use super::lines::{self, LinesSender};
use crate::wire::api::{FOLLOW_NEWEST_MAX, FollowLine, FollowQuery};
use reader::Reader;

/// Silence, after which a sign of life tells both sides whether the other is still there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Shortest time between two batches for one follower: the flusher may publish a position ten thousand times
/// a second, and programs need no more than this.
const BATCH_INTERVAL: Duration = Duration::from_millis(20);

/// The same for a follower that asked for the newest alone, as people do who look on.
const NEWEST_INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn follow(
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<FollowQuery>,
) -> Result<Response, ApiError> {
    let newest = asked.newest.map(|newest| bounded("newest", newest, FOLLOW_NEWEST_MAX)).transpose()?;
    let place = shared.capacity.follower()?;
    let (context, name) = (shared.context.clone(), asked.device);
    let device = shared.pool.run(move || wanted_device(&context, &scope, name)).await?;
    let from = begin(&*shared.context.log, asked.from)?;
    let filter = Filter { device, severity: asked.severity, ..Filter::default() };
    let (lines, answer) = lines::answer();
    let fed = feed(Arc::clone(&shared), Reader::new(filter, from, newest), lines);
    tokio::spawn(async move {
        fed.await;
        drop(place);
    });
    Ok(answer)
}

/// The position at which a follower begins.
pub(super) fn begin(log: &dyn EventLog, from: Option<u64>) -> Result<u64, ApiError> {
    let durable = log.durable();
    match from {
        Some(from) if from > durable => Err(ApiError::invalid(format!(
            "position {from} is beyond the journal's end at {durable}: is this the server that named it?"
        ))),
        from => Ok(from.unwrap_or(durable)),
    }
}

async fn feed(shared: Arc<Shared>, mut reader: Reader, lines: LinesSender) {
    let mut durable = shared.context.durable.clone();
    let interval = if reader.leaves_out() { NEWEST_INTERVAL } else { BATCH_INTERVAL };
    let mut last_at = Instant::now();
    loop {
        durable.mark_unchanged();
        let context = shared.context.clone();
        let is_due = last_at.elapsed() >= SIGN_OF_LIFE;
        let read = shared.pool.run(move || {
            let is_at_end = reader
                .read(&*context.log)
                .map_err(|error| ApiError::internal(format!("following events: {error}")))?;
            // The newest are those at the end of the log, unless that is far away.
            let is_whole = is_at_end || is_due || !reader.leaves_out();
            let batch = is_whole.then(|| to_json(&mut reader, &context)).transpose()?;
            Ok((reader, is_at_end, batch))
        });
        // A busy or failing server ends the stream; the follower comes again from where it was.
        let Ok((read, is_at_end, batch)) = read.await else { return };
        reader = read;
        if let Some(batch) = batch {
            if lines.send(batch).await.is_err() {
                return;
            }
            last_at = Instant::now();
        }
        if is_at_end && !wait(&mut durable, last_at + interval, &shared, &lines).await {
            return;
        }
    }
}

/// Makes lines of all that was read. Only these events get the names of their devices, which costs more than
/// reading.
fn to_json(reader: &mut Reader, context: &AdminContext) -> Result<Bytes, ApiError> {
    let (mut lines, mut events) = reader.take();
    name_devices(&context.store.reader()?, &mut events)?;
    lines.extend(events.into_iter().map(|event| FollowLine::Event(Box::new(event))));
    lines.push(FollowLine::Reached(reader.reached()));
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, &line).map_err(|error| ApiError::internal(error.to_string()))?;
        bytes.push(b'\n');
    }
    Ok(bytes.into())
}

/// Waits for more, and until then; at most as long as silence may last. Says whether to go on.
async fn wait(
    durable: &mut watch::Receiver<u64>,
    until: Instant,
    shared: &Shared,
    lines: &LinesSender,
) -> bool {
    let more = async {
        let is_more = durable.changed().await.is_ok();
        tokio::time::sleep_until(until).await;
        is_more
    };
    tokio::select! {
        is_more = more => is_more,
        () = tokio::time::sleep(SIGN_OF_LIFE) => true,
        () = lines.closed() => false,
        () = stopped(shared.stopping.clone()) => false,
    }
}
