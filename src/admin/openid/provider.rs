//! The provider, asked over TLS: its description, its keys, and its tokens.
//!
//! It is asked seldom (description and keys are kept for an hour), by a few at once, and never for longer
//! than a page may take. Its answers are bounded; a redirect is not followed, so that what is sent goes to
//! the address that its description names.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::id_token::{self, Key};
use super::settings::{OpenIdConfig, https};
use crate::admin::blocking::Pool;
use crate::admin::error::ApiError;
use crate::machine::bucket::Bucket;
use crate::paths::open_private;
use crate::reactor::Clock;
use crate::reactor::channel::WebTls;
use crate::wire::api::ErrorCode;
use crate::wire::api::url::{encoded, with_query};
use crate::wire::time::Moment;

/// Longest time of one answer: three of them are waited for in one sign-in, which has 25 seconds.
const ANSWER_SECONDS_MAX: u64 = 7;

/// Longest answer: descriptions and sets of keys have some kilobytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Largest file of authorities: those of a system have 220 KiB.
const AUTHORITIES_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Longest secret of a client.
const SECRET_BYTES_MAX: usize = 4_096;

/// Sign-ins at once that ask the provider for their tokens.
const EXCHANGES_MAX: usize = 4;

/// Time for which description and keys are good.
const KEPT_SECONDS: u64 = 3_600;

/// Time for which a failure is told again before the provider is asked again, and in which the keys are asked
/// for once at most because one of them is not known.
const PAUSE_SECONDS: u64 = 10;

/// The provider's description of itself (OpenID Connect Discovery 1.0 section 3).
#[derive(Deserialize)]
pub(super) struct Description {
    issuer: String,
    pub(super) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Whether it names itself in each answer (RFC 9207).
    #[serde(default, rename = "authorization_response_iss_parameter_supported")]
    pub(super) names_itself: bool,
}

/// Something that was fetched, or the reason why not, and when.
type Fetched<T> = Option<(Moment, Result<Arc<T>, String>)>;

pub(super) struct Provider {
    settings: OpenIdConfig,
    clock: Clock,
    /// Reads the files that the settings name.
    files: Pool,
    description: tokio::sync::Mutex<Fetched<Description>>,
    keys: tokio::sync::Mutex<Fetched<Vec<Key>>>,
    /// Rations the fetching of keys that are here already.
    renewals: Mutex<Bucket>,
    exchanges: Semaphore,
    /// The last failure in the log.
    told: Mutex<Option<String>>,
}

impl Provider {
    pub(super) fn new(settings: OpenIdConfig, clock: Clock) -> Self {
        Self {
            settings,
            clock,
            files: Pool::new(1),
            description: tokio::sync::Mutex::default(),
            keys: tokio::sync::Mutex::default(),
            renewals: Mutex::default(),
            exchanges: Semaphore::new(EXCHANGES_MAX),
            told: Mutex::default(),
        }
    }

    pub(super) async fn description(&self) -> Result<Arc<Description>, ApiError> {
        let mut kept = self.description.lock().await;
        if let Some(kept) = self.kept(&kept) {
            return kept.map_err(|why| self.down(why));
        }
        let fetched = self.fetch_description().await.map(Arc::new);
        *kept = Some((self.clock.moment(), fetched.clone()));
        fetched.map_err(|why| self.down(why))
    }

    /// The keys; fetched again when those that are here are too few, unless that was done just now.
    pub(super) async fn keys(&self, are_too_few: bool) -> Result<Arc<Vec<Key>>, ApiError> {
        let description = self.description().await?;
        let mut kept = self.keys.lock().await;
        if let Some(kept) = self.kept(&kept)
            && !(are_too_few && self.may_renew_keys())
        {
            return kept.map_err(|why| self.down(why));
        }
        let fetched = self.ask(&description.jwks_uri, None).await;
        let keys = fetched.and_then(|answer| id_token::keys(&answer)).map(Arc::new);
        *kept = Some((self.clock.moment(), keys.clone()));
        keys.map_err(|why| self.down(why))
    }

