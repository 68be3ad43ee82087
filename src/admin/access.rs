//! Rights of those who ask. The router's state is closed: a handler reaches the server through [`May`] alone,
//! and names the right that it needs with it. Without one a request is refused before anything is looked up.
//!
//! | right | role | where |
//! |---|---|---|
//! | [`See`] | reader | on one's own groups: lists show no others |
//! | [`Operate`] | operator | the same |
//! | [`Author`] | policy-author | the same |
//! | [`Admit`] | administrator | the same |
//! | [`Name`] | operator | on the whole fleet |
//! | [`SeeFleet`] | reader | on the whole fleet |
//! | [`Govern`] | administrator | on the whole fleet |

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::connection::Caller;
use super::error::ApiError;
use super::{Shared, sessions};
use crate::fleet::access::Grant;
use crate::fleet::filter::{Filter, quoted};
use crate::store::{self, Reader, SESSION_SECRET_BYTES, SignedIn, query};
use crate::wire::api::{ErrorCode, Task, TaskTargets};
use crate::wire::id::DeviceId;
use crate::wire::role::Role;
use crate::wire::token::ApiTokenText;

/// The scheme of RFC 6750 section 2.1.
const BEARER: &str = "Bearer ";

/// Says of a request which site's page made it (Fetch Metadata, W3C).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Routes for those who have not signed in: method and path.
const OPEN: [(&str, &str); 4] = [
    ("POST", "/v1/sessions"),
    ("POST", "/v1/sessions/api-token"),
    ("POST", "/v1/sessions/openid"),
    ("GET", "/install"),
];

/// The same: the beginning of the paths of agents.
const OPEN_AGENTS: (&str, &str) = ("GET", "/install/agent/");

/// The router's state. Only [`May`] opens it, and [`Newcomer`].
#[derive(Clone)]
pub(super) struct Door(Arc<Shared>);

impl Door {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

/// The need of a route.
pub(super) trait Right: Send + Sync + 'static {
    /// The least role.
    const LEAST: Role;
    /// Whether it must hold on the whole fleet. If not, the handler asks its [`Scope`] about each thing.
    const IS_OF_FLEET: bool;
}

macro_rules! rights {
    ($($(#[$doc:meta])* $right:ident: $role:ident, $is_of_fleet:literal;)*) => {$(
        $(#[$doc])*
        pub(super) struct $right;

        impl Right for $right {
            const LEAST: Role = Role::$role;
            const IS_OF_FLEET: bool = $is_of_fleet;
        }
    )*};
}

rights! {
    /// To see devices, and what concerns them.
    See: Reader, false;
    /// To call devices, have tasks executed, name and group devices.
    Operate: Operator, false;
    /// To set policies and settings, and to change groups.
    Author: PolicyAuthor, false;
    /// To let devices and people in, and to send them away.
    Admit: Administrator, false;
    /// To name what all share: tags, views.
    Name: Operator, true;
    /// To see what can't be told apart by groups.
    SeeFleet: Reader, true;
    /// To administer the server itself.
    Govern: Administrator, true;
}

/// The server, for somebody who has the right to it.
pub(super) struct May<R> {
    pub(super) shared: Arc<Shared>,
    pub(super) scope: Scope,
    right: PhantomData<R>,
}

impl<R: Right> FromRequestParts<Door> for May<R> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, ApiError> {
        let grant = parts.extensions.get::<Caller>().and_then(|caller| caller.grant.clone());
        let scope = Scope { grant: grant.ok_or_else(unknown)?, least: R::LEAST };
        if scope.grant.role < R::LEAST {
            return Err(scope.forbidden(&scope.grant.group));
        }
        if R::IS_OF_FLEET {
            scope.fleet()?;
        }
        Ok(Self { shared: Arc::clone(&door.0), scope, right: PhantomData })
    }
}

/// The server, for somebody who has not said who they are: for [`OPEN`] and [`OPEN_AGENTS`] alone.
pub(super) struct Newcomer {
    pub(super) shared: Arc<Shared>,
    pub(super) caller: Caller,
}

impl FromRequestParts<Door> for Newcomer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, Infallible> {
        let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_default();
        Ok(Self { shared: Arc::clone(&door.0), caller })
    }
}

