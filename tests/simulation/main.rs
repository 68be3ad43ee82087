//! The server and its fleet in one thread under a seed: real sessions, records, calls, acknowledgements and
//! journal, real agent machines and datagrams; a simulated network, disk and clock, and everything that can
//! go wrong with them.
//!
//! First everything goes wrong (`trouble`); then the faults stop, an attacker's datagrams do not, and at
//! quiet points what the server thinks of every device is held against the truth (`phases`, `truth`). Each
//! planted bug must be found.
//!
//! `SIM_SEED=n` replays one seed and prints its trace; `SIM_SEEDS=n` runs n of them, from `SIM_FIRST=n` on.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod agent;
mod bug;
mod calls;
mod clock;
mod counts;
mod datagrams;
mod departures;
mod desired;
mod device;
mod endpoint;
mod hostile;
#[cfg(all(feature = "server", feature = "agent"))]
mod lifetime;
mod neighbours;
mod network;
mod phases;
mod server;
mod trouble;
mod truth;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bug::Bug;
use counts::Counts;
use muster::wire::datagram::DropReason;

use world::World;

/// Seeds within which a planted bug must be found.
const SEEDS_TO_FIND: usize = 256;

/// Seeds in CI.
const SEEDS: u64 = 256;

/// Time for which faults go on, in simulated seconds.
const SAFETY_SECONDS: u64 = 180;

/// Few devices in most seeds, so that many seeds fit; a crowd in some.
fn device_count(seed: u64) -> usize {
    match seed % 256 {
        127 => 200,
        other => 1 + usize::try_from(other % 4).unwrap(),
    }
}

/// Devices that mean no good, in a quarter of the seeds; several of them in some.
fn hostile_count(seed: u64) -> usize {
    match (seed / 4 % 4, seed / 16 % 4) {
        (1, 3) => 3,
        (1, _) => 1,
        _ => 0,
    }
}

struct Outcome {
    counts: Counts,
    trace: u64,
    broken: Option<String>,
}

fn run(seed: u64, bug: Bug, is_shown: bool) -> Outcome {
    let mut world = World::new(seed, device_count(seed), hostile_count(seed), bug, is_shown);
    let broken = live(&mut world).err();
    Outcome { counts: world.counts, trace: world.trace, broken }
}

fn live(world: &mut World) -> Result<(), String> {
    let second = 1_000_000;
    // A crowd says enough in less time.
    let safety = if world.devices.len() > 50 { SAFETY_SECONDS / 3 } else { SAFETY_SECONDS };
    let end = world.now + safety * second;
    while world.step(end)? {}
    world.liveness()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Runs that many seeds on all cores; what came of each, in no order.
fn on_all_cores<T: Send>(first: u64, seeds: u64, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let (next, outcomes) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    let outcome = run(seed);
                    outcomes.lock().unwrap().push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap()
}

#[test]
fn no_acknowledged_event_is_lost_none_is_stored_twice_and_every_device_comes_in_sync() {
    if let Some(seed) = number("SIM_SEED") {
        let outcome = run(seed, Bug::None, true);
        println!("{:?} trace {:016x}", outcome.counts, outcome.trace);
        assert_eq!(outcome.broken, None);
        return;
    }
    let (first, seeds) = (number("SIM_FIRST").unwrap_or(0), number("SIM_SEEDS").unwrap_or(SEEDS));
    let outcomes = on_all_cores(first, seeds, |seed| (seed, run(seed, Bug::None, false)));
    let total = outcomes.iter().fold(Counts::default(), |total, (_, outcome)| total.plus(&outcome.counts));
    let broken = |(seed, outcome): (u64, Outcome)| Some(format!("SIM_SEED={seed}: {}", outcome.broken?));
    let failed: Vec<_> = outcomes.into_iter().filter_map(broken).collect();
    println!("{seeds} seeds from {first} on: {total:?}");
    assert!(failed.is_empty(), "{} of {seeds} seeds failed:\n{}", failed.len(), failed.join("\n"));
    assert!(total.server_crashes > 0 && total.roll_backs > 0 && total.restores > 0 && total.no_room > 0);
    assert!(total.events_held > 0 && total.waits_for_room > 0 && total.superseded_elsewhere > 0);
    assert!(total.damages > 0 && total.recalls > 0 && total.clock_steps > 0);
    assert!(total.ended_by_time > 0 && total.occurrences > 0);
    let ways = [total.synced_on_link, total.synced_by_wake, total.synced_by_itself, total.unreachable];
    assert!(!ways.contains(&0) && total.notices_taken > 0 && total.goodbyes > 0 && total.resumes > 0);
    assert!(
        total.settings_taken > 0 && total.runs_begun > 0 && total.not_now > 0 && total.runs_cancelled > 0
    );
    assert!(total.held > 0 && total.notices_limited > 0 && total.hostile_jobs > 0 && total.beside > 0);
    assert!(total.disk_hangs > 0 && total.server_epochs > 0 && total.links_closed_on_hostile > 0);
    for reason in [DropReason::NotOurs, DropReason::OtherDevice, DropReason::Forged, DropReason::Repeated] {
        assert!(total.drops.of(reason) > 0, "nothing was dropped as {reason}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3, 7] {
        let (one, two) = (run(seed, Bug::None, false), run(seed, Bug::None, false));
        assert_eq!((one.trace, one.counts), (two.trace, two.counts));
    }
    assert_ne!(run(1, Bug::None, false).trace, run(2, Bug::None, false).trace);
}

#[test]
fn a_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in [
        Bug::AckBeforeDurable,
        Bug::NoDuplicateCheck,
        Bug::NoCloseWithoutRoom,
        Bug::TakesBehindHeld,
        Bug::WakeReplayed,
        Bug::NoticeOutlivesSync,
        Bug::OldEndClearsNewLink,
        Bug::AgesByAnyClock,
        Bug::TimesStay,
        Bug::RunTakenTwice,
        Bug::NoAllowance,
        Bug::AcksPileUp,
        Bug::EventForAnother,
        Bug::EpochAtEachClaim,
        Bug::LinkOfAnotherEnds,
        Bug::NoLimitOfUnsent,
        Bug::EarlierLinkStays,
        Bug::PermitIsLost,
        Bug::StopsBeforeJobs,
    ] {
        // If there is nobody to show it, nobody looks.
        let shows = |seed: &u64| !bug.is_of_hostile() || hostile_count(*seed) > 0;
        let mut seeds = (0..).filter(shows).take(SEEDS_TO_FIND);
        let found = seeds.position(|seed| run(seed, bug, false).broken.is_some());
        println!(
            "{bug:?}: found by seed {} of {SEEDS_TO_FIND}",
            found.map_or("none".into(), |at| (at + 1).to_string())
        );
        if found.is_none() {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "{missed:?} were not found");
}
