//! The server's process as a run looks at it: it may be elsewhere, and then there is nothing to see.

use std::time::{Duration, Instant};

use crate::interrupt;
use crate::observe::process::{ProcessSample, ServerProcess};

/// Interval at which is looked whether a process is quiet.
const LOOK_MILLISECONDS: u64 = 250;

/// Time for which a process must be quiet before its memory is what it will be: what a storm of handshakes
/// took is given back up to three seconds after its end, and once more two seconds later.
const QUIET_LOOKS: u32 = 21;

/// Time for which it must be quiet when only its processor time is of interest.
const RESTED_LOOKS: u32 = 3;

/// Longest wait for that.
const QUIET_SECONDS_MAX: u64 = 10;

/// A process is quiet when it uses less of one processor than this.
const QUIET_CPU_SHARE: f64 = 0.03;

/// And when its private memory moves by less than this.
const QUIET_BYTES: u64 = 128 * 1024;

/// The server's process, if it can be seen.
pub(crate) struct Watch {
    process: Option<ServerProcess>,
}

impl Watch {
    pub(crate) fn open(pid: Option<u32>, notes: &mut Vec<String>) -> Self {
        let Some(pid) = pid else {
            notes.push("The server is not on this machine, or its process was not found (--pid): its processor time and memory are not measured.".into());
            return Self { process: None };
        };
        let process = ServerProcess::open(pid)
            .inspect_err(|error| notes.push(format!("The server's process can't be measured: {error}.")))
            .ok();
        Self { process }
    }

    pub(crate) fn sample(&mut self) -> Option<ProcessSample> {
        self.process.as_mut()?.sample()
    }

    /// Number of files that the server may have open, and with that of links; `None` when that is not known
    /// or without a limit.
    pub(crate) fn descriptors_max(&self) -> Option<u64> {
        self.process.as_ref()?.descriptors_max()
    }

    /// Processor time that the server has used, in microseconds.
    pub(crate) fn cpu(&mut self) -> Option<u64> {
        self.sample().map(|sample| sample.cpu_microseconds)
    }

    /// Waits until the server has given back what it does not need, for a few seconds at most. Its use then;
    /// of private memory the least that it had meanwhile: caches that come and go by themselves, some hundred
    /// KiB, are there at one moment and not at another.
    pub(crate) fn quiet(&mut self) -> Option<ProcessSample> {
        let mut private_bytes = u64::MAX;
        let last =
            self.quiet_for(QUIET_LOOKS, |sample| private_bytes = private_bytes.min(sample.private_bytes))?;
        Some(ProcessSample { private_bytes, ..last })
    }

    /// Waits until the server has nothing to do, for a few seconds at most. Its use then.
    pub(crate) fn rest(&mut self) -> Option<ProcessSample> {
        self.quiet_for(RESTED_LOOKS, |_| ())
    }

    fn quiet_for(&mut self, looks: u32, mut seen: impl FnMut(&ProcessSample)) -> Option<ProcessSample> {
        let until = Instant::now() + Duration::from_secs(QUIET_SECONDS_MAX);
        let mut last = self.sample()?;
        let mut quiet_looks = 0;
        loop {
            let has_time = interrupt::sleep(Duration::from_millis(LOOK_MILLISECONDS));
            let now = self.sample()?;
            seen(&now);
            let seconds = now.at.duration_since(last.at).as_secs_f64();
            let share = share(now.cpu_microseconds.saturating_sub(last.cpu_microseconds), seconds);
            let is_quiet =
                share < QUIET_CPU_SHARE && now.private_bytes.abs_diff(last.private_bytes) < QUIET_BYTES;
            quiet_looks = if is_quiet { quiet_looks + 1 } else { 0 };
            if quiet_looks == looks || !has_time || Instant::now() >= until {
                return Some(now);
            }
            last = now;
        }
    }
}

/// Share of one processor that `microseconds` are.
#[expect(clippy::cast_precision_loss, reason = "microseconds of a run")]
pub(crate) fn share(microseconds: u64, seconds: f64) -> f64 {
    microseconds as f64 / 1e6 / seconds.max(1e-9)
}
