//! Conversations of any shape, beside the reference.

use proptest::prelude::*;

use super::reference::{Brought, DATA, HANDSHAKE, open_one, peers};
use crate::record_layer::{Opened, Suite};

/// One thing that happens on a link.
#[derive(Clone, Debug)]
enum Step {
    PeerSays { length: usize, padding: usize },
    PeerUpdates { wants_one: bool },
    WeSay { length: usize },
    WeUpdate { want_one: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let length = || prop_oneof![5 => 1..200_usize, 1 => 16_000..16_384_usize];
    prop_oneof![
        4 => (length(), 0..300_usize).prop_map(|(length, padding)| Step::PeerSays { length, padding }),
        1 => any::<bool>().prop_map(|wants_one| Step::PeerUpdates { wants_one }),
        4 => length().prop_map(|length| Step::WeSay { length: 2 * length }),
        1 => any::<bool>().prop_map(|want_one| Step::WeUpdate { want_one }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_conversation_is_what_the_reference_makes_of_it(
        suite in prop::sample::select(&Suite::ALL[..]),
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let (mut link, mut up, mut down) = peers(suite);
        let (mut is_owed, mut is_asked) = (false, false);
        for (turn, step) in steps.into_iter().enumerate() {
            let plain = |length: usize| vec![u8::try_from(turn).unwrap(); length];
            match step {
                Step::PeerSays { length, padding } => {
                    let padding = padding.min(16_384 - length);
                    let record = up.seal(DATA, &plain(length), padding);
                    prop_assert_eq!(open_one(&mut link, &record), Ok(Brought::Data(plain(length))));
                }
                Step::PeerUpdates { wants_one } => {
                    let record = up.seal_key_update(wants_one.into());
                    prop_assert_eq!(open_one(&mut link, &record), Ok(Brought::KeyUpdate));
                    (is_owed, is_asked) = (is_owed || wants_one, false);
                }
                Step::WeSay { length } => {
                    let mut out = Vec::new();
                    link.sealing_burst().data(&plain(length), &mut out).unwrap();
                    let mut contents = down.open_all(&out);
                    if is_owed {
                        prop_assert_eq!(contents.remove(0), (HANDSHAKE, vec![24, 0, 0, 1, 0]));
                        is_owed = false;
                    }
                    prop_assert!(contents.iter().all(|(kind, _)| *kind == DATA));
                    let said: Vec<u8> = contents.into_iter().flat_map(|(_, content)| content).collect();
                    prop_assert_eq!(said, plain(length));
                }
                Step::WeUpdate { want_one } => {
                    let mut out = Vec::new();
                    link.sealing_burst().key_update(want_one, &mut out).unwrap();
                    let asks = want_one && !is_owed && !is_asked;
                    prop_assert_eq!(down.open_all(&out), vec![(HANDSHAKE, vec![24, 0, 0, 1, asks.into()])]);
                    (is_owed, is_asked) = (false, is_asked || asks);
                }
            }
            prop_assert_eq!(link.sequences(), (up.number, down.number));
            prop_assert_eq!(link.owes_key_update(), is_owed);
        }
    }

    #[test]
    fn whatever_is_sealed_is_taken_or_refused(
        suite in prop::sample::select(&Suite::ALL[..]),
        inners in prop::collection::vec(prop::collection::vec(prop_oneof![Just(0), Just(21), Just(22), Just(23), Just(24), any::<u8>()], 0..12), 1..8),
    ) {
        let (mut link, mut up, _) = peers(suite);
        let mut first_error = None;
        for inner in inners {
            let mut record = up.seal_inner(&inner);
            match link.opening_burst().open(&mut record) {
                Ok(Opened::Record { bytes, content }) => {
                    prop_assert!(first_error.is_none());
                    prop_assert_eq!(bytes, inner.len() + 21);
                    if content == crate::record_layer::Content::KeyUpdate {
                        up.update();
                    }
                }
                Ok(Opened::Closed) => prop_assert!(first_error.is_none()),
                Ok(Opened::NeedMore(_)) => prop_assert!(false, "it is whole"),
                Err(error) => prop_assert_eq!(*first_error.get_or_insert(error), error),
            }
        }
    }
}
