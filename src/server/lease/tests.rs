//! Leases that are renewed, lost, left behind and taken by two at once.

use super::*;

/// As a server's, forty times as quick.
const QUICK: Times = Times {
    renewal: Duration::from_millis(50),
    overdue: Duration::from_millis(400),
    expiry: Duration::from_millis(1_000),
    settling: Duration::from_millis(25),
};

fn another() -> Entry {
    Entry { holder: 7, machine: "other".into(), place: "elsewhere".into(), process: 1, renewals: 0 }
}

fn put(directory: &Path, entry: &Entry) {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(directory.join(FILE));
    entry.write(&file.unwrap()).unwrap();
}

#[test]
fn a_lease_that_is_renewed_is_held_and_one_that_was_let_go_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert_eq!(held_by_another(path, &QUICK).unwrap(), None, "nobody ever had it");
    let lease = Lease::take(path, QUICK, |why| panic!("{why}")).unwrap();
    let holder = held_by_another(path, &QUICK).unwrap().unwrap();
    assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
    drop(lease);
    let begun = Instant::now();
    assert_eq!(held_by_another(path, &QUICK).unwrap(), None);
    assert!(begun.elapsed() < QUICK.expiry, "it waited though the file is empty");
}

#[test]
fn one_that_is_not_renewed_ends_by_the_watchers_clock() {
    let directory = tempfile::tempdir().unwrap();
    put(directory.path(), &another());
    let begun = Instant::now();
    assert_eq!(held_by_another(directory.path(), &QUICK).unwrap(), None);
    assert!(begun.elapsed() >= QUICK.expiry, "it may live");
    // Its process is known to be gone: nothing to wait for.
    let gone = Entry { place: place(), process: u32::MAX, ..another() };
    put(directory.path(), &gone);
    let begun = Instant::now();
    assert_eq!(held_by_another(directory.path(), &QUICK).unwrap(), None);
    assert!(begun.elapsed() < QUICK.expiry);
    // Garbage is nobody's, unless it changes.
    std::fs::write(directory.path().join(FILE), "garbage").unwrap();
    assert_eq!(held_by_another(directory.path(), &QUICK).unwrap(), None);
}

#[test]
fn a_holder_hears_that_another_has_it_and_leaves_that_ones_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, lost) = bounded(1);
    let lease = Lease::take(directory.path(), QUICK, move |why| sender.send(why).unwrap()).unwrap();
    put(directory.path(), &another());
    let why = lost.recv_timeout(10 * QUICK.expiry).unwrap();
    assert!(why.contains("process 1 on other has it"), "{why}");
    drop(lease);
    let left = read(&directory.path().join(FILE)).unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Entry>(&left).unwrap(), another());
}

#[test]
fn a_holder_that_stood_still_for_too_long_gives_up_without_a_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let entry = Entry::own();
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    entry.write(&file).unwrap();
    let before = read(&path).unwrap();
    let mut holder = Holder { path, file, entry, renewed: Instant::now() };
    holder.renew(&QUICK).unwrap();
    let renewed = read(&holder.path).unwrap();
    assert_ne!(renewed, before);
    sleep(QUICK.overdue + Duration::from_millis(1));
    let why = holder.renew(&QUICK).unwrap_err();
    assert!(why.contains("not renewed"), "{why}");
    assert_eq!(read(&holder.path).unwrap(), renewed, "another may have begun to write");
}

#[test]
fn of_two_that_take_it_at_once_one_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let take = || {
        let (sender, lost) = bounded(1);
        Lease::take(directory.path(), QUICK, move |why| sender.send(why).unwrap()).ok().zip(Some(lost))
    };
    for _ in 0..5 {
        let taken: Vec<_> = std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(take));
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        // One may have written when the other had looked: that one hears of it at its next renewal.
        let is_lost = |lost: &crossbeam_channel::Receiver<String>| lost.recv_timeout(QUICK.overdue).is_ok();
        assert_eq!(taken.iter().filter(|(_, lost)| !is_lost(lost)).count(), 1);
    }
}

#[test]
fn a_temporary_directory_is_this_machines_alone() {
    assert!(!is_shared(&std::env::temp_dir()));
    assert!(!is_shared(Path::new("/nowhere")));
}
