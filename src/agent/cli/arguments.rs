//! The agent's command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};

use super::install::ServiceManager;
use crate::agent::identity::KeyType;
use crate::agent::signature::parse_key;
use crate::wire::event::Severity;

/// The agent's data directory when nothing names another.
pub(crate) const DATA_DEFAULT: &str = "./muster-agent-data";

/// Keeps this device in sync with its muster server.
#[derive(Parser, Debug)]
#[command(
    name = "muster-agent",
    version,
    about = "Keeps this device in sync with its muster server, and delivers its events",
    after_help = "Examples:
  muster-agent enroll --server muster.example.org --token-file token
  muster-agent run
  muster-agent emit --application backup --severity error --kind backup.failed \"the disk is full\" --field disk=sdb
  muster-agent status --json
  muster-agent sync"
)]
pub struct Arguments {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make this device a member of a server's fleet
    #[command(after_help = "Examples:
  muster-agent enroll --server muster.example.org --token-file token
  muster-agent enroll --server 192.0.2.7:13000 --token-file - --name kiosk-17 --data /var/lib/muster-agent
  muster-agent enroll --server a.example.org,b.example.org --token-file token --key-type p256

Make the token on the server: musterctl token create")]
    Enroll(Enroll),
    /// Run the agent until it is told to stop (SIGTERM)
    #[command(after_help = "Examples:
  muster-agent run
  muster-agent run --config /etc/muster/muster-agent.toml

SIGTERM and SIGINT end it cleanly, SIGHUP makes it read its configuration again.")]
    Run(Common),
    /// Put an event into the spool; returns once it is durable there
    #[command(after_help = "Examples:
  muster-agent emit --application nginx --severity warning --kind config.changed \"nginx.conf was edited\"
  muster-agent emit --application backup --severity error --kind backup.failed \"no space left\" --field disk=sdb --field used=100%

A running agent takes the event and sends it at once. When none runs, the event goes into the spool directly and is sent
when the agent is started.")]
    Emit(Emit),
    /// Show how the agent is doing
    #[command(after_help = "Examples:
  muster-agent status
  muster-agent status --json")]
    Status(Status),
    /// Sync now; returns when the sync is done
    #[command(after_help = "Examples:
  muster-agent sync")]
    Sync(Common),
    /// Move this device to another server: only once that one has answered; otherwise everything stays as it
    /// is
    #[command(after_help = "Examples:
  muster-agent move --server new.example.org --token-file token
  muster-agent move --server 192.0.2.8:13000 --token-file - --name kiosk-17

Make the token on the new server: musterctl token create.
A running agent takes the new server up by itself. Events that the old server does not have yet go to the new one.")]
    Move(Move),
    /// Make this machine's disk an image: machines that are made from it enrol by themselves at first boot
    #[command(after_help = "Examples:
  muster-agent prepare-image --server muster.example.org --token-file token
  muster-agent prepare-image --server muster.example.org --token-file - --data /mnt/image/var/lib/muster-agent

Removes all that makes the data directory that of one device, and leaves a file join.toml (mode 0600) with which
'muster-agent run' enrols, however long that takes; then the file is wiped. Stop the agent before. The token must have a use
for each machine and live until the last one has booted: musterctl token create --uses 1000 --ttl 365d
Empty /etc/machine-id in the image as well (machine-id(5)), so that machines can be told apart.")]
    PrepareImage(PrepareImage),
    /// Make this program a service of this machine, where no package does: or upgrade the one that is there
    #[command(after_help = "Examples:
  sudo ./muster-agent install
  muster-agent install --root /mnt/image --service-manager procd

Copies itself to /usr/local/bin (OpenWrt: /usr/bin), writes /etc/muster/muster-agent.toml unless there is one, and the service,
which is enabled at the first installation and runs once the device is enrolled. Once more, by a newer program, it upgrades: runs
of tasks go on meanwhile. The state is in /var/lib/muster-agent (OpenWrt: /etc/muster/agent).")]
    Install(Install),
    /// Remove the service and the program that 'install' put there; state and configuration stay
    #[command(after_help = "Examples:
  sudo muster-agent uninstall
  sudo muster-agent uninstall --purge

The device stays in the server's list until it is removed there: musterctl device remove NAME")]
    Uninstall(Uninstall),
    /// Tell the agent that the device goes to sleep, or has woken up; for the service manager
    /// (muster-agent-sleep.service)
    #[command(after_help = "Examples:
  muster-agent notice suspend
  muster-agent notice resume

'suspend' returns once the server was told, within two seconds at most.")]
    Notice(Notice),
    /// Check the configuration file and the paths that it names, and change nothing
    #[command(after_help = "Examples:
  muster-agent check-config
  muster-agent check-config --config /etc/muster/muster-agent.toml

Paths are tried as the user who runs this, where it is run. What the unit's sandbox (ProtectSystem=,
ReadWritePaths=) forbids shows when systemd runs it: at each 'systemctl reload muster-agent'.
To look at the connection to the server: muster-agent check")]
    CheckConfig(Common),
    /// Look at everything between this device and its server; each line is ok, or says why not and what to do
    #[command(after_help = "Examples:
  muster-agent check
  muster-agent check --json