/// The groups on which somebody has the right that a route needs.
#[derive(Clone)]
pub(super) struct Scope {
    grant: Grant,
    least: Role,
}

impl Scope {
    pub(super) fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Rights that are about to be given to somebody: none that may more than the giver does.
    pub(super) fn given(&self, grant: Grant) -> Result<Grant, ApiError> {
        if self.grant.may_give(&grant) {
            return Ok(grant);
        }
        let text =
            format!("nobody gives more than they have: {} on {} is not yours", grant.role, grant.group);
        Err(ApiError::new(ErrorCode::Forbidden, text))
    }

    fn forbidden(&self, group: &str) -> ApiError {
        let (least, Grant { role, group: own }) = (self.least, &self.grant);
        let text = format!(
            "this needs the role {least} on {group}, and yours is {role} on {own}: ask an administrator"
        );
        ApiError::new(ErrorCode::Forbidden, text)
    }

    /// The whole fleet.
    pub(super) fn fleet(&self) -> Result<(), ApiError> {
        if self.allows("/") { Ok(()) } else { Err(self.forbidden("/")) }
    }

    /// Whether a group, by its path in its one form, is among them.
    pub(super) fn allows(&self, group: &str) -> bool {
        self.grant.allows(self.least, group)
    }

    /// A group, in whatever form its path is.
    pub(super) fn group(&self, path: &str) -> Result<(), ApiError> {
        let path = store::normal_path(path)?;
        if self.allows(&path) { Ok(()) } else { Err(self.forbidden(&path)) }
    }

    /// A device, where one is named; otherwise the whole fleet.
    pub(super) fn device_or_fleet(&self, reader: &Reader, name: Option<&str>) -> Result<(), ApiError> {
        match name {
            _ if self.allows("/") => Ok(()),
            Some(name) => self.device(reader, name).map(drop),
            None => self.fleet(),
        }
    }

    /// A filter, as it is asked with, of the devices among them.
    pub(super) fn filter(&self, text: Option<&str>) -> Result<Filter, ApiError> {
        let text = text.unwrap_or_default();
        // Understood alone first: what is not closed in it would reach beyond the parentheses.
        let asked: Filter = text.parse()?;
        if self.allows("/") {
            return Ok(asked);
        }
        let own = format!("group:{}", quoted(&self.grant.group));
        let all = if text.trim().is_empty() { own } else { format!("{own} ({text})") };
        Ok(all.parse()?)
    }

    /// The device that is meant. One that may not be seen is not there.
    pub(super) fn device(&self, reader: &Reader, name: &str) -> Result<DeviceId, ApiError> {
        let device = query::device_id(reader, name)?;
        match query::group_of(reader, device)? {
            Some(group) if self.allows(&group) => Ok(device),
            _ => Err(store::StoreError::NoDevice(name.to_owned()).into()),
        }
    }

    /// Whether all that a task is for may be seen.
    pub(super) fn targets(&self, reader: &Reader, targets: &TaskTargets) -> bool {
        match targets {
            TaskTargets::All | TaskTargets::Filter(_) => self.allows("/"),
            TaskTargets::Group(path) => self.group(path).is_ok(),
            TaskTargets::Devices(names) => {
                self.allows("/") || names.iter().all(|name| self.device(reader, name).is_ok())
            }
        }
    }

    /// A task that may be seen; else it is not there.
    pub(super) fn task(&self, reader: &Reader, task: &Task) -> Result<(), ApiError> {
        if self.targets(reader, &task.definition.targets) {
            return Ok(());
        }
        Err(store::StoreError::NoTask(task.id).into())
    }
}

fn unknown() -> ApiError {
    let text = "sign in first: this needs a password or an API token ('musterctl user create', 'musterctl \
                api-token create', or ask an administrator)";
    ApiError::new(ErrorCode::Unauthenticated, text)
}

