//! Secrets, keys and generations against published values.

use crate::record_layer::Suite;
use crate::record_layer::secret::Half;
use crate::record_layer::secret::Secret;

/// Bytes from hexadecimal digits; spaces are for the reader.
pub(super) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: u8| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap();
    digits.chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

/// `client_application_traffic_secret_0` of RFC 8448 section 3.
pub(super) const CLIENT_SECRET: &str = "9e40646ce79a7f9dc05af8889bce6552 875afa0b06df0087f792ebb7c17504a5";

/// `server_application_traffic_secret_0` of RFC 8448 section 3.
pub(super) const SERVER_SECRET: &str = "a11af9f05531f856ad47116b45a95032 8204b4f44bfb6b3a4b4f1f3fcb631643";

pub(super) fn half(suite: Suite, secret: &[u8], sequence: u64) -> Half {
    Half::new(Secret::new(suite, secret).unwrap(), sequence)
}

#[test]
fn keys_are_those_of_rfc_8448() {
    let suite = Suite::Aes128Gcm;
    let cases = [
        (CLIENT_SECRET, "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"),
        (SERVER_SECRET, "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984"),
    ];
    for (secret, key, iv) in cases {
        let half = half(suite, &hex(secret), 0);
        assert!(half.has_key(suite, &hex(key), &hex(iv)));
        assert!(!half.has_key(suite, &hex(key), &[0; 12]));
        assert!(!half.has_key(suite, &hex(iv), &hex(iv)), "another length is another key");
    }
}

/// Other implementations publish what follows from the RFC's secrets: the tests of Botan do.
#[test]
fn the_next_generation_is_what_others_make_of_it() {
    let suite = Suite::Aes128Gcm;
    let cases = [
        (CLIENT_SECRET, "fcdfcc72725aaee48bf64e4fd8b749cd bdbab39d90da0b26e2245ca6ea167207"),
        (SERVER_SECRET, "51921b8aa3001976eb401d0a4319a851 6416a6c56001a357e5d162031e84f916"),
    ];
    for (secret, next) in cases {
        let mut advanced = half(suite, &hex(secret), 7);
        advanced.advance(suite).unwrap();
        assert_eq!(advanced.sequence(), 0);
        let expected = half(suite, &hex(next), 0);
        let (key, iv) = {
            let key = expected.secret().traffic_key(suite).unwrap();
            (key.key().to_vec(), *key.iv())
        };
        assert!(advanced.has_key(suite, &key, &iv));
    }
}

#[test]
fn numbers_of_all_lengths_follow_each_other() {
    for first in [0, 1, u64::from(u32::MAX) - 1, u64::from(u32::MAX), u64::MAX - 3] {
        let mut half = half(Suite::Aes128Gcm, &[1; 32], first);
        for number in first..first + 3 {
            assert_eq!((half.take_number(u64::MAX), half.sequence()), (Some(number), number + 1));
        }
    }
}

#[test]
fn a_secret_of_another_length_is_none() {
    for suite in Suite::ALL {
        assert_eq!(Suite::from_number(suite.number()), Some(suite));
        for length in [0, 31, 32, 33, 47, 48, 49] {
            let fits = length == suite.secret_bytes();
            assert_eq!(Secret::new(suite, &vec![1; length]).is_some(), fits, "{suite:?} {length}");
        }
    }
    assert_eq!(Suite::from_number(0x1304), None, "CCM is not spoken");
}

#[test]
fn a_secret_is_not_shown() {
    let half = half(Suite::Aes256Gcm, &[0xab; 48], 3);
    assert_eq!(format!("{half:?}"), "Half { secret: Secret(..), sequence: 3 }");
}

#[test]
fn numbers_end_at_their_limit() {
    let mut half = half(Suite::Aes128Gcm, &[1; 32], u64::MAX - 1);
    assert_eq!(half.take_number(u64::MAX), Some(u64::MAX - 1));
    assert_eq!((half.take_number(u64::MAX), half.sequence()), (None, u64::MAX));
}
