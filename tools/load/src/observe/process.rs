//! A process, seen from outside: processor time, memory, descriptors and threads.
//!
//! Processor time comes from two places. `/proc/PID/stat` counts whole ticks (10 ms), of the threads that
//! ended too. `/proc/PID/task/*/schedstat` counts nanoseconds, of
//! living threads only. The sum is the latter, with what threads had when they were last seen, so that a
//! microsecond per event can be told from two.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::proc_text::{self, Stat};

/// Why a process can't be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("there is no process {0}")]
    Gone(u32),
    #[error("process {0} belongs to somebody else: run as its user or as root to read its memory")]
    NotAllowed(u32),
    #[error("can't read {path}: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("can't make sense of {0}")]
    NotUnderstood(PathBuf),
}

/// Use of a process up to a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessSample {
    pub(crate) at: Instant,
    /// User and system time together.
    pub(crate) cpu_microseconds: u64,
    /// Memory that this process has written to and shares with nobody.
    pub(crate) private_bytes: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

/// A process of this machine. Not the one that gets its number when it is gone.
pub(crate) struct ServerProcess {
    pid: u32,
    folder: PathBuf,
    /// In ticks since the machine started.
    started_ticks: u64,
    threads: ThreadTimes,
}

impl ServerProcess {
    /// Finds a process, and proves that it can be read.
    pub(crate) fn open(pid: u32) -> Result<Self, ProcessError> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let mut process = Self { pid, folder, started_ticks: 0, threads: ThreadTimes::default() };
        process.started_ticks = process.stat()?.started_ticks;
        process.try_sample()?;
        Ok(process)
    }

    /// Its use so far; `None` when it is gone, or can no longer be read.
    pub(crate) fn sample(&mut self) -> Option<ProcessSample> {
        self.try_sample().ok()
    }

    /// Its use so far, or why that can't be said.
    pub(crate) fn try_sample(&mut self) -> Result<ProcessSample, ProcessError> {
        let stat = self.stat()?;
        if stat.started_ticks != self.started_ticks {
            // Its number was given to another process.
            return Err(ProcessError::Gone(self.pid));
        }
        // The processor first: reading the memory map of a large process takes long.
        let cpu_microseconds = match self.thread_nanoseconds()? {
            Some(times) => self.threads.total_microseconds(times, stat.cpu_microseconds()),
            None => stat.cpu_microseconds(),
        };
        let at = Instant::now();
        let path = self.folder.join("smaps_rollup");
        let text = read(self.pid, &path)?;
        if text.is_empty() {
            // A process that ended and that nobody waited for has no memory.
            return Err(ProcessError::Gone(self.pid));
        }
        let memory = proc_text::smaps_rollup(&text).ok_or(ProcessError::NotUnderstood(path))?;
        let descriptors = entries(self.pid, &self.folder.join("fd"))?.count() as u64;
        Ok(ProcessSample {
            at,
            cpu_microseconds,
            private_bytes: memory.private_bytes,
            resident_bytes: memory.resident_bytes,
            descriptors,
            threads: stat.threads,
        })
    }

    /// Number of descriptors that it may have open; `None` when it is gone, or there is no limit.
    pub(crate) fn descriptors_max(&self) -> Option<u64> {
        let text = read(self.pid, &self.folder.join("limits")).ok()?;
        proc_text::descriptors_max(&text)
    }

    fn stat(&self) -> Result<Stat, ProcessError> {
        let path = self.folder.join("stat");
        let text = read(self.pid, &path)?;
        proc_text::stat(&text).ok_or(ProcessError::NotUnderstood(path))
    }

    /// Time on a processor of every living thread; `None` when this kernel does not count it.
    fn thread_nanoseconds(&self) -> Result<Option<HashMap<u32, u64>>, ProcessError> {
        let mut times = HashMap::new();
        for entry in entries(self.pid, &self.folder.join("task"))?.flatten() {
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match fs::read_to_string(entry.path().join("schedstat")) {
                Ok(text) => match proc_text::schedstat(&text) {
                    Some(nanoseconds) => times.insert(thread, nanoseconds),
                    None => return Ok(None),
                },
                // It ended meanwhile, or is not counted.
                Err(_) => continue,
            };
        }
        Ok((!times.is_empty()).then_some(times))
    }
}

/// Processor time of threads, those that ended included.
#[derive(Default)]
struct ThreadTimes {
    /// Nanoseconds by thread, as last seen; nothing before the first look.
    seen: Option<HashMap<u32, u64>>,
    /// Nanoseconds of threads that ended.
    ended: u64,
    /// The last answer: time does not go back.
    last_microseconds: u64,
}

