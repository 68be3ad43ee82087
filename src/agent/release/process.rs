//! A process of somebody else's: whether it has ended, and its end.

use std::io;
use std::time::Duration;

use rustix::process::Pid;

/// A process that was there when this was made.
#[derive(Debug)]
pub(super) struct Process {
    id: Pid,
    /// Stands for the process, and for no later one of that number (pidfd_open(2)).
    #[cfg(target_os = "linux")]
    handle: std::os::fd::OwnedFd,
}

#[cfg(target_os = "linux")]
impl Process {
    pub(super) fn open(id: Pid) -> io::Result<Self> {
        let handle = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty())?;
        Ok(Self { id, handle })
    }

    /// Waits that long for its end.
    pub(super) fn has_ended(&self, timeout: Duration) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags};
        let handle = PollFd::new(&self.handle, PollFlags::IN);
        crate::agent::waiting::wait_for(&mut [handle], std::time::Instant::now() + timeout)
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.handle, rustix::process::Signal::KILL)?)
    }

    /// The file that it executes (proc(5)).
    pub(super) fn program(&self) -> Option<std::path::PathBuf> {
        std::fs::read_link(format!("/proc/{}/exe", self.id.as_raw_nonzero())).ok()
    }
}

/// On systems on which the agent does not replace itself.
#[cfg(not(target_os = "linux"))]
impl Process {
    pub(super) fn open(id: Pid) -> io::Result<Self> {
        Ok(Self { id })
    }

    pub(super) fn has_ended(&self, timeout: Duration) -> io::Result<bool> {
        std::thread::sleep(timeout);
        Ok(rustix::process::test_kill_process(self.id).is_err())
    }

    pub(super) fn kill(&self) -> io::Result<()> {
        Ok(rustix::process::kill_process(self.id, rustix::process::Signal::KILL)?)
    }

    pub(super) fn program(&self) -> Option<std::path::PathBuf> {
        None
    }
}
