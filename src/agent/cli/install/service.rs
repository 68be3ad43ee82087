//! The agent as a service: files, their places and the commands, by the program that manages services.

use std::borrow::Cow;

use crate::agent::last_good::SYSTEM_DATA;

/// The program that starts and stops services.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceManager {
    /// Debian, Fedora, Arch and most others
    Systemd,
    /// Alpine, Gentoo
    Openrc,
    /// `OpenWrt`
    Procd,
}

use ServiceManager::{Openrc, Procd, Systemd};

/// The configuration as the packages have it.
const CONFIGURATION: &str = include_str!("../../../../tools/muster-agent.toml");

/// Data directory on `OpenWrt`, where all of /var is in memory.
const PROCD_DATA: &str = "/etc/muster/agent";

/// Permission bits of a program.
const PROGRAM_MODE: u32 = 0o755;

/// Permission bits of a file that is read.
const TEXT_MODE: u32 = 0o644;

/// A file of the service: path, content, permission bits.
type ServiceFile = (&'static str, &'static str, u32);

/// A link that enables the service, and the path that it leads to.
type EnablingLink = (&'static str, &'static str);

/// Marks of managers that run on this machine, by paths in its root.
const RUNNING: [(&str, ServiceManager); 4] = [
    ("run/systemd/system", Systemd),
    ("sbin/procd", Procd),
    ("run/openrc", Openrc),
    ("sbin/openrc-run", Openrc),
];

/// The same of managers that are in a tree, where nothing runs.
const INSTALLED: [(&str, ServiceManager); 4] = [
    ("usr/lib/systemd/systemd", Systemd),
    ("lib/systemd/systemd", Systemd),
    ("sbin/procd", Procd),
    ("sbin/openrc-run", Openrc),
];

impl ServiceManager {
    /// The one that is found: what runs on this machine, or what is in a tree.
    pub(super) fn find(is_tree: bool, exists: impl Fn(&str) -> bool) -> Option<Self> {
        let marks = if is_tree { INSTALLED } else { RUNNING };
        marks.into_iter().find(|(mark, _)| exists(mark)).map(|(_, manager)| manager)
    }

