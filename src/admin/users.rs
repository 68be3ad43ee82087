//! Users.

use std::net::SocketAddr;

use axum::Json;
use axum::http::StatusCode;

use super::access::{Admit, May, Scope};
use super::error::ApiError;
use super::extract::{Body, Path, Query, page};
use super::{AdminContext, Answer, Created, Shared};
use crate::fleet::access::Grant;
use crate::store::{self, LinkLife, StoreError};
use crate::wire::api::{ErrorCode, NewUser, Page, PageQuery, User, UserChange, UserLink};
use crate::wire::time::WallTime;
use crate::wire::token::LinkText;

/// Life of a one-time link: a day.
const LINK_MILLISECONDS: u64 = 24 * 3_600 * 1_000;

pub(super) async fn create(
    May { shared, scope, .. }: May<Admit>,
    Body(new): Body<NewUser>,
) -> Created<UserLink> {
    let group = store::normal_path(new.group.as_deref().unwrap_or("/"))?;
    let grant = scope.given(Grant { role: new.role, group })?;
    let address = address(&shared)?;
    let make = move |context: &AdminContext| {
        let (openid, new) = (new.openid, store::NewUser { name: new.name, grant });
        if openid {
            return of_provider(context, new);
        }
        Ok(link(context, address, context.store.users().create(new, life(context))?))
    };
    let made = shared.run(make).await?;
    shared.admitted.notify_one();
    Ok((StatusCode::CREATED, Json(made)))
}

/// Makes one who signs in at the provider.
fn of_provider(context: &AdminContext, new: store::NewUser) -> Result<UserLink, ApiError> {
    let Some(openid) = &context.openid else {
        let text = "nobody can sign in with OpenID Connect yet: name the provider in [admin.openid] of the \
                    configuration first, and restart the server";
        return Err(ApiError::new(ErrorCode::Conflict, text));
    };
    let now = context.clock.ages().wall;
    let info = context.store.users().create_at_provider(new, openid.issuer.clone(), now)?;
    Ok(UserLink { info, link: format!("{}/sign-in", openid.address) })
}

pub(super) async fn renew_link(
    May { shared, scope, .. }: May<Admit>,
    Path(name): Path<String>,
) -> Created<UserLink> {
    let address = address(&shared);
    let make = move |context: &AdminContext| {
        visible(context, &scope, &name)?;
        let address = address?;
        Ok(link(context, address, context.store.users().renew_link(name, life(context))?))
    };
    Ok((StatusCode::CREATED, Json(shared.run(make).await?)))
}

pub(super) async fn list(
    May { shared, scope, .. }: May<Admit>,
    Query(asked): Query<PageQuery>,
) -> Answer<Page<User>> {
    let page = page(asked.limit, asked.cursor)?;
    let work = move |context: &AdminContext| {
        Ok(context.store.users().list(&scope.grant().group, &page, context.clock.ages().wall)?)
    };
    shared.answer(work).await
}

pub(super) async fn change(
    May { shared, scope, .. }: May<Admit>,
    Path(name): Path<String>,
    Body(change): Body<UserChange>,
) -> Answer<User> {
    let work = move |context: &AdminContext| {
        let user = visible(context, &scope, &name)?;
        let group = change.group.as_deref().map(store::normal_path).transpose()?;
        let role = change.role.unwrap_or(user.role);
        let grant = scope.given(Grant { role, group: group.unwrap_or(user.group) })?;
        Ok(context.store.users().change(name, grant, context.clock.ages().wall)?)
    };
    shared.answer(work).await
}

pub(super) async fn remove(May { shared, scope, .. }: May<Admit>, Path(name): Path<String>) -> Answer<User> {
    let work = move |context: &AdminContext| {
        visible(context, &scope, &name)?;
        Ok(context.store.users().remove(name, context.clock.ages().wall)?)
    };
    shared.answer(work).await
}

/// A user; one whose group is not among ours is not there.
fn visible(context: &AdminContext, scope: &Scope, name: &str) -> Result<User, ApiError> {
    let user = context.store.users().get(name, context.clock.ages().wall)?;
    if scope.allows(&user.group) { Ok(user) } else { Err(StoreError::NoUser(name.to_owned()).into()) }
}

fn life(context: &AdminContext) -> LinkLife {
    let created_at = context.clock.ages().wall;
    LinkLife { created_at, expires_at: WallTime(created_at.0.saturating_add(LINK_MILLISECONDS)) }
}

/// Address of the administrators' port, without which a link is of no use.
fn address(shared: &Shared) -> Result<SocketAddr, ApiError> {
    let configured = shared.context.network.as_ref().map(|network| network.address);
    shared.network.lock().or(configured).ok_or_else(|| {
        let text = "users sign in over the network: set listen in [admin] of the configuration first, and restart the \
                    server";
        ApiError::new(ErrorCode::Conflict, text)
    })
}

/// The machine's name.
pub(super) fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The link. The host is the machine's name when the server listens at all its addresses; who asks by another
/// name puts that in.
fn link(context: &AdminContext, address: SocketAddr, made: store::MadeLink) -> UserLink {
    let server_certificate = context.certificates.hash();
    let text = LinkText { user: made.id, secret: made.secret, server_certificate };
    let host = match address.ip() {
        ip if ip.is_unspecified() => format!("{}:{}", own_name(), address.port()),
        _ => address.to_string(),
    };
    UserLink { info: made.user, link: format!("https://{host}/welcome#{text}") }
}
