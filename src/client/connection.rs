//! One HTTP/1.1 connection over the server's Unix socket (RFC 9112), kept between requests.

use std::fs::File;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::error::Elapsed;
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::body::RequestBody;
use super::error::ClientError;
use crate::reactor::channel::{ClientTls, ExpectedServer};
use crate::wire::api::ErrorBody;
use crate::wire::id::CertificateHash;
use crate::wire::token::ApiTokenText;

/// Longest time until an answer begins. The server's own budget for one request is shorter.
const ANSWER_SECONDS_MAX: u64 = 30;

/// Longest time of an upload. The server's own budget is shorter.
const UPLOAD_SECONDS_MAX: u64 = 3_660;

/// Media type of requests.
const JSON: &str = "application/json";

/// Longest answer that is read into memory. A full page of the longest items stays below it.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The connection to the server, open or not.
#[derive(Debug)]
pub(super) struct Connection {
    address: Address,
    /// The value of `Authorization`, when somebody has signed in.
    authorization: Option<HeaderValue>,
    /// TLS with the server that the API token names, and its certificate.
    tls: Option<(ClientTls, CertificateHash)>,
    /// The server shows another certificate than that, and that one's key vouches for it.
    is_vouched_for: bool,
    sender: Option<SendRequest<RequestBody>>,
}

impl Connection {
    pub(super) fn new(address: Address) -> Self {
        Self { address, authorization: None, tls: None, is_vouched_for: false, sender: None }
    }

    pub(super) fn sign_in(&mut self, token: &ApiTokenText) {
        self.expect(token.server_certificate);
        // A token's text is letters, digits and hyphens: it is always a value.
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok();
        value.iter_mut().for_each(|value| value.set_sensitive(true));
        self.authorization = value;
    }

    pub(super) fn expect(&mut self, certificate: CertificateHash) {
        let tls = ClientTls::of_administrator(ExpectedServer::Hash(certificate)).ok();
        self.tls = tls.map(|tls| (tls, certificate));
    }

    /// Whether the server shows another certificate than the one that is expected, whose key vouches for it.
    pub(super) fn is_vouched_for(&self) -> bool {
        self.is_vouched_for
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// One request, one answer of JSON.
    pub(super) async fn ask<B: Serialize, T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let body = match body {
            None => Bytes::new(),
            Some(body) => serde_json::to_vec(body)
                .map_err(|error| ClientError::NotUnderstood(error.to_string()))?
                .into(),
        };
        let response = self.send(method, path, body).await?;
        let bytes = self.read_whole(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::NotUnderstood(error.to_string()))
    }

