//! `muster-agent install` and `uninstall`: the agent as a service, on machines and in trees where no package
//! does it. They do as the packages (`tools/package/debian`).

mod service;

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::CommandError;
use super::arguments::{Install, InstallPlace, Uninstall};
use super::context::SYSTEM_CONFIG;
use crate::agent::{checksummed, open, packaged};
pub use service::ServiceManager;

/// Permission bits of directories that are made.
const DIRECTORY_MODE: u32 = 0o755;

/// Permission bits of the configuration.
const CONFIGURATION_MODE: u32 = 0o644;

/// Permission bits of the program.
const PROGRAM_MODE: u32 = 0o755;

/// The machine that the agent is installed on.
struct Machine {
    /// Its root, with all links followed.
    root: PathBuf,
    /// Whether it is a tree of files, in which nothing runs.
    is_tree: bool,
    manager: ServiceManager,
}

/// Installs the agent, or puts this version in the place of the one that is there.
pub(super) fn install(arguments: &Install) -> Result<(), CommandError> {
    let machine = Machine::find(&arguments.place)?;
    machine.check_packages()?;
    let manager = machine.manager;
    let files = manager.files();
    let is_new = !machine.has(files[0].0);
    machine.place_program()?;
    if !machine.has(SYSTEM_CONFIG) {
        let text = manager.configuration();
        machine.write(SYSTEM_CONFIG, &mut text.as_bytes(), CONFIGURATION_MODE)?;
    }
    if is_new {
        // Before the service: cut off in between, the next attempt would take it for one that was disabled.
        for (link, to) in manager.enabling() {
            machine.link(link, to)?;
        }
    }
    for (path, text, mode) in files {
        machine.write(path, &mut text.as_bytes(), *mode)?;
    }
    say!("muster-agent {} is {}", env!("CARGO_PKG_VERSION"), machine.path(manager.program()).display());
    machine.start()
}

/// Takes it away again.
pub(super) fn uninstall(arguments: &Uninstall) -> Result<(), CommandError> {
    let machine = Machine::find(&arguments.place)?;
    machine.check_packages()?;
    let manager = machine.manager;
    let links = manager.enabling().iter().map(|(link, _)| *link);
    let links = links.chain(manager.enabled_by_hand().iter().copied());
    let files = manager.files().iter().map(|(path, ..)| *path);
    let mut all: Vec<&str> = links.chain(files).chain([manager.program()]).collect();
    if machine.runs() && machine.has(manager.files()[0].0) {
        execute(manager.stop())
            .map_err(|error| CommandError::refused(format!("{error}: it is still installed")))?;
    }
    if arguments.purge {
        all.extend([manager.data(), SYSTEM_CONFIG]);
    }
    let mut is_found = false;
    for path in all {
        is_found |= machine.remove(path)?;
    }
    if let Some(reload) = manager.reload().filter(|_| machine.runs()) {
        execute(reload).map_err(CommandError::refused)?;
    }
    if arguments.purge {
        // Unless others have put something there.
        let _ = fs::remove_dir(machine.path(SYSTEM_CONFIG).with_file_name(""));
    }
    if !is_found {
        let text = format!("'muster-agent install' has left nothing in {}", machine.root.display());
        return Err(CommandError::refused(text));
    }
    say!("the service and the program are removed");
    let data = machine.path(manager.data());
    if data.exists() {
        say!("the device's identity and its spool stay in {}: --purge removes them, too", data.display());
    }
    Ok(())
}

fn wrong(what: &str, path: &Path, error: &io::Error) -> CommandError {
    CommandError::refused(format!("can't {what} {}: {error}", path.display()))
}

/// Runs a command whose words have no spaces. Its standard error is for the one who looks on.
fn execute(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap_or_default())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("'{command}' failed ({status})")),
        Err(error) => Err(format!("'{command}' can't be run: {error}")),
    }
}

impl Machine {
    fn find(place: &InstallPlace) -> Result<Self, CommandError> {
        let is_tree = place.root.is_some();
        if !is_tree && !rustix::process::geteuid().is_root() {
            let text = "only root installs and removes a service: put 'sudo' before it (or name a tree of files with --root)";
            return Err(CommandError::refused(text));
        }
        let named = place.root.clone().unwrap_or_else(|| "/".into());
        let root = named.canonicalize().map_err(|error| wrong("find", &named, &error))?;
        let found = || ServiceManager::find(is_tree, |path| root.join(path).exists());
        let manager = place.service_manager.or_else(found).ok_or_else(|| {
            CommandError::refused(format!(
                "no service manager that is known here {} in {}: name one with --service-manager, or have 'muster-agent run' \
                 started by your own",
                if is_tree { "is" } else { "runs" },
                root.display()
            ))
        })?;
        Ok(Self { root, is_tree, manager })
    }

