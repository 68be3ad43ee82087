//! Every change that is asked for has a row in the audit before its answer begins: here, around all handlers,
//! so that none can forget it.
//!
//! The row of a change that is one operation of the store is part of its transaction ([`Store::audited`]).
//! Changes elsewhere, such as of the server's certificate, and refusals get theirs behind them, still before
//! the answer. A request that was begun is brought to its end when its client goes away. A dry run has a row
//! when it was forbidden.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::access::{Govern, May};
use super::artifacts;
use super::connection::Caller;
use super::context::AdminContext;
use super::devices::shown;
use super::error::ApiError;
use super::extract::{Query, page, whole_body};
use super::{Answer, Shared};
use crate::store::query;
use crate::store::{AUDIT_DONE, AuditEntry, Store};
use crate::wire::api::{AuditCheck, AuditQuery, AuditRecord, ErrorDetail, Page};
use crate::wire::time::WallTime;

/// Cost of a refusal with a row: over time there is one in ten seconds, which pushes no changes out.
const REFUSAL_MICROSECONDS: u64 = 10_000_000;

/// Refusals that have their rows at once.
const REFUSALS_AT_ONCE: u64 = 100;

/// Members of a request that are never written down.
const SECRETS: [&str; 8] =
    ["browser", "code", "link", "password", "recovery_key", "secret", "state", "token"];

/// A read that is audited as a change is: it hands out all keys.
const BACKUP: &str = "/v1/backup";

/// Routes of changes that are made elsewhere than in one operation of the store.
const ELSEWHERE: [&str; 4] = [BACKUP, "/v1/certificate", "/v1/recovery-key", "/v1/syncs"];

/// The change that a request asks for, until it has its row.
pub(super) struct Change {
    entry: Mutex<Option<AuditEntry>>,
    is_written: AtomicBool,
}

tokio::task_local! {
    /// That of the request which this task works on.
    static CHANGE: Arc<Change>;
}

impl Change {
    pub(super) fn of_this_request() -> Option<Arc<Self>> {
        CHANGE.try_with(Arc::clone).ok()
    }
}

/// The request of this task is in truth about this.
pub(super) fn names(after: &Value) {
    if let Some(change) = Change::of_this_request()
        && let Some(entry) = change.entry.lock().as_mut()
    {
        entry.after = Some(after.to_string());
    }
}

/// Does some work of a request; the first operation of the store in it has the audit's row with it.
pub(super) fn within<T>(change: Option<Arc<Change>>, work: impl FnOnce() -> T) -> T {
    let Some((change, entry)) = change.and_then(|change| {
        let entry = change.entry.lock().take()?;
        Some((change, entry))
    }) else {
        return work();
    };
    let (done, is_written) = Store::audited(entry, work);
    change.is_written.store(is_written, Ordering::Relaxed);
    done
}

/// Runs the handler of a request, and sees to the row.
pub(super) async fn watch(
    State(shared): State<Arc<Shared>>,
    route: Option<MatchedPath>,
    parameters: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    // Without a route there is no change.
    let Some(route) = route else { return next.run(request).await };
    if request.method() == Method::GET && route.as_str() != BACKUP {
        return next.run(request).await;
    }
    let parameter = parameters.iter().next().map(|(_, value)| value.to_owned());
    let (parts, body) = request.into_parts();
    let (asked, body) = if artifacts::is_upload(&parts.method, parts.uri.path()) {
        (Bytes::new(), body)
    } else {
        match whole_body(Request::from_parts(parts.clone(), body)).await {
            Ok(asked) => (asked.clone(), Body::from(asked)),
            Err(refusal) => return refusal.into_response(),
        }
    };
    let request = Request::from_parts(parts, body);
    let work = async move { audited(&shared, route.as_str(), parameter, (request, asked), next).await };
    // A task of its own: a client that goes away must not leave a change without its row.
    tokio::spawn(work)
        .await
        .unwrap_or_else(|error| ApiError::internal(format!("a request failed: {error}")).into_response())
}

