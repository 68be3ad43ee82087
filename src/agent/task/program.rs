//! The program of a run: whose it is, and its process group, from its start to its end.

use std::fs::{File, Permissions};
use std::io::{self, PipeReader};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use minicbor::{Decode, Encode};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::cgroup::{self, Cgroup};
use super::descendants::{self, LeftOver};
use super::files::{self, GROUP, ProcessGroup, SETTINGS};
use super::plan::Plan;
use crate::agent::collect::host;
use crate::agent::{checksummed, open};

/// A program that was started, and what it started.
pub(super) struct Program {
    child: Child,
    pub(super) group: Pid,
    /// `None`: there is none to be had here.
    cgroup: Option<Cgroup>,
}

/// The variables of a run's artifact: its path, its name, its hash, the trusted comment of its signature.
const ARTIFACT: &str = "MUSTER_ARTIFACT";
const ARTIFACT_NAME: &str = "MUSTER_ARTIFACT_NAME";
const ARTIFACT_HASH: &str = "MUSTER_ARTIFACT_SHA256";
const ARTIFACT_COMMENT: &str = "MUSTER_ARTIFACT_COMMENT";

/// An artifact that is open, for a program of another user, which can't get into the data directory.
struct Descriptor {
    _file: File,
    /// Its path for a process that has it, fd(4).
    path: String,
}

impl Descriptor {
    fn open(path: &str) -> io::Result<Self> {
        let file = open::file(Path::new(path))?;
        // Opening it once more by its descriptor asks for its permissions, and for those of no directory.
        file.set_permissions(Permissions::from_mode(0o644))?;
        fcntl_setfd(&file, FdFlags::empty())?;
        let path = format!("/dev/fd/{}", file.as_raw_fd());
        Ok(Self { _file: file, path })
    }

    /// An argument, with the descriptor's path in place of the file's.
    fn name_in(argument: &str, plan: &Plan, own: Option<&Self>) -> String {
        match (own, &plan.artifact) {
            (Some(own), Some(artifact)) => argument.replace(&artifact.path, &own.path),
            _ => argument.to_owned(),
        }
    }
}

fn is_foreign(user: Option<&User>) -> bool {
    user.is_some_and(|user| user.user != rustix::process::geteuid().as_raw())
}

/// A program that has ended.
pub(super) struct Reaped {
    pub(super) status: std::process::ExitStatus,
    pub(super) left_over: LeftOver,
    /// Number of processes that could not be ended.
    pub(super) unended: usize,
}

impl Program {
    /// Starts it. Both of its outputs come through one pipe, in the order in which they are written.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn start(plan: &Plan, directory: &Path) -> io::Result<(Self, PipeReader)> {
        let (program, arguments) =
            plan.command.split_first().ok_or_else(|| io::Error::other("there is no program"))?;
        let own = plan.artifact.as_ref().filter(|_| is_foreign(plan.user.as_ref()));
        let own = own.map(|artifact| Descriptor::open(&artifact.path)).transpose()?;
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .args(arguments.iter().map(|argument| Descriptor::name_in(argument, plan, own.as_ref())))
            .current_dir(&plan.directory)
            .stdin(open::file(&directory.join(SETTINGS))?)
            .stdout(Stdio::from(writer.try_clone()?))
            .stderr(Stdio::from(writer))
            .env("MUSTER_RUN", plan.run.to_string())
            .env("MUSTER_TASK_KIND", &plan.kind)
            .env("MUSTER_APPLICATION", &plan.application)
            .process_group(0);
        for name in [ARTIFACT, ARTIFACT_NAME, ARTIFACT_HASH, ARTIFACT_COMMENT] {
            // An agent that such a program has started has its own.
            command.env_remove(name);
        }
        if let Some(artifact) = &plan.artifact {
            command.env(ARTIFACT, own.as_ref().map_or(&artifact.path, |own| &own.path));
            command.env(ARTIFACT_NAME, &artifact.name).env(ARTIFACT_HASH, artifact.hash.to_string());
            command.envs(artifact.comment.iter().map(|comment| (ARTIFACT_COMMENT, comment)));
        }
        if let Some(user) = &plan.user {
            command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
            // The supplementary groups go as well: only root may drop them, and only root has other users.
            if rustix::process::geteuid().is_root() {
                command.uid(user.user).gid(user.group);
            }
        }
        // Its children stay below this process, and in the control group from their first moment on.
        descendants::adopt()?;
        let cgroup = Cgroup::enter(&plan.run.to_string());
        let child = command.spawn();
        let cgroup = cgroup.filter(|cgroup| {
            cgroup.leave().inspect_err(|error| log::debug!("{}: {error}", cgroup.directory.display())).is_ok()
        });
        let child = child.inspect_err(|_| cgroup.iter().for_each(Cgroup::remove))?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let group = group.ok_or_else(|| io::Error::other("the process has no number"))?;
        Ok((Self { child, group, cgroup }, reader))
    }

    /// Writes down which process group it is, so that it can be ended without this value.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn note(&self, directory: &Path) -> io::Result<()> {
        let number = self.group.as_raw_nonzero().get();
        let Some(stat) = descendants::stat(number) else { return Ok(()) };
        let cgroup = self.cgroup.as_ref().map(|cgroup| cgroup.directory.display().to_string());
        let (started_ticks, boot) = (stat.started_ticks, host::boot_id(Path::new("/")));
        let group = ProcessGroup { number, started_ticks, boot, cgroup };
        checksummed::write_loosely(&directory.join(GROUP), &group)
    }

    /// Signals it and what it started.
    pub(super) fn signal(&self, signal: Signal) {
        // A group that has ended needs none.
        let _ = kill_process_group(self.group, signal);
    }

    /// Whether it has ended. Its number stays taken until [`Self::reap`], so that the group can still be
    /// signalled.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.group), options), Ok(None))
    }

    /// Signals everything that it started, in whatever group and session that is.
    pub(super) fn signal_all(&self, signal: Signal) {
        self.signal(signal);
        descendants::signal(signal);
    }

    /// Returns its end, and what it left behind in its group, which is ended. A process that has left the
    /// group, as a daemon does, goes on.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn reap(&mut self) -> io::Result<Reaped> {
        let left_over = descendants::left_in(self.group);
        self.signal(Signal::KILL);
        let status = self.child.wait();
        self.cgroup.iter().for_each(Cgroup::remove);
        Ok(Reaped { status: status?, left_over, unended: 0 })
    }

    /// Returns its end, and which of its descendants had not ended; all of them are ended, in whatever group
    /// and session they are, within `timeout`.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn reap_all(&mut self, timeout: Duration) -> io::Result<Reaped> {
        let left_over = descendants::left_below(self.group);
        self.signal(Signal::KILL);
        let status = self.child.wait()?;
        if let Some(cgroup) = &self.cgroup {
            // The walk below finds the same processes, one by one.
            let _ = cgroup::kill(&cgroup.directory);
        }
        let unended = descendants::end(timeout);
        self.cgroup.iter().for_each(Cgroup::remove);
        Ok(Reaped { status, left_over, unended })
    }
}