Looks at the device's certificate, the server's name, TCP, TLS, its certificate, whether it knows the device, the clocks, UDP
both ways and the spool.
Works while the agent runs and while it does not. Ends with 0 only when everything is ok.")]
    Check(Check),
}

/// Options of every command.
#[derive(Args, Debug, Clone, Default)]
pub struct Common {
    /// Data directory [default: what the configuration says, otherwise ./muster-agent-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Configuration file [default: muster-agent.toml in the data directory that --data names; otherwise
    /// /etc/muster/muster-agent.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Source of a join token. Left out altogether: the variable `MUSTER_TOKEN`.
#[derive(Args, Debug, Clone, Default)]
pub struct TokenSource {
    /// A file that holds the join token, '-' for standard input [default: the token is in the variable
    /// MUSTER_TOKEN]
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// The join token itself, '-' for standard input; while the command runs, every user of the device can
    /// read it in the process list
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
}

/// The environment variable that may hold the join token.
pub(super) const TOKEN_VARIABLE: &str = "MUSTER_TOKEN";

/// `enroll`
#[derive(Args, Debug)]
pub struct Enroll {
    /// The server: a host name or an address, with a port when it is not 13000; several, when others stand by
    #[arg(long, value_name = "HOST[:PORT][,HOST…]")]
    pub server: String,
    /// The join token, as 'musterctl token create' printed it.
    #[command(flatten)]
    pub token: TokenSource,
    /// Name that the device would like [default: its host name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The kind of its key: ed25519 or p256; a policy for muster-agent may set another later [default: as
    /// the configuration says, otherwise ed25519]
    #[arg(long, value_name = "KIND")]
    pub key_type: Option<KeyType>,
    /// The key that signs releases of the agent and of firmware: the second line of minisign.pub. It is
    /// pinned: the server can't change it later
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    pub release_key: Option<String>,
    /// Replace an identity that is already there; the old device stays in the server's list until it is
    /// removed there
    #[arg(long)]
    pub force: bool,
    /// Data directory and configuration.
    #[command(flatten)]
    pub common: Common,
}

/// `move`
#[derive(Args, Debug)]
pub struct Move {
    /// The new server: a host name or an address, with a port when it is not 13000; several, when others
    /// stand by
    #[arg(long, value_name = "HOST[:PORT][,HOST…]")]
    pub server: String,
    /// A join token of the new server, as 'musterctl token create' printed it there.
    #[command(flatten)]
    pub token: TokenSource,
    /// Name that the device would like there [default: its present name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The kind of its key there: ed25519 or p256 [default: as the configuration says, otherwise the present
    /// one]
    #[arg(long, value_name = "KIND")]
    pub key_type: Option<KeyType>,
    /// Data directory and configuration.
    #[command(flatten)]
    pub common: Common,
}

/// `prepare-image`
#[derive(Args, Debug)]
pub struct PrepareImage {
    /// The server: a host name or an address, with a port when it is not 13000; several, when others stand by
    #[arg(long, value_name = "HOST[:PORT][,HOST…]")]
    pub server: String,
    /// The join token, as 'musterctl token create' printed it.
    #[command(flatten)]
    pub token: TokenSource,
    /// The kind of each machine's key: ed25519 or p256 [default: as the configuration says, otherwise
    /// ed25519]
    #[arg(long, value_name = "KIND")]
    pub key_type: Option<KeyType>,
    /// Data directory and configuration.
    #[command(flatten)]
    pub common: Common,
}

/// `install`
#[derive(Args, Debug)]
pub struct Install {
    /// The machine.
    #[command(flatten)]
    pub place: InstallPlace,
}

/// `uninstall`
#[derive(Args, Debug)]
pub struct Uninstall {
    /// Remove the device's identity, its spool and its configuration, too: it has to enrol anew
    #[arg(long)]
    pub purge: bool,
    /// The machine.
    #[command(flatten)]
    pub place: InstallPlace,
}

/// The machine that the agent is a service of.
#[derive(Args, Debug)]
pub struct InstallPlace {
    /// A tree of files, such as an image, instead of this machine; nothing is started or stopped
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// The program that starts services [default: the one that runs, or that is in the tree]
    #[arg(long, value_name = "NAME")]
    pub service_manager: Option<ServiceManager>,
}

/// `notice`
#[derive(Args, Debug)]
pub struct Notice {
    /// Event that the device is about to have
    #[arg(value_enum)]
    pub what: NoticeWhat,
    /// Data directory and configuration.
    #[command(flatten)]
    pub common: Common,
}

/// Event that a device is about to have.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoticeWhat {
    /// It goes to sleep
    Suspend,
    /// It has woken up
    Resume,
}