    /// Refuses what a package manager would put back, or complain of.
    fn check_packages(&self) -> Result<(), CommandError> {
        let is_packages = self.manager.program() != "/usr/bin/muster-agent";
        let mark = packaged::mark(&self.root).map_err(CommandError::refused)?;
        let mark = mark.or_else(|| {
            is_packages
                .then(|| self.path("usr/bin/muster-agent"))
                .filter(|path| path.symlink_metadata().is_ok())
        });
        mark.map_or(Ok(()), |mark| {
            Err(CommandError::refused(format!(
                "a package has muster-agent here ({}): install, upgrade and remove it with the package manager",
                mark.display()
            )))
        })
    }

    /// The path of something in the machine's root.
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Whether the manager takes commands.
    fn runs(&self) -> bool {
        !self.is_tree && self.has(self.manager.runs_by())
    }

    /// Makes the directory in which `path` is.
    fn make_directory_of(&self, path: &Path) -> Result<(), CommandError> {
        let directory = path.parent().unwrap_or(&self.root);
        let missing: Vec<_> = directory.ancestors().take_while(|one| !one.exists()).collect();
        for missing in missing.into_iter().rev() {
            let made = fs::create_dir(missing)
                .and_then(|()| fs::set_permissions(missing, fs::Permissions::from_mode(DIRECTORY_MODE)));
            made.map_err(|error| wrong("make", missing, &error))?;
        }
        self.check_inside(directory)
    }

    /// A link in a tree may mean a place on the machine that will boot from it, and lead to one here.
    fn check_inside(&self, directory: &Path) -> Result<(), CommandError> {
        let found = directory.canonicalize().map_err(|error| wrong("find", directory, &error))?;
        if found.starts_with(&self.root) {
            return Ok(());
        }
        let text = format!("{} leads out of {}", directory.display(), self.root.display());
        Err(CommandError::refused(text))
    }

    /// Writes a file under another name, and renames it: a running program keeps the old one.
    fn write(&self, path: &str, content: &mut dyn Read, mode: u32) -> Result<(), CommandError> {
        let path = self.path(path);
        self.make_directory_of(&path)?;
        checksummed::place(&path, content, mode).map_err(|error| wrong("write", &path, &error))
    }

    /// Puts the program that runs into its place, unless it is there already.
    fn place_program(&self) -> Result<(), CommandError> {
        let own =
            std::env::current_exe().map_err(|error| wrong("find", Path::new("this program"), &error))?;
        let mut file = open::file(&own).map_err(|error| wrong("read", &own, &error))?;
        let place = |of: fs::Metadata| (of.dev(), of.ino());
        let there = fs::metadata(self.path(self.manager.program())).ok().map(place);
        if file.metadata().ok().map(place) == there && there.is_some() {
            return Ok(());
        }
        self.write(self.manager.program(), &mut file, PROGRAM_MODE)
    }

    fn link(&self, link: &str, to: &str) -> Result<(), CommandError> {
        let path = self.path(link);
        self.make_directory_of(&path)?;
        match symlink(to, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(wrong("make", &path, &error)),
            _ => Ok(()),
        }
    }

    /// Removes a file, a link or a directory with all that is in it; whether it was there.
    fn remove(&self, path: &str) -> Result<bool, CommandError> {
        if !self.has(path) {
            return Ok(false);
        }
        let path = self.path(path);
        self.check_inside(path.parent().unwrap_or(&self.root))?;
        let is_directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map(|()| true).map_err(|error| wrong("remove", &path, &error))
    }

    /// Has the manager take up what was installed.
    fn start(&self) -> Result<(), CommandError> {
        let manager = self.manager;
        if !self.runs() {
            say!("nothing is started here: it starts with the machine, once the device is enrolled");
            return Ok(());
        }
        if let Some(reload) = manager.reload() {
            execute(reload).map_err(CommandError::refused)?;
        }
        let is_enrolled = fs::read_dir(manager.data()).is_ok_and(|mut entries| entries.next().is_some());
        if !is_enrolled {
            say!(
                "enrol the device, and start it then:\n  muster-agent enroll --server HOST --token-file -\n  {}",
                manager.restart()
            );
        } else if manager.enabling().iter().all(|(link, _)| self.has(link)) {
            execute(manager.restart())
                .map_err(|error| CommandError::refused(format!("{error}: '{}' says why", manager.log())))?;
            say!("the service runs");
        } else {
            say!("the service is disabled, and stays so");
        }
        Ok(())
    }
}
