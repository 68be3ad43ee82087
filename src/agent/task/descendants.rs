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

/// Longest `/proc/PID/stat`: some fifty numbers and a name.
const STAT_BYTES_MAX: u64 = 4096;

/// Interval at which processes that were killed are looked for again.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Most processes that were left over that are named.
const LEFT_OVER_NAMED_MAX: usize = 3;

/// Time that processes that were told to end are waited for before they count as left over, when their
/// program has ended.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// A process, by proc_pid_stat(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    /// Its program's name, cut to 15 bytes by the kernel.
    name: String,
    parent: i32,
    /// Its process group.
    group: i32,
    is_zombie: bool,
    /// When it was started, in ticks since the system booted.
    pub(super) started_ticks: u64,
}

/// Reads `/proc/PID/stat`; `None` when there is no such process.
pub(super) fn stat(process: i32) -> Option<Stat> {
    let text = open::beginning(Path::new(&format!("/proc/{process}/stat")), STAT_BYTES_MAX).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The second field, the name, may hold blanks and brackets.
    let (before, behind_name) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = behind_name.split_whitespace();
    let is_zombie = fields.next()? == "Z";
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let started_ticks = fields.nth(16)?.parse().ok()?;
    Some(Stat { name: name.to_owned(), parent, group, is_zombie, started_ticks })
}

/// From now on processes that lose their parent become this one's children, where the kernel has that. One
/// that stands in for it may not (qemu-user answers `EINVAL`): there process group and control group are what
/// a run has, as on other systems.
///
/// # Errors
/// When the system refuses.
pub(super) fn adopt() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match rustix::process::set_child_subreaper(Some(getpid())) {
        Err(rustix::io::Errno::INVAL) => log::debug!("processes without a parent are init's here"),
        answer => answer?,
    }
    Ok(())
}

/// The processes below this one that have not ended, and its own children that have (zombies).
fn find() -> (Vec<Pid>, Vec<Pid>) {
    let mut children: BTreeMap<i32, Vec<(i32, bool)>> = BTreeMap::new();
    for number in numbers() {
        let Some(stat) = stat(number) else { continue };
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

/// Processes that a program left over.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct LeftOver {
    processes: usize,
    /// Some of them, as `name (number)`.
    named: Vec<String>,
}

impl LeftOver {
    fn of(processes: &[Pid]) -> Self {
        let named = processes.iter().filter_map(|process| {
            let number = process.as_raw_nonzero().get();
            stat(number).map(|stat| format!("{} ({number})", stat.name))
        });
        Self { processes: processes.len(), named: named.take(LEFT_OVER_NAMED_MAX).collect() }
    }

    /// Its text; `None`: there is nothing to say.
    pub(super) fn words(&self) -> Option<String> {
        let were = match self.processes {
            0 => return None,
            1 => "1 process was".to_owned(),
            processes => format!("{processes} processes were"),
        };
        let more = if self.processes > self.named.len() { ", …" } else { "" };
        Some(format!("{were} left over and ended: {}{more}", self.named.join(", ")))
    }
}

/// The processes of a group that have not ended, but for its leader.
pub(super) fn left_in(leader: Pid) -> LeftOver {
    let number = leader.as_raw_nonzero().get();
    let is_left = |process: i32| {
        process != number && stat(process).is_some_and(|stat| stat.group == number && !stat.is_zombie)
    };
    let mut left: Vec<i32> = numbers().filter(|process| is_left(*process)).collect();
    left.sort_unstable();
    LeftOver::of(&left.into_iter().filter_map(Pid::from_raw).collect::<Vec<_>>())
}

/// The processes below this one that have not ended, but for the leader. Those that were signalled get a
/// moment to end first.
pub(super) fn left_below(leader: Pid) -> LeftOver {
    let deadline = Instant::now() + END_TIMEOUT;
    loop {
        let mut living = find().0;
        living.retain(|process| *process != leader);
        if living.is_empty() || Instant::now() >= deadline {
            living.sort_unstable_by_key(|process| process.as_raw_nonzero());
            return LeftOver::of(&living);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// The numbers of all processes.
fn numbers() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
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
        assert_eq!(stat_of_own.group, rustix::process::getpgrp().as_raw_nonzero().get());
        let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get());
        assert_eq!(Some(stat_of_own.parent), parent);
        assert_eq!(stat(i32::MAX), None);
    }

    #[test]
    fn what_is_left_over_is_said_in_words() {
        let left = |processes, named: &[&str]| {
            LeftOver { processes, named: named.iter().map(|name| (*name).to_owned()).collect() }.words()
        };
        assert_eq!(left(0, &[]), None);
        assert_eq!(left(1, &["sleep (7)"]).unwrap(), "1 process was left over and ended: sleep (7)");
        assert_eq!(
            left(4, &["a (7)", "b (8)"]).unwrap(),
            "4 processes were left over and ended: a (7), b (8), …"
        );
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
