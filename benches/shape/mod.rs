//! The shape of a generated fleet, for benches: 50 kinds of device; each has 200 applications, 160 of them on
//! every kind, and each device differs from its kind in four.

use muster::wire::id::DeviceId;

/// Applications of a device.
pub(crate) const APPLICATIONS: u64 = 200;

/// Kinds of device.
pub(crate) const KINDS: u64 = 50;
const SHARED_BY_ALL: u64 = 160;

/// A number that looks drawn at random and is the same in every run.
pub(crate) fn spread(number: u64, salt: u64) -> u64 {
    (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17 * salt as u32) >> 20
}

/// The device with this number.
pub(crate) fn device(number: u64) -> DeviceId {
    DeviceId((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The numbers of the applications that the device with this number has; `generation` changes one of them.
pub(crate) fn applications(number: u64, generation: u64) -> Vec<u64> {
    let kind = number % KINDS;
    let own = APPLICATIONS - SHARED_BY_ALL;
    let mut numbers: Vec<u64> =
        (0..SHARED_BY_ALL).chain((0..own).map(|at| 1_000 + kind * own + at)).collect();
    numbers.remove((spread(number, 1) % APPLICATIONS) as usize);
    numbers.remove((spread(number, 2) % (APPLICATIONS - 1)) as usize);
    numbers.extend([10_000 + spread(number, 3) % 1_000, 11_000 + (spread(number, 4) + generation) % 1_000]);
    numbers
}
