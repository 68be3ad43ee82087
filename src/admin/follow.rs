//! Events as they become durable: newline-delimited JSON, without end.
//!
//! One task a follower. It reads a batch from the log, hands it to the connection, and reads the next only
//! when that was taken: a slow follower costs one batch of memory, however far behind it is.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use tokio::sync::watch;

use super::Shared;
use super::access::{May, See};
use super::connection::stopped;
use super::error::ApiError;
use super::events::{Filter, name_devices, wanted_device};
use super::extract::Query;
use super::lines::{self, LinesSender};
use crate::journal::ReadError;
use crate::wire::api::{FollowLine, FollowQuery};

/// Records that one read looks at.
const BATCH_RECORDS_MAX: usize = 4_096;

/// Events that one read collects: what a follower may hold in memory is this many, 8 KiB each at most.
const BATCH_EVENTS_MAX: usize = 128;

/// Silence, after which a sign of life tells both sides whether the other is still there.
const SIGN_OF_LIFE_SECONDS: u64 = 15;

/// Shortest time between two reads of the log for one follower: the flusher may publish a position ten
/// thousand times a second, and people don't read that fast.
const READ_INTERVAL_MILLISECONDS: u64 = 20;

pub(super) async fn follow(
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<FollowQuery>,
) -> Result<Response, ApiError> {
    let place = shared.capacity.follower()?;
    let (context, name) = (shared.context.clone(), asked.device);
    let device = shared.pool.run(move || wanted_device(&context, &scope, name)).await?;
    let durable = shared.context.log.durable();
    let from = asked.from.unwrap_or(durable);
    if from > durable {
        return Err(ApiError::invalid(format!(
            "position {from} is beyond the journal's end at {durable}: is this the server that named it?"
        )));
    }
    let filter = Filter { device, severity: asked.severity, ..Filter::default() };
    let (lines, answer) = lines::answer();
    let fed = feed(Arc::clone(&shared), filter, from, lines);
    tokio::spawn(async move {
        fed.await;
        drop(place);
    });
    Ok(answer)
}

/// Records that were read in one go.
struct Batch {
    lines: VecDeque<FollowLine>,
    reached: u64,
    is_at_end: bool,
}

async fn feed(shared: Arc<Shared>, filter: Filter, mut from: u64, lines: LinesSender) {
    let mut durable = shared.context.durable.clone();
    let mut is_first = true;
    loop {
        durable.mark_unchanged();
        let context = shared.context.clone();
        let batch = shared.pool.run(move || {
            let batch = read(&*context.log, &filter, from);
            let mut batch =
                batch.map_err(|error| ApiError::internal(format!("following events: {error}")))?;
            let mut events: Vec<_> = Vec::new();
            let mut others = VecDeque::new();
            for line in batch.lines {
                match line {
                    FollowLine::Event(event) => events.push(*event),
                    other => others.push_back(other),
                }
            }
            name_devices(&context.store.reader()?, &mut events)?;
            others.extend(events.into_iter().map(|event| FollowLine::Event(Box::new(event))));
            batch.lines = others;
            Ok(batch)
        });
        // A busy or failing server ends the stream; the follower comes again from where it was.
        let Ok(batch) = batch.await else { return };
        from = batch.reached;
        let mut bytes = Vec::new();
        for line in
            batch.lines.iter().chain((is_first || batch.is_at_end).then_some(&FollowLine::Reached(from)))
        {
            if serde_json::to_writer(&mut bytes, line).is_err() {
                return;
            }
            bytes.push(b'\n');
        }
        is_first = false;
        if !bytes.is_empty() && lines.send(bytes.into()).await.is_err() {
            return;
        }
        if batch.is_at_end && !wait(&mut durable, &shared, &lines).await {
            return;
        }
    }
}

/// Waits for more, at most as long as silence may last. Says whether to go on.
async fn wait(durable: &mut watch::Receiver<u64>, shared: &Shared, lines: &LinesSender) -> bool {
    tokio::select! {
        changed = durable.changed() => {
            tokio::time::sleep(Duration::from_millis(READ_INTERVAL_MILLISECONDS)).await;
            changed.is_ok()
        }
        () = tokio::time::sleep(Duration::from_secs(SIGN_OF_LIFE_SECONDS)) => true,
        () = lines.closed() => false,
        () = stopped(shared.stopping.clone()) => false,
    }
}

fn read(log: &dyn super::EventLog, filter: &Filter, from: u64) -> Result<Batch, ReadError> {
    let mut batch = Batch { lines: VecDeque::new(), reached: from, is_at_end: true };
    let oldest = log.oldest();
    if from < oldest {
        batch.lines.push_back(FollowLine::Gone { from, to: oldest });
        batch.reached = oldest;
    }
    let (mut looked_at, mut picked) = (0, 0);
    let start = batch.reached;
    log.forward(start, &mut |record| {
        if looked_at == BATCH_RECORDS_MAX || picked == BATCH_EVENTS_MAX {
            batch.is_at_end = false;
            return ControlFlow::Break(());
        }
        looked_at += 1;
        batch.reached = record.next_position;
        if let Some(event) = filter.pick(record) {
            picked += 1;
            batch.lines.push_back(FollowLine::Event(Box::new(event)));
        }
        ControlFlow::Continue(())
    })?;
    Ok(batch)
}
