//! Sizes and measured values as people read them, in a terminal and on pages.

use super::device_table::duration;

/// A size in bytes, with a unit that keeps it short.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let (mut unit, mut whole, mut tenths) = (0, bytes / 1_024, bytes % 1_024 * 10 / 1_024);
    while whole >= 1_024 && unit + 1 < UNITS.len() {
        tenths = whole % 1_024 * 10 / 1_024;
        whole /= 1_024;
        unit += 1;
    }
    format!("{whole}.{tenths} {}", UNITS[unit])
}

/// A number with its unit, as people read it: `1.2 GiB`, `35 %`, `12.5 requests/s`.
pub(crate) fn quantity(value: f64, unit: &str) -> String {
    let whole = whole(value);
    match (unit, whole) {
        ("bytes" | "B", Some(bytes)) => size(bytes),
        ("bytes/s" | "B/s", Some(bytes)) => format!("{}/s", size(bytes)),
        ("seconds" | "s", Some(seconds)) if value >= 60.0 => duration(seconds),
        ("percent" | "%", _) => format!("{} %", number(value)),
        ("seconds", _) => format!("{} s", number(value)),
        ("", _) => number(value),
        _ => format!("{} {unit}", number(value)),
    }
}

/// A number without digits that say nothing.
fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 100.0 {
        return format!("{value:.0}");
    }
    let decimals = match value.abs() {
        1.0.. => 1,
        0.1.. => 2,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The number without its fraction, when it is not negative and no absurd one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bounds are checked")]
fn whole(value: f64) -> Option<u64> {
    const MAX: f64 = (1_u64 << 63) as f64;
    (0.0..MAX).contains(&value).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_the_units_that_people_read() {
        for (value, unit, text) in [
            (1_288_490_188.8, "bytes", "1.1 GiB"),
            (35.0, "percent", "35 %"),
            (4.96, "percent", "5 %"),
            (12.5, "requests/s", "12.5 requests/s"),
            (7_325.0, "seconds", "2h2m"),
            (0.25, "seconds", "0.25 s"),
            (1_024.0, "bytes/s", "1.0 KiB/s"),
            (-3.0, "bytes", "-3 bytes"),
            (3.0, "", "3"),
            (0.001, "", "0.001"),
            (1e300, "bytes", &format!("{:.0} bytes", 1e300)),
        ] {
            assert_eq!(quantity(value, unit), text);
        }
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1_536), "1.5 KiB");
        assert_eq!(size(64 * 1024 * 1024), "64.0 MiB");
    }

    proptest! {
        #[test]
        fn any_number_is_written(value: f64, unit in prop::sample::select(vec!["bytes", "s", "%", "", "x"])) {
            prop_assert!(!quantity(value, unit).is_empty());
        }
    }
}
