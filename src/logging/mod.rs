//! Layer 2: the log of a program, on standard error, that nobody waits for.
//!
//! [`start`] installs it; only programs do, the library logs through [`log`] and leaves the choice to the
//! program. A thread that logs puts its line into a bounded queue (`queue`); one thread writes. A pipe that
//! nobody reads fills the queue, and then lines are dropped and counted. A place in the program that speaks
//! more than [`LINES_PER_SECOND_MAX`] times a second is cut short (`limit`), so that a fleet that comes
//! back writes tens of lines and not one for each device.
//!
//! `RUST_LOG` chooses levels by module as env_logger documents it (the same parser, `env_filter`); without it
//! the level is the configuration's. Under systemd (`JOURNAL_STREAM`, systemd.exec(5)) lines carry journald's
//! priorities (sd-daemon(3)) and no time.
#![forbid(unsafe_code)]

mod limit;
mod line;
mod queue;

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;

pub use limit::LINES_PER_SECOND_MAX;
use limit::{Place, Places};
use line::Style;
use queue::Queue;

/// Longest time that the end of the process waits for the queue to be written.
const END_MILLISECONDS_MAX: u64 = 2_000;

/// Longest time that a thread that panics waits for its message to be written: the process may be aborted
/// next.
const PANIC_MILLISECONDS_MAX: u64 = 500;

/// Libraries that say more than anybody wants to know.
const TALKATIVE: [&str; 4] = ["rustls", "mio", "hyper", "axum"];

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Whether `RUST_LOG` chooses the levels: the configuration's doesn't count then.
static IS_LEVEL_FROM_ENVIRONMENT: AtomicBool = AtomicBool::new(false);

struct Logger {
    filter: env_filter::Filter,
    style: Style,
    queue: Queue,
    places: Mutex<Places>,
    started: Instant,
}

/// Starts logging to standard error at this level, and sends panics there. Does nothing when the process has
/// a logger already: it belongs to the program that embeds this.
///
/// # Errors
/// When the system gives no thread, or standard error is closed.
pub fn start(level: LevelFilter) -> io::Result<()> {
    let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let mut builder = env_filter::Builder::new();
    builder.filter_level(LevelFilter::Trace);
    for library in TALKATIVE {
        builder.filter_module(library, LevelFilter::Warn);
    }
    let said = std::env::var("RUST_LOG").ok();
    let refused = said.as_deref().and_then(|said| builder.try_parse(said).err());
    let is_from_environment = said.is_some() && refused.is_none();
    let filter = builder.build();
    let most = if is_from_environment { filter.filter() } else { level };
    let logger = Logger {
        filter,
        style: Style::of(&out, std::env::var("JOURNAL_STREAM").ok().as_deref()),
        queue: Queue::default(),
        places: Mutex::default(),
        started: Instant::now(),
    };
    if LOGGER.set(logger).is_err() {
        return Ok(());
    }
    let Some(logger) = LOGGER.get() else { return Ok(()) };
    if log::set_logger(logger).is_err() {
        return Ok(());
    }
    std::thread::Builder::new().name("log".into()).spawn(move || logger.write(out))?;
    IS_LEVEL_FROM_ENVIRONMENT.store(is_from_environment, Ordering::Relaxed);
    log::set_max_level(most);
    std::panic::set_hook(Box::new(|panic| logger.panicked(panic)));
    if let Some(error) = refused {
        log::warn!("RUST_LOG is not understood ({error}): the configured level counts");
    }
    Ok(())
}

/// Another level, unless `RUST_LOG` chose.
pub fn set_level(level: LevelFilter) {
    if !IS_LEVEL_FROM_ENVIRONMENT.load(Ordering::Relaxed) {
        log::set_max_level(level);
    }
}

/// Lines that were dropped since the start because the queue was full.
#[must_use]
pub fn lines_dropped() -> u64 {
    LOGGER.get().map_or(0, |logger| logger.queue.lines_dropped())
}

/// Waits until everything is written, two seconds at most. The last thing that a program does.
pub fn flush() {
    if let Some(logger) = LOGGER.get() {
        logger.queue.flush(Duration::from_millis(END_MILLISECONDS_MAX));
    }
}

/// Writes the line that says why the program ends, behind everything that was logged, and waits for it like
/// [`flush`].
pub fn last_line(text: &str) {
    match LOGGER.get() {
        None => eprint!("{}", Style::Plain.bare(text)),
        Some(logger) => {
            flush();
            logger.queue.push(Level::Error, logger.style.bare(text).as_bytes());
            flush();
        }
    }
}

impl Logger {
    fn write(&'static self, out: File) {
        self.queue.write(out, |dropped, is_time| {
            let mut lines = String::new();
            if dropped > 0 {
                let text = format_args!("{dropped} lines were dropped here: nothing took them fast enough");
                self.style.write(&mut lines, Level::Warn, module_path!(), text);
            }
            let left_out = if is_time { self.places.lock().take_left_out() } else { Vec::new() };
            for (level, target, left_out) in left_out {
                let text = format_args!("{left_out} more lines like these were left out");
                self.style.write(&mut lines, level, target, text);
            }
            lines
        });
    }

    fn panicked(&self, panic: &std::panic::PanicHookInfo<'_>) {
        let thread = std::thread::current();
        let place = panic.location().map(|at| format!(" at {at}")).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("without a message");
        let backtrace = std::backtrace::Backtrace::capture();
        let mut text = format!("thread '{}' panicked{place}: {what}", thread.name().unwrap_or("unnamed"));
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            text.push_str(&format!("\n{backtrace}"));
        }
        let mut line = String::new();
        self.style.write(&mut line, Level::Error, "panic", format_args!("{text}"));
        self.queue.push(Level::Error, line.as_bytes());
        self.queue.flush(Duration::from_millis(PANIC_MILLISECONDS_MAX));
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        // Debugging is asked for, and gets what the queue takes.
        if record.level() <= Level::Info
            && let (Some(file), Some(number)) = (record.file_static(), record.line())
        {
            let place = Place { file, number };
            let target = record.module_path_static().unwrap_or(file);
            let second = self.started.elapsed().as_secs();
            let verdict = self.places.lock().speak(place, second, record.level(), target);
            match verdict {
                limit::Verdict::Speak => {}
                limit::Verdict::Silent => return,
                // The summary is written when the second is over.
                limit::Verdict::FirstLeftOut => return self.queue.look_in(limit::SUMMARY_AFTER),
            }
        }
        let mut line = String::with_capacity(128);
        self.style.write(&mut line, record.level(), record.target(), *record.args());
        self.queue.push(record.level(), line.as_bytes());
    }

    fn flush(&self) {
        flush();
    }
}
