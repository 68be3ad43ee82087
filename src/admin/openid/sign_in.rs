//! A sign-in from its begin to its session.

use std::net::IpAddr;

use axum::Json;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::AppendHeaders;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde_json::json;

use super::id_token::{self, Expected, Refusal};
use super::pending::{AllPending, PENDING_SECONDS_MAX, Pending, hash};
use super::provider::Provider;
use super::settings::OpenIdConfig;
use crate::admin::access::Newcomer;
use crate::admin::error::ApiError;
use crate::admin::extract::Body;
use crate::admin::sessions::{self, Cookie};
use crate::admin::{audit, passwords};
use crate::reactor::Clock;
use crate::store::{OpenIdPerson, Proof};
use crate::wire::api::url::with_query;
use crate::wire::api::{ErrorCode, OpenIdAnswer, Session};

/// The cookie of a browser that is at the provider.
pub(in crate::admin) const BROWSER_COOKIE: &str = "__Host-muster-openid";

/// Random bytes of each of a sign-in's secrets; in base64url the 43 characters that RFC 7636 section 4.1
/// recommends.
const SECRET_BYTES: usize = 32;

/// The provider, and the sign-ins that are under way.
pub(in crate::admin) struct OpenId {
    settings: OpenIdConfig,
    clock: Clock,
    provider: Provider,
    pending: Mutex<AllPending>,
}

/// A sign-in that has begun.
pub(in crate::admin) struct Begun {
    /// Address at the provider, for the browser to go to.
    pub(in crate::admin) url: String,
    pub(in crate::admin) cookie: HeaderValue,
}

impl OpenId {
    pub(in crate::admin) fn new(settings: OpenIdConfig, clock: Clock) -> Self {
        let provider = Provider::new(settings.clone(), clock.clone());
        Self { settings, clock, provider, pending: Mutex::default() }
    }

    /// The provider's name.
    pub(in crate::admin) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Address at which a sign-in begins: at the host to which the provider sends the browser back.
    pub(in crate::admin) fn start_url(&self, next: &str) -> String {
        with_query(&format!("{}/openid/start", self.settings.address), &json!({ "next": next }))
    }

    /// Begins a sign-in that leads to a page.
    pub(in crate::admin) async fn begin(
        &self,
        address: Option<IpAddr>,
        next: &str,
    ) -> Result<Begun, ApiError> {
        let description = self.provider.description().await?;
        let [state, nonce, verifier, browser] = [secret()?, secret()?, secret()?, secret()?];
        let settings = &self.settings;
        let asked = with_query(
            "",
            &json!({
                "response_type": "code",
                "client_id": settings.client_id,
                "redirect_uri": super::redirect_uri(settings),
                "scope": settings.scopes.join(" "),
                "state": state,
                "nonce": nonce,
                "code_challenge": URL_SAFE_NO_PAD.encode(hash(&verifier)),
                "code_challenge_method": "S256",
            }),
        );
        let endpoint = &description.authorization_endpoint;
        let separator = if endpoint.contains('?') { "&" } else { "?" };
        let begun = Pending {
            browser: hash(&browser),
            nonce,
            verifier,
            next: next.to_owned(),
            address,
            begun: self.clock.moment(),
        };
        if !self.pending.lock().add(&state, begun) {
            let text = "too many are about to sign in: try again in some minutes, or sign in with a password";
            return Err(ApiError::new(ErrorCode::Busy, text));
        }
        Ok(Begun {
            url: format!("{endpoint}{separator}{}", &asked[1..]),
            cookie: sessions::cookie(BROWSER_COOKIE, &browser, PENDING_SECONDS_MAX),
        })
    }

    /// The page that a sign-in leads to.
    pub(in crate::admin) fn next(&self, state: &str) -> Option<String> {
        self.pending.lock().next(state).map(str::to_owned)
    }

    fn take(&self, answer: &OpenIdAnswer) -> Option<Pending> {
        self.pending.lock().take(&answer.state, &answer.browser, self.clock.moment())
    }

    /// The one who signs in, by the answer that the provider has sent with the browser.
    async fn person(&self, begun: &Pending, answer: &OpenIdAnswer) -> Result<OpenIdPerson, ApiError> {
        let settings = &self.settings;
        let refused = |why: String| {
            let text = format!("{} has signed nobody in: {why}; begin again", settings.name);
            ApiError::new(ErrorCode::Unauthenticated, text)
        };
        let description = self.provider.description().await?;
        let is_from_it = match &answer.issuer {
            Some(issuer) => *issuer == settings.issuer,
            None => !description.names_itself,
        };
        if !is_from_it {
            return Err(refused("the answer is another provider's".to_owned()));
        }
        let code = match (&answer.code, &answer.error) {
            (Some(code), None) => code,
            (_, Some(error)) if super::is_code(error) => return Err(refused(error.clone())),
            _ => return Err(refused("the answer has no code".to_owned())),
        };
        let token = self.provider.exchange(code, &begun.verifier).await?;
        let refused = |refusal| match refusal {
            Refusal::UnknownKey => {
                refused("its ID token is signed with a key that it does not publish".to_owned())
            }
            Refusal::Wrong(why) => refused(format!("its ID token is not taken: {why}")),
        };
        let payload = match id_token::payload(&token, &self.provider.keys(false).await?) {
            Err(Refusal::UnknownKey) => id_token::payload(&token, &self.provider.keys(true).await?),
            known => known,
        };
        let expected = Expected {
            issuer: &settings.issuer,
            client_id: &settings.client_id,
            nonce: &begun.nonce,
            claim: &settings.claim,
            times: [self.clock.now().wall, self.clock.ages().wall],
        };
        payload.and_then(|payload| id_token::person(&payload, &expected)).map_err(refused)
    }
}

fn secret() -> Result<String, ApiError> {
    let mut bytes = [0; SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| ApiError::internal("the system gives no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Ends a sign-in: begins a session. For the page to which the provider sends browsers.
pub(in crate::admin) async fn create(
    Newcomer { shared, caller }: Newcomer,
    Body(answer): Body<OpenIdAnswer>,
) -> Result<(StatusCode, Cookie, Json<Session>), ApiError> {
    let Some(openid) = &shared.openid else {
        let text =
            "nobody signs in with OpenID Connect here: [admin.openid] of the configuration names no provider";
        return Err(ApiError::new(ErrorCode::Conflict, text));
    };
    passwords::may_try_from(&shared, caller.address)?;
    let Some(begun) = openid.take(&answer) else {
        passwords::note_wrong_from(&shared, caller.address);
        let text = "this sign-in was begun in another browser, has ended, or took longer than 10 minutes: begin again";
        return Err(ApiError::new(ErrorCode::Unauthenticated, text));
    };
    let person = openid.person(&begun, &answer).await?;
    audit::names(&json!({ "openid": person.issuer, "subject": person.subject, "name": person.name }));
    let (session, cookie) = sessions::begin_with(&shared, Proof::OpenId(person)).await?;
    Ok((StatusCode::CREATED, AppendHeaders([(SET_COOKIE, cookie)]), Json(session)))
}
