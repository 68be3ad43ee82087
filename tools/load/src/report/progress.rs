//! Display while a run goes on, on standard error: bars on a terminal, otherwise a plain line now and then.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::text::{duration, grouped, plain};

/// Time between two plain lines of a phase: a log stays readable, and somebody who waits sees that it goes
/// on.
const LINE_MILLISECONDS: u64 = 5_000;

/// Interval at which a bar is drawn while nothing else moves it: its clock goes on.
const TICK_MILLISECONDS: u64 = 200;

const BAR: &str = "{prefix:<24} {bar:32} {human_pos:>9} of {human_len} {elapsed:>5}";

/// Display of progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    Bars,
    Lines,
    Silent,
}

impl Progress {
    /// Bars when standard error is a terminal, lines when it is none, nothing when nobody wants to see it.
    pub(crate) fn new(is_quiet: bool) -> Self {
        match (is_quiet, io::stderr().is_terminal()) {
            (true, _) => Self::Silent,
            (false, true) => Self::Bars,
            (false, false) => Self::Lines,
        }
    }

    /// A phase of `total` steps begins. It ends when it is dropped.
    pub(crate) fn phase(self, name: &str, total: u64) -> Phase {
        match self {
            Self::Bars => Phase::Bar(bar(name, total)),
            Self::Lines => Phase::Lines(Lines::new(name, total, Instant::now())),
            Self::Silent => Phase::Silent,
        }
    }
}

/// A part of a run. Any thread may say how far it is.
pub(crate) enum Phase {
    Bar(ProgressBar),
    Lines(Lines),
    Silent,
}

impl Phase {
    /// `done` steps are done.
    pub(crate) fn set(&self, done: u64) {
        match self {
            Self::Bar(bar) => bar.set_position(done),
            Self::Lines(lines) => lines.set(done, Instant::now()).iter().for_each(|text| line(text)),
            Self::Silent => {}
        }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        match self {
            // The line stays, as the record of what the run did.
            Self::Bar(bar) => bar.abandon(),
            Self::Lines(lines) => line(&lines.end(Instant::now())),
            Self::Silent => {}
        }
    }
}

fn bar(name: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(total).with_style(style.progress_chars("=> ")).with_prefix(plain(name));
    bar.enable_steady_tick(Duration::from_millis(TICK_MILLISECONDS));
    bar
}

/// A closed standard error ends no run: progress is nothing that a result depends on.
fn line(text: &str) {
    let _ = writeln!(io::stderr(), "{}", plain(text));
}

/// A phase in plain lines.
pub(crate) struct Lines {
    name: String,
    total: u64,
    begun: Instant,
    done: AtomicU64,
    /// When the last line was due, in milliseconds since the beginning.
    said_milliseconds: AtomicU64,
}

impl Lines {
    fn new(name: &str, total: u64, begun: Instant) -> Self {
        let (done, said_milliseconds) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { name: name.to_owned(), total, begun, done, said_milliseconds }
    }

    /// Takes note; a line when one is due.
    fn set(&self, done: u64, now: Instant) -> Option<String> {
        self.done.store(done, Ordering::Relaxed);
        let passed = now.saturating_duration_since(self.begun).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        let said = self.said_milliseconds.load(Ordering::Relaxed);
        if passed.saturating_sub(said) < LINE_MILLISECONDS {
            return None;
        }
        // One of the threads that come at this moment says it.
        let order = Ordering::Relaxed;
        self.said_milliseconds.compare_exchange(said, passed, order, order).ok()?;
        Some(format!("{}: {}", self.name, self.so_far(now)))
    }

    fn end(&self, now: Instant) -> String {
        format!("{}: {}, ended", self.name, self.so_far(now))
    }

    fn so_far(&self, now: Instant) -> String {
        let done = grouped(&self.done.load(Ordering::Relaxed).to_string());
        let time = now.saturating_duration_since(self.begun).as_secs_f64() * 1e6;
        format!("{done} of {} after {}", grouped(&self.total.to_string()), duration(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_at_a_slow_pace() {
        let begun = Instant::now();
        let at = |milliseconds| begun + Duration::from_millis(milliseconds);
        let lines = Lines::new("connecting", 18_000, begun);
        assert_eq!(lines.set(10, at(0)), None);
        assert_eq!(lines.set(4_000, at(4_999)), None);
        assert_eq!(lines.set(4_100, at(5_000)).as_deref(), Some("connecting: 4,100 of 18,000 after 5 s"));
        assert_eq!(lines.set(4_200, at(5_001)), None, "said just now");
        assert_eq!(lines.set(9_000, at(12_000)).as_deref(), Some("connecting: 9,000 of 18,000 after 12 s"));
        assert_eq!(lines.end(at(12_500)), "connecting: 9,000 of 18,000 after 12.5 s, ended");
    }

    #[test]
    fn one_of_many_threads_says_it() {
        let begun = Instant::now();
        let lines = Lines::new("x", 8, begun);
        let now = begun + Duration::from_secs(6);
        let said: usize = std::thread::scope(|scope| {
            let lines = &lines;
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || lines.set(n, now).is_some())).collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
        });
        assert_eq!(said, 1);
    }

    #[test]
    fn quiet_is_silent_and_every_way_takes_steps() {
        assert_eq!(Progress::new(true), Progress::Silent);
        for way in [Progress::Silent, Progress::Lines, Progress::Bars] {
            let phase = way.phase("a phase", 3);
            phase.set(2);
        }
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }
}
