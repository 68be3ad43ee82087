//! Layer 4: the administration API, HTTP and JSON over a Unix socket.
//!
//! Its answers are described in [`wire::api`](crate::wire::api). It runs on one thread, the control thread's
//! runtime, and never on a device's path: everything that touches the disk runs on a few blocking threads
//! (`blocking`), the time that a client may be slow or silent is bounded (`conversation`), and so is the
//! number of clients ([`capacity`]).
//!
//! ```text
//! socket ── accept ── HTTP ────── who asks ── router ── audit ── right ── handler ──┬── blocking thread: store, event log
//!           (permit)  (deadlines)                                                   └── counters: memory
//! ```
//!
//! Root and the server's user may everything at the socket, which is made with mode 0600. Others come over
//! TLS ([`network`]) with an API token, or with the cookie of a session (`sessions`).
#![forbid(unsafe_code)]

mod access;
mod api_tokens;
mod applications;
mod artifacts;
mod audit;
mod blocking;
mod calls;
pub mod capacity;
mod certificate;
mod connection;
#[cfg(feature = "console")]
mod console;
mod context;
mod conversation;
mod devices;
mod error;
mod events;
mod extract;
mod follow;
mod groups;
mod install;
mod labels;
mod lines;
pub mod listen;
mod metrics;
pub mod network;
mod openapi;
pub mod openid;
mod passwords;
mod policies;
mod rate;
mod selection;
mod sessions;
mod stall;
mod status;
mod tasks;
mod tokens;
mod users;
mod why;
pub mod within;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::{Json, Router, middleware};
use parking_lot::Mutex;

use crate::machine::bucket::Bucket;
use crate::wire::api::{CallLine, FollowLine, REQUEST_BODY_BYTES_MAX};
pub use context::{
    AdminContext, Backups, BackupsBusy, Calls, CallsBusy, CertificateError, Certificates, Deleted,
    DeviceNotifier, EventLog, Gauges, Links, LogRecord, OutcomeSink, ServerInfo, Visit,
};
use error::ApiError;
use listen::AdminListener;
use openapi::{LINES, Routes, delete, get, patch, post};

/// State that handlers share.
struct Shared {
    context: AdminContext,
    pool: blocking::Pool,
    rate: rate::Rate,
    capacity: capacity::Capacity,
    /// Rations the rows of refusals.
    refusals: Mutex<Bucket>,
    /// The same of those who have not signed in.
    refusals_of_strangers: Mutex<Bucket>,
    /// Wrong tokens, passwords and links, by address.
    guesses: Mutex<network::Ration<IpAddr>>,
    /// Requests for the installer, by address.
    installs: Mutex<network::Ration<IpAddr>>,
    installer: install::Agents,
    passwords: passwords::Passwords,
    #[cfg(feature = "console")]
    openid: Option<Arc<openid::OpenId>>,
    /// An API token or a user was made: somebody may sign in from now on.
    admitted: tokio::sync::Notify,
    /// Address at which administrators are served over the network.
    network: Mutex<Option<SocketAddr>>,
    stopping: tokio::sync::watch::Receiver<bool>,
}

/// The answer of a handler.
type Answer<T> = Result<Json<T>, ApiError>;

/// The answer of a handler that has made something.
type Created<T> = Result<(StatusCode, Json<T>), ApiError>;

impl Shared {
    /// Has some work done that may touch the disk.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AdminContext) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let context = self.context.clone();
        let change = audit::Change::of_this_request();
        self.pool.run(move || audit::within(change, || work(&context))).await
    }

    /// The same, when what comes of it is the answer.
    async fn answer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AdminContext) -> Result<T, ApiError> + Send + 'static,
    ) -> Answer<T> {
        Ok(Json(self.run(work).await?))
    }
}

/// Serves the administration API until `stopping` becomes true (or its sender is gone), then lets requests in
/// flight end.
///
/// Runs on a current-thread runtime with IO and time; open the listener there too.
///
/// # Errors
/// When the socket can no longer be accepted from.
pub async fn serve(
    listener: AdminListener,
    context: AdminContext,
    stopping: tokio::sync::watch::Receiver<bool>,
) -> io::Result<()> {
    let stored = context.gauges.events_stored();
    let shared = Arc::new(Shared {
        rate: rate::Rate::new(stored),
        pool: blocking::Pool::new(blocking::THREADS_MAX),
        passwords: passwords::Passwords::new(),
        #[cfg(feature = "console")]
        openid: openid(&context),
        capacity: capacity::Capacity::new(),
        refusals: Mutex::default(),
        refusals_of_strangers: Mutex::default(),
        guesses: Mutex::new(network::Ration::of_guesses()),
        installs: Mutex::new(network::Ration::of_installs()),
        installer: install::Agents::new(context.info.agents.clone()),
        admitted: tokio::sync::Notify::new(),
        network: Mutex::default(),
        stopping: stopping.clone(),
        context,
    });
    let sampler = tokio::spawn(rate::sample(Arc::clone(&shared)));
    let capacity = shared.capacity.clone();
    let router = router(&shared);
    #[cfg(feature = "console")]
    let router = console::around(router, shared.openid.clone());
    let network = shared.context.network.clone().map(|network| {
        let (shared, router, stopping) = (Arc::clone(&shared), router.clone(), stopping.clone());
        tokio::spawn(async move { network::serve(network, &shared, router, stopping).await })
    });
    let served = connection::serve(listener, router, &capacity, stopping).await;
    if let Some(network) = network {
        // It ends as this one has: when the server stops.
        let _ = network.await;
    }
    sampler.abort();
    served
}

