//! Durations, sizes and numbers of things as people write them: `15m`, `1h30m`, `64MiB`, `1 device has`.

use std::time::Duration;

/// Names of the units of time and their length, in milliseconds; longest first.
const TIME_UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Names of the units of size and their length, in bytes; largest first.
const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a duration: whole numbers with a unit (`w`, `d`, `h`, `m`, `s`, `ms`), one or several after each
/// other.
///
/// # Errors
/// When it is none, or longer than a `u64` of milliseconds holds. The error names the text and what is
/// allowed.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, &TIME_UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("'{text}' is not a duration (a number with w, d, h, m, s or ms, such as 15m)"))
}

/// Writes a duration so that [`parse_duration`] reads it: `1h30m`. Fractions of a millisecond are left out.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, milliseconds) in TIME_UNITS {
        let count = left / milliseconds;
        left %= milliseconds;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    text
}

/// Reads a size in bytes: a whole number with a unit (`B`, `KiB`, `MiB`, `GiB`, `TiB`).
///
/// # Errors
/// When it is none, or more than a `u64` holds. The error names the text and what is allowed.
pub fn parse_size(text: &str) -> Result<u64, String> {
    parse(text, &SIZE_UNITS).ok_or_else(|| {
        format!("'{text}' is not a size (a number with B, KiB, MiB, GiB or TiB, such as 64MiB)")
    })
}

/// Writes a size in the largest unit that divides it, so that [`parse_size`] reads it: `64MiB`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let fits = |(_, unit): &(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    let (name, unit) = SIZE_UNITS.into_iter().find(fits).unwrap_or(("B", 1));
    format!("{}{name}", bytes / unit)
}

/// The sum of `number unit` pairs, or `None` when the text is anything else.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut rest = text.trim();
    let mut sum = None;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(letters);
        let (_, unit) = units.iter().find(|(unit, _)| *unit == name.trim())?;
        sum = Some(count.checked_mul(*unit)?.checked_add(sum.unwrap_or(0))?);
        rest = after;
    }
    sum
}

/// A number of things: `1 device`, `12 devices`.
#[must_use]
pub fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// The same with what one of them, and what more of them do: `1 device has`, `12 devices have`.
#[must_use]
pub fn count_that(number: u64, thing: &str, one: &str, more: &str) -> String {
    format!("{} {}", count(number, thing), if number == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_and_sizes_as_people_write_them() {
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("64 MiB"), Ok(64 << 20));
        for text in ["", "15", "m", "-1m", "1.5h", "99999999999w", "1 fortnight"] {
            assert!(parse_duration(text).unwrap_err().starts_with(&format!("'{text}' is not a duration")));
        }
        for text in ["", "64", "64MB", "99999999TiB"] {
            assert!(parse_size(text).unwrap_err().starts_with(&format!("'{text}' is not a size")));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(milliseconds in 0u64..1 << 45, bytes: u64) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_judged_without_panic(text in "\\PC{0,40}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