    /// The path in a machine's root by which it is known that it runs.
    pub(super) fn runs_by(self) -> &'static str {
        match self {
            Systemd => "run/systemd/system",
            Openrc => "run/openrc",
            Procd => "sbin/procd",
        }
    }

    /// Path of the program. On `OpenWrt` no other directory is looked through for commands.
    pub(super) fn program(self) -> &'static str {
        match self {
            Systemd | Openrc => "/usr/local/bin/muster-agent",
            Procd => "/usr/bin/muster-agent",
        }
    }

    /// Path of the data directory.
    pub(super) fn data(self) -> &'static str {
        match self {
            Systemd | Openrc => SYSTEM_DATA,
            Procd => PROCD_DATA,
        }
    }

    /// The configuration that is written where there is none.
    pub(super) fn configuration(self) -> Cow<'static, str> {
        match self {
            Systemd | Openrc => CONFIGURATION.into(),
            Procd => CONFIGURATION.replace(SYSTEM_DATA, PROCD_DATA).into(),
        }
    }

    /// The service itself first.
    pub(super) fn files(self) -> &'static [ServiceFile] {
        match self {
            Systemd => &[
                (
                    "/etc/systemd/system/muster-agent.service",
                    include_str!("../../../../tools/systemd/muster-agent.service"),
                    TEXT_MODE,
                ),
                (
                    "/etc/systemd/system/muster-agent-sleep.service",
                    include_str!("../../../../tools/systemd/muster-agent-sleep.service"),
                    TEXT_MODE,
                ),
            ],
            Openrc => &[(
                "/etc/init.d/muster-agent",
                include_str!("../../../../tools/openrc/muster-agent"),
                PROGRAM_MODE,
            )],
            Procd => &[
                (
                    "/etc/init.d/muster-agent",
                    include_str!("../../../../tools/procd/muster-agent"),
                    PROGRAM_MODE,
                ),
                // Paths that an upgrade of the system keeps (sysupgrade).
                ("/lib/upgrade/keep.d/muster-agent", include_str!("../../../../tools/procd/keep"), TEXT_MODE),
            ],
        }
    }

    /// Links that enable the service.
    pub(super) fn enabling(self) -> &'static [EnablingLink] {
        match self {
            Systemd => &[(
                "/etc/systemd/system/multi-user.target.wants/muster-agent.service",
                "/etc/systemd/system/muster-agent.service",
            )],
            Openrc => &[("/etc/runlevels/default/muster-agent", "/etc/init.d/muster-agent")],
            Procd => &[
                ("/etc/rc.d/S95muster-agent", "../init.d/muster-agent"),
                ("/etc/rc.d/K10muster-agent", "../init.d/muster-agent"),
            ],
        }
    }

    /// Links that an administrator may have made since, which go with the service.
    pub(super) fn enabled_by_hand(self) -> &'static [&'static str] {
        match self {
            Systemd => &["/etc/systemd/system/sleep.target.wants/muster-agent-sleep.service"],
            Openrc | Procd => &[],
        }
    }

    /// The command that has it read the services anew, when it has to be told.
    pub(super) fn reload(self) -> Option<&'static str> {
        (self == Systemd).then_some("systemctl daemon-reload")
    }

    /// The command that starts the service, or starts it again.
    pub(super) fn restart(self) -> &'static str {
        match self {
            Systemd => "systemctl restart muster-agent.service",
            Openrc => "rc-service muster-agent restart",
            Procd => "/etc/init.d/muster-agent restart",
        }
    }

    /// The command that stops the service.
    pub(super) fn stop(self) -> &'static str {
        match self {
            Systemd => "systemctl stop muster-agent.service muster-agent-sleep.service",
            Openrc => "rc-service muster-agent stop",
            Procd => "/etc/init.d/muster-agent stop",
        }
    }

    /// The command that shows why the service does not start.
    pub(super) fn log(self) -> &'static str {
        match self {
            Systemd => "journalctl -u muster-agent",
            Openrc => "grep muster-agent /var/log/messages",
            Procd => "logread -e muster-agent",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that one of them says and another does not have would be found on a device.
    #[test]
    fn the_parts_of_a_service_name_each_others_paths() {
        for manager in [Systemd, Openrc, Procd] {
            let (_, service, _) = manager.files()[0];
            for path in [manager.program(), manager.data(), "/etc/muster/muster-agent.toml"] {
                assert!(service.contains(path), "{manager:?}: {path}");
            }
            assert!(manager.configuration().contains(&format!("\ndata = \"{}\"\n", manager.data())));
            let name = manager.files()[0].0.rsplit_once('/').unwrap().1;
            assert!(manager.enabling().iter().all(|(_, to)| to.ends_with(name)));
        }
        let (_, kept, _) = Procd.files()[1];
        let links = Procd.enabling().iter().map(|(link, _)| *link);
        for path in links.chain([Procd.program(), Procd.files()[0].0]) {
            assert!(kept.lines().any(|line| line == path), "{path} is lost by an upgrade of the system");
        }
    }

    #[test]
    fn what_runs_is_what_counts_and_in_a_tree_what_is_there() {
        let has = |paths: &'static [&'static str]| move |path: &str| paths.contains(&path);
        let debian_with_openrc = has(&["usr/lib/systemd/systemd", "run/openrc", "sbin/openrc-run"]);
        assert_eq!(ServiceManager::find(false, debian_with_openrc), Some(Openrc));
        assert_eq!(ServiceManager::find(true, debian_with_openrc), Some(Systemd));
        assert_eq!(ServiceManager::find(false, has(&["sbin/procd"])), Some(Procd));
        assert_eq!(ServiceManager::find(false, has(&["usr/lib/systemd/systemd"])), None, "a container");
    }
}
