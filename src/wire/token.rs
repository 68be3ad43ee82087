//! Join tokens, which an administrator hands to a device so that it may enrol, API tokens, which let people
//! and programs ask, and the secrets of one-time links, with which people set their passwords.
//!
//! The text is `muster1-`, `musterapi1-` or `musterlink1-` and, in base64url without padding (RFC 4648
//! section 5), 68 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | token id, or the user's, u64 big-endian |
//! | 8..32 | secret |
//! | 32..64 | SHA-256 of the server certificate's DER |
//! | 64..68 | CRC-32C of bytes 0..64, big-endian: tells a mistyped token from a foreign one |

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::id::{ApiTokenId, CertificateHash, TokenId, UserId};
use super::limits::TOKEN_SECRET_BYTES;
use zeroize::{Zeroize as _, Zeroizing};

const PREFIX: &str = "muster1-";
const API_PREFIX: &str = "musterapi1-";
const LINK_PREFIX: &str = "musterlink1-";
const BODY_BYTES: usize = 8 + TOKEN_SECRET_BYTES + 32;

/// A join token. It says which server may be trusted, and proves to that server that the device was invited.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Names the token at the server.
    pub id: TokenId,
    /// Known to the server and the token's holder.
    pub secret: [u8; TOKEN_SECRET_BYTES],
    /// The only certificate that the enrolling device accepts.
    pub server_certificate: CertificateHash,
}

/// Why a text is no join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin with `muster1-`.
    #[error(
        "this is not a join token: it must begin with '{PREFIX}' (make one with 'musterctl token create')"
    )]
    NotAToken,
    /// Damaged on the way: a character is missing, doubled or changed.
    #[error("the token is incomplete or mistyped: copy all of it, without spaces or line breaks")]
    Damaged,
    /// It does not begin with `musterapi1-`.
    #[error(
        "this is not an API token: it must begin with '{API_PREFIX}' (make one with 'musterctl api-token create')"
    )]
    NotAnApiToken,
    /// It has no `musterlink1-` behind its `#`.
    #[error(
        "this is not a one-time link: '#{LINK_PREFIX}' and more must stand at its end (make one with 'musterctl user create')"
    )]
    NotALink,
}

/// An API token: says which server may be asked with it, and proves to that server who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiTokenText {
    /// Names the token at the server.
    pub id: ApiTokenId,
    /// Known to the token's holder; the server knows its hash.
    pub secret: [u8; TOKEN_SECRET_BYTES],
    /// The only certificate that the holder accepts, and those that it vouches for.
    pub server_certificate: CertificateHash,
}

/// The secret part of a one-time link: lets somebody set the password of a user.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkText {
    /// The user.
    pub user: UserId,
    /// Known to the link's holder; the server knows its hash.
    pub secret: [u8; TOKEN_SECRET_BYTES],
    /// The only certificate that the holder accepts, and those that it vouches for.
    pub server_certificate: CertificateHash,
}

fn encode(id: u64, secret: &[u8; TOKEN_SECRET_BYTES], server_certificate: &CertificateHash) -> String {
    let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_BYTES + 4));
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(secret);
    bytes.extend_from_slice(&server_certificate.0);
    let check = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&check.to_be_bytes());
    URL_SAFE_NO_PAD.encode(&*bytes)
}

fn decode(encoded: &str) -> Result<(u64, [u8; TOKEN_SECRET_BYTES], CertificateHash), TokenError> {
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Damaged)?);
    let (body, check) = bytes.split_last_chunk::<4>().ok_or(TokenError::Damaged)?;
    let body: &[u8; BODY_BYTES] = body.try_into().map_err(|_| TokenError::Damaged)?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*check) {
        return Err(TokenError::Damaged);
    }
    let (mut id, mut secret, mut hash) = ([0; 8], [0; TOKEN_SECRET_BYTES], [0; 32]);
    id.copy_from_slice(&body[..8]);
    secret.copy_from_slice(&body[8..8 + TOKEN_SECRET_BYTES]);
    hash.copy_from_slice(&body[8 + TOKEN_SECRET_BYTES..]);
    Ok((u64::from_be_bytes(id), secret, CertificateHash(hash)))
}