/// Finds out who asks, before anything else is done.
pub(super) async fn identify(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let is_own_page = match check_site(request.headers()) {
        Ok(is_own_page) => is_own_page,
        Err(refusal) => return refusal.into_response(),
    };
    let (method, path) = (request.method().as_str(), request.uri().path());
    let is_agent = method == OPEN_AGENTS.0 && path.starts_with(OPEN_AGENTS.1);
    if is_agent || OPEN.contains(&(method, path)) {
        return next.run(request).await;
    }
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
    let given = request.headers().get(AUTHORIZATION).cloned();
    let found = match (given, sessions::secret_in(request.headers())) {
        (Some(given), _) => holder(&door.0, &given, caller).await,
        (None, Some(Ok(_))) if !request.method().is_safe() && !is_own_page => {
            let text = "a request with a cookie must say that a page of this server makes it (Sec-Fetch-Site or Origin)";
            Err(ApiError::new(ErrorCode::Forbidden, text))
        }
        (None, Some(secret)) => match secret {
            Ok(secret) => signed_in(&door.0, secret, caller).await,
            Err(refusal) => Err(refusal),
        },
        (None, None) => Ok(caller),
    };
    match found {
        Ok(caller) => drop(request.extensions_mut().insert(caller)),
        Err(refusal) => return refusal.into_response(),
    }
    let is_known = request.extensions().get::<Caller>().is_some_and(|caller| caller.grant.is_some());
    if is_known { next.run(request).await } else { unknown().into_response() }
}

/// Refuses what a page of another site has a browser ask. Whether it is certain that a page of this server
/// asks: what changes something with a cookie, which a browser adds by itself, needs that.
fn check_site(headers: &HeaderMap) -> Result<bool, ApiError> {
    let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    let is_of_site = site.is_none_or(|site| site == b"same-origin" || site == b"none");
    let is_origin = match (headers.get(ORIGIN), headers.get(HOST)) {
        (None, _) => true,
        (Some(origin), Some(host)) => {
            origin.as_bytes().strip_prefix(b"https://".as_slice()) == Some(host.as_bytes())
        }
        (Some(_), None) => false,
    };
    if is_of_site && is_origin {
        return Ok(site == Some(b"same-origin") || headers.contains_key(ORIGIN));
    }
    Err(ApiError::new(ErrorCode::Forbidden, "a page of another site asks: it may not"))
}

/// The user whose session has this secret.
async fn signed_in(
    shared: &Shared,
    secret: [u8; SESSION_SECRET_BYTES],
    caller: Caller,
) -> Result<Caller, ApiError> {
    let look = move |context: &super::AdminContext| {
        Ok(context.store.users().session(&secret, context.clock.ages().wall)?)
    };
    let SignedIn { user, name, grant, expires_at } = shared.run(look).await?.ok_or_else(sessions::is_over)?;
    let (actor, session) = (format!("user {name}"), Some((secret, expires_at)));
    Ok(Caller { actor, grant: Some(grant), user: Some(user), session, ..caller })
}

/// The holder of the API token that is given.
async fn holder(shared: &Shared, given: &HeaderValue, caller: Caller) -> Result<Caller, ApiError> {
    let wrong = || {
        let text = "the API token is not known here, has expired or was revoked: ask an administrator for another one";
        ApiError::new(ErrorCode::Unauthenticated, text)
    };
    let text = given.to_str().ok().and_then(|text| text.strip_prefix(BEARER)).ok_or_else(wrong)?;
    let token: ApiTokenText =
        text.parse().map_err(|error| ApiError::new(ErrorCode::Unauthenticated, format!("{error}")))?;
    let now = shared.context.clock.moment();
    if caller.address.is_some_and(|address| !shared.guesses.lock().may_take(&address, now)) {
        let text = "too many wrong tokens came from your address: try again in a minute";
        return Err(ApiError::new(ErrorCode::Busy, text));
    }
    let check = move |context: &super::AdminContext| {
        let now = context.clock.ages().wall;
        Ok(context.store.api_tokens().check(token.id, &token.secret, now)?.map(|holder| (token.id, holder)))
    };
    let Some((id, holder)) = shared.run(check).await? else {
        if let Some(address) = caller.address {
            log::warn!("administration: a wrong API token came from {address}");
            shared.guesses.lock().take(address, now);
        }
        return Err(wrong());
    };
    let actor = format!("api token {id} ({})", holder.name);
    Ok(Caller { actor, grant: Some(holder.grant), user: holder.user, ..caller })
}
