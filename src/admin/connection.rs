//! Connections of administrators at the socket: a bounded number at once.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::capacity::{CONNECTIONS_MAX, Capacity};
use super::conversation::converse;
use super::error::ApiError;
use super::listen::AdminListener;
use crate::fleet::access::Grant;
use crate::store::SESSION_SECRET_BYTES;
use crate::wire::api::ErrorCode;
use crate::wire::id::UserId;
use crate::wire::time::WallTime;

/// Longest time of a request's head; also the time that an idle connection is kept.
pub(super) const HEAD_SECONDS_MAX: u64 = 15;

/// Time that a client waits for a place before it is refused: a burst of short requests is served in it.
const PLACE_SECONDS_MAX: u64 = 5;

/// Clients at once that are told so, in connections beside the others.
const REFUSALS_MAX: usize = 8;

/// Time that the head of a request may take that is refused.
const REFUSED_HEAD_SECONDS_MAX: u64 = 2;

/// Longest time of requests in flight when the server stops.
pub(super) const STOP_SECONDS_MAX: u64 = 3;

/// Pause after accept(2) failed for want of something, such as descriptors.
pub(super) const ACCEPT_PAUSE_MILLISECONDS: u64 = 100;

/// The one who asks, as the audit has it.
#[derive(Clone, Default)]
pub(super) struct Caller {
    pub(super) actor: String,
    pub(super) origin: String,
    /// The address, over the network.
    pub(super) address: Option<IpAddr>,
    /// Their rights; nothing: it is not known who they are.
    pub(super) grant: Option<Grant>,
    /// The user that they are, or whose API token they have.
    pub(super) user: Option<UserId>,
    /// Secret of the session that they came with, and when it is over.
    pub(super) session: Option<([u8; SESSION_SECRET_BYTES], WallTime)>,
}

impl Caller {
    /// A user of this machine.
    fn at_socket(stream: &UnixStream) -> Self {
        let actor = match stream.peer_cred() {
            Ok(peer) => format!("uid {}", peer.uid()),
            Err(error) => format!("unknown ({error})"),
        };
        Self { actor, origin: "unix".to_owned(), grant: Some(Grant::everything()), ..Self::default() }
    }

    /// Somebody who has not signed in yet.
    pub(super) fn from_network(address: IpAddr) -> Self {
        let actor = "unknown".to_owned();
        Self { actor, origin: address.to_string(), address: Some(address), ..Self::default() }
    }
}

/// Accepts and serves until `stopping`, then lets what is in flight end.
pub(super) async fn serve(
    listener: AdminListener,
    router: Router,
    capacity: &Capacity,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let refusing = Router::new().fallback(refused);
    // The last client found no place: the next one need not wait to hear the same.
    let mut is_full = false;
    let mut connections = JoinSet::new();
    let mut should_stop = pin!(stopped(stopping.clone()));
    loop {
        // Without a permit nothing is accepted: the next client waits in the backlog, and is told when that
        // takes long.
        let place = tokio::select! {
            () = &mut should_stop => break,
            place = place(&capacity.connections, &refusals, if is_full { 0 } else { PLACE_SECONDS_MAX }) => place?,
        };
        let accepted = tokio::select! {
            () = &mut should_stop => break,
            accepted = listener.socket.accept() => accepted,
        };
        let place = match place {
            // One may have become free since.
            Place::Refusal(refusal) => match Arc::clone(&capacity.connections).try_acquire_owned() {
                Ok(permit) => Place::Client(permit),
                Err(_) => Place::Refusal(refusal),
            },
            client => client,
        };
        is_full = matches!(place, Place::Refusal(_));
        let (permit, router, head_seconds_max) = match place {
            Place::Client(permit) => (permit, &router, HEAD_SECONDS_MAX),
            Place::Refusal(permit) => (permit, &refusing, REFUSED_HEAD_SECONDS_MAX),
        };
        match accepted {
            Ok((stream, _)) => {
                let caller = Caller::at_socket(&stream);
                let served = converse(stream, caller, router.clone(), head_seconds_max, stopping.clone());
                connections.spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            Err(error) => {
                log::warn!("administration: can't accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MILLISECONDS)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    stopping.mark_unchanged();
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(STOP_SECONDS_MAX), all).await.is_err() {
        log::warn!("administration: requests were cut off after {STOP_SECONDS_MAX} s");
    }
    Ok(())
}

/// The purpose for which the next connection is accepted.
enum Place {
    Client(OwnedSemaphorePermit),
    /// To be told that there is no place.
    Refusal(OwnedSemaphorePermit),
}

/// A place for the next connection, which waits for one for a while.
async fn place(clients: &Arc<Semaphore>, refusals: &Arc<Semaphore>, seconds_max: u64) -> io::Result<Place> {
    let client = Arc::clone(clients).acquire_owned();
    match tokio::time::timeout(Duration::from_secs(seconds_max), client).await {
        Ok(permit) => permit.map(Place::Client).map_err(io::Error::other),
        Err(_) => tokio::select! {
            permit = Arc::clone(clients).acquire_owned() => permit.map(Place::Client).map_err(io::Error::other),
            permit = Arc::clone(refusals).acquire_owned() => permit.map(Place::Refusal).map_err(io::Error::other),
        },
    }
}

async fn refused() -> ApiError {
    let text = format!(
        "{CONNECTIONS_MAX} clients use the administration socket already: try again, or end some of them ('ss -xp' names them)"
    );
    ApiError::new(ErrorCode::Busy, text)
}

/// Ends when the server stops.
pub(super) async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that nobody is left who could say so.
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
}
