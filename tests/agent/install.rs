//! The agent as a service in trees of files, as image builders install it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit::{AGENT, fail, skipped, succeed};

/// A tree with a service manager, which these files are of.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[&str]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|file| tree.write(file, ""));
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn agent(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(AGENT);
        command.args(arguments).arg("--root").arg(self.0.path());
        command
    }

    /// Files and links, with their permission bits.
    fn all(&self) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        let mut left = vec![self.0.path().to_owned()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let metadata = path.symlink_metadata().unwrap();
                if metadata.is_dir() {
                    left.push(path);
                } else {
                    let name = path.strip_prefix(self.0.path()).unwrap().display().to_string();
                    let is_link = metadata.is_symlink();
                    found.push((name, if is_link { 0 } else { metadata.permissions().mode() & 0o7777 }));
                }
            }
        }
        found.sort();
        found
    }
}

fn tool(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(name)).unwrap()
}

#[test]
fn a_systemd_machine_gets_the_packages_unit_and_an_upgrade_keeps_what_was_chosen() {
    let tree = Tree::new(&["usr/lib/systemd/systemd"]);
    let said = succeed(&mut tree.agent(&["install"]));
    assert!(said.contains("usr/local/bin/muster-agent") && said.contains("nothing is started"), "{said}");
    let files = [
        ("etc/muster/muster-agent.toml", 0o644),
        ("etc/systemd/system/multi-user.target.wants/muster-agent.service", 0),
        ("etc/systemd/system/muster-agent-sleep.service", 0o644),
        ("etc/systemd/system/muster-agent.service", 0o644),
        ("usr/lib/systemd/systemd", tree.path("usr/lib/systemd/systemd").metadata().unwrap().mode() & 0o7777),
        ("usr/local/bin/muster-agent", 0o755),
    ];
    assert_eq!(tree.all(), files.map(|(name, mode)| (name.to_owned(), mode)));
    assert_eq!(tree.read("etc/systemd/system/muster-agent.service"), tool("systemd/muster-agent.service"));
    assert_eq!(tree.read("etc/muster/muster-agent.toml"), tool("muster-agent.toml"));
    assert_eq!(
        fs::read(tree.path("usr/local/bin/muster-agent")).unwrap(),
        fs::read(AGENT).unwrap(),
        "the program itself"
    );

    // The administrator has changed things; the program and the unit are of an older version.
    let enabling = tree.path("etc/systemd/system/multi-user.target.wants/muster-agent.service");
    fs::remove_file(&enabling).unwrap();
    tree.write("etc/muster/muster-agent.toml", "data = \"/srv/agent\"\n");
    tree.write("etc/systemd/system/muster-agent.service", "[Unit]\n");
    tree.write("usr/local/bin/muster-agent", "older");
    let running = fs::File::open(tree.path("usr/local/bin/muster-agent")).unwrap();
    succeed(&mut tree.agent(&["install"]));
    assert_eq!(running.metadata().unwrap().len(), 5, "what runs keeps its own");
    assert!(tree.path("usr/local/bin/muster-agent").metadata().unwrap().len() > 1_000_000);
    assert!(enabling.symlink_metadata().is_err(), "disabled stays disabled");
    assert_eq!(tree.read("etc/muster/muster-agent.toml"), "data = \"/srv/agent\"\n");
    assert!(tree.read("etc/systemd/system/muster-agent.service").contains("KillMode=process"));
    // By the program that is in its place already.
    let own = tree.path("usr/local/bin/muster-agent");
    let before = own.metadata().unwrap().ino();
    succeed(Command::new(&own).arg("install").arg("--root").arg(tree.0.path()));
    assert_eq!(own.metadata().unwrap().ino(), before);
    assert!(tree.all().iter().all(|(name, _)| !name.ends_with(".new")));
}

#[test]
fn what_was_installed_goes_and_the_state_only_when_that_is_asked_for() {
    let tree = Tree::new(&["usr/lib/systemd/systemd"]);
    let before = tree.all();
    let nothing = fail(&mut tree.agent(&["uninstall"]));
    assert!(nothing.contains("'muster-agent install' has left nothing in"), "{nothing}");
    succeed(&mut tree.agent(&["install"]));
    tree.write("var/lib/muster-agent/identity", "");
    let sleep = "etc/systemd/system/sleep.target.wants/muster-agent-sleep.service";
    tree.write(sleep, "");
    let said = succeed(&mut tree.agent(&["uninstall"]));
    assert!(said.contains("--purge"), "{said}");
    let left: Vec<_> = tree.all().into_iter().map(|(name, _)| name).collect();
    let kept = ["etc/muster/muster-agent.toml", "usr/lib/systemd/systemd", "var/lib/muster-agent/identity"];
    assert_eq!(left, kept);
    succeed(&mut tree.agent(&["uninstall", "--purge"]));
    assert_eq!(tree.all(), before);
    assert!(!tree.path("etc/muster").exists());
    fail(&mut tree.agent(&["uninstall", "--purge"]));
}

