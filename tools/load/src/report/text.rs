//! Numbers and texts as people read them; the same in the table and on the page.

use super::model::Unit;

/// Placeholder for a number.
pub(crate) const NOTHING_THERE: &str = "-";

/// Sizes up to this many bytes are shown in bytes: what a device costs is looked at closely.
const PLAIN_BYTES_MAX: f64 = 100_000.0;

/// The blocks of a sparkline, from the least to the most.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A value with its unit.
pub(crate) fn quantity(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return NOTHING_THERE.to_owned();
    }
    match unit {
        Unit::Count => number(value),
        Unit::PerSecond => format!("{} /s", number(value)),
        Unit::Seconds => duration(value * 1e6),
        Unit::Microseconds => duration(value),
        Unit::Bytes => bytes(value),
        Unit::Percent => format!("{} %", number(value)),
        Unit::Ratio => format!("{} ×", number(value)),
    }
}

/// A time in microseconds, in the unit that keeps it short.
pub(crate) fn duration(microseconds: f64) -> String {
    let (scale, unit) = match microseconds.abs() {
        999_500.0.. => (1e6, "s"),
        999.5.. => (1e3, "ms"),
        _ => (1.0, "µs"),
    };
    format!("{} {unit}", number(microseconds / scale))
}

/// A size in bytes, in the unit that keeps it short.
pub(crate) fn bytes(bytes: f64) -> String {
    if bytes.abs() < PLAIN_BYTES_MAX {
        return format!("{} B", number(bytes));
    }
    let (scale, unit) = byte_scale(bytes);
    format!("{} {unit}", number(bytes / scale))
}

/// The unit that keeps sizes of about `bytes` bytes short, and its bytes.
pub(crate) fn byte_scale(bytes: f64) -> (f64, &'static str) {
    const UNITS: [(f64, &str); 4] =
        [(1_099_511_627_776.0, "TiB"), (1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1_024.0, "KiB")];
    UNITS.into_iter().find(|(scale, _)| bytes.abs() >= *scale).unwrap_or((1.0, "B"))
}

/// A number with three digits that say something, and its thousands apart.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING_THERE.to_owned();
    }
    let decimals = match value.abs() {
        99.95.. => 0,
        9.995.. => 1,
        0.9995.. => 2,
        0.0995.. => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    let text = match text.split_once('.') {
        Some((whole, _)) if value.fract() == 0.0 => whole,
        _ => &text,
    };
    grouped(text)
}

/// Digits with a comma between thousands: `-1,234.5`.
pub(crate) fn grouped(digits: &str) -> String {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut text = sign.to_owned();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

/// The group and the rest of a label like `memory: the server's`.
pub(crate) fn group_of(label: &str) -> (Option<&str>, &str) {
    match label.split_once(": ") {
        Some((group, rest)) if !group.is_empty() && !rest.is_empty() => (Some(group), rest),
        _ => (None, label),
    }
}

/// The name of a group, if it has one, and its members with what their label says besides.
pub(crate) type Group<'i, T> = (Option<&'i str>, Vec<(&'i str, &'i T)>);

/// Items by the group that their label names, groups in the order in which they first occur; those of no
/// group first.
pub(crate) fn by_group<'i, T>(items: &'i [T], label: impl Fn(&'i T) -> &'i str) -> Vec<Group<'i, T>> {
    let mut groups: Vec<Group<'i, T>> = Vec::new();
    for item in items {
        let (group, rest) = group_of(label(item));
        match groups.iter_mut().find(|(name, _)| *name == group) {
            Some((_, members)) => members.push((rest, item)),
            None => groups.push((group, vec![(rest, item)])),
        }
    }
    groups.sort_by_key(|(group, _)| group.is_some());
    groups
}

/// The text with a capital at its start.
pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

/// A time of RFC 3339 in UTC, to the second; any other text as it is.
pub(crate) fn moment(text: &str) -> String {
    match (text.split_once('T'), text.get(11..19)) {
        (Some((date, _)), Some(clock)) if text.ends_with('Z') && date.len() == 10 => {
            format!("{date} {clock} UTC")
        }
        _ => text.to_owned(),
    }
}

/// Text without what would command a terminal.
pub(crate) fn plain(text: &str) -> String {
    let is_override = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || is_override(c) { '\u{fffd}' } else { c }).collect()
}

/// The least and the most of some values.
pub(crate) fn range(mut values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let first = values.next()?;
    Some(values.fold((first, first), |(least, most), value| (least.min(value), most.max(value))))
}

