//! Handshakes cut into tiny records, tampered with, given up and stretched.

use proptest::prelude::*;

use super::*;
use crate::reactor::channel::handover::KEPT_BYTES_MAX;

/// A `change_cipher_spec` record, which a client sends before its last flight and means nothing (RFC 8446
/// appendix D.4).
const OF_COMPATIBILITY: usize = 6;

#[test]
fn messages_in_many_small_records_become_a_link() {
    let fixture = Fixture::new();
    let mut config = (*fixture.client.config()).clone();
    // The least that the library takes: 27 bytes of content in a record.
    config.max_fragment_size = Some(32);
    let config = Arc::new(config);
    for piece in [1, 7, 32, 33, 300, 100_000] {
        let mut client = ClientConnection::new(Arc::clone(&config), fixture.client.name()).unwrap();
        let mut server = ServerHandshake::new(&fixture.server).unwrap();
        let mut out = Vec::new();
        while !server.is_finished() {
            let flight = sent_by(&mut client);
            assert!(flight.len() > 32, "it never ends");
            for arrived in flight.chunks(piece) {
                assert_eq!(server.read(&mut arrived.to_vec(), &mut out).unwrap(), arrived.len());
            }
            hear(&mut client, &std::mem::take(&mut out)).unwrap();
        }
        assert_eq!(server.peer().certificate.as_deref(), Some(&fixture.device[..]));
        let mut link = server.finish(&mut out).unwrap();
        client.writer().write_all(b"data").unwrap();
        assert_eq!(open(&mut link, &sent_by(&mut client)).0, b"data", "{piece}");
    }
}

#[test]
fn a_message_that_is_drawn_out_is_not_kept_without_end() {
    let fixture = Fixture::new();
    let mut server = ServerHandshake::new(&fixture.server).unwrap();
    // The longest hello that the library would wait for, a byte of it in each record.
    let message = [1, 0, 255, 255].into_iter().chain(std::iter::repeat(0));
    let mut sent = 0;
    let error = message.take(65_539).find_map(|byte| {
        sent += 6;
        let (taken, _) = read(&mut server, &[22, 3, 3, 0, 1, byte]);
        assert!(server.kept.len() <= KEPT_BYTES_MAX + 6);
        taken.err()
    });
    assert!(matches!(error, Some(ChannelError::Misbehaved(_))), "{error:?}");
    assert!((KEPT_BYTES_MAX..=KEPT_BYTES_MAX + 6).contains(&sent), "{sent}");
}

#[test]
fn who_says_goodbye_in_the_middle_is_let_go() {
    let fixture = Fixture::new();
    let (_, mut server) = fixture.before_the_last_flight();
    let close_notify = [21, 3, 3, 0, 2, 1, 0];
    assert_eq!(read(&mut server, &close_notify).0, Err(ChannelError::Refused("CloseNotify".to_owned())));
}

/// A change of a flight on its way, at a place in it.
#[derive(Clone, Copy, Debug)]
enum Tampering {
    Flip(u8),
    Remove(usize),
    Repeat(usize),
    Insert(u8),
}

impl Tampering {
    fn at(self, place: usize, flight: &mut Vec<u8>) {
        let rest = flight.len() - place;
        match self {
            Self::Flip(bits) => flight[place] ^= bits,
            Self::Remove(count) => drop(flight.drain(place..place + count.min(rest))),
            Self::Repeat(count) => {
                let again = flight[place..place + count.min(rest)].to_vec();
                flight.splice(place..place, again);
            }
            Self::Insert(byte) => flight.insert(place, byte),
        }
    }
}

/// Whether the version in a record's head is there, of which the second byte means nothing (RFC 8446 section
/// 5.1).
fn is_version(flight: &[u8], place: usize) -> bool {
    let mut head = 0;
    while head + 2 < place {
        head += 5 + usize::from(u16::from_be_bytes([flight[head + 3], flight[head + 4]]));
    }
    head + 2 == place
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        (1..=255_u8).prop_map(Tampering::Flip),
        (1..400_usize).prop_map(Tampering::Remove),
        (1..400_usize).prop_map(Tampering::Repeat),
        any::<u8>().prop_map(Tampering::Insert),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_flight_that_was_tampered_with_ends_in_no_link(
        is_last in any::<bool>(),
        place in any::<prop::sample::Index>(),
        tampering in tampering(),
        piece in 1..2_000_usize,
    ) {
        let fixture = Fixture::new();
        let mut client = ClientConnection::new(fixture.client.config(), fixture.client.name()).unwrap();
        let mut server = ServerHandshake::new(&fixture.server).unwrap();
        if is_last {
            (client, server) = fixture.with(client);
        }
        let flight = sent_by(&mut client);
        let place = if is_last {
            OF_COMPATIBILITY + place.index(flight.len() - OF_COMPATIBILITY)
        } else {
            place.index(flight.len())
        };
        prop_assume!(!matches!(tampering, Tampering::Flip(_)) || !is_version(&flight, place));
        let mut changed = flight.clone();
        tampering.at(place, &mut changed);
        prop_assume!(changed != flight);
        let mut out = Vec::new();
        let mut failed = false;
        for arrived in changed.chunks(piece) {
            match server.read(&mut arrived.to_vec(), &mut out) {
                Ok(taken) => prop_assert!(taken == arrived.len() || server.is_finished()),
                Err(error) => {
                    prop_assert_eq!(error.blame(), Blame::Peer, "{}", error);
                    failed = true;
                    break;
                }
            }
        }
        // Bytes that were repeated or put in behind the last byte of it are the link's to refuse.
        let is_whole = changed.starts_with(&flight);
        prop_assert!(!server.is_finished() || failed || is_whole);
    }
}
