//! A run's program: its process group, from its start to its end.

use std::io::{self, PipeReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::files::{self, GROUP, ProcessGroup, SETTINGS};
use super::plan::Plan;
use crate::agent::collect::host;
use crate::agent::{open, sealed};

/// Longest `/proc/PID/stat`, in bytes: some fifty numbers and a name.
const STAT_BYTES_MAX: u64 = 4096;

/// A program that was started, and what it started.
pub(super) struct Program {
    child: Child,
    group: Pid,
}

impl Program {
    /// Starts it. Both of its outputs come through one pipe, in the order in which they are written.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn start(plan: &Plan, directory: &Path) -> io::Result<(Self, PipeReader)> {
        let (program, arguments) =
            plan.command.split_first().ok_or_else(|| io::Error::other("there is no program"))?;
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&plan.directory)
            .stdin(open::file(&directory.join(SETTINGS))?)
            .stdout(Stdio::from(writer.try_clone()?))
            .stderr(Stdio::from(writer))
            .env("MUSTER_RUN", plan.run.to_string())
            .env("MUSTER_TASK_KIND", &plan.kind)
            .env("MUSTER_APPLICATION", &plan.application)
            .process_group(0);
        if let Some(user) = &plan.user {
            command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
            // The supplementary groups go as well: only root may drop them, and only root has other users.
            if rustix::process::geteuid().is_root() {
                command.uid(user.user).gid(user.group);
            }
        }
        let child = command.spawn()?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let group = group.ok_or_else(|| io::Error::other("the process has no number"))?;
        Ok((Self { child, group }, reader))
    }

    /// Writes down which process group it is, so that it can be ended without this value.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn note(&self, directory: &Path) -> io::Result<()> {
        let number = self.group.as_raw_nonzero().get();
        let Some(started_ticks) = started_ticks(number) else { return Ok(()) };
        let group = ProcessGroup { number, started_ticks, boot: host::boot_id(Path::new("/")) };
        sealed::write_loosely(&directory.join(GROUP), &group)
    }

    /// Signals it and what it started.
    pub(super) fn signal(&self, signal: Signal) {
        // Who has ended needs none.
        let _ = kill_process_group(self.group, signal);
    }

    /// Whether it has ended. Its number stays taken until [`Self::reap`], so that the group can still be signalled.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.group), options), Ok(None))
    }

    /// How it ended; what it left behind in its group is ended.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn reap(&mut self) -> io::Result<std::process::ExitStatus> {
        self.signal(Signal::KILL);
        self.child.wait()
    }
}

/// Ends the process group of a run whose supervisor is gone, when it is still that one.
pub(super) fn end_orphans(directory: &Path) {
    let Ok(group) = files::read::<ProcessGroup>(directory, GROUP) else { return };
    let Some(group) = group.whole() else { return };
    let is_same = group.boot == host::boot_id(Path::new("/"))
        && started_ticks(group.number) == Some(group.started_ticks);
    if let Some(number) = Pid::from_raw(group.number).filter(|_| is_same && group.number > 1) {
        let _ = kill_process_group(number, Signal::KILL);
    }
}

/// When a process was started: field 22 of `/proc/PID/stat`. The second one, its name, may hold blanks and brackets.
fn started_ticks(process: i32) -> Option<u64> {
    let stat = open::beginning(Path::new(&format!("/proc/{process}/stat")), STAT_BYTES_MAX).ok()?;
    let text = String::from_utf8_lossy(&stat);
    let (_, behind_name) = text.rsplit_once(')')?;
    behind_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(started_ticks(own).unwrap() > 0);
        assert_eq!(started_ticks(i32::MAX), None);
    }
}
