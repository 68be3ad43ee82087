//! ID tokens (OpenID Connect Core 1.0 sections 2 and 3.1.3.7): whether one was made by the provider, for us
//! and for this sign-in, and whom it names. Told bytes and times; asks nobody.
//!
//! Three algorithms are known, each with keys of its own type: a token can't choose another one, so that none
//! is taken without a signature, or with a public key as the secret of an HMAC (RFC 8725 section 3.1).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::store::OpenIdPerson;
use crate::wire::printable::{escaped, is_name};
use crate::wire::time::WallTime;

/// Distance that the provider's clock may have from ours.
const LEEWAY_SECONDS: f64 = 60.0;

/// Most keys of a provider that are looked at: a few are usual, one of which signs.
const KEYS_MAX: usize = 64;

/// Longest subject (OpenID Connect Core section 2).
const SUBJECT_BYTES_MAX: usize = 255;

/// A key of the provider.
pub(super) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    parts: [Vec<u8>; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

/// Why a token is not taken.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// None of the keys is the one that it names: the provider may have another one by now.
    UnknownKey,
    /// In words.
    Wrong(String),
}

fn wrong<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Wrong(why.into()))
}

/// A key as providers publish it (RFC 7517, RFC 7518 section 6, RFC 8037 section 2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

/// The keys of a JWK set; those of other kinds, or for other purposes, are passed over.
///
/// # Errors
/// In words: it is no such set.
pub(super) fn keys(document: &[u8]) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(document).map_err(|error| format!("no JWK set: {error}"))?;
    Ok(set.keys.into_iter().take(KEYS_MAX).filter_map(key).collect())
}

fn key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let part = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
    let (algorithm, name, parts) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => (Algorithm::Rs256, "RS256", [part(jwk.n)?, part(jwk.e)?]),
        ("EC", Some("P-256")) => (Algorithm::Es256, "ES256", [part(jwk.x)?, part(jwk.y)?]),
        ("OKP", Some("Ed25519")) => (Algorithm::EdDsa, "EdDSA", [part(jwk.x)?, Vec::new()]),
        _ => return None,
    };
    let is_for_this = jwk.alg.is_none_or(|alg| alg == name) && jwk.purpose.is_none_or(|one| one == "sig");
    is_for_this.then_some(Key { id: jwk.kid, algorithm, parts })
}

impl Key {
    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let [first, second] = &self.parts;
        match self.algorithm {
            Algorithm::Rs256 => RsaPublicKeyComponents { n: first, e: second }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Algorithm::Es256 => {
                // SEC 1 section 2.3.3, an uncompressed point; one with other lengths is none.
                let point = [&[4][..], first, second].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).verify(message, signature).is_ok()
            }
            Algorithm::EdDsa => UnparsedPublicKey::new(&ED25519, first).verify(message, signature).is_ok(),
        }
    }
}

/// The payload of a token that one of the keys has signed (RFC 7515 section 5.2).
pub(super) fn payload(token: &str, keys: &[Key]) -> Result<Vec<u8>, Refusal> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
        #[serde(default)]
        kid: Option<String>,
        #[serde(default)]
        crit: Option<Value>,
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { return wrong("it has not three parts") };
    let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
    let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Wrong("it is no base64url".into()));
    let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
    let header: Header =
        serde_json::from_slice(&header).map_err(|error| Refusal::Wrong(format!("its header: {error}")))?;
    if header.crit.is_some() {
        return wrong("its header asks for something that is not known here");
    }
    let algorithm = match header.alg.as_str() {
        "RS256" => Algorithm::Rs256,
        "ES256" => Algorithm::Es256,
        "EdDSA" | "Ed25519" => Algorithm::EdDsa,
        other => {
            return wrong(format!("it is signed with '{}', not with RS256, ES256 or EdDSA", escaped(other)));
        }
    };
    let is_named = |key: &&Key| key.algorithm == algorithm && (header.kid.is_none() || key.id == header.kid);
    let mut named = keys.iter().filter(is_named).peekable();
    if named.peek().is_none() {
        return Err(Refusal::UnknownKey);
    }
    match named.any(|key| key.has_signed(signed, &signature)) {
        true => Ok(payload),
        // That of a key which is not known here yet, perhaps.
        false if header.kid.is_none() => Err(Refusal::UnknownKey),
        false => wrong("its signature is not by the key that it names"),
    }
}

/// The demands on a token.
pub(super) struct Expected<'e> {
    pub(super) issuer: &'e str,
    pub(super) client_id: &'e str,
    pub(super) nonce: &'e str,
    /// The claim that names the user.
    pub(super) claim: &'e str,
    /// The time as the wall clock has it, and the one by which ages are judged. After a step of the clock
    /// one of them is wrong, for an hour at most: a token that is good by either is taken. An old one would
    /// not have the nonce.
    pub(super) times: [WallTime; 2],
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    iat: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    azp: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// The person that a payload names, if it says what it must.
///
/// # Errors
/// In words: what is wrong.
pub(super) fn person(payload: &[u8], expected: &Expected<'_>) -> Result<OpenIdPerson, Refusal> {
    let claims: Claims =
        serde_json::from_slice(payload).map_err(|error| Refusal::Wrong(format!("its claims: {error}")))?;
    if claims.iss != expected.issuer {
        return wrong("another issuer has made it");
    }
    let (is_for_us, is_for_others) = match &claims.aud {
        Audience::One(one) => (one == expected.client_id, false),
        Audience::Many(many) => (many.iter().any(|one| one == expected.client_id), many.len() > 1),
    };
    let is_ours = match &claims.azp {
        Some(azp) => azp == expected.client_id,
        None => !is_for_others,
    };
    if !is_for_us || !is_ours {
        return wrong("it is for another client");
    }
    let nonce = claims.nonce.unwrap_or_default();
    if verify_slices_are_equal(nonce.as_bytes(), expected.nonce.as_bytes()).is_err() {
        return wrong("it is of another sign-in");
    }
    let begins = claims.nbf.unwrap_or(claims.iat).max(claims.iat);
    let is_good_at = |now: WallTime| {
        let now = now.0 as f64 / 1_000.0;
        begins <= now + LEEWAY_SECONDS && now < claims.exp + LEEWAY_SECONDS
    };
    if !expected.times.into_iter().any(is_good_at) {
        return wrong("its time is over or has not begun: compare the clocks of server and provider");
    }
    if claims.sub.is_empty() || claims.sub.len() > SUBJECT_BYTES_MAX {
        return wrong("its subject has not 1 to 255 bytes");
    }
    let claim = expected.claim;
    let is_verified = matches!(claims.more.get("email_verified"), Some(Value::Bool(true)))
        || claims.more.get("email_verified").is_some_and(|is| is == "true");
    if claim == "email" && !is_verified {
        return wrong("the provider has not verified the mail address (email_verified)");
    }
    let name = if claim == "sub" {
        Some(claims.sub.as_str())
    } else {
        claims.more.get(claim).and_then(Value::as_str)
    };
    match name.filter(|name| is_name(name)) {
        Some(name) => Ok(OpenIdPerson {
            issuer: claims.iss.clone(),
            subject: claims.sub.clone(),
            name: name.to_owned(),
        }),
        None => wrong(format!(
            "its claim '{claim}' is no name: ask for a scope that has it, or set another claim"
        )),
    }
}

#[cfg(test)]
mod tests;
