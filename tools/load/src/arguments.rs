//! The command line of `muster-load`.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};
use muster::agent::address::ServerAddress;
use muster::client::Address;

use crate::engine::spool::EVENT_BYTES_MIN;
use crate::failure::Failure;

/// Most devices of one run.
const DEVICES_MAX: u64 = 4_000_000;

/// Longest measurement: a day.
const SECONDS_MAX: u64 = 86_400;

/// Consoles at most: a server has 16 connections for an address, and one of them loads pages.
const CONSOLES_MAX: u64 = 15;

/// Largest event that is sent: its text is limited on the wire.
const EVENT_BYTES_MAX: u64 = 4_000;

const EXAMPLES: &str = "\
Examples:
  muster-load hold --devices 10000
      what a connected device takes, and how many this machine can hold
  muster-load events --devices 1000
      events a second, each durable before it is acknowledged
  muster-load storm --devices 10000
      the server is killed: how soon is everybody back?
  muster-load hold --devices 5000 --server HOST:13000 --admin unix:muster-data/admin.sock
      the same on a server that is there; the devices enrol in its group /muster-load

Without --server the tool starts a server of its own on loopback, as --self says.
Ctrl-C ends a run; what was measured until then is printed.
Exit code 0: all is well; 1: refused or failed, or a link or an event was lost; 2: bad usage.";

const HOLD_HELP: &str = "\
Without --devices: 1000; without --seconds: 10. For a slope that is good for planning take 10000.

Examples:
  muster-load hold --self --devices 10000
  muster-load hold --self --devices 18000 --memory 2 --report hold.html";

const STORM_HELP: &str = "\
Without --devices: 1000; --seconds is the time of events before and after, without it: 2.

Examples:
  muster-load storm --self --devices 10000
  muster-load storm --self --devices 10000 --full --rate 100
  muster-load storm --self --devices 10000 --standby     another server takes over, at another address";

const SYNC_HELP: &str = "\
Without --devices: 1000; without --seconds: 10.

Examples:
  muster-load sync --self --devices 1000              as many as the server can do
  muster-load sync --self --devices 1000 --rate 500   what they take when it is not busy";

const EVENTS_HELP: &str = "\
Without --devices: 64; without --seconds: 10.

Examples:
  muster-load events --self --devices 1000                   one under way on each link
  muster-load events --self --devices 1 --in-flight 64
  muster-load events --self --rate 6400 --handshakes 256     do live links feel a storm?
  muster-load events --self --rate 1000 --consoles 10        do devices feel people who look on?";

const WAKE_HELP: &str = "\
Without --devices: 200; without --seconds: 10.

Examples:
  muster-load wake --self --devices 1000 --rate 100";

