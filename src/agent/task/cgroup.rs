//! A control group for a run (cgroups(7), version 2), where this process may make one: then whatever the run
//! started can be ended at once, even after its supervisor was killed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::agent::open;

/// Longest list of mounts that is read.
const MOUNTS_BYTES_MAX: u64 = 1 << 20;

/// Longest other file.
const FILE_BYTES_MAX: u64 = 4096;

/// Prefix of the names of runs' control groups.
const PREFIX: &str = "muster-run-";

/// A run's control group.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// The group of this process before.
    home: PathBuf,
    pub(super) directory: PathBuf,
}

impl Cgroup {
    /// Makes one for this execution of a run below that of this process, and puts this process into it: what
    /// it starts is then in it from the beginning. `None` where that is not possible, or not ours to do.
    ///
    /// Its name has this process in it: another agent beside this one may have a run with the same number,
    /// which must not be ended with this one.
    pub(super) fn enter(run: &str) -> Option<Self> {
        let home = own(Path::new("/"))?;
        if Path::new("/run/systemd/system").exists() && !is_delegated(&home) {
            return None;
        }
        remove_empty(&home);
        let cgroup = Self { directory: home.join(format!("{PREFIX}{run}-{}", std::process::id())), home };
        // One that exists is kept by a daemon of an earlier process with this number.
        fs::create_dir(&cgroup.directory).ok()?;
        // `cgroup.kill` is of Linux 5.14.
        let is_usable = cgroup.directory.join("cgroup.kill").exists() && move_to(&cgroup.directory).is_ok();
        if !is_usable {
            cgroup.remove();
            return None;
        }
        Some(cgroup)
    }

    /// Takes this process out again. An error means that it can't be used: killing it would kill this
    /// process.
    pub(super) fn leave(&self) -> io::Result<()> {
        move_to(&self.home)
    }

    /// Removes it, when nobody is in it any more.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Removes what earlier runs left: a daemon kept the group for as long as it lived, or its end was not waited
/// for.
fn remove_empty(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            // The kernel keeps those that somebody is in.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Ends every process of a control group and of those below it.
pub(super) fn kill(directory: &Path) -> io::Result<()> {
    write(&directory.join("cgroup.kill"), "1")
}

fn move_to(directory: &Path) -> io::Result<()> {
    // 0 is the process that writes.
    write(&directory.join("cgroup.procs"), "0")
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    fs::File::options().write(true).open(file)?.write_all(text.as_bytes())
}

/// The directory of the control group that this process is in.
fn own(root: &Path) -> Option<PathBuf> {
    let groups = open::text(&root.join("proc/self/cgroup"), FILE_BYTES_MAX).ok()?;
    let mounts = open::text(&root.join("proc/self/mountinfo"), MOUNTS_BYTES_MAX).ok()?;
    directory_of(&groups, &mounts)
}

/// `groups`: `/proc/self/cgroup`, whose line of version 2 is `0::PATH`. `mounts`: `/proc/self/mountinfo`
/// (proc_pid_mountinfo(5)), whose fourth and fifth fields are the root within the file system and where it is
/// mounted.
fn directory_of(groups: &str, mounts: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (root, mounted) = mounts.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        kind.starts_with("cgroup2 ").then_some((fields.next()?, fields.next()?))
    })?;
    let below = Path::new(path).strip_prefix(root).ok()?;
    Some(Path::new(mounted).join(below))
}

/// Whether systemd leaves the groups below this one to its unit (`Delegate=`, systemd.resource-control(5)).
#[cfg(target_os = "linux")]
fn is_delegated(directory: &Path) -> bool {
    ["trusted.delegate", "user.delegate"].into_iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(directory, name, &mut value[..]).is_ok_and(|length| &value[..length] == b"1")
    })
}

#[cfg(not(target_os = "linux"))]
fn is_delegated(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_runs_left_is_removed_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        for name in ["muster-run-1", "muster-run-2/busy", "others"] {
            fs::create_dir_all(home.path().join(name)).unwrap();
        }
        remove_empty(home.path());
        let left = |name: &str| home.path().join(name).exists();
        assert_eq!([left("muster-run-1"), left("muster-run-2"), left("others")], [false, true, true]);
    }

    #[test]
    fn the_own_group_is_found_where_it_is_mounted() {
        let mounts = "22 28 0:20 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      35 28 0:30 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let found = |groups: &str, mounts: &str| directory_of(groups, mounts);
        let expected = Path::new("/sys/fs/cgroup/unified/system.slice/x.service");
        assert_eq!(found("9:cpu:/a\n0::/system.slice/x.service\n", mounts).as_deref(), Some(expected));
        // A container sees the part of the tree that is its own.
        let inner = "35 28 0:30 /a /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        assert_eq!(found("0::/a/b\n", inner).as_deref(), Some(Path::new("/sys/fs/cgroup/b")));
        assert_eq!(found("0::/other\n", inner), None);
        assert_eq!(found("0::/\n", "22 28 0:20 / /x rw - cgroup cgroup rw\n"), None);
        assert_eq!(found("9:cpu:/a\n", mounts), None);
    }
}