    /// The ID token for a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5).
    pub(super) async fn exchange(&self, code: &str, verifier: &str) -> Result<String, ApiError> {
        let Ok(_place) = self.exchanges.try_acquire() else {
            return Err(ApiError::new(ErrorCode::Busy, "too many sign in at this moment: try again"));
        };
        let description = self.description().await?;
        let settings = &self.settings;
        let mut form = json!({
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": super::redirect_uri(settings),
            "code_verifier": verifier,
        });
        let secret = match settings.client_secret_file.clone() {
            None => None,
            Some(path) => {
                let read = self.files.run(move || secret(&path).map_err(|error| cant_read(&path, &error)));
                Some(read.await.map_err(|error| self.down(error.to_string()))?)
            }
        };
        let methods = description.token_endpoint_auth_methods_supported.as_ref();
        let has = |method: &str| methods.is_some_and(|all| all.iter().any(|one| one == method));
        let authorization = match secret {
            // Left out, the methods are this one alone (OpenID Connect Discovery section 3).
            Some(secret) if methods.is_none() || has("client_secret_basic") => {
                let pair = Zeroizing::new(format!("{}:{}", encoded(&settings.client_id), encoded(&secret)));
                HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair.as_bytes()))).ok()
            }
            secret => {
                form["client_id"] = json!(settings.client_id);
                form["client_secret"] = secret.map_or(Value::Null, |secret| json!(*secret));
                None
            }
        };
        let form = with_query("", &form).split_off(1);
        let answer = self.ask(&description.token_endpoint, Some((form, authorization))).await;
        #[derive(Deserialize)]
        struct Tokens {
            id_token: String,
        }
        let tokens = answer.and_then(|answer| {
            serde_json::from_slice::<Tokens>(&answer).map_err(|_| "its answer has no ID token".to_owned())
        });
        tokens.map(|tokens| tokens.id_token).map_err(|why| self.down(why))
    }

    fn may_renew_keys(&self) -> bool {
        let (now, mut renewals) = (self.clock.moment(), self.renewals.lock());
        let may = renewals.opens_at(0) <= now;
        if may {
            renewals.take(now, PAUSE_SECONDS * 1_000_000);
        }
        may
    }

    fn is_over(&self, since: Moment, seconds: u64) -> bool {
        self.clock.moment().microseconds_since(since) >= seconds * 1_000_000
    }

    /// The thing that was fetched, for as long as it is good.
    fn kept<T>(&self, fetched: &Fetched<T>) -> Option<Result<Arc<T>, String>> {
        let (at, fetched) = fetched.as_ref()?;
        let seconds = if fetched.is_ok() { KEPT_SECONDS } else { PAUSE_SECONDS };
        (!self.is_over(*at, seconds)).then(|| fetched.clone())
    }

    /// Strangers hear that it can't be asked; the reason is for the log, once.
    fn down(&self, why: String) -> ApiError {
        let name = &self.settings.name;
        let text =
            format!("{name} can't be asked at the moment: sign in with a password, or try again later");
        let mut told = self.told.lock();
        if told.as_ref() != Some(&why) {
            log::warn!("administration: {name} ([admin.openid]) can't be asked: {why}");
            *told = Some(why);
        }
        ApiError::new(ErrorCode::Busy, text)
    }

    async fn fetch_description(&self) -> Result<Description, String> {
        let issuer = &self.settings.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let answer = self.ask(&url, None).await?;
        let description: Description = serde_json::from_slice(&answer)
            .map_err(|error| format!("{url} is no description of a provider: {error}"))?;
        if description.issuer != *issuer {
            return Err(format!("it says that its issuer is {:?}, not {issuer:?}", description.issuer));
        }
        if https(&description.authorization_endpoint).is_none() {
            return Err(format!("{:?} is no address with https", description.authorization_endpoint));
        }
        Ok(description)
    }

    /// Gets an address, or sends a form there; the answer, which is a success.
    async fn ask(&self, url: &str, form: Option<(String, Option<HeaderValue>)>) -> Result<Bytes, String> {
        let path = self.settings.ca.clone();
        let tls = self.files.run(move || tls(&path)).await.map_err(|error| error.to_string())?;
        let asked = tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), ask(url, form, tls));
        let answer = asked.await.unwrap_or_else(|_| Err(format!("nothing came for {ANSWER_SECONDS_MAX} s")));
        answer.map_err(|why| format!("{url}: {why}"))
    }
}

fn cant_read(path: &Path, error: &dyn std::fmt::Display) -> ApiError {
    let text = format!("{}, which [admin.openid] names, can't be used: {error}", path.display());
    ApiError::new(ErrorCode::Internal, text)
}

/// The first line of a file that nobody else may read.
fn secret(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(SECRET_BYTES_MAX));
    open_private(path)?.take(SECRET_BYTES_MAX as u64).read_to_string(&mut text)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(io::Error::other("its first line is empty")),
    }
}

/// Made anew each time: the authorities of a system would take half a megabyte for good, and they change.
fn tls(authorities: &Path) -> Result<WebTls, ApiError> {
    let mut pem = Vec::new();
    File::open(authorities)
        .and_then(|file| file.take(AUTHORITIES_BYTES_MAX).read_to_end(&mut pem))
        .map_err(|error| cant_read(authorities, &error))?;
    WebTls::new(&pem).map_err(|error| cant_read(authorities, &error))
}

async fn ask(url: &str, form: Option<(String, Option<HeaderValue>)>, tls: WebTls) -> Result<Bytes, String> {
    let uri = https(url).ok_or("it is no address with https")?;
    let authority = uri.authority().ok_or("it names no host")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((host.as_str(), authority.port_u16().unwrap_or(443))).await;
    let stream = stream.map_err(|error| format!("can't connect: {error}"))?;
    let stream = TlsConnector::from(tls.config()).connect(WebTls::name(host)?, stream).await;
    let stream = stream.map_err(|error| format!("TLS failed: {error}"))?;
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends with this function, whatever becomes of it.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::builder().uri(target).header(HOST, authority.as_str());
    let request = request.header(ACCEPT, "application/json");
    let request = match form {
        None => request.body(Full::<Bytes>::default()),
        Some((form, authorization)) => {
            let request = request.method("POST").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            let request = authorization
                .into_iter()
                .fold(request, |request, authorization| request.header(AUTHORIZATION, authorization));
            request.body(Full::from(form))
        }
    };
    let request = request.map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("its answer can't be read: {error}"))?.to_bytes();
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(format!("it answers {status}{}", code_of_error(&body)))
}

/// The code of an error (RFC 6749 section 5.2), when there is one of its form.
fn code_of_error(body: &[u8]) -> String {
    let error: Option<Value> = serde_json::from_slice(body).ok();
    let code = error.as_ref().and_then(|error| error["error"].as_str());
    code.filter(|code| super::is_code(code)).map(|code| format!(", {code}")).unwrap_or_default()
}