async fn audited(
    shared: &Arc<Shared>,
    route: &str,
    parameter: Option<String>,
    (request, asked): (Request, Bytes),
    next: Next,
) -> Response {
    let asked: Option<Value> = serde_json::from_slice(&asked).ok();
    let is_dry_run = asked.as_ref().is_some_and(|asked| asked["dry_run"] == true);
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
    let target = match request.uri().path_and_query() {
        // The handler names what came.
        Some(_) if artifacts::is_upload(request.method(), request.uri().path()) => route.to_owned(),
        target => target.map_or_else(String::new, ToString::to_string),
    };
    let mut entry = AuditEntry {
        at: shared.context.clock.ages().wall,
        actor: caller.actor,
        origin: caller.origin,
        action: format!("{} {route}", request.method()),
        target,
        before: None,
        after: asked.clone().map(|asked| without_secrets(asked).to_string()),
    };
    let before_of = route.to_owned();
    let before = shared.run(move |context| Ok(before(context, &before_of, parameter, asked.as_ref()))).await;
    entry.before = before.ok().flatten().map(|before| before.to_string());
    let is_known = caller.grant.is_some();
    let in_store = !is_dry_run && !ELSEWHERE.contains(&route);
    let change = Arc::new(Change {
        entry: Mutex::new(in_store.then(|| entry.clone())),
        is_written: AtomicBool::new(false),
    });
    let handled = next.run(request);
    let answer = CHANGE.scope(Arc::clone(&change), handled).await;
    if is_dry_run && answer.status() != StatusCode::FORBIDDEN {
        return answer;
    }
    let is_done = answer.status().is_success();
    if is_done && change.is_written.load(Ordering::Relaxed) {
        return answer;
    }
    if !is_done && !may_tell_of_refusal(shared, is_known) {
        log::warn!(
            "administration: {} was refused to {}, too often for a row of each",
            entry.action,
            entry.actor
        );
        return answer;
    }
    let outcome = outcome(&answer);
    match shared.run(move |context| Ok(context.store.audit().add(entry, outcome)?)).await {
        Err(error) if is_done => {
            ApiError::internal(format!("it is done, and the audit can't be written: {error}")).into_response()
        }
        Err(error) => {
            log::error!("administration: a refusal has no row in the audit: {error}");
            answer
        }
        Ok(()) => answer,
    }
}

/// The outcome in an answer, as a row has it.
fn outcome(answer: &Response) -> String {
    if answer.status().is_success() {
        return AUDIT_DONE.to_owned();
    }
    match answer.extensions().get::<ErrorDetail>() {
        Some(ErrorDetail { code, message, .. }) => {
            format!("{}: {message}", json!(code).as_str().unwrap_or_default())
        }
        None => answer.status().to_string(),
    }
}

/// Whether a refusal gets a row. Strangers don't use up the rows of those who are known.
fn may_tell_of_refusal(shared: &Shared, is_known: bool) -> bool {
    let bucket = if is_known { &shared.refusals } else { &shared.refusals_of_strangers };
    let (now, mut bucket) = (shared.context.clock.moment(), bucket.lock());
    let may = bucket.opens_at(REFUSAL_MICROSECONDS * (REFUSALS_AT_ONCE - 1)) <= now;
    if may {
        bucket.take(now, REFUSAL_MICROSECONDS);
    }
    may
}

fn without_secrets(mut asked: Value) -> Value {
    if let Value::Object(members) = &mut asked {
        for (name, value) in members {
            if SECRETS.contains(&name.as_str()) {
                *value = Value::Null;
            }
        }
    }
    asked
}

/// The thing that a change is about, as it is; nothing when there is none, or it can't be read.
fn before(
    context: &AdminContext,
    route: &str,
    parameter: Option<String>,
    asked: Option<&Value>,
) -> Option<Value> {
    let reader = context.store.reader().ok()?;
    let member = |name: &str| Some(asked?.get(name)?.as_str()?.to_owned());
    match route {
        "/v1/devices/{device}" | "/v1/devices/{device}/approve" | "/v1/devices/{device}/re-enrol" => {
            drop(reader);
            Some(json!(shown(context, parameter?).ok()?))
        }
        "/v1/tokens/{id}" => {
            Some(json!(query::token(&reader, parameter?.parse().ok()?, context.clock.ages().wall).ok()?))
        }
        "/v1/users/{name}" | "/v1/users/{name}/link" => {
            Some(json!(context.store.users().get(&parameter?, context.clock.ages().wall).ok()?))
        }
        "/v1/artifacts/{hash}" => Some(json!(context.artifacts.get(parameter?.parse().ok()?).ok()?)),
        "/v1/tasks/{id}/cancel" => Some(json!(query::task(&reader, parameter?.parse().ok()?).ok()?.task)),
        "/v1/groups" | "/v1/groups/remove" => Some(json!(query::group(&reader, &member("path")?).ok()?)),
        "/v1/groups/move" => Some(json!(query::group(&reader, &member("from")?).ok()?)),
        "/v1/policies" | "/v1/policies/remove" => {
            let (group, application) =
                (crate::store::normal_path(&member("at")?).ok()?, member("application")?);
            let set = context.store.policies().list(Some(&application)).ok()?;
            let set = set.into_iter().find(|policy| policy.from == group)?;
            Some(json!(super::policies::to_api(set)))
        }
        "/v1/settings" | "/v1/settings/remove" => {
            let device = query::device_id(&reader, &member("at")?).ok()?;
            let own = context.store.policies().own(device, &member("application")?).ok()??;
            Some(json!(super::policies::to_api(own)))
        }
        "/v1/certificate" => Some(json!({ "stage": context.certificates.stage() })),
        _ => None,
    }
}

pub(super) async fn list(
    May { shared, .. }: May<Govern>,
    Query(asked): Query<AuditQuery>,
) -> Answer<Page<AuditRecord>> {
    let page = page(asked.limit, asked.cursor)?;
    let since = asked.since.map_or(WallTime(0), |since| since.0);
    shared.answer(move |context| Ok(context.store.audit().list(since, &page)?)).await
}

pub(super) async fn verify(May { shared, .. }: May<Govern>) -> Answer<AuditCheck> {
    shared.answer(|context| Ok(context.store.audit().verify()?)).await
}
