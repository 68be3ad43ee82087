//! HTTP/2, where a connection carries many requests: a browser opens six connections to a server, and each of
//! HTTP/1.1 carries one tab that follows events.
//!
//! The library knows no deadline for a connection without a request, nor for a client that takes nothing of
//! an answer while it answers pings: both are judged here. A tab that takes nothing loses its answer, and not
//! the connection, which other tabs share. And connections are no limit to what is under way:
//! the requests of an address are, and those of all.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use axum::response::IntoResponse as _;
use hyper::Request;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::rt::{Read, Write};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{self, AbortHandle};
use tokio::time::Instant;

use super::HEAD_BYTES_MAX;
use crate::admin::connection::stopped;
use crate::admin::error::ApiError;
use crate::wire::api::ErrorCode;

/// Requests at once of all addresses. An answer that is not taken holds a megabyte or two.
const REQUESTS_MAX: usize = 96;

/// Requests at once of one address: tabs that follow events, and what a page loads.
const REQUESTS_OF_ADDRESS_MAX: u32 = 48;

/// Time that a request waits for a place before it is refused.
const PLACE_SECONDS_MAX: u64 = 5;

/// Most of a body that arrives before it is read: the longest that is allowed.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

const _: () = assert!(STREAM_WINDOW_BYTES as usize == crate::wire::api::REQUEST_BODY_BYTES_MAX);

/// Most of all bodies of a connection that arrives before it is read.
const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;

/// Most of one answer that is kept for a client that takes nothing.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// Interval at which the deadlines are checked.
const CHECK_SECONDS: u64 = 1;

/// The places of requests of all addresses, or of one.
#[derive(Clone)]
pub(in crate::admin) struct Places(Arc<Semaphore>);

impl Places {
    pub(in crate::admin) fn of_all() -> Self {
        Self(Arc::new(Semaphore::new(REQUESTS_MAX)))
    }

    pub(in crate::admin) fn of_address() -> Self {
        Self(Arc::new(Semaphore::new(REQUESTS_OF_ADDRESS_MAX as usize)))
    }
}

/// A place among both.
async fn place([of_address, of_all]: [Places; 2]) -> Result<[OwnedSemaphorePermit; 2], ApiError> {
    let places =
        async { Some([of_address.0.acquire_owned().await.ok()?, of_all.0.acquire_owned().await.ok()?]) };
    let place = tokio::time::timeout(Duration::from_secs(PLACE_SECONDS_MAX), places).await;
    place.ok().flatten().ok_or_else(|| {
        let text = format!(
            "{REQUESTS_OF_ADDRESS_MAX} requests from your address, or {REQUESTS_MAX} of all, are under way, and no more may: \
             try again, or close some pages"
        );
        ApiError::new(ErrorCode::Busy, text)
    })
}

/// Longest times of a connection.
#[derive(Clone, Copy)]
pub(super) struct Deadlines {
    /// Without a request.
    pub(super) idle: Duration,
    /// In which the client takes nothing of an answer: that is broken off, and the others go on.
    pub(super) stall: Duration,
}

