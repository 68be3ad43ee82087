mod world;

use super::history::LIVES_MAX;
use super::*;
use crate::machine::random::Random;

const DEVICE: DeviceId = DeviceId(7);

fn at(seconds: u64) -> Now {
    Now { moment: Moment(1).plus_seconds(seconds), wall: WallTime(1_795_514_400_000 + seconds * 1_000) }
}

/// On a machine that can't be told from others.
fn life(boot: u16, epoch: u64) -> Incarnation {
    on(1, boot, epoch)
}

fn on(machine: u16, boot: u16, epoch: u64) -> Incarnation {
    Incarnation { machine, boot, agent_epoch: Epoch(epoch) }
}

fn peer(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

/// Goes through lives, one every ten seconds; for each change behind the first, whether two machines are
/// suspected then, and whether the one that came is a copy.
fn through(watch: &mut CloneWatch, lives: &[Incarnation]) -> Vec<(bool, bool)> {
    let mut seen = Vec::new();
    for (step, pair) in lives.windows(2).enumerate() {
        let now = at(step as u64 * 10);
        let sighting = watch.changed(DEVICE, pair[0], pair[1], None, &now);
        seen.push((watch.suspicion(DEVICE, &now).is_some(), sighting.is_copy));
    }
    seen
}

fn quiet(lives: &[Incarnation]) {
    let seen = through(&mut CloneWatch::default(), lives);
    assert!(seen.iter().all(|seen| *seen == (false, false)), "{seen:?}");
}

#[test]
fn a_device_that_reboots_all_the_time_is_one() {
    let lives: Vec<_> = (1..1_000).map(|boot| life(boot, 1)).collect();
    quiet(&lives);
    let unknown: Vec<_> = (1..1_000).map(|boot| on(0, boot, 1)).collect();
    quiet(&unknown);
}

#[test]
fn a_disk_that_was_moved_is_one_device_also_when_it_comes_back() {
    let moved: Vec<_> =
        (1..10).map(|boot| on(1, boot, 1)).chain((10..30).map(|boot| on(2, boot, 1))).collect();
    quiet(&moved);
    // Tried elsewhere, and put back; each time it boots.
    quiet(&[on(1, 1, 1), on(2, 2, 1), on(1, 3, 1), on(2, 4, 1), on(1, 5, 1)]);
    // One whose hash of the machine was not known before, or is not known any more.
    quiet(&[on(0, 1, 1), on(2, 2, 1), on(0, 3, 1), on(2, 4, 1)]);
}

#[test]
fn a_machine_that_is_set_back_to_a_snapshot_once_is_one_and_is_never_taken_for_a_copy() {
    quiet(&[life(1, 1), life(2, 1), life(1, 1), life(3, 2)]);
    // Again and again to the same one: nothing that others do, and nobody is sent away.
    let seen = through(&mut CloneWatch::default(), &[1, 2, 1, 3, 1, 4, 1, 5].map(|boot| life(boot, 1)));
    assert!(seen.iter().all(|(_, is_copy)| !is_copy), "{seen:?}");
}

#[test]
fn a_machine_that_takes_the_record_over_is_the_only_one_again() {
    let mut watch = CloneWatch::default();
    let (first, copy) = (on(1, 1, 1), on(2, 2, 1));
    assert!(through(&mut watch, &[first, copy, first]).last().unwrap().0);
    watch.forget(DEVICE);
    assert_eq!(watch.suspicion(DEVICE, &at(30)), None);
    let seen = through(&mut watch, &[first, on(3, 9, 9), on(3, 10, 9)]);
    assert!(seen.iter().all(|seen| *seen == (false, false)), "{seen:?}");
}

#[test]
fn a_machine_that_comes_back_in_its_boot_is_proof_and_the_other_one_is_the_copy() {
    let (first, copy) = (on(1, 1, 1), on(2, 2, 1));
    let seen = through(&mut CloneWatch::default(), &[first, copy, first, copy, first]);
    assert_eq!(seen, [(false, false), (true, false), (true, true), (true, false)]);
    // Whatever it does meanwhile: a third machine is a copy at once, and the first may boot.
    let seen = through(
        &mut CloneWatch::default(),
        &[first, copy, first, on(3, 9, 1), on(1, 4, 2), first, on(2, 8, 3)],
    );
    assert_eq!(seen.iter().map(|seen| seen.1).collect::<Vec<_>>(), [false, false, true, false, false, true]);
}

/// The record keeps the epoch of contents that are still the same, and nothing of one that was turned away.
#[test]
fn the_first_is_no_copy_when_its_record_is_behind_it() {
    let mut watch = CloneWatch::default();
    let mut copies = |steps: &[(Incarnation, Incarnation)]| {
        let step = |(left, came): &(Incarnation, Incarnation)| {
            watch.changed(DEVICE, *left, *came, None, &at(0)).is_copy
        };
        let copies = steps.iter().map(step).collect::<Vec<_>>();
        watch.forget(DEVICE);
        copies
    };
    let (record, first, copy) = (on(1, 1, 9), on(1, 1, 1), on(2, 2, 1));
    let steps = [
        (record, first),
        (record, copy),
        (on(2, 2, 9), first),
        (record, copy),
        (record, first),
        (record, on(1, 4, 1)),
        (on(1, 4, 9), copy),
        (on(1, 4, 9), on(1, 4, 1)),
    ];
    assert_eq!(copies(&steps), [false, false, false, true, false, false, true, false]);
    // Alike, and of another epoch than the record.
    let (first, copy) = (on(1, 1, 1), on(1, 2, 1));
    let steps = [(record, copy), (on(1, 2, 9), first), (record, copy), (record, first)];
    assert_eq!(copies(&steps), [false, false, true, false]);
}

#[test]
fn the_first_that_is_there_keeps_the_record_when_the_original_is_gone_and_the_original_when_it_is_back() {
    let lives = [on(1, 1, 1), on(2, 2, 1), on(3, 3, 1), on(2, 2, 1), on(3, 3, 1), on(1, 7, 1), on(2, 2, 1)];
    let seen = through(&mut CloneWatch::default(), &lives);
    assert_eq!(seen.iter().map(|seen| seen.1).collect::<Vec<_>>(), [false, false, false, true, false, true]);
}

#[test]
fn boots_that_take_turns_are_two_devices() {
    let mut watch = CloneWatch::default();
    let changed = |watch: &mut CloneWatch, left, came, last, seconds| {
        watch.changed(DEVICE, life(left, 1), life(came, 1), peer(last), &at(seconds)).is_new
    };
    assert!(!changed(&mut watch, 1, 2, 2, 0));
    assert!(!changed(&mut watch, 2, 1, 1, 10), "a machine may be set back once");
    assert!(changed(&mut watch, 1, 2, 2, 20));
    assert!(!changed(&mut watch, 2, 1, 1, 30), "said once");
    let suspicion = watch.suspicion(DEVICE, &at(40)).unwrap();
    assert_eq!(suspicion.since, at(10).wall);
    assert_eq!(suspicion.addresses, [peer(1).unwrap(), peer(2).unwrap()]);
    assert_eq!(watch.suspicion(DEVICE, &at(30 + LASTS_SECONDS + TOUCHED_SECONDS + 1)), None);
    assert_eq!(watch.suspicion(DeviceId(8), &at(40)), None);
}

#[test]
fn two_containers_of_one_machine_are_told_apart_by_their_epochs_or_their_content() {
    let (a, b) = (life(1, 10), life(1, 20));
    let seen = through(&mut CloneWatch::default(), &[a, b, a, b, a]);
    assert_eq!(seen, [(false, false), (false, false), (true, true), (true, false)]);
    // The content is the first sign: the epoch forks, and the first one's comes back.
    let mut watch = CloneWatch::default();
    assert!(!watch.contradicted(DEVICE, None, &at(0)));
    assert_eq!(through(&mut watch, &[a, b, a, b]).last(), Some(&(true, true)));
    let mut watch = CloneWatch::default();
    assert!(!watch.contradicted(DEVICE, None, &at(0)));
    assert!(watch.contradicted(DEVICE, None, &at(1)));
}

/// Goes through numbers of certificates as they are shown, each behind the one before; whether two machines
/// are suspected in the end.
fn shows(numbers: &[u32]) -> bool {
    let mut watch = CloneWatch::default();
    for (step, pair) in (0_u64..).zip(numbers.windows(2)) {
        watch.certificate_shown(DEVICE, pair[0], pair[1], peer(1), &at(step * 10));
    }
    watch.suspicion(DEVICE, &at(numbers.len() as u64 * 10)).is_some()
}

#[test]
fn a_certificate_that_was_replaced_comes_back_from_another_machine_alone() {
    assert!(!shows(&[1, 2, 3, 4, 5, 6]), "it renews");
    assert!(!shows(&[2, 1, 3, 4]), "it was restored, and renews");
    assert!(!shows(&[2, 1, 3, 1, 4, 1, 5, 1, 6]), "again and again from one copy");
    assert!(!shows(&[2, 1, 2, 3]), "there and back, once");
    assert!(shows(&[2, 1, 2, 1, 2]), "the copy does not renew");
    assert!(shows(&[2, 1, 3, 2, 3, 2, 3]), "both have renewed");
    let mut watch = CloneWatch::default();
    assert_eq!(watch.certificate_shown(DEVICE, 0, 2, None, &at(0)), CertificateSighting::default());
    assert!(watch.devices.is_empty(), "a renewal is remembered nowhere");
    watch.certificate_shown(DEVICE, 2, 1, None, &at(0));
    let back = watch.certificate_shown(DEVICE, 0, 2, None, &at(LASTS_SECONDS * 7));
    assert_eq!(back, CertificateSighting { is_new: false, has_returned: true });
}

#[test]
fn the_first_stays_the_first_however_often_it_boots_while_the_copy_is_off() {
    let mut watch = CloneWatch::default();
    let (mut record, mut seconds) = (on(1, 1, 1), 0);
    let mut came = |came: Incarnation, after_seconds: u64| {
        seconds += after_seconds;
        let left = std::mem::replace(&mut record, came);
        watch.changed(DEVICE, left, came, None, &at(seconds)).is_copy
    };
    let copy = on(2, 2, 1);
    assert!(!came(copy, 10));
    // One boot every other day is nothing that is suspected any more, and more than are remembered.
    assert!((3..60).all(|boot| !came(on(1, boot, 1), 2 * LASTS_SECONDS)));
    assert_eq!([copy, on(1, 59, 1), copy].map(|one| came(one, 10)), [false, false, true]);
}

/// A fleet of copies of one disk, in any order, with reboots: the first one is never taken for a copy, and
/// each other one is found out.
#[test]
fn real_clones_in_any_order_are_all_found_out_and_never_the_first() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let mut watch = CloneWatch::default();
        let machines = 2 + random.up_to(3);
        let mut boots: Vec<u16> =
            (0..machines).map(|machine| 100 * u16::try_from(machine).unwrap() + 1).collect();
        let mut found = vec![false; boots.len()];
        let mut record = on(1, 1, 1);
        for step in 0..400 {
            let machine = usize::try_from(random.up_to(machines - 1)).unwrap();
            if found[machine] {
                continue;
            }
            if random.up_to(9) == 0 {
                boots[machine] += 1;
            }
            let came = on(u16::try_from(machine).unwrap() + 1, boots[machine], 1);
            if came == record {
                continue;
            }
            if watch.changed(DEVICE, record, came, None, &at(step * 60)).is_copy {
                assert!(machine > 0, "seed {seed}, step {step}: the first is no copy");
                assert!(watch.fork(DEVICE, came, &at(step * 60)));
                found[machine] = true;
            } else {
                record = came;
            }
        }
        assert!(found[1..].iter().all(|found| *found), "seed {seed}: {found:?}");
        assert_eq!(watch.suspicion(DEVICE, &at(400 * 60)), None, "seed {seed}: each is a device of its own");
    }
}