#[test]
fn other_service_managers_have_scripts_that_a_shell_reads() {
    for (mark, manager, enabling, program, data) in [
        (
            "sbin/openrc-run",
            "openrc",
            "etc/runlevels/default/muster-agent",
            "usr/local/bin",
            "/var/lib/muster-agent",
        ),
        ("sbin/procd", "procd", "etc/rc.d/S95muster-agent", "usr/bin", "/etc/muster/agent"),
    ] {
        let tree = Tree::new(&[mark]);
        succeed(&mut tree.agent(&["install"]));
        let script = tree.path("etc/init.d/muster-agent");
        assert_eq!(fs::read_to_string(&script).unwrap(), tool(&format!("{manager}/muster-agent")));
        assert_eq!(script.metadata().unwrap().mode() & 0o777, 0o755);
        assert!(tree.path(enabling).symlink_metadata().unwrap().is_symlink());
        assert!(tree.path(program).join("muster-agent").exists());
        let configured = tree.read("etc/muster/muster-agent.toml");
        assert!(configured.contains(&format!("\ndata = \"{data}\"\n")), "{configured}");
        succeed(Command::new("sh").arg("-n").arg(&script));
        // Named, it is the same where there is no mark of it.
        let bare = Tree::new(&[]);
        let unknown = fail(&mut bare.agent(&["install"]));
        assert!(unknown.contains("--service-manager"), "{unknown}");
        succeed(&mut bare.agent(&["install", "--service-manager", manager]));
        let without_mark: Vec<_> = tree.all().into_iter().filter(|(name, _)| name != mark).collect();
        assert_eq!(bare.all(), without_mark);
        succeed(&mut bare.agent(&["uninstall", "--service-manager", manager, "--purge"]));
        assert_eq!(bare.all(), []);
    }
}

#[test]
fn what_a_package_has_is_left_to_the_package_manager() {
    for (mark, text) in [
        ("usr/lib/systemd/system/muster-agent.service", ""),
        ("usr/bin/muster-agent", ""),
        ("lib/apk/db/installed", "P:musl\nV:1\n\nP:muster-agent\nV:1\n"),
    ] {
        let tree = Tree::new(&["usr/lib/systemd/systemd"]);
        tree.write(mark, text);
        let before = tree.all();
        for command in ["install", "uninstall"] {
            let refused = fail(&mut tree.agent(&[command]));
            assert!(
                refused.contains("a package has muster-agent here") && refused.contains(mark),
                "{refused}"
            );
        }
        assert_eq!(tree.all(), before);
    }
}

#[test]
fn nothing_is_written_or_removed_outside_of_the_tree() {
    let (tree, outside) = (Tree::new(&["usr/lib/systemd/systemd"]), Tree::new(&[]));
    symlink(outside.0.path(), tree.path("etc")).unwrap();
    let refused = fail(&mut tree.agent(&["install"]));
    assert!(refused.contains("leads out of"), "{refused}");
    assert_eq!(outside.all(), []);
    outside.write("muster/muster-agent.toml", "");
    fail(&mut tree.agent(&["uninstall", "--purge"]));
    assert_eq!(outside.all().len(), 1);
}

#[test]
fn only_root_installs_on_the_machine_itself() {
    if !rustix::process::geteuid().is_root() {
        let refused = fail(Command::new(AGENT).arg("install"));
        assert!(refused.contains("sudo"), "{refused}");
        return;
    }
    // Root asks as somebody else; what is reached by 'nobody' lies outside of root's directories.
    let directory = tempfile::tempdir().unwrap();
    let agent = directory.path().join("muster-agent");
    fs::copy(AGENT, &agent).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&agent).arg("install");
    match command.output() {
        Ok(output) => {
            assert_eq!(output.status.code(), Some(1));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("only root") && said.contains("sudo"), "{said}");
        }
        Err(error) => skipped(format!("no setpriv(1) here: {error}")),
    }
}
