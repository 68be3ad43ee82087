//! Why the agent is asked to end: because the system shuts down or reboots, or because somebody stops the agent alone.

use std::path::Path;
use std::time::Duration;

use super::process;
use crate::wire::datagram::NoticeKind;

/// How long the question may take: the device is not to wait for it.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(300);

/// Most that the service manager may answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Asks the service manager: systemd where it runs, runlevel(8) otherwise. Blocks for a third of a second at most.
#[must_use]
pub fn kind(root: &Path) -> NoticeKind {
    let (program, arguments, read): (_, &[&str], fn(&str) -> NoticeKind) =
        if root.join("run/systemd/system").exists() {
            ("systemctl", &["list-jobs", "--no-legend", "--plain", "--no-pager"], of_jobs)
        } else {
            ("runlevel", &[], of_runlevel)
        };
    match process::run(program, arguments, QUESTION_TIMEOUT, ANSWER_BYTES_MAX) {
        Ok(answer) => read(&String::from_utf8_lossy(&answer.output)),
        Err(error) => {
            log::debug!("whether the system shuts down is not known: {error}");
            NoticeKind::AgentStopped
        }
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
    if ["reboot.target", "kexec.target", "soft-reboot.target"].into_iter().any(started) {
        NoticeKind::Reboot
    } else if ["poweroff.target", "halt.target", "shutdown.target"].into_iter().any(started) {
        NoticeKind::Shutdown
    } else {
        NoticeKind::AgentStopped
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
    fn so_do_runlevels() {
        assert_eq!(of_runlevel("N 6\n"), NoticeKind::Reboot);
        assert_eq!(of_runlevel("5 0\n"), NoticeKind::Shutdown);
        assert_eq!(of_runlevel("N 5\n"), NoticeKind::AgentStopped);
        assert_eq!(of_runlevel("unknown\n"), NoticeKind::AgentStopped);
    }
}