macro_rules! text {
    ($($type:ident: $id:ident $id_type:ident, $prefix:ident, $otherwise:ident;)*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, encode(self.$id.0, &self.secret, &self.server_certificate))
            }
        }

        impl Drop for $type {
            fn drop(&mut self) {
                self.secret.zeroize();
            }
        }

        impl fmt::Debug for $type {
            /// Without the secret: logs are read by more people than tokens are for.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).field(stringify!($id), &self.$id).finish_non_exhaustive()
            }
        }

        impl FromStr for $type {
            type Err = TokenError;

            fn from_str(text: &str) -> Result<Self, TokenError> {
                let encoded = text.trim().strip_prefix($prefix).ok_or(TokenError::$otherwise)?;
                let (id, secret, server_certificate) = decode(encoded)?;
                Ok(Self { $id: $id_type(id), secret, server_certificate })
            }
        }
    )*};
}

text! {
    JoinToken: id TokenId, PREFIX, NotAToken;
    ApiTokenText: id ApiTokenId, API_PREFIX, NotAnApiToken;
    LinkText: user UserId, LINK_PREFIX, NotALink;
}

impl LinkText {
    /// From a whole link, or from what stands behind its `#`.
    ///
    /// # Errors
    /// When that is no secret of a link.
    pub fn of_link(link: &str) -> Result<Self, TokenError> {
        link.rsplit_once('#').map_or(link, |(_, text)| text).parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_survives_its_text_and_no_changed_character_does(
            id: u64, secret: [u8; TOKEN_SECRET_BYTES], hash: [u8; 32], at in 8usize..98, to in "[A-Za-z0-9_-]",
        ) {
            let token = JoinToken { id: TokenId(id), secret, server_certificate: CertificateHash(hash) };
            let text = token.to_string();
            prop_assert_eq!(text.parse::<JoinToken>(), Ok(token));
            let api = ApiTokenText { id: ApiTokenId(id), secret, server_certificate: CertificateHash(hash) };
            prop_assert!(api.to_string().parse::<JoinToken>().is_err() && text.parse::<ApiTokenText>().is_err());
            prop_assert_eq!(api.to_string().parse::<ApiTokenText>(), Ok(api));
            let link = LinkText { user: UserId(id), secret, server_certificate: CertificateHash(hash) };
            prop_assert!(link.to_string().parse::<ApiTokenText>().is_err() && LinkText::of_link(&text).is_err());
            prop_assert_eq!(LinkText::of_link(&format!("https://a:1/welcome#{link}")), Ok(link.clone()));
            prop_assert_eq!(LinkText::of_link(&link.to_string()), Ok(link));
            let mut damaged = text.clone();
            damaged.replace_range(at..=at, &to);
            prop_assert!(damaged == text || damaged.parse::<JoinToken>().is_err());
        }

        #[test]
        fn any_text_is_judged_without_panic(text in "\\PC{0,120}") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("{PREFIX}{text}").parse::<JoinToken>();
        }
    }

    #[test]
    fn a_log_never_shows_the_secret() {
        let token =
            JoinToken { id: TokenId(1), secret: [0xab; 24], server_certificate: CertificateHash([0; 32]) };
        assert_eq!(format!("{token:?}"), "JoinToken { id: TokenId(0000000000000001), .. }");
        let token = ApiTokenText {
            id: ApiTokenId(1),
            secret: [0xab; 24],
            server_certificate: CertificateHash([0; 32]),
        };
        assert_eq!(format!("{token:?}"), "ApiTokenText { id: ApiTokenId(0000000000000001), .. }");
    }
}