/// Simulates devices and measures what they cost a muster server.
#[derive(Parser, Debug)]
#[command(name = "muster-load", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Connects devices that stay: memory and processor time for each, and how many the server can hold
    #[command(after_help = HOLD_HELP)]
    Hold(Hold),
    /// Kills the server under connected devices and measures how they come back
    #[command(after_help = STORM_HELP)]
    Storm(Storm),
    /// Syncs in which nothing changed
    #[command(after_help = SYNC_HELP)]
    Sync(Sync),
    /// Events, durable before they are acknowledged
    #[command(after_help = EVENTS_HELP)]
    Events(Events),
    /// Calls disconnected devices over UDP
    #[command(after_help = WAKE_HELP)]
    Wake(Wake),
    /// The server of --self
    #[command(hide = true)]
    Server,
    /// Simulated devices in a process of their own
    #[command(hide = true)]
    Clients,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// Number of devices that are simulated
    #[arg(long, short = 'n', value_name = "N", value_parser = up_to(DEVICES_MAX))]
    pub(crate) devices: Option<usize>,
    /// Length of the measurement
    #[arg(long, short = 's', value_name = "S", value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    pub(crate) seconds: Option<u64>,
    /// Starts a server for the run, on loopback, in a directory that is removed afterwards (the default)
    #[arg(long = "self", conflicts_with_all = ["server", "admin"])]
    pub(crate) own: bool,
    /// The server, when it is there already: HOST or HOST:PORT
    #[arg(long, value_name = "ADDR", requires = "admin")]
    pub(crate) server: Option<ServerAddress>,
    /// Its administration, where a token is made: unix:PATH
    #[arg(long, value_name = "unix:PATH", requires = "server")]
    pub(crate) admin: Option<Address>,
    /// Its process, when it is on this machine and not found through --admin
    #[arg(long, value_name = "PID", requires = "server")]
    pub(crate) pid: Option<u32>,
    /// Reactor threads of the server of --self [default: one for each core]
    #[arg(long, value_name = "N", conflicts_with = "server", value_parser = up_to(64))]
    pub(crate) reactors: Option<usize>,
    /// Directory of the data of the server of --self for the run: the disk that is measured [default: the
    /// system's place for such things]
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    pub(crate) data: Option<PathBuf>,
    /// Threads that simulate devices, in each process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = up_to(64))]
    pub(crate) threads: usize,
    /// Processes that simulate devices [default: as many as the limit of open files asks for]
    #[arg(long, value_name = "N", value_parser = up_to(64))]
    pub(crate) processes: Option<usize>,
    /// Directory of identities for the next run [default: $XDG_CACHE_HOME/muster-load or
    /// ~/.cache/muster-load]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    pub(crate) cache: Option<PathBuf>,
    /// Keeps no identities, and uses none that were kept
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Prints one JSON document instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    /// Writes a report with plots, one file that needs no network
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
    /// Shows no progress
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
}

/// `muster-load hold`
#[derive(Args, Clone, Debug)]
pub(crate) struct Hold {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Devices that connect at a time
    #[arg(long, value_name = "K", default_value_t = 64, value_parser = up_to(10_000))]
    pub(crate) at_a_time: usize,
    /// Memory of the server that is asked about, in GiB [default: this machine's]
    #[arg(long, value_name = "GIB", value_parser = positive)]
    pub(crate) memory: Option<f64>,
    /// Connection attempts a second at most [default: as fast as the server takes them]
    #[arg(long, short = 'r', value_name = "R", value_parser = positive)]
    pub(crate) rate: Option<f64>,
}

/// `muster-load storm`
#[derive(Args, Clone, Debug)]
pub(crate) struct Storm {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Events a second that occur all the time, on random devices
    #[arg(long, short = 'r', value_name = "R", default_value_t = 20.0, value_parser = positive)]
    pub(crate) rate: f64,
    /// The devices have lost their tickets: every handshake is a full one
    #[arg(long)]
    pub(crate) full: bool,
    /// Another server waits for the data, at another address, and takes over; the devices know both
    #[arg(long)]
    pub(crate) standby: bool,
}

/// `muster-load sync`
#[derive(Args, Clone, Debug)]
pub(crate) struct Sync {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Syncs a second in all [default: each device again as soon as it is done]
    #[arg(long, short = 'r', value_name = "R", value_parser = positive)]
    pub(crate) rate: Option<f64>,
}

/// `muster-load events`
#[derive(Args, Clone, Debug)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Events a second in all, whatever becomes of earlier ones [default: as many as are acknowledged]
    #[arg(long, short = 'r', value_name = "R", value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// Events that each device has under way, without --rate
    #[arg(long, value_name = "K", default_value_t = 1, conflicts_with = "rate", value_parser = up_to(10_000))]
    pub(crate) in_flight: usize,
    /// Bytes of one event
    #[arg(long, value_name = "B", default_value_t = 200, value_parser = RangedU64ValueParser::<usize>::new().range(EVENT_BYTES_MIN as u64..=EVENT_BYTES_MAX))]
    pub(crate) bytes: usize,
    /// Measures twice: alone, and while this many other devices at a time shake hands in full
    #[arg(long, value_name = "K", value_parser = up_to(10_000))]
    pub(crate) handshakes: Option<usize>,
    /// Measures again while this many people look at the console of the tool's own server: each follows all
    /// events, and has the overview loaded anew every three seconds
    #[arg(long, value_name = "K", conflicts_with = "server", value_parser = up_to(CONSOLES_MAX))]
    pub(crate) consoles: Option<usize>,
}

