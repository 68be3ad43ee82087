//! The server of `--self`: this program started again, so that no second one need be built, as a process of
//! its own, so that it can be measured from outside and killed. It ends with its parent.

use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster::logging;
use muster::server::config::Config;
use muster::server::process::ProcessOptions;
use muster::server::{Server, StandbyStart};
use serde::{Deserialize, Serialize};

use super::directory::of_same_run;
use crate::failure::Failure;

/// Links that are allowed: as many as the system gives descriptors for.
const LINKS_MAX: usize = 4_000_000;

/// Number of times that its directory is removed at most, and the pause in between.
const REMOVALS_MAX: usize = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(5);

/// The parent is gone: a server that misses its files from then on must not end before all are removed.
static IS_LEFT_ALONE: AtomicBool = AtomicBool::new(false);

/// Setting of the server, as the first line of its standard input.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ChildSetting {
    /// Its data directory.
    pub(crate) data: PathBuf,
    /// Address at which it listens; port 0: the system chooses.
    pub(crate) listen: SocketAddr,
    /// Threads that serve links; none: one for each core.
    pub(crate) reactors: Option<usize>,
    /// Whether it waits until nobody has the data.
    pub(crate) waits: bool,
    /// Directory that it removes when it was left alone.
    pub(crate) remove: PathBuf,
}

/// A line of its standard output.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// Somebody has the data.
    Waits,
    /// It serves.
    Serves(Serving),
}

/// Addresses of a server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Serving {
    /// Address that devices connect to.
    pub(crate) address: SocketAddr,
    /// Address for administrators.
    pub(crate) admin: PathBuf,
}

/// Line that ends it with everything in order; the end of its input ends it at once.
pub(crate) const DRAIN: &str = "drain";

/// The hidden command `server`.
pub(crate) fn run() -> Result<(), Failure> {
    let mut lines = std::io::stdin().lock().lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    let setting: ChildSetting = serde_json::from_str(&first)
        .map_err(|error| Failure::usage(format!("'server' is not for people ({error}): start musterd")))?;
    logging::start(log::LevelFilter::Warn).map_err(Failure::refused)?;
    let mut config = Config::in_directory(&setting.data);
    config.listen = setting.listen;
    config.reactors = setting.reactors;
    // The port opens with the first API token.
    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.links.max = LINKS_MAX;
    config.links.max_persistent_connections = Some(LINKS_MAX);
    // As musterd does.
    config.process = ProcessOptions::DAEMON;
    let server = match setting.waits {
        true => wait(&config, &setting.remove)?,
        false => Server::start(config).map_err(Failure::refused)?,
    };
    let address = server.addresses().first().copied().unwrap_or(setting.listen);
    say(&Said::Serves(Serving { address, admin: server.admin_socket() }), &setting.remove)?;
    let failures = server.failures();
    std::thread::spawn(move || {
        if let Some(failure) = failures.wait()
            && !IS_LEFT_ALONE.load(Ordering::SeqCst)
        {
            logging::last_line(&failure.to_string());
            std::process::exit(1);
        }
    });
    if lines.next().and_then(Result::ok).as_deref() == Some(DRAIN) {
        let drained = server.drain().map_err(Failure::refused);
        logging::flush();
        return drained;
    }
    leave_nothing(&setting.remove)
}

fn say(said: &Said, directory: &Path) -> Result<(), Failure> {
    let line = serde_json::to_string(said).map_err(Failure::refused)?;
    if writeln!(std::io::stdout(), "{line}").and_then(|()| std::io::stdout().flush()).is_err() {
        // Nobody listens any more.
        leave_nothing(directory);
    }
    Ok(())
}

/// A standby, as `musterd run --wait` is.
fn wait(config: &Config, directory: &Path) -> Result<Server, Failure> {
    loop {
        match Server::start_when_free(config).map_err(Failure::refused)? {
            StandbyStart::Started(server) => return Ok(*server),
            // Said each time: that is how it hears that its parent is gone.
            StandbyStart::Waits(_) => say(&Said::Waits, directory)?,
        }
        std::thread::sleep(Server::STANDBY_PAUSE);
    }
}

/// The parent of this server is gone, and nothing of it shall be left: what else it had made beside this
/// directory has nobody else any more.
fn leave_nothing(directory: &Path) -> ! {
    IS_LEFT_ALONE.store(true, Ordering::SeqCst);
    let is_removed = |directory: &PathBuf| match std::fs::remove_dir_all(directory) {
        // The server goes on meanwhile, and may have made another file.
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        Ok(()) => true,
    };
    for _ in 0..REMOVALS_MAX {
        // All of them, whatever becomes of one.
        if of_same_run(directory).iter().filter(|directory| !is_removed(directory)).count() == 0 {
            break;
        }
        std::thread::sleep(REMOVAL_PAUSE);
    }
    std::process::exit(0);
}
