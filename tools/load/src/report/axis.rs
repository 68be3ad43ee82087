//! An axis of a plot: where a value stands, and which values are written beside it.

use super::text::{byte_scale, duration, number, range};

/// Most ticks of an axis: more labels than that touch each other.
const TICKS_MAX: f64 = 7.0;

/// Most decades that are shown with ticks at 2 and 5 as well.
const FINE_DECADES_MAX: f64 = 2.5;

/// Spread and kind of values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Scale {
    /// Numbers, in even steps.
    Linear,
    /// Sizes in bytes, in even steps of KiB, MiB and so on.
    Bytes,
    /// Percent, in even steps.
    Percent,
    /// Microseconds, a decade like the next.
    LogMicroseconds,
    /// Quantiles from 0 to below 1: as much room from 99 to 99.9 % as from 90 to 99 %.
    Quantile,
}

/// An axis that holds certain values.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    scale: Scale,
    least: f64,
    most: f64,
    /// Value and label.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that is wide enough for the values. With `zero` it begins at zero, so that a height is a
    /// share.
    pub(super) fn around(scale: Scale, values: impl Iterator<Item = f64>, zero: bool) -> Self {
        let is_log = scale == Scale::LogMicroseconds;
        let values = values.filter(|value| value.is_finite() && (!is_log || *value > 0.0));
        let (mut least, mut most) = range(values).unwrap_or((0.0, 1.0));
        if zero && !is_log {
            (least, most) = (least.min(0.0), most.max(0.0));
        }
        match scale {
            Scale::LogMicroseconds => Self::logarithmic(least, most),
            Scale::Quantile => Self::quantile(most),
            Scale::Linear | Scale::Bytes | Scale::Percent => {
                if most <= least {
                    // One value has room on both sides; one value of zero reaches to 1.
                    most = least + least.abs().max(1.0);
                }
                Self::linear(scale, least, most, zero)
            }
        }
    }

    fn linear(scale: Scale, least: f64, most: f64, is_open: bool) -> Self {
        let (unit, suffix) = match scale {
            Scale::Bytes => byte_scale(most.abs().max(least.abs())),
            Scale::Percent => (1.0, "%"),
            _ => (1.0, ""),
        };
        let step = nice_step((most - least) / unit) * unit;
        // Up to a tick, unless the values begin where they like: then they end where they do.
        let (first, last) = ((least / step).floor() * step, (most / step).ceil() * step);
        let (least, most) = if is_open { (first, last) } else { (least, most) };
        let mut ticks = Vec::new();
        for place in 0..=64 {
            let value = first + step * f64::from(place);
            if value > most + step * 1e-6 {
                break;
            }
            if value >= least - step * 1e-6 {
                let shown = short(tidy(value / unit, step / unit));
                ticks.push((value, if suffix.is_empty() { shown } else { format!("{shown} {suffix}") }));
            }
        }
        Self { scale, least, most, ticks }
    }

    fn logarithmic(least: f64, most: f64) -> Self {
        let (first, last) = (least.max(1e-3).log10(), most.max(1e-3).log10());
        let decades = last - first;
        let factors: &[f64] = if decades <= FINE_DECADES_MAX { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let candidates: Vec<f64> = (-4..=18)
            .flat_map(|decade| factors.iter().map(move |factor| factor * 10_f64.powi(decade)))
            .collect();
        // From the tick below to the tick above.
        let least = candidates.iter().copied().rfind(|tick| *tick <= least).unwrap_or(least.max(1e-3));
        let most = candidates.iter().copied().find(|tick| *tick >= most && *tick > least).unwrap_or(most);
        let within = candidates.into_iter().filter(|tick| (least..=most).contains(tick));
        Self {
            scale: Scale::LogMicroseconds,
            least,
            most,
            ticks: within.map(|tick| (tick, duration(tick))).collect(),
        }
    }

    fn quantile(most: f64) -> Self {
        let most = most.clamp(0.9, 1.0 - 1e-9);
        let ticks = [(0.0, "0 %"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")];
        let more = [(0.9999, "99.99 %"), (0.999_99, "99.999 %"), (0.999_999, "99.9999 %")];
        let within = ticks.into_iter().chain(more).filter(|(tick, _)| *tick <= most);
        let ticks = within.map(|(tick, label)| (tick, label.to_owned())).collect();
        Self { scale: Scale::Quantile, least: 0.0, most, ticks }
    }

    /// Place of a value, from 0 at the beginning to 1 at the end. Never outside.
    pub(super) fn place(&self, value: f64) -> f64 {
        let on = |value: f64| match self.scale {
            Scale::LogMicroseconds => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Quantile => -(1.0 - value.min(self.most)).log10(),
            Scale::Linear | Scale::Bytes | Scale::Percent => value,
        };
        let (first, last) = (on(self.least), on(self.most));
        let share = (on(value) - first) / (last - first);
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// A number without zeros at its end: ticks are round.
fn short(value: f64) -> String {
    let text = number(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A step of 1, 2 or 5 times a power of ten that makes few ticks.
fn nice_step(range: f64) -> f64 {
    let raw = (range / TICKS_MAX).max(f64::MIN_POSITIVE);
    let decade = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * decade >= raw).unwrap_or(10.0);
    let step = factor * decade;
    if step.is_normal() { step } else { 1.0 }
}

/// The value without what the sum of steps left behind its last digit.
fn tidy(value: f64, step: f64) -> f64 {
    let steps = (value / step).round();
    let value = steps * step;
    if step < 1.0 { (value * 1e9).round() / 1e9 } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        let axis = Axis::around(Scale::Linear, [0.0, 18_000.0].into_iter(), false);
        assert_eq!(labels(&axis), ["0", "5,000", "10,000", "15,000"]);
        let axis = Axis::around(Scale::Bytes, [9_437_184.0, 14_322_384.0].into_iter(), true);
        assert_eq!(
            labels(&axis),
            ["0 MiB", "2 MiB", "4 MiB", "6 MiB", "8 MiB", "10 MiB", "12 MiB", "14 MiB"]
        );
        let axis = Axis::around(Scale::Percent, [0.7, 0.1].into_iter(), true);
        assert_eq!(labels(&axis)[1], "0.1 %");
        let axis = Axis::around(Scale::LogMicroseconds, [140.0, 9_720.0].into_iter(), false);
        assert_eq!(labels(&axis), ["100 µs", "200 µs", "500 µs", "1 ms", "2 ms", "5 ms", "10 ms"]);
        let axis = Axis::around(Scale::Quantile, [0.999_98].into_iter(), false);
        assert_eq!(labels(&axis), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn a_value_has_its_place() {
        let axis = Axis::around(Scale::LogMicroseconds, [100.0, 10_000.0].into_iter(), false);
        assert!((axis.place(1_000.0) - 0.5).abs() < 1e-9);
        assert_eq!((axis.place(1.0), axis.place(1e9)), (0.0, 1.0), "what is outside stands at the edge");
        let axis = Axis::around(Scale::Quantile, [0.9999].into_iter(), false);
        assert!((axis.place(0.99) - 0.5).abs() < 1e-9);
        let axis = Axis::around(Scale::Linear, [5.0, 15.0].into_iter(), false);
        assert!((axis.place(10.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn one_value_or_none_makes_an_axis() {
        for scale in [Scale::Linear, Scale::Bytes, Scale::Percent, Scale::LogMicroseconds, Scale::Quantile] {
            for values in [vec![], vec![0.0], vec![7.0], vec![f64::NAN, f64::INFINITY]] {
                let axis = Axis::around(scale, values.into_iter(), true);
                assert!(axis.ticks.len() >= 2, "{axis:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_values_stand_on_their_axis(values in prop::collection::vec(any::<f64>(), 0..6), zero: bool) {
            for scale in [Scale::Linear, Scale::Bytes, Scale::Percent, Scale::LogMicroseconds, Scale::Quantile] {
                let axis = Axis::around(scale, values.iter().copied(), zero);
                prop_assert!(axis.ticks.len() <= 72);
                for value in &values {
                    prop_assert!((0.0..=1.0).contains(&axis.place(*value)));
                }
            }
        }

        #[test]
        fn more_stands_further_on(a in 1.0..1e9_f64, b in 1.0..1e9_f64) {
            for scale in [Scale::Linear, Scale::Bytes, Scale::LogMicroseconds] {
                let axis = Axis::around(scale, [a, b].into_iter(), false);
                prop_assert!(axis.place(a.min(b)) <= axis.place(a.max(b)));
            }
        }
    }
}