/// `muster-load wake`
#[derive(Args, Clone, Debug)]
pub(crate) struct Wake {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Devices that are called a second
    #[arg(long, short = 'r', value_name = "R", default_value_t = 20.0, value_parser = positive)]
    pub(crate) rate: f64,
}

impl Common {
    /// Number of devices, or the command's default.
    pub(crate) fn devices_or(&self, default: usize) -> usize {
        self.devices.unwrap_or(default)
    }

    /// Length, or the command's default in seconds.
    pub(crate) fn seconds_or(&self, default: u64) -> std::time::Duration {
        std::time::Duration::from_secs(self.seconds.unwrap_or(default))
    }

    /// Whether the tool starts a server.
    pub(crate) fn is_own(&self) -> bool {
        self.server.is_none()
    }

    /// Refuses what a command that kills its server can't do to another's.
    pub(crate) fn must_be_own(&self, command: &str) -> Result<(), Failure> {
        match self.is_own() {
            true => Ok(()),
            false => Err(Failure::usage(format!(
                "'{command}' kills the server with SIGKILL and starts it again, which it does only to one of its own: leave --server \
                 and --admin out"
            ))),
        }
    }
}

/// A number from 1 to this.
fn up_to(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && *number > 0.0 && *number <= 1e9)
        .ok_or_else(|| "a number above 0 is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace()).map(|arguments| arguments.command)
    }

    #[test]
    fn a_newcomer_needs_two_words() {
        let Command::Hold(hold) = parse("muster-load hold").unwrap() else { panic!("not hold") };
        assert!(hold.common.is_own());
        assert_eq!(hold.common.devices_or(1_000), 1_000);
        let Command::Hold(hold) = parse("muster-load hold --self --devices 10000").unwrap() else { panic!() };
        assert_eq!(hold.common.devices_or(1_000), 10_000);
    }

    #[test]
    fn what_belongs_together_is_asked_for_together() {
        let other = "--server 127.0.0.1:13000 --admin unix:/x";
        let Command::Events(events) = parse(&format!("muster-load events {other}")).unwrap() else {
            panic!()
        };
        assert!(!events.common.is_own());
        for wrong in [
            "muster-load".to_owned(),
            "muster-load hold --server 127.0.0.1:13000".to_owned(),
            "muster-load hold --admin unix:/x".to_owned(),
            format!("muster-load hold --self {other}"),
            format!("muster-load hold --reactors 1 {other}"),
            "muster-load hold --cache /x --no-cache".to_owned(),
            "muster-load events --rate 5 --in-flight 2".to_owned(),
            "muster-load events --bytes 10".to_owned(),
            "muster-load hold --devices 0".to_owned(),
            "muster-load sync --rate 0".to_owned(),
            "muster-load sync --rate nan".to_owned(),
            "muster-load wake --seconds 0".to_owned(),
        ] {
            let error = parse(&wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn only_a_server_of_its_own_is_killed() {
        let Command::Storm(storm) = parse("muster-load storm").unwrap() else { panic!() };
        assert!(storm.common.must_be_own("storm").is_ok());
        let line = "muster-load storm --server 127.0.0.1:13000 --admin unix:/x";
        let Command::Storm(storm) = parse(line).unwrap() else { panic!() };
        let failure = storm.common.must_be_own("storm").unwrap_err();
        assert_eq!(failure.code, 2);
        assert!(failure.message.contains("SIGKILL"));
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