/// Answers requests until the client or the server ends it, or a deadline is over.
pub(super) async fn converse<S, A>(
    stream: S,
    answer: impl Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    places: [Places; 2],
    deadlines: Deadlines,
    stopping: watch::Receiver<bool>,
) where
    S: Read + Write + Unpin,
    A: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let streams = Arc::new(Streams::default());
    let service = service_fn(|request| {
        let (streams, places, answer) = (Arc::clone(&streams), places.clone(), answer.clone());
        async move {
            let stream = Stream { streams, task: task::id() };
            let (answer, place) = match place(places).await {
                Ok(place) => (answer(request).await?, Some(place)),
                Err(refusal) => (refusal.into_response(), None),
            };
            stream.note_unsent(Some(Instant::now()));
            Ok::<_, Infallible>(answer.map(|body| Answer { body, stream, _place: place }))
        }
    });
    let connection = http2::Builder::new(Executor(Arc::clone(&streams)))
        .timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS_OF_ADDRESS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX.into())
        .max_send_buf_size(UNSENT_BYTES_MAX)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    let idle = async {
        while !streams.check(Instant::now(), deadlines) {
            tokio::time::sleep(Duration::from_secs(CHECK_SECONDS)).await;
        }
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopped(stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = idle => {
            // A request that comes just now is answered; one that says no good-bye is not waited for.
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(deadlines.stall, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        log::debug!("administration: a connection ended: {error}");
    }
}

/// The requests of a connection that are not answered to their end.
struct Streams(Mutex<OfConnection>);

struct OfConnection {
    by_task: HashMap<task::Id, OfStream>,
    /// The last moment at which one began or ended.
    changed_at: Instant,
}

struct OfStream {
    task: AbortHandle,
    /// Since when the client could take what there is; nothing: the server is at work.
    unsent_since: Option<Instant>,
}

impl Default for Streams {
    fn default() -> Self {
        Self(Mutex::new(OfConnection { by_task: HashMap::new(), changed_at: Instant::now() }))
    }
}

impl Streams {
    /// Breaks off the answers of which nothing is taken. Says whether there was no request for too long.
    fn check(&self, now: Instant, Deadlines { idle, stall }: Deadlines) -> bool {
        let all = self.0.lock();
        for stream in all.by_task.values() {
            if stream.unsent_since.is_some_and(|since| now - since >= stall) {
                log::debug!("administration: a client takes nothing of what it asked for");
                stream.task.abort();
            }
        }
        all.by_task.is_empty() && now - all.changed_at >= idle
    }
}

/// Runs what the library does for a request. The library resets the stream of a task that is aborted, and
/// forgets what was not sent of it.
#[derive(Clone)]
struct Executor(Arc<Streams>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, request: F) {
        // The task looks itself up: it waits until it is there.
        let mut all = self.0.0.lock();
        let task = tokio::spawn(request).abort_handle();
        all.by_task.insert(task.id(), OfStream { task, unsent_since: None });
        all.changed_at = Instant::now();
    }
}

/// One request, until it is dropped.
struct Stream {
    streams: Arc<Streams>,
    task: task::Id,
}

impl Stream {
    fn note_unsent(&self, since: Option<Instant>) {
        if let Some(stream) = self.streams.0.lock().by_task.get_mut(&self.task) {
            stream.unsent_since = since;
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut all = self.streams.0.lock();
        all.by_task.remove(&self.task);
        all.changed_at = Instant::now();
    }
}

/// An answer: its library asks for more of it when the client has taken what there was.
struct Answer {
    body: Body,
    stream: Stream,
    _place: Option<[OwnedSemaphorePermit; 2]>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.stream.note_unsent(matches!(polled, Poll::Ready(Some(Ok(_)))).then(Instant::now));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use hyper::client::conn::http2::{Builder, SendRequest};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::admin::lines;

    const SHORT: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(600);

    /// A client, and its connection, to whose requests this is the answer.
    async fn connected(
        deadlines: Deadlines,
        window_bytes: u32,
        answer: fn() -> Body,
    ) -> (SendRequest<Body>, JoinHandle<()>) {
        let (client, server) = tokio::io::duplex(1024);
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(async move {
            let answer = move |_| async move { Ok(Response::new(answer())) };
            let places = [Places::of_address(), Places::of_all()];
            converse(TokioIo::new(server), answer, places, deadlines, stopping).await;
            drop(stop);
        });
        let handshake = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window_bytes)
            .handshake(TokioIo::new(client));
        let (sender, connection) = handshake.await.unwrap();
        let ended = tokio::spawn(async move {
            let _ = connection.await;
        });
        (sender, ended)
    }

    async fn get(sender: &mut SendRequest<Body>) -> Incoming {
        let request = Request::get("https://fleet.example/").body(Body::empty()).unwrap();
        sender.send_request(request).await.unwrap().into_body()
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    /// An answer that begins and does not end.
    fn endless() -> Body {
        let (pieces, body) = lines::body();
        tokio::spawn(async move {
            let _ = pieces.send(Bytes::from_static(b"first")).await;
            pieces.closed().await;
        });
        body
    }

    #[test]
    fn a_connection_without_a_request_ends_and_one_that_waits_for_an_answer_does_not() {
        run(async {
            let deadlines = Deadlines { idle: SHORT, stall: LONG };
            let (mut sender, ended) = connected(deadlines, 65_535, endless).await;
            let mut bodies = Vec::new();
            for _ in 0..REQUESTS_OF_ADDRESS_MAX {
                let mut body = get(&mut sender).await;
                assert_eq!(body.frame().await.unwrap().unwrap().data_ref().unwrap(), "first");
                bodies.push(body);
            }
            tokio::time::sleep(3 * SHORT).await;
            assert!(!ended.is_finished(), "the answers are not at their end");
            drop(bodies);
            tokio::time::timeout(LONG, ended).await.unwrap().unwrap();
        });
    }

    #[test]
    fn an_answer_of_which_nothing_is_taken_is_broken_off_and_the_connection_goes_on() {
        run(async {
            let deadlines = Deadlines { idle: LONG, stall: SHORT };
            let (mut sender, ended) = connected(deadlines, 0, endless).await;
            let mut untaken = get(&mut sender).await;
            let broken_off = tokio::time::timeout(LONG, untaken.frame()).await.unwrap().unwrap();
            assert!(broken_off.is_err(), "there is no room for anything");
            drop(get(&mut sender).await);
            assert!(!ended.is_finished());
        });
    }

    #[test]
    fn the_rest_of_an_answer_that_nobody_takes_holds_no_connection() {
        run(async {
            let deadlines = Deadlines { idle: SHORT, stall: SHORT };
            let (mut sender, ended) = connected(deadlines, 0, || Body::from("all of it")).await;
            let body = get(&mut sender).await;
            tokio::time::timeout(LONG, ended).await.unwrap().unwrap();
            drop(body);
        });
    }
}
