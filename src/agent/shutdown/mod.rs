//! Why the agent is asked to end: because the system shuts down or reboots, or because somebody stops the
//! agent alone.

pub mod bus;
mod dbus;

use std::path::Path;
use std::time::Duration;

use super::{open, process};
use crate::wire::datagram::NoticeKind;

/// Time of the question: the device should not wait for it. systemd answers in some milliseconds, and in a
/// second while it begins a shutdown.
pub const QUESTION_TIMEOUT: Duration = Duration::from_millis(1_600);

/// Most that the service manager may answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Asks the service manager: systemd where it runs, runlevel(8) otherwise. Blocks for [`QUESTION_TIMEOUT`] at
/// most. `root`: the directory that the system's files are looked for under.
#[must_use]
pub fn kind(root: &Path) -> NoticeKind {
    if let Some(kind) = forced(root) {
        return kind;
    }
    let is_systemd = root.join("run/systemd/system").exists();
    let (words, read): (&[&str], fn(&str) -> NoticeKind) = if is_systemd {
        (&["systemctl", "list-jobs", "--no-legend", "--plain", "--no-pager"], of_jobs)
    } else {
        (&["runlevel"], of_runlevel)
    };
    match process::run(words, QUESTION_TIMEOUT, ANSWER_BYTES_MAX) {
        Ok(answer) if answer.code == Some(0) || !is_systemd => read(&String::from_utf8_lossy(&answer.output)),
        Ok(answer) => {
            log::warn!("whether the system shuts down is not known: systemctl ended with {:?}", answer.code);
            NoticeKind::AgentStopped
        }
        Err(error) => {
            let level = if is_systemd { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "whether the system shuts down is not known: {error}");
            NoticeKind::AgentStopped
        }
    }
}

/// After 'systemctl --force reboot' the first process is systemd-shutdown(8), and its first argument says
/// what it does; nobody answers then.
fn forced(root: &Path) -> Option<NoticeKind> {
    let line = open::text(&root.join("proc/1/cmdline"), ANSWER_BYTES_MAX as u64).ok()?;
    let mut words = line.split('\0');
    words.next().filter(|program| program.ends_with("systemd-shutdown"))?;
    match words.next()? {
        "reboot" | "kexec" => Some(NoticeKind::Reboot),
        _ => Some(NoticeKind::Shutdown),
    }
}

/// `systemctl list-jobs`: number, unit, type, state (systemctl(1)).
fn of_jobs(text: &str) -> NoticeKind {
    let started = |unit: &str| {
        text.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.any(|word| word == unit) && words.next() == Some("start")
        })
    };
    let found = bus::TARGETS.iter().find(|(target, _)| started(target));
    match found {
        Some((_, kind)) => *kind,
        None if started("shutdown.target") => NoticeKind::Shutdown,
        None => NoticeKind::AgentStopped,
    }
}

/// The runlevel before and that of now (runlevel(8)).
fn of_runlevel(text: &str) -> NoticeKind {
    match text.split_whitespace().nth(1) {
        Some("6") => NoticeKind::Reboot,
        Some("0") => NoticeKind::Shutdown,
        _ => NoticeKind::AgentStopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_jobs_say_what_is_coming() {
        let stop = "  1201 muster-agent.service stop running\n";
        let reboot = "  1234 reboot.target start waiting\n  1235 shutdown.target start waiting\n";
        let poweroff = "1 systemd-poweroff.service start waiting\n2 poweroff.target start waiting\n";
        assert_eq!(of_jobs(stop), NoticeKind::AgentStopped);
        assert_eq!(of_jobs(&format!("{stop}{reboot}")), NoticeKind::Reboot);
        assert_eq!(of_jobs(&format!("{stop}{poweroff}")), NoticeKind::Shutdown);
        assert_eq!(of_jobs("7 reboot.target stop waiting\n"), NoticeKind::AgentStopped);
        assert_eq!(of_jobs(""), NoticeKind::AgentStopped);
    }

    #[test]
    fn a_forced_end_shows_in_the_first_process() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/1")).unwrap();
        for (line, kind) in [
            ("/lib/systemd/systemd-shutdown\0reboot\0--log-level\x006\0", Some(NoticeKind::Reboot)),
            ("/usr/lib/systemd/systemd-shutdown\0poweroff\0", Some(NoticeKind::Shutdown)),
            ("/sbin/init\0", None),
        ] {
            std::fs::write(root.path().join("proc/1/cmdline"), line).unwrap();
            assert_eq!(forced(root.path()), kind, "{line:?}");
        }
    }

    #[test]
    fn so_do_runlevels() {
        assert_eq!(of_runlevel("N 6\n"), NoticeKind::Reboot);
        assert_eq!(of_runlevel("5 0\n"), NoticeKind::Shutdown);
        assert_eq!(of_runlevel("N 5\n"), NoticeKind::AgentStopped);
        assert_eq!(of_runlevel("unknown\n"), NoticeKind::AgentStopped);
    }
}
