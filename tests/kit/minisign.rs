//! Signatures as minisign(1) makes them, for tests.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b512, Digest as _};

/// A key that signs.
pub(crate) struct Signer(Ed25519KeyPair);

/// Names the key in signatures.
const KEY_ID: [u8; 8] = *b"muster-t";

impl Signer {
    pub(crate) fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    /// The second line of minisign.pub.
    pub(crate) fn key(&self) -> String {
        let mut bytes = b"Ed".to_vec();
        bytes.extend(KEY_ID);
        bytes.extend(self.0.public_key().as_ref());
        STANDARD.encode(bytes)
    }

    /// The text of the .minisig file.
    pub(crate) fn sign(&self, content: &[u8], comment: &str) -> String {
        let signature = self.0.sign(&Blake2b512::digest(content));
        let mut bytes = b"ED".to_vec();
        bytes.extend(KEY_ID);
        bytes.extend(signature.as_ref());
        let mut both = signature.as_ref().to_vec();
        both.extend(comment.as_bytes());
        let global = STANDARD.encode(self.0.sign(&both).as_ref());
        let first = STANDARD.encode(bytes);
        format!("untrusted comment: signature\n{first}\ntrusted comment: {comment}\n{global}\n")
    }
}
