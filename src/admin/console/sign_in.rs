//! Signing in, for the first time with a one-time link, and out.

use axum::http::HeaderValue;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, Method};
use axum::response::Response;

use super::api::Api;
use super::form::{Fields, Form, Sent, invalid};
use super::openid::{self, Provider};
use super::page::{Answer, Link, Page, Part, see};
use crate::wire::api::url::with_query;
use crate::wire::api::{ErrorDetail, PASSWORD_CHARACTERS_MIN, SignIn};

/// Address for somebody who has to sign in, and comes from there to the page that they wanted.
pub(super) fn url(wanted: &str) -> String {
    with_query("/sign-in", &serde_json::json!({ "next": wanted }))
}

/// Shown to those who come by a link of another site: their browser hands out no session then.
pub(super) fn from_elsewhere(wanted: &str) -> Page {
    Page::new("", "Go on?")
        .with(Part::text("A page of another site has led you here."))
        .with(Part::Links(vec![Link::new(wanted, format!("Go on to {wanted}"))]))
}

pub(super) async fn show(provider: Provider, fields: Fields) -> Page {
    page(&provider, &fields, None)
}

pub(super) fn page(provider: &Provider, fields: &Fields, wrong: Option<ErrorDetail>) -> Page {
    let form = Form::post("/sign-in", "")
        .hidden("next", fields.get("next"))
        .user("user", "Name", fields.get("user"))
        .password("password", "Password", "current-password", "")
        .button("", "Sign in");
    let page = Page::outside("Sign in").command("musterctl login --user NAME").said(fields);
    let page = page.with_all(provider.as_ref().map(|openid| openid::link(openid, fields))).with(form);
    page.with(Part::text(
        "For the first time, or with a forgotten password: open the one-time link that an administrator has given you.",
    ))
    .wrong(wrong)
}

pub(super) async fn sign_in(provider: Provider, api: Api, Sent(fields): Sent) -> Answer {
    let user = Some(fields.get("user").trim().to_owned());
    let asked = SignIn { user, link: None, password: fields.get("password").to_owned() };
    match begun(&api, "/v1/sessions", &asked).await {
        Ok(cookie) => Ok(with_cookie(see(local(fields.get("next"))), cookie)),
        Err(error) => page(&provider, &fields, Some(error)).into(),
    }
}

/// A place of this console, whatever the address says: `//` and `/\` begin the address of another host, and
/// browsers leave out control characters (WHATWG URL, section 4.4).
pub(super) fn local(wanted: &str) -> &str {
    let is_odd = |one: char| one.is_control() || one == '\\';
    let is_local = wanted.starts_with('/') && !wanted.starts_with("//") && !wanted.contains(is_odd);
    if is_local { wanted } else { "/" }
}

pub(super) async fn welcome() -> Page {
    welcome_page(&Fields::default(), None)
}

/// Asks for a password. The secret behind the `#` of the link reaches no server by itself: the script puts
/// it into the field, or somebody does.
fn welcome_page(fields: &Fields, wrong: Option<ErrorDetail>) -> Page {
    let form = Form::post("/welcome", "")
        .line("link", "One-time link", fields.get("link"), "the whole link, or what stands behind its #")
        .password("password", "New password", "new-password", "ten characters or more, such as four words")
        .password("again", "The same again", "new-password", "")
        .button("", "Set the password and sign in");
    debug_assert_eq!(PASSWORD_CHARACTERS_MIN, 10, "the hint says ten");
    Page::outside("Welcome").command("musterctl login --link-file -").with(form).wrong(wrong)
}

pub(super) async fn set_password(api: Api, Sent(fields): Sent) -> Answer {
    let password = fields.get("password").to_owned();
    if password != fields.get("again") {
        return welcome_page(&fields, Some(invalid("the two passwords are not the same"))).into();
    }
    let asked = SignIn { user: None, link: Some(fields.get("link").trim().to_owned()), password };
    match begun(&api, "/v1/sessions", &asked).await {
        Ok(cookie) => Ok(with_cookie(see("/"), cookie)),
        Err(error) => welcome_page(&fields, Some(error)).into(),
    }
}

/// Begins a session; its cookie.
pub(super) async fn begun(
    api: &Api,
    route: &str,
    asked: &impl serde::Serialize,
) -> Result<Option<HeaderValue>, ErrorDetail> {
    let body = serde_json::to_vec(asked).unwrap_or_default();
    let answer = api.answer(Method::POST, route, body.into()).await?;
    Ok(cookie(answer.headers()))
}

pub(super) async fn sign_out(api: Api) -> Answer {
    let answer = api.answer(Method::DELETE, "/v1/session", axum::body::Body::empty()).await?;
    let cookie = cookie(answer.headers());
    Ok(with_cookie(see("/sign-in?done=signed-out"), cookie))
}

fn cookie(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(SET_COOKIE).cloned()
}

pub(super) fn with_cookie(mut answer: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_to_another_host() {
        for wanted in [
            "",
            "https://evil.example/",
            "//evil.example/",
            "/\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "javascript:alert(1)",
        ] {
            assert_eq!(local(wanted), "/", "{wanted}");
        }
        assert_eq!(local("/devices?where=a"), "/devices?where=a");
        assert_eq!(url("/devices?where=a"), "/sign-in?next=%2Fdevices%3Fwhere%3Da");
    }
}