#[cfg(feature = "console")]
fn openid(context: &AdminContext) -> Option<Arc<openid::OpenId>> {
    let settings = context.openid.clone()?;
    Some(Arc::new(openid::OpenId::new(settings, context.clock.clone())))
}

/// The routes of the API: whatever is there, `/v1/openapi.json` describes.
fn routes() -> Routes {
    let routes = Routes::default();
    #[cfg(feature = "console")]
    let routes = routes.route("/v1/sessions/openid", post(openid::create));
    routes
        .route("/metrics", get(metrics::show).answering::<String>("text/plain"))
        .route("/install", get(install::script).answering::<String>(install::SCRIPT))
        .route("/install/agent/{sha256}", get(install::agent).answering::<String>(install::PROGRAM))
        .route("/v1/status", get(status::show))
        .route("/v1/api-tokens", post(api_tokens::create).get(api_tokens::list))
        .route("/v1/api-tokens/{id}", delete(api_tokens::revoke))
        .route("/v1/users", post(users::create).get(users::list))
        .route("/v1/users/{name}", patch(users::change).delete(users::remove))
        .route("/v1/users/{name}/link", post(users::renew_link))
        .route("/v1/sessions", post(sessions::create))
        .route("/v1/sessions/api-token", post(sessions::create_token))
        .route("/v1/session", get(sessions::show).delete(sessions::remove))
        .route("/v1/audit", get(audit::list))
        .route("/v1/audit/verify", get(audit::verify))
        .route("/v1/backup", get(lines::backup).answering::<String>("application/x-tar"))
        .route("/v1/certificate", get(certificate::show).post(certificate::change))
        .route("/v1/openapi.json", get(openapi::show).answering::<serde_json::Value>("application/json"))
        .route("/v1/recovery-key", post(certificate::create_recovery_key))
        .route("/v1/tokens", post(tokens::create).get(tokens::list))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .route("/v1/devices", get(selection::list))
        .route("/v1/devices.csv", get(selection::table).answering::<String>("text/csv"))
        .route("/v1/devices/{device}/approve", post(devices::approve))
        .route("/v1/devices/{device}/re-enrol", post(tokens::re_enrol))
        .route("/v1/devices/{device}", get(devices::show).patch(devices::change).delete(devices::remove))
        .route("/v1/devices/{device}/why", get(why::why))
        .route("/v1/device-changes", post(labels::change))
        .route("/v1/device-approvals", post(labels::approve))
        .route("/v1/device-removals", post(labels::remove))
        .route("/v1/facets", get(labels::facets))
        .route("/v1/tags", get(labels::tags))
        .route("/v1/tags/{tag}", post(labels::tag).patch(labels::rule).delete(labels::remove_tag))
        .route("/v1/views", get(labels::views).post(labels::save_view))
        .route("/v1/views/{view}", delete(labels::remove_view))
        .route("/v1/syncs", post(calls::call).answering::<CallLine>(LINES))
        .route("/v1/applications", get(applications::list))
        .route("/v1/installations", get(applications::installations))
        .route("/v1/events", get(events::list))
        .route("/v1/events/follow", get(follow::follow).answering::<FollowLine>(LINES))
        .route("/v1/groups", post(groups::create).get(groups::list))
        .route("/v1/groups/move", post(groups::rename))
        .route("/v1/groups/remove", post(groups::remove))
        .route("/v1/policies", get(policies::list).post(policies::set))
        .route("/v1/policies/history", get(policies::history))
        .route("/v1/policies/remove", post(policies::remove))
        .route("/v1/settings", post(policies::set_own))
        .route("/v1/settings/remove", post(policies::remove_own))
        .route("/v1/tasks", get(tasks::list).post(tasks::create))
        .route("/v1/tasks/{id}", get(tasks::show))
        .route("/v1/tasks/{id}/cancel", post(tasks::cancel))
        .route(artifacts::PATH, post(artifacts::add).get(artifacts::list))
        .route("/v1/artifacts/{hash}", delete(artifacts::remove))
        .route("/v1/runs", get(tasks::runs))
        .route("/v1/runs/{id}", get(tasks::run))
        .route("/v1/devices/{device}/settings", get(policies::of_device))
        .route("/v1/devices/{device}/settings/explain", get(policies::explain))
}

fn router(shared: &Arc<Shared>) -> Router {
    let door = access::Door::new(Arc::clone(shared));
    routes()
        .into_router()
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(middleware::from_fn_with_state(Arc::clone(shared), audit::watch))
        .layer(DefaultBodyLimit::max(REQUEST_BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(door.clone(), access::identify))
        .with_state(door)
}
