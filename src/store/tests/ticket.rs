//! Seeds of ticket keys.

use zeroize::Zeroizing;

use crate::store::testing::{empty_log, wait};
use crate::store::{FILE_NAME, Store, StoreError, TicketSeed};
use crate::wire::time::WallTime;

fn seed(number: u8) -> TicketSeed {
    TicketSeed {
        name: [number; 16],
        seed: Zeroizing::new([0xa0 | number; 32]),
        made_at: WallTime(u64::from(number)),
    }
}

fn set(store: &Store, numbers: &[u8]) -> Result<(), StoreError> {
    let seeds = numbers.iter().copied().map(seed).collect();
    wait(|done| store.set_ticket_seeds(seeds, done))
}

#[test]
fn seeds_are_there_after_a_restart_in_the_order_in_which_they_were_made() {
    let directory = tempfile::tempdir().unwrap();
    {
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.ticket_seeds().unwrap(), []);
        set(&store, &[3, 1]).unwrap();
        set(&store, &[3, 1, 2]).unwrap();
        set(&store, &[1, 2, 4]).unwrap();
    }
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.ticket_seeds().unwrap(), [seed(1), seed(2), seed(4)]);
}

#[test]
fn a_seed_that_went_is_not_left_behind_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    {
        let store = Store::open(directory.path()).unwrap();
        set(&store, &[7, 8]).unwrap();
        set(&store, &[8]).unwrap();
    }
    empty_log(&directory.path().join(FILE_NAME));
    let file = std::fs::read(directory.path().join(FILE_NAME)).unwrap();
    let holds = |number: u8| file.windows(32).any(|bytes| bytes == *seed(number).seed);
    assert_eq!((holds(7), holds(8)), (false, true));
}
