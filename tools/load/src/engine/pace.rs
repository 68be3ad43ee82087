//! Things that happen by themselves, at a rate a second, whatever becomes of the ones before.

use muster::wire::time::Moment;

/// A steady pace. A thing that was not done in time is due still, with the moment at which it was due: a tool
/// that waits for a slow server before it asks again would measure only when the server is quick.
#[derive(Debug)]
pub(crate) struct Pace {
    begun: Moment,
    microseconds_each: f64,
    done: u64,
}

impl Pace {
    pub(crate) fn new(now: Moment, per_second: f64) -> Self {
        Self { begun: now, microseconds_each: 1_000_000.0 / per_second.max(f64::MIN_POSITIVE), done: 0 }
    }

    /// When the next thing is due.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "microseconds of a run, and a float is cut to what fits"
    )]
    pub(crate) fn next(&self) -> Moment {
        Moment(self.begun.0.saturating_add((self.microseconds_each * (self.done + 1) as f64) as u64))
    }

    /// The moment of the next thing that is due, once for each.
    pub(crate) fn due(&mut self, now: Moment) -> Option<Moment> {
        let next = self.next();
        (next <= now).then(|| {
            self.done += 1;
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_out_when_it_is_late() {
        let mut pace = Pace::new(Moment(1_000_000), 3.0);
        assert_eq!(pace.due(Moment(1_333_332)), None);
        let due: Vec<_> = std::iter::from_fn(|| pace.due(Moment(2_000_000))).collect();
        assert_eq!(due, [Moment(1_333_333), Moment(1_666_666), Moment(2_000_000)]);
        assert_eq!(pace.next(), Moment(2_333_333));
    }

    #[test]
    fn it_does_not_drift() {
        let mut pace = Pace::new(Moment(0), 6_400.0);
        let done = std::iter::from_fn(|| pace.due(Moment(10_000_000))).count();
        assert_eq!(done, 64_000);
    }
}
