//! The record layer said once more, plainly and slowly, so that the other one is not its own judge. It seals
//! whatever it is told to, right or wrong.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;

use crate::record_layer::{Content, OpenError, Opened, SlimLink, Start, Suite};

pub(super) const DATA: u8 = 23;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const ALERT: u8 = 21;

/// One direction, from its secret and a number.
pub(super) struct Reference {
    suite: Suite,
    secret: Vec<u8>,
    pub(super) number: u64,
}

impl Reference {
    pub(super) fn new(suite: Suite, secret: &[u8], number: u64) -> Self {
        Self { suite, secret: secret.to_vec(), number }
    }

    /// HKDF-Expand-Label (RFC 8446 section 7.1) by HMAC (RFC 5869 section 2.3); one block is enough for all
    /// that TLS expands.
    fn expand(&self, label: &str, length: usize) -> Vec<u8> {
        let hash = if self.suite == Suite::Aes256Gcm { hmac::HMAC_SHA384 } else { hmac::HMAC_SHA256 };
        let label = format!("tls13 {label}");
        let mut info = vec![0, u8::try_from(length).unwrap(), u8::try_from(label.len()).unwrap()];
        info.extend(label.bytes());
        info.extend([0, 1]);
        hmac::sign(&hmac::Key::new(hash, &self.secret), &info).as_ref()[..length].to_vec()
    }

    pub(super) fn update(&mut self) {
        self.secret = self.expand("traffic upd", self.secret.len());
        self.number = 0;
    }

    fn cipher(&mut self) -> (LessSafeKey, Nonce) {
        let algorithm = match self.suite {
            Suite::Aes128Gcm => &aead::AES_128_GCM,
            Suite::Aes256Gcm => &aead::AES_256_GCM,
            Suite::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, &self.expand("key", algorithm.key_len())).unwrap();
        let iv = self.expand("iv", 12).iter().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
        let nonce = (iv ^ u128::from(self.number)).to_be_bytes();
        self.number += 1;
        (LessSafeKey::new(key), Nonce::try_assume_unique_for_key(&nonce[4..]).unwrap())
    }

    /// Seals anything: what would be content, content type and padding of a well-formed record.
    pub(super) fn seal_inner(&mut self, inner: &[u8]) -> Vec<u8> {
        let length = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let mut record = vec![23, 3, 3, length[0], length[1]];
        let header: [u8; 5] = record[..].try_into().unwrap();
        let mut body = inner.to_vec();
        let (key, nonce) = self.cipher();
        key.seal_in_place_append_tag(nonce, Aad::from(header), &mut body).unwrap();
        record.extend(body);
        record
    }

    pub(super) fn seal(&mut self, content_type: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut inner = content.to_vec();
        inner.push(content_type);
        inner.resize(inner.len() + padding, 0);
        self.seal_inner(&inner)
    }

    pub(super) fn seal_key_update(&mut self, wanted: u8) -> Vec<u8> {
        let record = self.seal(HANDSHAKE, &[24, 0, 0, 1, wanted], 0);
        self.update();
        record
    }

    /// Opens a whole record: the content type and the content.
    pub(super) fn open(&mut self, record: &[u8]) -> Option<(u8, Vec<u8>)> {
        let header: [u8; 5] = record[..5].try_into().unwrap();
        let mut body = record[5..].to_vec();
        let (key, nonce) = self.cipher();
        let mut inner = key.open_in_place(nonce, Aad::from(header), &mut body).ok()?.to_vec();
        while inner.last() == Some(&0) {
            inner.pop();
        }
        Some((inner.pop()?, inner))
    }

    /// Opens all records of what was sealed, going on with the next key after each KeyUpdate.
    pub(super) fn open_all(&mut self, mut sealed: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut contents = Vec::new();
        while !sealed.is_empty() {
            let length = 5 + usize::from(u16::from_be_bytes([sealed[3], sealed[4]]));
            let content = self.open(&sealed[..length]).expect("an authentic record");
            if content.0 == HANDSHAKE {
                self.update();
            }
            contents.push(content);
            sealed = &sealed[length..];
        }
        contents
    }
}

/// A link, and the reference for what it opens and for what it seals, all at these numbers.
pub(super) fn peers_at(suite: Suite, opening: u64, sealing: u64) -> (SlimLink, Reference, Reference) {
    let secret = |byte: u8| vec![byte; suite.secret_bytes()];
    let (up, down) = (secret(0xc1), secret(0x5e));
    let link = SlimLink::new(
        suite,
        Start { secret: &up, sequence: opening },
        Start { secret: &down, sequence: sealing },
    );
    (link.unwrap(), Reference::new(suite, &up, opening), Reference::new(suite, &down, sealing))
}

pub(super) fn peers(suite: Suite) -> (SlimLink, Reference, Reference) {
    peers_at(suite, 0, 0)
}

/// Opens one whole record in a burst of its own, and gives what it brings: data in a vector, or else by `Err`
/// of the content.
pub(super) fn open_one(link: &mut SlimLink, record: &[u8]) -> Result<Brought, OpenError> {
    let mut input = record.to_vec();
    match link.opening_burst().open(&mut input)? {
        Opened::Record { bytes, content } => {
            assert_eq!(bytes, record.len());
            Ok(match content {
                Content::Data(data) => Brought::Data(data.to_vec()),
                Content::Nothing => Brought::Nothing,
                Content::KeyUpdate => Brought::KeyUpdate,
                Content::CloseNotify => Brought::CloseNotify,
                Content::Alert(alert) => Brought::Alert(alert.0),
            })
        }
        Opened::Closed => Ok(Brought::Ignored),
        Opened::NeedMore(missing) => panic!("{missing} bytes are missing of a whole record"),
    }
}

/// Content of a record, on its own.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Brought {
    Data(Vec<u8>),
    Nothing,
    KeyUpdate,
    CloseNotify,
    Alert(u8),
    Ignored,
}

/// The bytes that sealing appends.
pub(super) fn sealed(link: &mut SlimLink, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    link.sealing_burst().data(plain, &mut out).unwrap();
    out
}
