//! A provider of OpenID Connect, which can be told to lie.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::now;

pub(crate) const CLIENT: &str = "muster";

/// One with characters that have to be escaped.
pub(crate) const SECRET: &str = "p+%:a ss";

/// Running until the test ends.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    state: Arc<Mutex<State>>,
}

/// The way in which a token is signed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    Well,
    /// By another key that says that it is this one.
    ByAnotherKey,
    /// With the public key as the secret of an HMAC.
    ByPublicKey,
    Not,
}

pub(crate) struct State {
    /// The person who is signed in there.
    pub(crate) subject: String,
    pub(crate) name: String,
    /// Other claims, and other members of the header, than it would give.
    pub(crate) claims: Value,
    pub(crate) header: Value,
    pub(crate) signed: Signed,
    /// Whether connections end at once.
    pub(crate) is_down: bool,
    /// Paths that were asked for.
    pub(crate) asked: Vec<String>,
    has_secret: bool,
    issuer: String,
    key: EcdsaKeyPair,
    key_number: u32,
    /// Challenge and nonce, by code.
    codes: HashMap<String, (String, String)>,
}

fn new_key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

impl Provider {
    /// Starts one, and writes the certificate that vouches for it to `ca.pem` in a directory.
    pub(crate) fn start(directory: &Path, has_secret: bool) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(directory.join("ca.pem"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let library = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(library).with_safe_default_protocol_versions().unwrap();
        let chain = vec![CertificateDer::from(made.cert.der().to_vec())];
        let tls = Arc::new(tls.with_no_client_auth().with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let state = Arc::new(Mutex::new(State {
            subject: "248289761001".to_owned(),
            name: "anna".to_owned(),
            claims: json!({}),
            header: json!({}),
            signed: Signed::Well,
            is_down: false,
            asked: Vec::new(),
            has_secret,
            issuer: issuer.clone(),
            key: new_key(),
            key_number: 1,
            codes: HashMap::new(),
        }));
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (state, tls) = (Arc::clone(&serving), Arc::clone(&tls));
                std::thread::spawn(move || serve(stream.unwrap(), tls, &state));
            }
        });
        Self { issuer, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Signs with another key from now on, and publishes that alone.
    pub(crate) fn rotate(&self) {
        let mut state = self.state();
        state.key = new_key();
        state.key_number += 1;
    }

    /// The person agrees: the query with which the browser is sent back.
    pub(crate) fn agree(&self, url: &str) -> String {
        let (endpoint, query) = url.split_once('?').unwrap();
        assert_eq!(endpoint, format!("{}/authorize", self.issuer));
        let asked = fields(query);
        assert_eq!(
            ["response_type", "client_id", "code_challenge_method", "scope"].map(|name| asked[name].as_str()),
            ["code", CLIENT, "S256", "openid profile email"]
        );
        let code = format!("code-{}", asked["nonce"]);
        let of = (asked["code_challenge"].clone(), asked["nonce"].clone());
        self.state().codes.insert(code.clone(), of);
        let issuer = self.issuer.replace(':', "%3A").replace('/', "%2F");
        format!("state={}&code={code}&iss={issuer}", asked["state"])
    }
}

fn serve(stream: TcpStream, tls: Arc<ServerConfig>, state: &Mutex<State>) {
    if state.lock().unwrap().is_down {
        return;
    }
    let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), stream);
    let (mut read, mut part) = (Vec::new(), [0; 4_096]);
    let text = loop {
        let Ok(count @ 1..) = stream.read(&mut part) else { return };
        read.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            break text;
        }
    };
    let (status, answer) = state.lock().unwrap().answer(&text);
    let length = answer.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nlocation: /elsewhere\r\n\r\n");
    let _ = stream.write_all(format!("{head}{answer}").as_bytes());
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

impl State {
    fn answer(&mut self, request: &str) -> (&'static str, String) {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let path = head.split(' ').nth(1).unwrap();
        self.asked.push(path.to_owned());
        match path {
            "/.well-known/openid-configuration" => {
                let issuer = &self.issuer;
                let description = json!({
                    "issuer": issuer,
                    "authorization_endpoint": format!("{issuer}/authorize"),
                    "token_endpoint": format!("{issuer}/token"),
                    "jwks_uri": format!("{issuer}/keys"),
                    "authorization_response_iss_parameter_supported": true,
                });
                ("200 OK", description.to_string())
            }
            "/keys" => ("200 OK", json!({ "keys": [self.public_key()] }).to_string()),
            "/token" => self.token(head, body),
            _ => ("302 Found", String::new()),
        }
    }

    fn public_key(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.key_number.to_string(), "use": "sig" })
    }

    /// A code is good once, for who knows the secrets of the client and of PKCE.
    fn token(&mut self, head: &str, body: &str) -> (&'static str, String) {
        let refused = |code: &str| ("400 Bad Request", json!({ "error": code }).to_string());
        let form = fields(body);
        let escaped = SECRET.bytes().map(|byte| match byte {
            b'a'..=b'z' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        });
        let pair = format!("{CLIENT}:{}", escaped.collect::<String>());
        let basic = format!("authorization: Basic {}", STANDARD.encode(pair));
        let is_client = match self.has_secret {
            true => head.lines().any(|line| line == basic),
            false => form.get("client_id").is_some_and(|id| id == CLIENT),
        };
        if !is_client {
            return refused("invalid_client");
        }
        let Some((challenge, nonce)) = self.codes.remove(&form["code"]) else {
            return refused("invalid_grant");
        };
        let verifier = digest(&SHA256, form["code_verifier"].as_bytes());
        if URL_SAFE_NO_PAD.encode(verifier) != challenge
            || form["redirect_uri"] != "https://muster.example.org/openid/callback"
        {
            return refused("invalid_grant");
        }
        let seconds = now().0 / 1_000;
        let claims = json!({
            "iss": self.issuer, "sub": self.subject, "aud": CLIENT, "nonce": nonce,
            "exp": seconds + 300, "iat": seconds, "preferred_username": self.name,
        });
        let header = json!({ "alg": "ES256", "kid": self.key_number.to_string() });
        let (header, claims) = (with(header, &self.header), with(claims, &self.claims));
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let by =
            |key: &EcdsaKeyPair| key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec();
        let signature = match self.signed {
            Signed::Well => by(&self.key),
            Signed::ByAnotherKey => by(&new_key()),
            Signed::ByPublicKey => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.public_key().as_ref());
                hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
            }
            Signed::Not => Vec::new(),
        };
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        let answer = json!({ "access_token": "x", "token_type": "Bearer", "id_token": token });
        ("200 OK", answer.to_string())
    }
}

fn with(mut object: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        object[name] = value.clone();
    }
    object
}

/// Fields of a form or a query (WHATWG URL, section 5.1).
pub(crate) fn fields(text: &str) -> HashMap<String, String> {
    let decode = |text: &str| {
        let (mut bytes, mut rest) = (Vec::new(), text.bytes());
        while let Some(byte) = rest.next() {
            match byte {
                b'%' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                }
                b'+' => bytes.push(b' '),
                byte => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}
