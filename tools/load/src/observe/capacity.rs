//! Number of devices that a server can hold: the sentence that a run of `hold` ends with.

use std::fmt;

use crate::report::text::grouped;

/// Least memory left to the system: kernel, page cache for the store and the journal, a login.
const RESERVE_BYTES_MIN: f64 = 256.0 * MEBIBYTE;

/// Share of the memory that is left to the system: page tables and bookkeeping grow with the machine.
const RESERVE_SHARE: f64 = 0.10;

/// Most memory left to the system: a large machine's system needs no more.
const RESERVE_BYTES_MAX: f64 = 4.0 * GIBIBYTE;

const MEBIBYTE: f64 = 1_048_576.0;
const GIBIBYTE: f64 = 1_073_741_824.0;

/// Number of devices that fit into a memory, and the figures that it was computed with.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Capacity {
    pub(crate) devices: u64,
    pub(crate) memory_bytes: u64,
    /// Left to the system.
    pub(crate) reserve_bytes: u64,
    /// The server before the first device came.
    pub(crate) idle_bytes: u64,
    pub(crate) user_bytes_per_device: f64,
    pub(crate) kernel_bytes_per_socket: f64,
}

/// Number of devices that are always connected that fit into a memory. A device has one socket. Slopes below
/// zero, or not a number, are taken as nothing; without any cost there is no limit to compute, and the answer
/// is 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "neither negative nor above 2^64"
)]
pub(crate) fn capacity(
    idle_bytes: u64,
    user_bytes_per_device: f64,
    kernel_bytes_per_socket: f64,
    memory_bytes: u64,
) -> Capacity {
    let cost = user_bytes_per_device.max(0.0) + kernel_bytes_per_socket.max(0.0);
    let reserve = (memory_bytes as f64 * RESERVE_SHARE).clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX);
    let left = (memory_bytes as f64 - reserve - idle_bytes as f64).max(0.0);
    let devices = if cost > 0.0 && cost.is_finite() { (left / cost) as u64 } else { 0 };
    Capacity {
        devices,
        memory_bytes,
        reserve_bytes: reserve as u64,
        idle_bytes,
        user_bytes_per_device,
        kernel_bytes_per_socket,
    }
}

impl Capacity {
    /// Derivation of the number.
    pub(crate) fn explanation(&self) -> String {
        format!(
            "Capacity: {} of memory, less {:.0} MiB left to the system and {:.1} MiB of the idle server, divided by {:.0} bytes a \
             device ({:.0} of the server, {:.0} of the kernel for the socket).",
            gibibytes(self.memory_bytes),
            self.reserve_bytes as f64 / MEBIBYTE,
            self.idle_bytes as f64 / MEBIBYTE,
            self.user_bytes_per_device.max(0.0) + self.kernel_bytes_per_socket.max(0.0),
            self.user_bytes_per_device,
            self.kernel_bytes_per_socket,
        )
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices = grouped(&two_digits(self.devices).to_string());
        write!(f, "this server can hold about {devices} devices in {}", gibibytes(self.memory_bytes))
    }
}

/// Rounded down to what the measurement is good for: two digits.
fn two_digits(number: u64) -> u64 {
    let mut step = 1;
    while number / step >= 100 {
        step *= 10;
    }
    number - number % step
}

fn gibibytes(bytes: u64) -> String {
    let text = format!("{:.1}", bytes as f64 / GIBIBYTE);
    format!("{} GiB", text.trim_end_matches(".0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_small_server_holds_what_its_memory_is_worth() {
        let capacity = capacity(12 << 20, 256.0, 4_030.0, GIB);
        // 1 GiB less 256 MiB and 12 MiB, at 4,286 bytes.
        assert_eq!(capacity.devices, ((1_024 - 268) << 20) / 4_286);
        assert_eq!(capacity.to_string(), "this server can hold about 180,000 devices in 1 GiB");
        let explanation = capacity.explanation();
        for part in ["1 GiB", "256 MiB", "12.0 MiB", "4286 bytes", "256 of the server", "4030 of the kernel"]
        {
            assert!(explanation.contains(part), "{part}: {explanation}");
        }
    }

    #[test]
    fn the_reserve_grows_with_the_machine_up_to_a_limit() {
        assert_eq!(capacity(0, 1.0, 1.0, 16 * GIB).reserve_bytes, (16 * GIB) / 10);
        assert_eq!(capacity(0, 1.0, 1.0, 256 * GIB).reserve_bytes, 4 * GIB);
        assert_eq!(capacity(0, 300.0, 4_000.0, 100 << 20).devices, 0, "less than the reserve");
    }

    #[test]
    fn no_cost_is_no_capacity() {
        for cost in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(capacity(0, cost, 0.0, GIB).devices, 0);
        }
        assert_eq!(capacity(0, -50.0, 4_096.0, GIB).devices, (768 << 20) / 4_096, "no gain by a noisy slope");
    }

    #[test]
    fn digits_that_mean_nothing_are_not_shown() {
        for (number, text) in
            [(0, "0"), (7, "7"), (99, "99"), (199, "190"), (1_999, "1,900"), (1_234_567, "1,200,000")]
        {
            assert_eq!(grouped(&two_digits(number).to_string()), text);
        }
    }
}
