//! Ten years of identity: certificates are renewed, the server's key is replaced, lost and stolen, disks are
//! set back, machines reimaged and copied, and no date and no lost file costs a device its place.
//!
//! The agent's machine, the sessions, the store, and the files of both identities are those that ship. No
//! disk is ever without the certificate that worked last, or without a server to trust. Nobody trusts a
//! stranger, nor a thief of the server's keys once that was mended. A device that counts as ready has stored
//! the pins. A certificate that died stays dead. No two devices have one private key once a copy is a device
//! of its own. When the faults stop, every device comes in sync. Each planted fault must be found.
//!
//! `SIM_LIFETIME_SEED=n` shows one seed, `SIM_LIFETIME_SEEDS=n` runs that many from `SIM_FIRST` on. Ids
//! come from the seed and keys from the system, so that a seed repeats what happens for years, and not always
//! to the end.

mod admin;
mod device;
mod server;
mod visit;
mod world;

use super::{number, on_all_cores};
use world::World;

/// Seeds in a plain run.
const SEEDS: u64 = 4;

/// Seeds in which everything happens.
const SEEDS_FOR_ALL: u64 = 24;

/// Seeds within which a planted fault must be found.
const SEEDS_TO_FIND: u64 = 24;

/// A fault that is put in on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// The device keeps the renewed certificate alone, before it was used.
    ForgetsBeforeProved,
    /// The device names what it trusts before that is stored.
    NamesBeforeStored,
    /// The device does not store the lowest number of a voucher.
    NoVoucherFloor,
    /// The administrator goes on with a rotation whatever the devices have.
    RetiresUnready,
    /// A copy that becomes a device of its own keeps its key.
    ForkKeepsKey,
}

macro_rules! counts {
    ($($name:ident,)*) => {
        /// Number of times that each thing has happened.
        #[derive(Clone, Copy, Default, Debug)]
        struct Counts {
            $($name: u64,)*
        }

        impl Counts {
            fn values(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counts! {
    approved, by_voucher, clock_steps, ends, forks, losses, recovery_keys, removals, renewals, restores,
    rotations, set_backs, take_overs, thefts, thieves_refused, torn_writes,
}

/// A few devices in most seeds, hundreds in some.
fn device_count(seed: u64) -> usize {
    match seed % 48 {
        23 => 300,
        other => 4 + usize::try_from(other % 5).unwrap(),
    }
}

fn run(seed: u64, fault: Fault, is_shown: bool) -> (Counts, Option<String>) {
    let mut world = World::new(seed, fault, device_count(seed), is_shown);
    let broken = world.live().err();
    (
        world.counts,
        broken.map(|broken| {
            format!("SIM_LIFETIME_SEED={seed}, day {}: {broken}\n{}", world.day(), world.story())
        }),
    )
}

#[test]
fn no_date_and_no_lost_file_costs_a_device_its_place() {
    if let Some(seed) = number("SIM_LIFETIME_SEED") {
        let (counts, broken) = run(seed, Fault::None, true);
        println!("{counts:?}");
        assert_eq!(broken, None);
        return;
    }
    let seeds = number("SIM_LIFETIME_SEEDS").unwrap_or(SEEDS);
    let first = number("SIM_FIRST").unwrap_or(0);
    let results = on_all_cores(first, seeds, |seed| run(seed, Fault::None, false));
    let failed: Vec<_> = results.iter().filter_map(|(_, broken)| broken.clone()).collect();
    assert!(failed.is_empty(), "{} of {seeds} seeds failed:\n{}", failed.len(), failed.join("\n"));
    let mut totals = Counts::default().values();
    for (counts, _) in &results {
        totals.iter_mut().zip(counts.values()).for_each(|(total, (_, count))| total.1 += count);
    }
    println!("{seeds} seeds from {first} on: {totals:?}");
    let missing: Vec<_> = totals.iter().filter(|(_, count)| *count == 0).collect();
    assert!(missing.is_empty() || seeds < SEEDS_FOR_ALL, "never happened: {missing:?}");
}

/// The backup is of the hours in which a device and its copy were told apart.
#[test]
fn a_machine_with_a_record_that_was_copied_before_is_no_copy_to_a_restored_server() {
    // Of some seeds the copy has the machine id of the first one.
    for seed in 0..4 {
        let mut world = World::new(seed, Fault::None, 4, false);
        while world.counts.forks == 0 {
            world.copy_disk().unwrap();
        }
        let backup = world.server.back_up(world.server_now(0));
        for number in 0..world.devices.len() {
            world.devices[number] = world.enrolled(Some(world.devices[number].identity.device));
            assert_eq!(world.visit(number, true), Ok(true), "device {number}");
        }
        // Later than their next syncs.
        world.seconds += 43_200;
        world.server.restore(&backup, false, world.server_now(0));
        for number in 0..world.devices.len() {
            assert_eq!(world.visit(number, true), Ok(true), "device {number} after it");
        }
    }
}

/// Whether a planted fault is found.
fn finds(fault: Fault) -> bool {
    let small = (0..SEEDS_TO_FIND).filter(|seed| device_count(*seed) < 50);
    let found = small.filter_map(|seed| run(seed, fault, false).1).next();
    println!("{fault:?}: {}", found.as_deref().unwrap_or("not found"));
    found.is_some()
}

#[test]
fn a_device_that_forgets_a_certificate_before_the_next_is_proved_is_found() {
    assert!(finds(Fault::ForgetsBeforeProved));
}

#[test]
fn a_device_that_names_a_pin_before_it_is_durable_is_found() {
    assert!(finds(Fault::NamesBeforeStored));
}

/// It takes a thief whose keys came by a voucher themselves, which few seeds have.
#[test]
fn a_device_that_keeps_no_lowest_voucher_is_found() {
    let meets_thief = |fault| -> Result<u64, String> {
        let mut world = World::new(0, fault, 4, false);
        for is_stolen in [false, true] {
            world.pass(1);
            world.lose_keys_as(is_stolen, false);
            for _ in 0..2 {
                world.pass(1);
                (0..4).try_for_each(|number| world.come_back(number))?;
            }
        }
        (0..4).try_for_each(|number| world.meet_impostors(number))?;
        Ok(world.counts.thieves_refused)
    };
    assert_eq!(meets_thief(Fault::None), Ok(4));
    let found = meets_thief(Fault::NoVoucherFloor);
    assert!(found.as_ref().is_err_and(|what| what.contains("trusts the thief")), "{found:?}");
}

#[test]
fn a_rotation_that_waits_for_nobody_is_found() {
    assert!(finds(Fault::RetiresUnready));
}

#[test]
fn a_copy_that_keeps_its_key_is_found() {
    assert!(finds(Fault::ForkKeepsKey));
}
