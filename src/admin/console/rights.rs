//! Forms, buttons and links to changes stand on a page for those who may use them. This only spares people
//! refusals; the API alone decides.

use axum::Router;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::api::Api;
use super::form::Kind;
use super::page::{Cell, Part, Table};
use crate::wire::api::{Role, Session};

/// Changes by the beginning of their address and the name of the button, or what is chosen as the `change`
/// (empty: each), with the least role.
/// Others are for everybody.
const LEAST: [(&str, &str, Role); 10] = [
    ("/devices/", "remove", Role::Administrator),
    ("/devices/", "re-enrol", Role::Administrator),
    ("/devices/", "", Role::Operator),
    ("/selection", "remove", Role::Administrator),
    ("/selection", "", Role::Operator),
    ("/groups", "", Role::PolicyAuthor),
    ("/policies/edit", "", Role::PolicyAuthor),
    ("/tasks/", "", Role::Operator),
    ("/access", "", Role::Administrator),
    ("/server", "", Role::Administrator),
];

/// Places to which a link leads that are of no use to those who may not change anything there.
const FORMS: [&str; 2] = ["/policies/edit", "/tasks/new"];

tokio::task_local! {
    /// Role of the one who looks at the page that this task makes.
    static ROLE: Role;
}

/// Finds out the role of the one who asks for a page.
pub(super) async fn known(State(routes): State<Router>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let api = Api::from_request_parts(&mut parts, &routes).await;
    let request = Request::from_parts(parts, body);
    let Ok(api) = api else { return next.run(request).await };
    match api.get::<Session>("/v1/session").await {
        Ok(session) => ROLE.scope(session.role, next.run(request)).await,
        // The page itself says why.
        Err(_) => next.run(request).await,
    }
}

/// Takes out what the one who looks may not do.
pub(super) fn leave_out(parts: &mut Vec<Part>) {
    let Ok(role) = ROLE.try_with(|role| *role) else { return };
    retain(role, parts);
    if parts.is_empty() {
        parts.push(Part::text(format!("This is not for those with the role {role}: ask an administrator.")));
    }
}

fn may(role: Role, url: &str, action: &str) -> bool {
    let is_it = |(begin, button, _): &&(&str, &str, Role)| {
        url.starts_with(begin) && (button.is_empty() || *button == action)
    };
    LEAST.iter().find(is_it).is_none_or(|(.., least)| role >= *least)
}

fn may_follow(role: Role, url: &str) -> bool {
    !FORMS.iter().any(|form| url.starts_with(form)) || may(role, url, "")
}

fn retain(role: Role, parts: &mut Vec<Part>) {
    parts.retain_mut(|part| match part {
        Part::Form(form) if form.is_post => {
            form.buttons.retain(|(action, ..)| may(role, &form.url, action));
            for field in form.fields.iter_mut().filter(|field| field.name == "change") {
                if let Kind::Choice(choices) = &mut field.kind {
                    choices.retain(|(change, _)| may(role, &form.url, change));
                }
            }
            !form.buttons.is_empty()
        }
        Part::Links(links) => {
            links.retain(|link| may_follow(role, &link.url));
            !links.is_empty()
        }
        Part::Group(inner) | Part::Folded(_, inner) => {
            retain(role, inner);
            !inner.is_empty()
        }
        Part::Table(table) => {
            retain_cells(role, table);
            true
        }
        _ => true,
    });
}

/// A column of changes none of which is left goes as a whole.
fn retain_cells(role: Role, table: &mut Table) {
    let is_refused = |cell: &Cell| match cell {
        Cell::Button(url, fields, _) => {
            let action = fields.iter().find(|(name, _)| *name == "action");
            !may(role, url, action.map_or("", |(_, action)| action))
        }
        Cell::Change(url, _) => !may(role, url, ""),
        _ => false,
    };
    for at in (0..table.columns.len()).rev() {
        if !table.rows.is_empty() && table.rows.iter().all(|row| row.get(at).is_some_and(is_refused)) {
            table.columns.remove(at);
            table.rows.iter_mut().for_each(|row| drop(row.remove(at)));
        }
    }
    for cell in table.rows.iter_mut().flatten() {
        match cell {
            Cell::Link(url, text) if !may_follow(role, url) => *cell = Cell::text(std::mem::take(text)),
            cell if is_refused(cell) => *cell = Cell::text(""),
            _ => {}
        }
    }
}
