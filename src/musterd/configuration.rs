//! `check-config`, and what the other commands make of `--config` and `--data`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::paths;
use crate::server::config::Config;

use super::Failure;
use super::arguments::{CheckConfig, Place};

/// Configuration of a service.
const SYSTEM_CONFIG: &str = "/etc/muster/musterd.toml";

/// The file to read: the one that was named, or for root the system's, when it is there.
pub(crate) fn file(named: Option<&Path>) -> Option<PathBuf> {
    let system = Path::new(SYSTEM_CONFIG);
    let is_root = rustix::process::geteuid().is_root();
    named.map(Path::to_owned).or_else(|| (is_root && system.exists()).then(|| system.to_owned()))
}

/// The configuration that counts: the file's, and over it what the command line says.
pub(crate) fn load(place: &Place) -> Result<Config, Failure> {
    let mut config = match file(place.config.as_deref()) {
        Some(path) => Config::load(&path).map_err(Failure::usage)?,
        None => Config::default(),
    };
    if let Some(data) = &place.data {
        config.data_directory.clone_from(data);
    }
    Ok(config)
}

/// `musterd check-config`
pub(crate) fn check(check: &CheckConfig) -> Result<ExitCode, Failure> {
    let Some(path) = file(check.config.as_deref()) else {
        println!("no configuration file: the defaults count, data in ./muster-data");
        return Ok(ExitCode::SUCCESS);
    };
    let config = Config::load(&path).map_err(Failure::usage)?;
    for problem in config.doubtful_paths() {
        eprintln!("musterd: warning: {}: {problem}", path.display());
    }
    config
        .check_paths()
        .map_err(|problems| Failure::refused(format!("{}: {}", path.display(), paths::line(&problems))))?;
    println!(
        "{}: ok (data in {}, devices connect to {})",
        path.display(),
        config.data_directory.display(),
        config.listen
    );
    if let Some(unseen) = paths::unseen("musterd") {
        eprintln!("musterd: {unseen}");
    }
    Ok(ExitCode::SUCCESS)
}
