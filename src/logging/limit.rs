//! The rate at which one place in the program may write lines.

use std::collections::HashMap;
use std::time::Duration;

use log::Level;

/// Lines that one place in the program may write in a second: what comes with each of many devices is said of
/// some of them, and the others are counted.
pub const LINES_PER_SECOND_MAX: u32 = 50;

/// When what was left out is summarised.
pub(super) const SUMMARY_AFTER: Duration = Duration::from_secs(1);

/// A place in the program's source. There are some hundreds, so that the table of them needs no bound.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Place {
    pub(super) file: &'static str,
    pub(super) number: u32,
}

/// Whether a line may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Speak,
    Silent,
    /// It is the first that is left out since the last summary of this place.
    FirstLeftOut,
}

struct Spoken {
    second: u64,
    lines: u32,
    left_out: u64,
    level: Level,
    target: &'static str,
}

/// The places that have spoken.
#[derive(Default)]
pub(super) struct Places {
    spoken: HashMap<Place, Spoken>,
}

impl Places {
    /// A place wants to write a line in this second.
    pub(super) fn speak(&mut self, place: Place, second: u64, level: Level, target: &'static str) -> Verdict {
        let spoken =
            self.spoken.entry(place).or_insert(Spoken { second, lines: 0, left_out: 0, level, target });
        if spoken.second != second {
            (spoken.second, spoken.lines) = (second, 0);
        }
        if spoken.lines < LINES_PER_SECOND_MAX {
            spoken.lines += 1;
            return Verdict::Speak;
        }
        spoken.left_out += 1;
        if spoken.left_out == 1 { Verdict::FirstLeftOut } else { Verdict::Silent }
    }

    /// Takes out the numbers of lines that were left out, by place.
    pub(super) fn take_left_out(&mut self) -> Vec<(Level, &'static str, u64)> {
        let mut all: Vec<_> = self
            .spoken
            .values_mut()
            .filter(|spoken| spoken.left_out > 0)
            .map(|spoken| (spoken.level, spoken.target, std::mem::take(&mut spoken.left_out)))
            .collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_speaks_so_often_in_a_second_and_the_rest_is_counted() {
        let mut places = Places::default();
        let at = |number| Place { file: "x.rs", number };
        let speak = |places: &mut Places, number, second| places.speak(at(number), second, Level::Info, "x");
        for _ in 0..LINES_PER_SECOND_MAX {
            assert_eq!(speak(&mut places, 1, 7), Verdict::Speak);
        }
        assert_eq!(speak(&mut places, 1, 7), Verdict::FirstLeftOut);
        for _ in 0..1_000 {
            assert_eq!(speak(&mut places, 1, 7), Verdict::Silent);
        }
        assert_eq!(speak(&mut places, 2, 7), Verdict::Speak, "another place has its own lines");
        assert_eq!(places.take_left_out(), [(Level::Info, "x", 1_001)]);
        assert_eq!(places.take_left_out(), []);
        assert_eq!(speak(&mut places, 1, 7), Verdict::FirstLeftOut, "the second is not over");
        assert_eq!(speak(&mut places, 1, 8), Verdict::Speak);
    }
}
