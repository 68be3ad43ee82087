//! `musterd run`: the server until it is told to stop.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::client::{Address, Client};
use crate::logging;
use crate::server::config::{Config, DEFAULT_PORT};
use crate::server::process::ProcessOptions;
use crate::server::{ReactorWatch, Server, ServerFailure, StandbyStart};
use crate::service_manager;
use crate::wire::api::NewToken;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::arguments::RunArguments;
use super::{Failure, configuration};

/// Prints a line for the one who started the server. A standard output that is closed is no reason to end.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// The signals that are caught: until then these end the process, whatever they ask for.
pub(crate) fn catch_signals() -> std::io::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGHUP])
}

/// `musterd run`. `signals`: caught since the process began.
pub(crate) fn command(
    run: &RunArguments,
    signals: Option<std::io::Result<Signals>>,
) -> Result<ExitCode, Failure> {
    let mut signals = signals
        .unwrap_or_else(catch_signals)
        .map_err(|error| Failure::refused(format!("can't handle signals: {error}")))?;
    let mut config = settings(run)?;
    logging::start(config.log_level)
        .map_err(|error| Failure::refused(format!("can't start logging: {error}")))?;
    let mut server = if run.wait {
        let Some(server) = wait_for_directory(run, &mut config, &mut signals)? else {
            return Ok(ExitCode::SUCCESS);
        };
        server
    } else {
        Server::start(config.clone()).map_err(Failure::refused)?
    };
    let devices = server.addresses().first().copied().unwrap_or(config.listen);
    let serves =
        format!("devices connect to {devices}, administrators to {}", server.admin_socket().display());
    say!("musterd {}: {serves}", env!("CARGO_PKG_VERSION"));
    service_manager::ready();
    service_manager::status(&serves);
    if let Some(interval) = service_manager::watchdog_interval() {
        let reactors = server.reactors();
        std::thread::spawn(move || report_well(&reactors, interval));
    }
    if server.is_first_start() {
        print_how_to_enrol(&config, devices.port());
    }
    // A failure ends the wait for signals; the drain says which it was.
    let (failures, handle) = (server.failures(), signals.handle());
    std::thread::spawn(move || {
        if let Some(failure @ ServerFailure::Lease(_)) = failures.wait() {
            // Another may serve from the directory by now, and a drain would write there.
            logging::last_line(&format!("musterd: {failure}"));
            std::process::exit(1);
        }
        handle.close();
    });
    for signal in signals.forever() {
        if signal == SIGHUP {
            service_manager::reloading();
            reload(run, &mut server);
            service_manager::ready();
        } else {
            log::info!("{}: draining", signal_hook::low_level::signal_name(signal).unwrap_or("signal"));
            break;
        }
    }
    service_manager::stopping();
    server.drain().map_err(Failure::refused)?;
    log::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// A standby: waits until the data directory is free. `None`: it was told to end. For the service manager it
/// is up: it does what it is there for, and another start would not make it do more.
fn wait_for_directory(
    run: &RunArguments,
    config: &mut Config,
    signals: &mut Signals,
) -> Result<Option<Server>, Failure> {
    let mut told = String::new();
    loop {
        for signal in signals.pending() {
            if signal != SIGHUP {
                return Ok(None);
            }
            service_manager::reloading();
            match settings(run) {
                Ok(new) => *config = new,
                Err(failure) => log::error!("the configuration stays as it is: {}", failure.message),
            }
            service_manager::ready();
        }
        match Server::start_when_free(config).map_err(Failure::refused)? {
            StandbyStart::Started(server) => return Ok(Some(*server)),
            StandbyStart::Waits(why) if why != told => {
                say!("musterd {}: standby: {why}", env!("CARGO_PKG_VERSION"));
                service_manager::ready();
                service_manager::status(&format!("standby: {why}"));
                told = why;
            }
            StandbyStart::Waits(_) => {}
        }
        if service_manager::watchdog_interval().is_some() {
            service_manager::well();
        }
        std::thread::sleep(Server::STANDBY_PAUSE);
    }
}

/// Tells the service manager at this interval that devices are served, and nothing while they are not: it
/// restarts the server then.
fn report_well(reactors: &ReactorWatch, interval: Duration) {
    loop {
        let asked_at = Instant::now();
        if reactors.all_turn_within(interval) {
            service_manager::well();
        } else {
            log::error!(
                "a thread that serves devices is stuck, or has too much to do for {interval:?}; the service manager hears nothing \
                 until it goes on, and restarts the server if it does not"
            );
        }
        std::thread::sleep(interval.saturating_sub(asked_at.elapsed()));
    }
}

/// The file's settings, and over them the command line's.
fn settings(run: &RunArguments) -> Result<Config, Failure> {
    let mut config = configuration::load(&run.place)?;
    config.process = ProcessOptions::DAEMON;
    if let Some(listen) = run.listen {
        config.listen = listen;
    }
    if let Some(udp) = run.udp {
        config.udp = Some(udp);
    }
    Ok(config)
}

fn reload(run: &RunArguments, server: &mut Server) {
    let new = match settings(run) {
        Ok(new) => new,
        Err(failure) => {
            log::error!("the configuration stays as it is: {}", failure.message);
            return;
        }
    };
    let diff = match server.reload(&new) {
        Ok(diff) => diff,
        Err(error) => {
            log::error!("the configuration stays as it is: {error}");
            return;
        }
    };
    logging::set_level(new.log_level);
    match diff.applied.as_slice() {
        [] => log::info!("configuration read again: nothing to apply"),
        applied => log::info!("configuration read again, applied: {}", applied.join(", ")),
    }
    if !diff.needs_restart.is_empty() {
        log::warn!("these settings wait for a restart: {}", diff.needs_restart.join(", "));
    }
}

/// Prints a newcomer's next steps. At a terminal with a token that is ready; a service's output is kept in
/// logs that are no place for secrets.
fn print_how_to_enrol(config: &Config, port: u16) {
    let socket = config.admin_socket();
    let create = match Address::of_this_machine() == Address::Socket(socket.clone()) {
        true => "musterctl token create".to_owned(),
        false => format!("musterctl --server unix:{} token create", socket.display()),
    };
    let token = if std::io::stdout().is_terminal() { first_token(config) } else { None };
    let server = server_name(config, port);
    say!("\nThis is the first start. To enrol a device, run on it:\n");
    // An argument would be in the process list, and a command line with the token in the shell's history.
    say!("  muster-agent enroll --server {server} --token-file -\n  muster-agent run\n");
    match token {
        Some(token) => {
            say!("and give it this token when it asks, good for one device, for one hour:\n\n  {token}\n");
            say!("For more: {create}");
        }
        None => {
            say!("and make the token that it asks for here: {create}");
        }
    }
}

fn first_token(config: &Config) -> Option<String> {
    let address = Address::Socket(config.admin_socket());
    let created = Client::new(address).and_then(|mut client| client.create_token(&NewToken::default()));
    created.map(|created| created.token).inspect_err(|error| log::warn!("no token was made: {error}")).ok()
}

/// Under which name a device may reach the server: the one that was configured, the address that it listens
/// on, or this machine's name.
fn server_name(config: &Config, port: u16) -> String {
    let host = match (config.host_names.first(), config.listen.ip()) {
        (Some(name), _) => name.clone(),
        (None, ip) if ip.is_unspecified() => {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        }
        (None, std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
        (None, ip) => ip.to_string(),
    };
    if port == DEFAULT_PORT { host } else { format!("{host}:{port}") }
}
