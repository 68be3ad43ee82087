//! Every process below a supervisor, whatever process group or session it has put itself into.
//!
//! The supervisor is a subreaper (`PR_SET_CHILD_SUBREAPER`, prctl(2)): what loses its parent becomes its
//! child, not init's. So setsid(2) and double forks lead nowhere else.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

use crate::agent::open;

/// Longest `/proc/PID/stat`, in bytes: some fifty numbers and a name.
const STAT_BYTES_MAX: u64 = 4096;

/// How often processes that were killed are looked for again.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What proc_pid_stat(5) says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    parent: i32,
    is_zombie: bool,
    /// When it was started, in ticks since the system booted.
    pub(super) started_ticks: u64,
}

/// Reads `/proc/PID/stat`; `None` when there is no such process.
pub(super) fn stat(process: i32) -> Option<Stat> {
    let text = open::beginning(Path::new(&format!("/proc/{process}/stat")), STAT_BYTES_MAX).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The second field, the name, may hold blanks and brackets.
    let (_, behind_name) = text.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace();
    let is_zombie = fields.next()? == "Z";
    let parent = fields.next()?.parse().ok()?;
    Some(Stat { parent, is_zombie, started_ticks: fields.nth(17)?.parse().ok()? })
}

/// From now on processes that lose their parent become this one's children.
///
/// # Errors
/// When the system refuses.
#[cfg(target_os = "linux")]
pub(super) fn adopt() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(getpid()))?)
}

/// There is no such thing here.
#[cfg(not(target_os = "linux"))]
pub(super) fn adopt() -> io::Result<()> {
    Ok(())
}

/// The processes below this one that have not ended, and its own children that have (zombies).
fn find() -> (Vec<Pid>, Vec<Pid>) {
    let mut children: BTreeMap<i32, Vec<(i32, bool)>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some((number, stat)) = number.and_then(|number| Some((number, stat(number)?))) else { continue };
        children.entry(stat.parent).or_default().push((number, stat.is_zombie));
    }
    let own = getpid().as_raw_nonzero().get();
    let (mut living, mut ended, mut parents) = (Vec::new(), Vec::new(), vec![own]);
    while let Some(parent) = parents.pop() {
        for (number, is_zombie) in children.remove(&parent).unwrap_or_default() {
            let Some(process) = Pid::from_raw(number) else { continue };
            parents.push(number);
            match is_zombie {
                false => living.push(process),
                true if parent == own => ended.push(process),
                true => {}
            }
        }
    }
    (living, ended)
}

/// Signals all of them.
pub(super) fn signal(signal: Signal) {
    for process in find().0 {
        // It may have ended meanwhile, or be somebody else's (a program with the setuid bit).
        let _ = kill_process(process, signal);
    }
}

/// Takes note of the ends of adopted processes: of all children but this one.
pub(super) fn reap_all_but(child: Pid) {
    for process in find().1.into_iter().filter(|process| *process != child) {
        let _ = waitpid(Some(process), WaitOptions::NOHANG);
    }
}

/// Kills all of them, again and again while they multiply. The child of the run must have been waited for.
/// Returns how many are left when the time is up.
pub(super) fn end(timeout: Duration) -> usize {
    let deadline = Instant::now() + timeout;
    loop {
        let (living, ended) = find();
        // First all of them are stopped, so that none makes another one while the others are killed.
        for signal in [Signal::STOP, Signal::KILL] {
            for process in &living {
                let _ = kill_process(*process, signal);
            }
        }
        for process in ended {
            let _ = waitpid(Some(process), WaitOptions::NOHANG);
        }
        if living.is_empty() || Instant::now() >= deadline {
            return living.len();
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one() {
        let own = i32::try_from(std::process::id()).unwrap();
        let stat_of_own = stat(own).unwrap();
        assert!(stat_of_own.started_ticks > 0 && !stat_of_own.is_zombie);
        let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get());
        assert_eq!(Some(stat_of_own.parent), parent);
        assert_eq!(stat(i32::MAX), None);
    }

    #[test]
    fn what_is_below_is_found_in_whatever_session() {
        let mut child =
            std::process::Command::new("sh").args(["-c", "setsid sleep 600 & wait"]).spawn().unwrap();
        let begun = Instant::now();
        let number = i32::try_from(child.id()).unwrap();
        let below = || -> Vec<Pid> {
            let found = find().0.into_iter();
            found
                .filter(|one| stat(one.as_raw_nonzero().get()).is_some_and(|stat| stat.parent == number))
                .collect()
        };
        while below().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60), "not found");
        }
        for process in below() {
            kill_process(process, Signal::KILL).unwrap();
        }
        child.wait().unwrap();
    }
}