/// One machine that boots, is moved, and is set back now and then, as far apart as people do that.
#[test]
fn one_machine_is_never_sent_away_whatever_is_done_to_it() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let mut watch = CloneWatch::default();
        let (mut record, mut boot, mut seconds) = (on(1, 1, 1), 1, 0);
        let mut snapshot = record;
        for step in 0..200 {
            seconds += 600;
            let came = match random.up_to(99) {
                0 => {
                    seconds += LASTS_SECONDS + TOUCHED_SECONDS;
                    on(1 + u16::from(record.machine == 1), boot + 1, record.agent_epoch.0)
                }
                1 => {
                    seconds += LASTS_SECONDS + TOUCHED_SECONDS;
                    snapshot
                }
                2 => {
                    snapshot = record;
                    record
                }
                _ => on(record.machine, boot + 1, record.agent_epoch.0),
            };
            boot = boot.max(came.boot);
            if came != record {
                let sighting = watch.changed(DEVICE, record, came, None, &at(seconds));
                assert!(!sighting.is_copy, "seed {seed}, step {step}");
                record = came;
            }
        }
    }
}

#[test]
fn a_copy_that_comes_again_all_the_same_is_a_suspicion_and_forks_have_a_limit() {
    let (first, copy) = (on(1, 1, 1), on(2, 2, 1));
    let mut watch = CloneWatch::default();
    through(&mut watch, &[first, copy, first, copy]);
    assert!(watch.suspicion(DEVICE, &at(40)).is_some());
    assert!(watch.fork(DEVICE, copy, &at(40)));
    assert_eq!(watch.suspicion(DEVICE, &at(50)), None);
    assert!(watch.changed(DEVICE, first, copy, None, &at(60)).is_copy);
    assert!(watch.fork(DEVICE, copy, &at(60)));
    assert!(watch.suspicion(DEVICE, &at(70)).is_some());
    let allowed = (0..2_000).filter(|_| watch.fork(DEVICE, copy, &at(80))).count();
    assert_eq!(allowed, 998);
    assert!(watch.fork(DEVICE, copy, &at(80 + FORKS_SECONDS + 1)));
}

