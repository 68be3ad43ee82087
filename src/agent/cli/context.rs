//! Configuration and data directory of a command, and `check` and `check-config`, which look at them.

use std::io;
use std::path::{Display, Path};

use serde_json::json;

use super::CommandError;
use super::arguments::{Check, Common, DATA_DEFAULT};
use super::control::{ANSWER_TIMEOUT, Holder};
use crate::agent::address::ServerAddress;
use crate::agent::check;
use crate::agent::check::line::{Line, Report};
pub use crate::agent::context::Context;
use crate::agent::directory::{Directory, DirectoryError};
use crate::agent::last_good::{self, SYSTEM_DATA};
use crate::agent::settings::{self, FILE_NAME, Settings};
use crate::configuration::ConfigError;
use crate::paths::{self, check_directory, check_readable};
use crate::wire::printable;

/// Configuration of a service.
pub const SYSTEM_CONFIG: &str = "/etc/muster/muster-agent.toml";

/// Path at which a service listens for other users' programs, as the configuration that comes with it
/// suggests.
const SYSTEM_SOCKET: &str = "/run/muster-agent/agent.sock";

/// State of a file that may be the configuration.
enum Found {
    Read(Box<Settings>, String),
    Absent,
    /// This user may not read it.
    Private,
}

fn look(file: &Path) -> Result<Found, ConfigError> {
    match settings::text(file) {
        Ok(text) => Ok(Found::Read(Box::new(Settings::parse(&text, file)?), text)),
        Err(ConfigError::Unreadable { source, .. }) if is_absent(&source) => Ok(Found::Absent),
        Err(ConfigError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(Found::Private)
        }
        Err(error) => Err(error),
    }
}

impl Context {
    /// Finds the configuration: the file that was named; otherwise `muster-agent.toml` in the data directory
    /// that was named; otherwise for root `/etc/muster/muster-agent.toml` when it is there, for others the
    /// same unless they have a data directory of their own where they are.
    ///
    /// A file that this user may not read and has not named counts as the service's own: programs of other
    /// users reach its agent by the socket that is meant for them. Without any file the service is meant when
    /// its data directory is there and none is where this user is.
    ///
    /// # Errors
    /// When the configuration is wrong, or the named file can't be read.
    pub fn new(common: &Common) -> Result<Self, ConfigError> {
        let is_root = rustix::process::geteuid().is_root();
        Self::find(common, Path::new(SYSTEM_CONFIG), Path::new(SYSTEM_DATA), is_root)
    }

    /// The same; with a file that is wrong, the last one counts that an agent ran with, and `problem` says
    /// so.
    ///
    /// # Errors
    /// When the configuration is wrong and there is no last good one.
    pub fn or_last_good(common: &Common) -> Result<Self, ConfigError> {
        let context = match Self::new(common) {
            Ok(context) => context,
            Err(error) => {
                let last_good = Self::last_good(common, error.path(), &error.to_string());
                return last_good.ok_or(error);
            }
        };
        // A service whose file is gone goes on with the last good one, and can be found all the same.
        if context.config.is_none() && context.data == Path::new(SYSTEM_DATA) {
            let last_good = Self::last_good(common, Path::new(SYSTEM_CONFIG), "the file is not there");
            return Ok(last_good.unwrap_or(context));
        }
        // It may be read well and still let no agent begin.
        let last_good = match (context.check(), &context.config) {
            (Err(why), Some(file)) => Self::last_good(common, file, &format!("{}: {why}", file.display())),
            _ => None,
        };
        Ok(last_good.filter(|last_good| last_good.check().is_ok()).unwrap_or(context))
    }

    /// The configuration with which an agent ran before `file` went wrong in the way that `why` says.
    fn last_good(common: &Common, file: &Path, why: &str) -> Option<Self> {
        let (directory, settings) = last_good::find(common.data.as_deref(), file)?;
        let problem = format!(
            "the configuration is not in force: {why}; the last good one is, from {}",
            directory.display()
        );
        let data = common.data.clone().or_else(|| settings.data.clone()).unwrap_or(directory);
        Some(Self { settings, config: Some(file.to_owned()), data, text: None, problem: Some(problem) })
    }