/// A curve in one line: `columns` blocks from the first x to the last, a space where there is no point.
/// `None`: nothing to show.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shares of the columns and of the blocks"
)]
pub(crate) fn sparkline(points: &[(f64, f64)], columns: usize) -> Option<String> {
    let points: Vec<_> = points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let (first, last) = range(points.iter().map(|point| point.0))?;
    let (least, most) = range(points.iter().map(|point| point.1))?;
    let mut cells = vec![(0.0_f64, 0.0_f64); columns.max(1)];
    for (x, y) in points {
        let share = if last > first { (x - first) / (last - first) } else { 0.0 };
        let place = ((share * columns as f64) as usize).min(cells.len() - 1);
        cells[place] = (cells[place].0 + y, cells[place].1 + 1.0);
    }
    let block = |(sum, count): &(f64, f64)| {
        if *count == 0.0 {
            return ' ';
        }
        // A value that does not change lies in the middle.
        let share = if most > least { (sum / count - least) / (most - least) } else { 0.5 };
        BLOCKS[(share * 7.0).round().clamp(0.0, 7.0) as usize]
    };
    Some(cells.iter().map(block).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_have_the_units_that_people_read() {
        for (value, unit, text) in [
            (18_000.0, Unit::Count, "18,000"),
            (1_234_567.4, Unit::PerSecond, "1,234,567 /s"),
            (0.0, Unit::Count, "0"),
            (256.4, Unit::Bytes, "256 B"),
            (4_030.2, Unit::Bytes, "4,030 B"),
            (12_582_912.0, Unit::Bytes, "12 MiB"),
            (-524_288.0, Unit::Bytes, "-512 KiB"),
            (7.3149, Unit::Microseconds, "7.31 µs"),
            (999.6, Unit::Microseconds, "1.00 ms"),
            (12_340.0, Unit::Microseconds, "12.3 ms"),
            (999_600.0, Unit::Microseconds, "1.00 s"),
            (723.0, Unit::Seconds, "723 s"),
            (0.25, Unit::Seconds, "250 ms"),
            (99.97, Unit::Percent, "100 %"),
            (1.05, Unit::Ratio, "1.05 ×"),
            (0.0123, Unit::Ratio, "0.0123 ×"),
            (f64::NAN, Unit::Bytes, "-"),
            (f64::INFINITY, Unit::PerSecond, "-"),
        ] {
            assert_eq!(quantity(value, unit), text);
        }
    }

    #[test]
    fn a_label_names_its_group() {
        assert_eq!(group_of("memory: the server's: all"), (Some("memory"), "the server's: all"));
        assert_eq!(group_of("links"), (None, "links"));
        assert_eq!(group_of("ratio 1:2"), (None, "ratio 1:2"));
        let labels = ["b: 1", "a: 1", "none", "b: 2"];
        let groups = by_group(&labels, |label| label);
        let names: Vec<_> = groups.iter().map(|(group, members)| (*group, members.len())).collect();
        assert_eq!(names, [(None, 1), (Some("b"), 2), (Some("a"), 1)]);
    }

    #[test]
    fn a_name_can_not_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\n\u{202e}c"), "a\u{fffd}[31mb\u{fffd}\u{fffd}c");
        assert_eq!(moment("2026-11-24T10:00:00.123Z"), "2026-11-24 10:00:00 UTC");
        assert_eq!(moment("2026-11-24T10:00:00+01:00"), "2026-11-24T10:00:00+01:00");
        assert_eq!(moment("Täglich um 10 UhrTäZ"), "Täglich um 10 UhrTäZ");
        assert_eq!(capitalised("memory"), "Memory");
        assert_eq!(capitalised(""), "");
    }

    #[test]
    fn a_curve_fits_one_line() {
        assert_eq!(sparkline(&[(0.0, 0.0), (1.0, 5.0), (3.0, 10.0)], 4).unwrap(), "▁▅ █");
        assert_eq!(sparkline(&[(7.0, 3.0)], 3).unwrap(), "▅  ");
        assert_eq!(sparkline(&[(f64::NAN, 1.0)], 3), None);
        assert_eq!(sparkline(&[], 3), None);
    }

    proptest! {
        #[test]
        fn any_number_is_written(value: f64, points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..9), columns in 0_usize..80) {
            for unit in [Unit::Count, Unit::PerSecond, Unit::Seconds, Unit::Bytes, Unit::Percent, Unit::Ratio] {
                prop_assert!(!quantity(value, unit).is_empty());
            }
            if let Some(line) = sparkline(&points, columns) {
                prop_assert_eq!(line.chars().count(), columns.max(1));
            }
        }
    }
}