#[test]
fn a_fleet_that_reboots_leaves_a_bounded_memory_with_the_suspected_in_it() {
    let mut watch = CloneWatch::default();
    watch.contradicted(DeviceId(0), None, &at(0));
    assert!(watch.contradicted(DeviceId(0), None, &at(0)));
    for device in 1..3 * DEVICES_MAX as u64 {
        watch.changed(DeviceId(device), on(1, 1, 1), on(1 + u16::from(device % 2 == 0), 2, 1), None, &at(0));
        assert!(watch.devices.len() <= DEVICES_MAX);
    }
    assert!(watch.suspicion(DeviceId(0), &at(1)).is_some());
    for boot in 1..1_000 {
        watch.changed(DeviceId(0), on(1, boot, 1), on(boot % 7, boot + 1, 1), None, &at(0));
    }
    assert!(watch.devices[&DeviceId(0)].history.lives() <= LIVES_MAX);
}

#[test]
fn the_mark_of_a_machine_is_there_exactly_when_the_machine_is_known() {
    assert_eq!((machine_mark(0), boot_mark(0)), (0, 0));
    assert!([1, u64::MAX, 1 << 47, 1 << 48].iter().all(|machine| machine_mark(*machine) != 0));
    assert!([1, u32::MAX, 1 << 15, 1 << 16].iter().all(|boot| boot_mark(*boot) != 0));
}