impl ThreadTimes {
    fn total_microseconds(&mut self, now: HashMap<u32, u64>, stat_microseconds: u64) -> u64 {
        match &self.seen {
            None => {
                // Threads that ended before the first look are only in the ticks.
                let living: u64 = now.values().fold(0, |sum, time| sum.saturating_add(*time));
                self.ended = stat_microseconds.saturating_mul(1_000).saturating_sub(living);
            }
            Some(seen) => {
                for (thread, before) in seen {
                    // A number that now has less time was given to another thread.
                    if now.get(thread).is_none_or(|time| time < before) {
                        self.ended = self.ended.saturating_add(*before);
                    }
                }
            }
        }
        let total = now.values().fold(self.ended, |sum, time| sum.saturating_add(*time)) / 1_000;
        self.seen = Some(now);
        // Ticks are never ahead, and have what ended threads did after they were last seen.
        self.last_microseconds = self.last_microseconds.max(total).max(stat_microseconds);
        self.last_microseconds
    }
}

fn read(pid: u32, path: &Path) -> Result<String, ProcessError> {
    let bytes = fs::read(path).map_err(|error| failed(pid, path, error))?;
    // The name of a program may be anything.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn entries(pid: u32, folder: &Path) -> Result<fs::ReadDir, ProcessError> {
    fs::read_dir(folder).map_err(|error| failed(pid, folder, error))
}

fn failed(pid: u32, path: &Path, error: io::Error) -> ProcessError {
    let is_gone = error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error());
    match error.kind() {
        kind if is_gone || kind == ErrorKind::NotFound => ProcessError::Gone(pid),
        ErrorKind::PermissionDenied => ProcessError::NotAllowed(pid),
        _ => ProcessError::Unreadable { path: path.to_owned(), error },
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::*;

    fn spin(milliseconds: u64) {
        let until = Instant::now() + Duration::from_millis(milliseconds);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }

    /// `sleep`, ended with the test.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            Self(Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn this_process_is_seen_at_work() {
        let mut process = ServerProcess::open(std::process::id()).unwrap();
        let before = process.sample().unwrap();
        spin(60);
        let memory = std::hint::black_box(vec![1_u8; 24 << 20]);
        let after = process.sample().unwrap();
        let spent = after.cpu_microseconds - before.cpu_microseconds;
        assert!(spent >= 20_000, "{spent} µs for 60 ms of work");
        assert!(after.private_bytes >= before.private_bytes + (20 << 20), "{before:?} {after:?}");
        assert!(after.resident_bytes >= after.private_bytes);
        assert!(after.descriptors >= 3 && after.threads >= 1 && after.at > before.at);
        assert!(process.descriptors_max().is_none_or(|most| most >= after.descriptors));
        drop(memory);
    }

    #[test]
    fn a_thread_that_ended_keeps_its_time() {
        let mut process = ServerProcess::open(std::process::id()).unwrap();
        let before = process.sample().unwrap();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            spin(40);
            let _ = wait.recv();
        });
        spin(50);
        let working = process.sample().unwrap();
        drop(done);
        thread.join().unwrap();
        let after = process.sample().unwrap();
        assert!(working.cpu_microseconds > before.cpu_microseconds);
        assert!(after.cpu_microseconds >= working.cpu_microseconds, "{working:?} {after:?}");
    }

    #[test]
    fn a_process_that_is_gone_has_no_sample() {
        let mut sleeper = Sleeper::start();
        let pid = sleeper.0.id();
        let mut process = ServerProcess::open(pid).unwrap();
        assert!(process.sample().is_some());
        sleeper.0.kill().unwrap();
        // Ended, and not yet waited for: the number is still taken.
        let ended = Instant::now();
        while process.sample().is_some() {
            assert!(ended.elapsed() < Duration::from_secs(5), "a process that ended is still seen");
            std::thread::sleep(Duration::from_millis(2));
        }
        sleeper.0.wait().unwrap();
        assert!(matches!(process.try_sample(), Err(ProcessError::Gone(gone)) if gone == pid));
        assert!(matches!(ServerProcess::open(pid), Err(ProcessError::Gone(_))));
    }

    #[test]
    fn another_process_with_the_same_number_is_not_taken_for_it() {
        let mut process = ServerProcess::open(std::process::id()).unwrap();
        process.started_ticks += 1;
        assert!(matches!(process.try_sample(), Err(ProcessError::Gone(_))));
    }

    #[test]
    fn threads_come_and_go() {
        let mut times = ThreadTimes::default();
        // 30 ms of threads that ended before anybody looked.
        assert_eq!(times.total_microseconds([(1, 5_000_000)].into(), 35_000), 35_000);
        assert_eq!(times.total_microseconds([(1, 5_001_000), (2, 7_000)].into(), 30_000), 35_008);
        assert_eq!(times.total_microseconds([(1, 5_001_000)].into(), 30_000), 35_008, "thread 2 ended");
        assert_eq!(times.total_microseconds([(1, 1_000)].into(), 30_000), 35_009, "another thread 1");
        assert_eq!(times.total_microseconds([(1, 1_000)].into(), 60_000), 60_000, "ticks know of more");
    }
}