/// Ends the process group of a run whose supervisor is gone, when it is still that one.
pub(super) fn end_orphans(directory: &Path) {
    let Ok(group) = files::read::<ProcessGroup>(directory, GROUP) else { return };
    let Some(group) = group.whole() else { return };
    let is_same = group.boot == host::boot_id(Path::new("/"))
        && descendants::stat(group.number).map(|stat| stat.started_ticks) == Some(group.started_ticks);
    // A control group has the names of the run and of its supervisor: it is that one whatever became of the
    // processes.
    if let Some(cgroup) = group.cgroup.filter(|_| group.boot == host::boot_id(Path::new("/"))) {
        let _ = cgroup::kill(Path::new(&cgroup));
        let _ = std::fs::remove_dir(&cgroup);
    }
    if let Some(number) = Pid::from_raw(group.number).filter(|_| is_same && group.number > 1) {
        let _ = kill_process_group(number, Signal::KILL);
    }
}

/// Largest list of users that is read: some ten thousand of them.
const PASSWD_BYTES_MAX: u64 = 4 << 20;

/// A user of this system, as passwd(5) has it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct User {
    /// Name.
    #[n(0)]
    pub name: String,
    /// Number.
    #[n(1)]
    pub user: u32,
    /// Number of its group.
    #[n(2)]
    pub group: u32,
    /// Home directory.
    #[n(3)]
    pub home: String,
}

/// Finds a user, and looks whether this process may become it.
///
/// # Errors
/// Why not.
pub fn find_user(passwd: &Path, name: &str) -> Result<User, String> {
    let text =
        open::text(passwd, PASSWD_BYTES_MAX).map_err(|error| format!("{}: {error}", passwd.display()))?;
    let user = text.lines().find_map(|line| parse(line).filter(|user| user.name == name));
    let user = user.ok_or_else(|| format!("there is no user '{name}' in {}", passwd.display()))?;
    let own = rustix::process::geteuid();
    if !own.is_root() && own.as_raw() != user.user {
        return Err(format!(
            "the agent may not run anything as '{name}': it runs as user {}, and only root may change (run the agent as root, or leave 'user' out)",
            own.as_raw()
        ));
    }
    Ok(user)
}

/// `name:password:number:group:comment:home:shell`
fn parse(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, user, group, _, home, ..] = fields[..] else { return None };
    Some(User {
        name: name.to_owned(),
        user: user.parse().ok()?,
        group: group.parse().ok()?,
        home: home.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = rustix::process::geteuid().as_raw();
        std::fs::write(file.path(), format!("nonsense\nme:x:{own}:7:Me, myself:/home/me:/bin/sh\n+::::::\n"))
            .unwrap();
        let user = find_user(file.path(), "me").unwrap();
        assert_eq!((user.user, user.group, user.home.as_str()), (own, 7, "/home/me"));
        assert!(find_user(file.path(), "m").unwrap_err().contains("there is no user 'm'"));
        assert!(find_user(file.path(), &own.to_string()).is_err());
    }
}