    /// Sends a request and waits for the head of a successful answer. The body is still to be read.
    pub(super) async fn send(
        &mut self,
        method: &'static str,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let waited = tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), async {
            let was_open = self.sender.is_some();
            match self.send_once(method, path, JSON, RequestBody::Whole(body.clone())).await {
                // The server closed the idle connection just as it was used again: nothing was asked yet.
                Err(error) if was_open && error.is_canceled() => {
                    self.send_once(method, path, JSON, RequestBody::Whole(body)).await
                }
                outcome => outcome,
            }
        });
        let sent = waited.await;
        self.answered(sent).await
    }

    /// Sends `bytes` of a file as it is read, on a connection of its own, and reads the answer of JSON.
    pub(super) async fn upload<T: DeserializeOwned>(
        &mut self,
        path: &str,
        file: File,
        bytes: u64,
    ) -> Result<T, ClientError> {
        self.close();
        let body = RequestBody::File(file, bytes);
        let sent = self.send_once("POST", path, "application/octet-stream", body);
        let sent = tokio::time::timeout(Duration::from_secs(UPLOAD_SECONDS_MAX), sent).await;
        let answer = self.answered(sent).await;
        // Of one that was refused the server has not read all.
        let response = answer.inspect_err(|_| self.close())?;
        let bytes = self.read_whole(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::NotUnderstood(error.to_string()))
    }

    async fn answered(
        &mut self,
        sent: Result<Result<Response<Incoming>, SendError>, Elapsed>,
    ) -> Result<Response<Incoming>, ClientError> {
        let response = match sent {
            Err(_) => {
                self.sender = None;
                return Err(self.timed_out());
            }
            Ok(Err(error)) => {
                self.sender = None;
                return Err(error.into_client_error(&self.address));
            }
            Ok(Ok(response)) => response,
        };
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    /// Closes the connection; the next request opens another one.
    pub(super) fn close(&mut self) {
        self.sender = None;
    }

    async fn send_once(
        &mut self,
        method: &'static str,
        path: &str,
        content_type: &'static str,
        body: RequestBody,
    ) -> Result<Response<Incoming>, SendError> {
        let mut open = self.sender.take();
        if let Some(sender) = &mut open
            && sender.ready().await.is_err()
        {
            open = None;
        }
        let sender = match open {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let sender = self.sender.insert(sender);
        let host = match &self.address {
            Address::Socket(_) => "muster",
            Address::Network(authority) => authority,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(CONTENT_TYPE, content_type)
            .body(body)
            .map_err(SendError::Request)?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        sender.send_request(request).await.map_err(SendError::Http)
    }

    async fn connect(&mut self) -> Result<SendRequest<RequestBody>, SendError> {
        let authority = match &self.address {
            Address::Socket(path) => {
                return open(UnixStream::connect(path).await.map_err(SendError::Connect)?).await;
            }
            Address::Network(authority) => authority,
        };
        let (tls, expected) = self.tls.as_ref().ok_or(SendError::NotSignedIn)?;
        let stream = TcpStream::connect(authority).await.map_err(SendError::Connect)?;
        stream.set_nodelay(true).map_err(SendError::Connect)?;
        let connector = TlsConnector::from(tls.config());
        let stream = connector.connect(tls.name(), stream).await.map_err(SendError::Tls)?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        self.is_vouched_for = chain.first().is_some_and(|own| CertificateHash::of(own) != *expected);
        open(stream).await
    }

    async fn refusal(&mut self, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        let bytes = match self.read_whole(response).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(ErrorBody { error }) => {
                ClientError::Refused { status: status.as_u16(), code: error.code, message: error.message }
            }
            Err(_) => self.not_from_muster(status),
        }
    }

    fn not_from_muster(&self, status: StatusCode) -> ClientError {
        ClientError::NotUnderstood(format!("status {status} without a reason from {}", self.address))
    }

    async fn read_whole(&mut self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        match tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => {
                self.sender = None;
                if error.is::<LengthLimitError>() {
                    return Err(ClientError::NotUnderstood(format!("longer than {ANSWER_BYTES_MAX} bytes")));
                }
                Err(ClientError::Broken { address: self.address.clone(), reason: error.to_string() })
            }
            Err(_) => {
                self.sender = None;
                Err(self.timed_out())
            }
        }
    }

    fn timed_out(&self) -> ClientError {
        ClientError::TimedOut { address: self.address.clone(), seconds: ANSWER_SECONDS_MAX }
    }
}

async fn open(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<RequestBody>, SendError> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(SendError::Http)?;
    // Whatever ends the connection is seen by the request that it ends.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// Why a request did not get an answer.
enum SendError {
    Connect(io::Error),
    NotSignedIn,
    Tls(io::Error),
    Request(hyper::http::Error),
    Http(hyper::Error),
}

impl SendError {
    fn is_canceled(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_canceled())
    }

    fn into_client_error(self, address: &Address) -> ClientError {
        let address = address.clone();
        match self {
            Self::NotSignedIn => ClientError::NotSignedIn { address },
            Self::Tls(error) => ClientError::Untrusted { address, reason: error.to_string() },
            Self::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                ClientError::NotAllowed { address }
            }
            Self::Connect(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::NotFound => "no such socket".to_owned(),
                    io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
                    _ => error.to_string(),
                };
                ClientError::NotRunning { address, reason }
            }
            Self::Request(error) => ClientError::NotUnderstood(error.to_string()),
            Self::Http(error) => ClientError::Broken { address, reason: error.to_string() },
        }
    }
}