/// `emit`
#[derive(Args, Debug)]
pub struct Emit {
    /// Which application it is about
    #[arg(long, value_name = "NAME")]
    pub application: String,
    /// Severity: info, warning, error or critical
    #[arg(long, value_name = "SEVERITY", value_parser = |text: &str| text.parse::<Severity>())]
    pub severity: Severity,
    /// Kind of the event, such as backup.failed
    #[arg(long, value_name = "KIND")]
    pub kind: String,
    /// Message of the event, a sentence
    #[arg(value_name = "MESSAGE")]
    pub message: OsString,
    /// A further fact; may be given more than once
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = OsStringValueParser::new().try_map(|text| field(&text)))]
    pub fields: Vec<(String, OsString)>,
    /// Data directory and configuration.
    #[command(flatten)]
    pub common: Common,
}

/// `status`
#[derive(Args, Debug)]
pub struct Status {
    /// One JSON document instead of a table
    #[arg(long)]
    pub json: bool,
    /// Data directory and configuration.
    #[command(flatten)]
    pub common: Common,
}

/// `check`
#[derive(Args, Debug)]
pub struct Check {
    /// One JSON document instead of lines
    #[arg(long)]
    pub json: bool,
    /// Data directory and configuration.
    #[command(flatten)]
    pub common: Common,
}

fn field(text: &OsStr) -> Result<(String, OsString), String> {
    let bytes = text.as_bytes();
    let split = bytes.iter().position(|byte| *byte == b'=').map(|at| bytes.split_at(at));
    match split.map(|(name, value)| (std::str::from_utf8(name), OsStr::from_bytes(&value[1..]))) {
        Some((Ok(name), value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{}' is not a field (NAME=VALUE, such as disk=sdb)", text.to_string_lossy())),
    }
}