    /// Known facts about a service whose configuration can't be read: the place where its agent listens for
    /// programs, if it does.
    pub(crate) fn of_service(common: &Common) -> Option<Self> {
        let mut settings = Settings::default();
        settings.socket.path = Some(SYSTEM_SOCKET.into());
        let data = common.data.clone().unwrap_or_else(|| SYSTEM_DATA.into());
        let is_there = Path::new(SYSTEM_SOCKET).exists();
        is_there.then_some(Self { settings, config: None, data, text: None, problem: None })
    }

    /// `system` and `service`: where a service's configuration and its data are.
    fn find(common: &Common, system: &Path, service: &Path, is_root: bool) -> Result<Self, ConfigError> {
        let local = Path::new(DATA_DEFAULT);
        let of = |settings: Box<Settings>, text, file: &Path| {
            let data = common.data.clone().or_else(|| settings.data.clone());
            let data = data.unwrap_or_else(|| local.to_owned());
            Self { settings: *settings, config: Some(file.to_owned()), data, text: Some(text), problem: None }
        };
        if let Some(file) = &common.config {
            let text = settings::text(file)?;
            let settings = Box::new(Settings::parse(&text, file)?);
            return Ok(of(settings, text, file));
        }
        let own = common.data.as_deref().unwrap_or(local);
        let own_file = own.join(FILE_NAME);
        let is_system_first = common.data.is_none() && (is_root || !own.is_dir());
        let mut is_private = false;
        if !is_system_first {
            match look(&own_file)? {
                Found::Read(settings, text) => return Ok(of(settings, text, &own_file)),
                Found::Private => is_private = true,
                Found::Absent => {}
            }
        }
        // Of a data directory that was named it is the configuration when it says so itself.
        match look(system)? {
            Found::Read(settings, text)
                if is_system_first || (common.data.is_some() && settings.data == common.data) =>
            {
                return Ok(of(settings, text, system));
            }
            Found::Private => is_private |= is_system_first,
            Found::Read(..) | Found::Absent => {}
        }
        if is_system_first
            && !is_private
            && let Found::Read(settings, text) = look(&own_file)?
        {
            return Ok(of(settings, text, &own_file));
        }
        let is_service = is_private || (is_system_first && !own.is_dir() && service.is_dir());
        let mut settings = Settings::default();
        if is_private || (is_service && Path::new(SYSTEM_SOCKET).exists()) {
            settings.socket.path = Some(SYSTEM_SOCKET.into());
        }
        let data = match (&common.data, is_service) {
            (Some(data), _) => data.clone(),
            (None, true) => service.to_owned(),
            (None, false) => local.to_owned(),
        };
        Ok(Self { settings, config: None, data, text: None, problem: None })
    }

