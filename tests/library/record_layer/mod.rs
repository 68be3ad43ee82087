//! The record layer against a client that nobody here wrote: rustls as it is. The handshake is rustls's on
//! both sides; then the server's end is taken from it, and the client notices nothing.

mod openssl;
mod pair;

use muster::record_layer::{Alert, FRAGMENT_BYTES_MAX, KEY_UPDATES_AHEAD_MAX, OpenError, SealError, Suite};
use pair::{Pair, Papers};
use rustls::{AlertDescription, Error, HandshakeKind};

/// Numbers that look drawn, and are the same each time (Marsaglia, "Xorshift RNGs", 2003).
struct Drawn(u64);

impl Drawn {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn data(&mut self) -> Vec<u8> {
        let length = match self.below(10) {
            0 => self.below(3 * FRAGMENT_BYTES_MAX),
            1 => FRAGMENT_BYTES_MAX + self.below(3) - 1,
            _ => self.below(400),
        };
        let first = self.below(256);
        (first..first + 1 + length).map(|byte| u8::try_from(byte % 251).unwrap()).collect()
    }
}

#[test]
fn thousands_of_records_go_both_ways_under_many_keys() {
    for suite in Suite::ALL {
        let mut pair = Pair::connect(&Papers::new(suite));
        let mut drawn = Drawn(0x5eed_0001 + u64::from(suite.number()));
        let (mut sent, mut updates) = (0, 0);
        while sent < 3_000 {
            match drawn.below(20) {
                // The client renews its key, and wants ours renewed.
                0 => {
                    pair.client.refresh_traffic_keys().unwrap();
                    updates += 1;
                }
                1 => pair.key_update(false),
                2 => pair.key_update(true),
                3..11 => {
                    let data = drawn.data();
                    pair.say(&data);
                    assert_eq!(pair.heard_by_client().unwrap(), data, "{suite:?}, {sent}");
                    sent += data.len().div_ceil(FRAGMENT_BYTES_MAX);
                }
                _ => {
                    let data = drawn.data();
                    pair.client_says(&data);
                    // In pieces of any size.
                    let piece = 1 + drawn.below(5_000);
                    assert_eq!(pair.heard_by_link_in_pieces(piece).unwrap(), data, "{suite:?}, {sent}");
                    sent += data.len().div_ceil(FRAGMENT_BYTES_MAX);
                }
            }
        }
        assert!(updates > 50, "{updates}");
    }
}

#[test]
fn many_records_of_one_read_are_opened_in_one_burst() {
    let mut pair = Pair::connect(&Papers::new(Suite::Aes256Gcm));
    let mut expected = Vec::new();
    for round in 0..100_u8 {
        pair.client_says(&[round; 9]);
        expected.extend([round; 9]);
        if round % 10 == 0 {
            pair.client.refresh_traffic_keys().unwrap();
        }
    }
    assert_eq!(pair.heard_by_link().unwrap(), expected);
    assert!(pair.link.owes_key_update());
    pair.say(b"answer");
    assert!(!pair.link.owes_key_update());
    assert_eq!(pair.heard_by_client().unwrap(), b"answer");
}

#[test]
fn small_fragments_are_taken() {
    let papers = Papers::with(Suite::Aes128Gcm, |config| config.max_fragment_size = Some(64));
    let mut pair = Pair::connect(&papers);
    let data = vec![7; 20_000];
    pair.client_says(&data);
    assert_eq!(pair.heard_by_link().unwrap(), data);
}

#[test]
fn a_client_that_renews_worn_keys_is_followed() {
    for suite in Suite::ALL {
        let mut pair = Pair::connect(&Papers::with_worn_keys_after(suite, 7));
        for round in 0..100_u8 {
            pair.client_says(&[round; 3]);
            assert_eq!(pair.heard_by_link().unwrap(), [round; 3]);
            assert!(pair.link.sequences().0 <= 7, "{:?}", pair.link.sequences());
        }
        // All the while it was owed an answer, and one is enough.
        pair.say(b"answer");
        assert_eq!(pair.link.sequences().1, 1);
        assert_eq!(pair.heard_by_client().unwrap(), b"answer");
    }
}

#[test]
fn either_side_may_close_first() {
    let mut pair = Pair::connect(&Papers::new(Suite::ChaCha20Poly1305));
    pair.client_says(b"last");
    pair.client.send_close_notify();
    assert_eq!(pair.heard_by_link().unwrap(), b"last");
    assert!(pair.link_heard_close);
    pair.say(b"still");
    pair.close();
    assert_eq!(pair.heard_by_client().unwrap(), b"still");
    assert!(pair.client_heard_close);

    let mut pair = Pair::connect(&Papers::new(Suite::ChaCha20Poly1305));
    pair.close();
    assert_eq!(pair.heard_by_client().unwrap(), b"");
    assert!(pair.client_heard_close);
    assert_eq!(pair.link.sealing_burst().data(b"x", &mut Vec::new()), Err(SealError::Closed));
    pair.client_says(b"still");
    assert_eq!(pair.heard_by_link().unwrap(), b"still");
}

#[test]
fn the_client_is_told_why_it_is_refused() {
    let papers = Papers::new(Suite::Aes128Gcm);
    // Too many KeyUpdates.
    let mut pair = Pair::connect(&papers);
    for _ in 0..=KEY_UPDATES_AHEAD_MAX {
        pair.client.refresh_traffic_keys().unwrap();
    }
    assert_eq!(pair.heard_by_link(), Err(OpenError::TooManyKeyUpdates));
    pair.fail(OpenError::TooManyKeyUpdates.alert());
    let refused = Error::AlertReceived(AlertDescription::UnexpectedMessage);
    assert_eq!(pair.heard_by_client(), Err(refused));

    // Somebody in between.
    let mut pair = Pair::connect(&papers);
    pair.client_says(b"forge me");
    let mut records = pair.taken_from_client();
    *records.last_mut().unwrap() ^= 1;
    assert_eq!(pair.heard_of(&records), Err(OpenError::Forged));
    pair.fail(OpenError::Forged.alert());
    assert_eq!(pair.heard_by_client(), Err(Error::AlertReceived(AlertDescription::BadRecordMac)));
}

#[test]
fn what_the_client_breaks_off_is_heard() {
    let mut pair = Pair::connect(&Papers::new(Suite::Aes256Gcm));
    pair.say(b"forge me");
    *pair.to_client.last_mut().unwrap() ^= 1;
    assert_eq!(pair.heard_by_client(), Err(Error::DecryptError));
    assert_eq!(pair.heard_by_link().unwrap(), b"");
    assert_eq!(pair.link_heard_alert, Some(Alert::BAD_RECORD_MAC));
    assert_eq!(pair.link.sealing_burst().data(b"x", &mut Vec::new()), Err(SealError::Closed));
}

#[test]
fn tickets_that_were_sent_before_are_good() {
    let papers = Papers::new(Suite::Aes256Gcm);
    let mut pair = Pair::connect(&papers);
    assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
    // The ticket waits for the client before our first record, which has the number after it.
    assert_eq!(pair.link.sequences(), (0, 1));
    pair.say(b"hello");
    assert_eq!(pair.heard_by_client().unwrap(), b"hello");
    let mut pair = Pair::connect(&papers);
    assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Resumed));
    pair.client_says(b"again");
    assert_eq!(pair.heard_by_link().unwrap(), b"again");
}
