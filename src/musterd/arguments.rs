//! The server's command line.

#[cfg(feature = "demo")]
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::server::config::{DEFAULT_PORT, parse_address};
use crate::wire::api::ParseError;
use clap::{Args, Parser, Subcommand};

/// The muster server: knows every device, what is installed on it, and what happened there.
#[derive(Parser, Debug)]
#[command(
    name = "musterd",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  musterd
  musterd run --data /srv/muster --listen 192.0.2.7:13000
  musterd run --config /etc/muster/musterd.toml
  musterd check-config --config /etc/muster/musterd.toml
  musterd journal verify --data /srv/muster"
)]
pub(crate) struct Arguments {
    /// The command; `run`, when nothing is said.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Options of `run`.
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run the server until it is told to stop (SIGTERM)
    #[command(after_help = "Examples:
  musterd run
  musterd run --config /etc/muster/musterd.toml
  musterd run --data /srv/muster --wait

SIGTERM and SIGINT drain: no new connections, what is in flight ends, the journal is made durable, exit 0.
SIGHUP reads the configuration again. The logging of single modules can be set with RUST_LOG (RUST_LOG=muster::reactor=debug).")]
    Run(RunArguments),
    /// Check a configuration file, and change nothing
    #[command(after_help = "Examples:
  musterd check-config
  musterd check-config --config /etc/muster/musterd.toml

Paths are tried as the user who runs this, where it is run. What the service's user and its unit's
sandbox (User=, ProtectSystem=, ReadWritePaths=) forbid shows when systemd runs it: at each start,
and at each 'systemctl reload musterd'. A directory for backups that can't be written is a warning:
the server starts without.")]
    CheckConfig(CheckConfig),
    /// Copy all of a server into one file, also while it runs, and verify the copy
    #[command(after_help = "Examples:
  musterd backup /var/backups/muster.tar --data /srv/muster
  musterd backup /var/backups/muster.tar --config /etc/muster/musterd.toml

FILE is a tar file of mode 0600: database, event log and private keys, as they are at one moment. It appears only when it is whole and was
read back; an older one of that name stays until then. Everything that was acknowledged before the command began is in it.
[backup] in the configuration makes backups on a schedule.")]
    Backup(Backup),
    /// Make a data directory of a backup
    #[command(after_help = "Examples:
  musterd restore /var/backups/muster.tar --data /srv/muster-new

DIR must be empty or not there yet. It says at the end what devices will do.")]
    Restore(Restore),
    /// The key by which devices accept a server that has lost its own
    #[command(subcommand)]
    RecoveryKey(RecoveryKeyCommand),
    /// Keep the server's private keys under a passphrase, or under another one, or under none
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Read the event log; changes nothing
    #[command(subcommand)]
    Journal(JournalCommand),
    #[cfg(feature = "demo")]
    /// Show the main job on this machine, with a real server and a real agent
    #[command(after_help = "Examples:
  musterd demo
  musterd demo --exit")]
    Demo(super::demo::DemoArguments),
    #[cfg(feature = "demo")]
    /// The agent, for the demo: the real one is muster-agent
    #[command(hide = true, disable_help_flag = true)]
    Agent {
        /// As muster-agent takes them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    #[cfg(feature = "demo")]
    /// The control command, for the demo: the real one is musterctl
    #[command(hide = true, disable_help_flag = true)]
    Ctl {
        /// As musterctl takes them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Places of the configuration and of the data.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct Place {
    /// Configuration file [default: none; for root /etc/muster/musterd.toml, when it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data directory [default: what the configuration says, otherwise ./muster-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// `run`
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct RunArguments {
    /// Configuration and data.
    #[command(flatten)]
    pub(crate) place: Place,
    /// TCP address that devices connect to [default: what the configuration says, otherwise 0.0.0.0:13000]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) listen: Option<SocketAddr>,
    /// UDP address of shutdown notices and wakes [default: what the configuration says, otherwise that of
    /// --listen]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) udp: Option<SocketAddr>,
    /// Be a standby: wait while another server holds the data directory, and take its place when it is gone
    #[arg(long)]
    pub(crate) wait: bool,
}

/// `check-config`
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct CheckConfig {
    /// Configuration file [default: for root /etc/muster/musterd.toml, when it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Changes of the passphrase; the server must be stopped.
#[derive(Subcommand, Debug)]
pub(crate) enum IdentityCommand {
    /// Put the private keys under a passphrase, or under another one
    #[command(after_help = "Examples:
  musterd identity protect --passphrase-file /run/keys/muster --data /srv/muster
  musterd identity protect --old-passphrase-file OLD --passphrase-file NEW --data /srv/muster

The passphrase is the first line of the file; '-' is standard input. The server then needs it at each start:
[identity] passphrase_file in its configuration. What lay on the disk in clear may be found there until it is
written over: on a disk that others had, make a new identity by 'musterd recovery-key use'.")]
    Protect {
        /// File with the passphrase
        #[arg(long, value_name = "FILE")]
        passphrase_file: PathBuf,
        /// File with the passphrase that they are under [default: what the configuration says]
        #[arg(long, value_name = "FILE")]
        old_passphrase_file: Option<PathBuf>,
        /// Configuration and data.
        #[command(flatten)]
        place: Place,
    },
    /// Keep the private keys under no passphrase any more
    #[command(after_help = "Examples:
  musterd identity unprotect --passphrase-file /run/keys/muster --data /srv/muster")]
    Unprotect {
        /// File with the passphrase that they are under [default: what the configuration says]
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Configuration and data.
        #[command(flatten)]
        place: Place,
    },
}

/// `backup`
#[derive(Args, Debug, Clone)]
pub(crate) struct Backup {
    /// The backup's file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Configuration and data.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `restore`
#[derive(Args, Debug, Clone)]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Data directory to make: an empty one, or one that is not there yet
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

/// `recovery-key`
#[derive(Subcommand, Debug)]
pub(crate) enum RecoveryKeyCommand {
    /// Make one, print its private part once, and have devices store its pin; also while the server runs
    #[command(after_help = "Examples:
  musterd recovery-key create --data /srv/muster > /media/safe/recovery-key.pem

The private part is stored nowhere: keep it off this machine. Another one takes the place of one that is there, once
devices have stored its pin.")]
    Create(Place),
    /// Make the server's key and secret anew, so that devices accept it by the recovery key; the server is
    /// stopped
    #[command(after_help = "Examples:
  musterd recovery-key use --key-file /media/safe/recovery-key.pem --data /srv/muster

For a server whose key, authority or secret is lost or stolen, or that was restored from a backup of before a rotation.
Devices keep their certificates and records, and need no visit. The authority is made anew when it is lost, too, or
with --stolen; a device that a restored server does not know any more is then let in by 'musterctl device approve'.")]
    Use(UseRecoveryKey),
}

/// `recovery-key use`
#[derive(Args, Debug, Clone)]
pub(crate) struct UseRecoveryKey {
    /// The recovery key, as 'musterd recovery-key create' printed it; '-': standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// Somebody else has the files, too: the authority that signs the devices' certificates is made anew
    #[arg(long)]
    pub(crate) stolen: bool,
    /// Number that the new voucher must be above: when devices say 'this device takes N and above' after a
    /// restore, N
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) above: u32,
    /// Configuration and data.
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `journal`
#[derive(Subcommand, Debug)]
pub(crate) enum JournalCommand {
    /// Read every record; exit code 1 when acknowledged data is damaged
    #[command(after_help = "Examples:
  musterd journal verify
  musterd journal verify --data /srv/muster --json")]
    Verify(JournalPlace),
    /// Print every event, oldest first
    #[command(after_help = "Examples:
  musterd journal dump
  musterd journal dump --config /etc/muster/musterd.toml --json | jq '.[].event.message'")]
    Dump(JournalPlace),
}

/// `journal verify` and `journal dump`
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct JournalPlace {
    /// Configuration and data.
    #[command(flatten)]
    pub(crate) place: Place,
    /// One JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

fn address(text: &str) -> Result<SocketAddr, ParseError> {
    parse_address(text, DEFAULT_PORT)
}