    /// Name of the file in messages.
    pub(super) fn config_name(&self) -> Display<'_> {
        self.config.as_deref().unwrap_or(Path::new("the configuration")).display()
    }

    /// Looks whether an agent can begin with this: what is wrong is the configuration's fault.
    ///
    /// # Errors
    /// With the fault.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(server) = &self.settings.server {
            server.parse::<ServerAddress>().map_err(|error| error.to_string())?;
        }
        self.check_socket().map_err(|problem| problem.to_string())
    }

    /// Everything that is wrong with it, for one who asks: whether the paths that are named can be used by
    /// this user is among it. Changes nothing.
    ///
    /// # Errors
    /// With the faults, and the settings' names.
    pub fn check_all(&self) -> Result<(), String> {
        let mut problems = Vec::new();
        problems.extend(check_directory("data (or --data)", &self.data).err());
        problems.extend(self.check_socket().err());
        problems.extend(check_readable("[collect] root", &self.settings.collect.root).err());
        // Without one no application is managed.
        if self.settings.applications.exists() {
            problems.extend(check_readable("applications", &self.settings.applications).err());
        }
        if problems.is_empty() { self.check() } else { Err(paths::line(&problems)) }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Looks at the configuration and the paths that it names; reading it says what is wrong with the rest.
pub(super) fn check_configuration(common: &Common) -> Result<(), CommandError> {
    let context = Context::new(common)?;
    context.check_all().map_err(CommandError::refused)?;
    let file =
        context.config.as_ref().map_or("no configuration file".into(), |file| file.display().to_string());
    say!("{file}: ok (data in {}, socket {})", context.data.display(), context.socket().display());
    if let Some(unseen) = paths::unseen("muster-agent") {
        eprintln!("muster-agent: {unseen}");
    }
    Ok(())
}

/// Looks at everything between this device and its server.
pub(super) fn check(arguments: &Check) -> Result<(), CommandError> {
    let context = Context::or_last_good(&arguments.common)?;
    let (directory, mut holder) = match Directory::open(&context.data) {
        // That there is none is what the line of the identity says.
        Err(DirectoryError::NotThere(path)) => (Directory::not_there(path), None),
        directory => (directory?, Some(Holder::find(&context, "a check", ANSWER_TIMEOUT)?)),
    };
    let agent = match &mut holder {
        Some(Holder::Agent(agent)) => Some(agent),
        Some(Holder::Here(_)) | None => None,
    };
    let mut show = |line: &Line| {
        if !arguments.json {
            say!("{line}");
        }
    };
    let mut report = Report::new(&mut show);
    check::check(&directory, &context.settings, agent, &mut report);
    if arguments.json {
        let document = json!({ "ok": report.is_ok(), "lines": report.lines() });
        say!("{}", printable::json_pretty(&document).unwrap_or_default());
    }
    match (report.is_ok(), report.problems()) {
        (true, _) => Ok(()),
        (false, 1) => Err(CommandError::refused("1 line is not ok")),
        (false, problems) => Err(CommandError::refused(format!("{problems} lines are not ok"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = "/var/lib/muster-agent";

    /// With `/etc/muster/muster-agent.toml` of this text.
    fn find(common: &Common, system: Option<&str>, is_root: bool) -> Context {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("muster-agent.toml");
        if let Some(text) = system {
            std::fs::write(&file, text).unwrap();
        }
        Context::find(common, &file, &directory.path().join("absent"), is_root).unwrap()
    }

    #[test]
    fn the_services_configuration_counts_where_nothing_else_is_named() {
        let text = format!("data = \"{DATA}\"\n[socket]\npath = \"/run/x.sock\"\n");
        for is_root in [true, false] {
            let found = find(&Common::default(), Some(&text), is_root);
            assert_eq!((found.data, found.settings.socket.path), (DATA.into(), Some("/run/x.sock".into())));
            let found = find(&Common::default(), None, is_root);
            assert_eq!((found.data, found.config), (DATA_DEFAULT.into(), None));
        }
        let data = |data: &str| Common { data: Some(data.into()), config: None };
        let found = find(&data(DATA), Some(&text), true);
        assert_eq!(found.settings.socket.path, Some("/run/x.sock".into()), "its own data directory");
        let found = find(&data("/srv/another"), Some(&text), true);
        assert_eq!((found.settings.socket.path, found.config), (None, None), "another one");
    }

    #[test]
    fn a_named_directorys_own_file_is_first() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE_NAME), "log_level = \"debug\"\n").unwrap();
        let common = Common { data: Some(directory.path().to_owned()), config: None };
        let found = find(&common, Some(&format!("data = {:?}\n", directory.path())), true);
        assert_eq!(found.config, Some(directory.path().join(FILE_NAME)));
    }

    /// It runs with the last good one; 'status' looked into the directory where it was called.
    #[test]
    fn a_service_without_its_configuration_is_found_by_its_data() {
        let directory = tempfile::tempdir().unwrap();
        let service = directory.path();
        let find = |common: &Common, is_root| {
            Context::find(common, &service.join("absent.toml"), service, is_root).unwrap().data
        };
        for is_root in [true, false] {
            assert_eq!(find(&Common::default(), is_root), service);
            let named = Common { data: Some("/srv/another".into()), config: None };
            assert_eq!(find(&named, is_root), Path::new("/srv/another"));
        }
    }
}
