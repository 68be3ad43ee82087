#![no_main]
//! Records: whatever a peer seals, and whatever somebody in between sends after it, is taken or refused, and
//! a refusal is the end.
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use libfuzzer_sys::fuzz_target;
use muster::record_layer::{
    Content, HEADER_BYTES, INNER_BYTES_MAX, OpenError, Opened, SlimLink, Start, Suite,
};

/// The peer, who seals anything.
struct Peer {
    secret: [u8; 32],
    number: u64,
}

impl Peer {
    fn expand<const N: usize>(&self, label: &str) -> [u8; N] {
        let lengths = [0, N as u8, label.len() as u8];
        let info = [&lengths, label.as_bytes(), &[0, 1]].concat();
        let block = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret), &info);
        block.as_ref()[..N].try_into().expect("one block is enough")
    }

    fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let key = UnboundKey::new(&AES_128_GCM, &self.expand::<16>("tls13 key")).expect("a key");
        let mut nonce = self.expand::<12>("tls13 iv");
        nonce[4..].iter_mut().zip(self.number.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        self.number += 1;
        let length = u16::try_from(inner.len() + 16).expect("short").to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let mut body = inner.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        LessSafeKey::new(key).seal_in_place_append_tag(nonce, Aad::from(header), &mut body).expect("sealed");
        [&header[..], &body].concat()
    }
}

// Each sealed record is a length in two bytes and its content, content type and padding; what is left after
// the last is sent as it is.
fuzz_target!(|bytes: &[u8]| {
    let secret = [7; 32];
    let start = Start { secret: &secret, sequence: 0 };
    let mut link = SlimLink::new(Suite::Aes128Gcm, start, start).expect("secrets as long as the suite's");
    let mut peer = Peer { secret, number: 0 };
    let (mut left, mut failed) = (bytes, None);
    while let Some((length, rest)) = left.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        if length > rest.len() || length > INNER_BYTES_MAX + 9 {
            break;
        }
        let (inner, rest) = rest.split_at(length);
        left = rest;
        let mut record = peer.seal(inner);
        let whole = record.len();
        match link.opening_burst().open(&mut record) {
            Ok(Opened::Record { bytes, content }) => {
                assert!(failed.is_none() && bytes == whole);
                match content {
                    Content::Data(data) => assert!(inner.starts_with(data) && inner[data.len()] == 23),
                    Content::KeyUpdate => {
                        peer.secret = peer.expand("tls13 traffic upd");
                        peer.number = 0;
                    }
                    Content::Nothing | Content::CloseNotify | Content::Alert(_) => {}
                }
            }
            Ok(Opened::Closed) => assert!(failed.is_none()),
            Ok(Opened::NeedMore(_)) => panic!("it is whole"),
            Err(error) => assert_eq!(*failed.get_or_insert(error), error),
        }
        assert_ne!(failed, Some(OpenError::Forged), "the peer has sealed it");
    }
    let mut raw = left.to_vec();
    match link.opening_burst().open(&mut raw) {
        Ok(Opened::NeedMore(missing)) => {
            assert!(missing > 0 && missing <= HEADER_BYTES + usize::from(u16::MAX))
        }
        Ok(Opened::Closed) => assert!(failed.is_none()),
        Ok(Opened::Record { .. }) => panic!("nobody has sealed it"),
        Err(error) => assert_eq!(*failed.get_or_insert(error), error),
    }
    let mut out = Vec::new();
    let _ = link.sealing_burst().data(bytes, &mut out);
    assert!(failed.is_none() || out.is_empty());
});
