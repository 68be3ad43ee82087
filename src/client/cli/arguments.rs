//! The command line of `musterctl`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::api_token::ApiTokenCommand;
use super::apply::ApplyArguments;
use super::artifact::ArtifactCommand;
use super::audit::AuditCommand;
use super::certificate::CertificateCommand;
use super::login::LoginArguments;
use super::policy::{PolicyCommand, SettingsCommand};
use super::tag::{TagCommand, ViewCommand};
use super::task::TaskCommand;
use super::user::UserCommand;
use crate::client::Address;
use crate::fleet::filter::{Filter, quoted};
use crate::fleet::version::VersionExpression;
use crate::wire::api::{
    CALL_SECONDS_MAX, DeviceSort, FOLLOW_NEWEST_MAX, Interval, Keep, ParseError, Presence, Timestamp,
};
use crate::wire::event::Severity;
use crate::wire::id::TokenId;
use crate::wire::status::Status;
use crate::wire::time::WallTime;
use crate::wire::units::parse_duration;

/// Administers a muster server.
#[derive(Parser, Debug)]
#[command(
    name = "musterctl",
    version,
    about = "Administers a muster server",
    after_help = "Examples:
  musterctl status
  musterctl token create --uses 20 --group /berlin/kiosks
  musterctl device list --presence lost
  musterctl event list --severity warning --since 1h
  musterctl --server unix:/var/lib/muster/admin.sock device show kiosk-17 --json

Exit codes: 0 done, 1 refused or not there, 2 wrong usage."
)]
pub(super) struct Arguments {
    /// The server's admin socket, or https://HOST:PORT [default: $MUSTER_SERVER; otherwise the service's
    /// (/run/muster, /var/lib/muster) for root, unix:./muster-data/admin.sock for others]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(super) server: Option<Address>,
    /// One JSON document on standard output instead of a table
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Join tokens: what a device needs to enrol
    #[command(subcommand)]
    Token(TokenCommand),
    /// Devices
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Installed applications
    #[command(subcommand)]
    Application(ApplicationCommand),
    /// Events
    #[command(subcommand)]
    Event(EventCommand),
    /// Tags of devices: given to them, or by a rule
    #[command(subcommand)]
    Tag(TagCommand),
    /// Views: filters with a name
    #[command(subcommand)]
    View(ViewCommand),
    /// Groups of devices: a tree, named by paths
    #[command(subcommand)]
    Group(GroupCommand),
    /// Policies: settings of applications for groups of devices, with locks
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// A device's own settings, and what all that was set comes to
    #[command(subcommand)]
    Settings(SettingsCommand),
    /// Tasks: what devices are told to execute, and what became of it on each
    #[command(subcommand)]
    Task(TaskCommand),
    /// Artifacts: files that the server keeps for tasks, and that devices fetch from it
    #[command(subcommand)]
    Artifact(ArtifactCommand),
    /// The server's certificate: its rotation, and which devices are ready for it
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// API tokens: who may do what, and where
    #[command(subcommand)]
    ApiToken(ApiTokenCommand),
    /// Users: people who sign in with a password
    #[command(subcommand)]
    User(UserCommand),
    /// Sign in at a server on the network, and keep an API token for it
    #[command(after_help = "Examples:
  musterctl login --link-file -                                           # asks for a one-time link, sets the password
  musterctl login https://muster.example.org:13001 --user anna            # later, where the server is known
  musterctl login https://muster.example.org:13001 --token-file token     # with an API token

Link and token name the server's certificate, and no other server is accepted; a server of which nothing was kept here needs
--certificate with --user. With a password an API token is made, with the user's rights and for 30 days. It is kept in
$XDG_CONFIG_HOME/muster/tokens.json, mode 0600; MUSTER_API_TOKEN goes before it.

Those who sign in with OpenID Connect have no password: they give an API token here, which an administrator makes in the
console (Access) or with 'musterctl api-token create'.")]
    Login(LoginArguments),
    /// Forget the API token for a server on the network
    #[command(after_help = "Examples:
  musterctl --server https://muster.example.org:13001 logout")]
    Logout,
    /// Have the server be as files say: groups, views, tags, policies and tasks, in TOML
    Apply(ApplyArguments),
    /// A script that has a shell complete commands and options
    #[command(after_help = "Examples:
  musterctl completion bash > /etc/bash_completion.d/musterctl
  musterctl completion zsh > ~/.zfunc/_musterctl
  musterctl completion fish > ~/.config/fish/completions/musterctl.fish")]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// The audit: each change that was made or refused, and who asked for it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The server at a glance
    #[command(after_help = "Examples:
  musterctl status
  musterctl status --json | jq .devices.connected")]
    Status,
}

#[derive(Subcommand, Debug)]
pub(super) enum TokenCommand {
    /// Make a join token; its secret is shown this once
    #[command(after_help = "Examples:
  musterctl token create
  musterctl token create --ttl 24h --uses 200 --group /berlin/kiosks
  musterctl token create --uses 50 --name 'kiosk-*' --approval
  musterctl token create | ssh root@DEVICE muster-agent enroll --server HOST --token-file -")]
    Create {
        /// Time for which it may be used, such as 30m, 1h or 7d
        #[arg(long, default_value = "1h", value_parser = seconds)]
        ttl: u64,
        /// Number of devices that may enrol with it
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// The group that the devices come into; made when it doesn't exist
        #[arg(long, value_name = "PATH", default_value = "/")]
        group: String,
        /// Only devices of these names may use it: * stands for any text, ? for one character
        #[arg(long, value_name = "GLOB")]
        name: Option<String>,
        /// Each device that enrols with it waits until 'musterctl device approve'
        #[arg(long)]
        approval: bool,
    },
    /// All join tokens, without their secrets
    #[command(after_help = "Examples:
  musterctl token list
  musterctl token list --json | jq -r '.[] | select(.state == \"valid\") | .id'")]
    List,
    /// Withdraw a join token; devices that enrolled with it stay
    #[command(after_help = "Examples:
  musterctl token revoke 00abcdef01234567")]
    Revoke {
        /// Its id, from 'musterctl token list'
        id: TokenId,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum DeviceCommand {
    /// Devices, by name
    #[command(after_help = "Examples:
  musterctl device list
  musterctl device list --group /berlin --presence lost
  musterctl device list --status critical
  musterctl device list --presence waiting
  musterctl device list --where 'os:debian app:openssl<3.0.14 seen:>2h' --sort -last_seen
  musterctl device list --where 'version:<0.2 -(name:ber* or group:/paris)' --csv > old.csv
  musterctl device list --where tag:kiosk --facets
  musterctl device list --search kiosk --json | jq -r '.[].name'

A filter is made of texts (a part of the name or host name) and terms: name:GLOB, host:GLOB, group:PATH, tag:GLOB,
os:TEXT, version:<0.2 (of the agent), app:NAME or app:NAME<3.0.14, presence:P, status:S, seen:>2h, synced:<1d,
pins:missing, view:NAME.
Blanks join them; 'or', 'not' (or -) and parentheses do what they say; what has blanks in it stands in double quotes.")]
    List(DeviceList),
    /// One device, whole
    #[command(after_help = "Examples:
  musterctl device show kiosk-17
  musterctl device show kiosk-17 --now
  musterctl device show 00abcdef01234567 --json | jq .host

With --now: exit code 1 when the device could not be brought to sync; what is known of it is shown all the same.")]
    Show {
        /// Its name or id
        device: String,
        /// Retrieve it now: have the device look at itself and sync, then show it
        #[arg(long)]
        now: bool,
        /// Longest wait for it, with --now
        #[arg(long, default_value = "30s", value_parser = timeout)]
        timeout: u32,
    },
    /// Have devices sync now: on their link, or called by a wake over UDP
    #[command(after_help = "Examples:
  musterctl device sync kiosk-17 --wait
  musterctl device sync --group /berlin/kiosks --wait --timeout 2m
  musterctl device sync --where 'os:debian app:openssl<3.0.14' --wait
  musterctl device sync --all
  musterctl device sync --all --wait --json | jq -r '.[] | select(.outcome != \"synced\") | .name'

With --wait: exit code 0 when all of them synced, 1 otherwise; of more than 50 devices only those are listed that did not.")]
    Sync(DeviceSync),
    /// Why a device is in sync or not, and when it will be
    #[command(after_help = "Examples:
  musterctl device why kiosk-17
  musterctl device why kiosk-17 --json | jq .facts")]
    Why {
        /// Its name or id
        device: String,
    },
    /// Change a device
    #[command(after_help = "Examples:
  musterctl device set kiosk-17 --group /berlin/kiosks --keep-connected on
  musterctl device set kiosk-17 --keep-connected inherit
  musterctl device set kiosk-17 --interval 5m
  musterctl device set kiosk-17 --interval inherit
  musterctl device set kiosk-17 --name kiosk-18
  musterctl device set --where 'tag:spare -group:/spare' --group /spare")]
    Set(DeviceSet),
    /// Let devices in that wait for approval
    #[command(after_help = "Examples:
  musterctl device approve kiosk-17
  musterctl device approve 00abcdef01234567 --name kiosk-17 --group /berlin/kiosks
  musterctl device approve --where 'group:/berlin seen:<1h'

One that waits and is not wanted: 'musterctl device remove'. A device that was approved is in sync within about a minute.")]
    Approve(super::device::DeviceApprove),
    /// Make a join token with which a machine takes the device's record over, as when it was reimaged
    #[command(after_help = "Examples:
  musterctl device re-enrol kiosk-17
  musterctl device re-enrol kiosk-17 | ssh root@kiosk-17 muster-agent enroll --server HOST --token-file -

Name, group, settings, tasks and history stay. The device's old certificate dies the moment the token is used.")]
    ReEnrol {
        /// Its name or id
        device: String,
        /// Time for which the token may be used, such as 30m, 1h or 7d
        #[arg(long, default_value = "24h", value_parser = seconds)]
        ttl: u64,
    },
    /// Remove a device, or refuse one that waits: from then on it is refused, and may enrol with a new token
    #[command(after_help = "Examples:
  musterctl device remove kiosk-17
  musterctl device remove --where 'presence:lost seen:>90d'")]
    Remove(DeviceRemove),
}

#[derive(Args, Debug)]
pub(super) struct DeviceList {
    /// Only those that this filter lets through
    #[arg(long = "where", value_name = "FILTER", allow_hyphen_values = true, value_parser = filter)]
    filter: Option<String>,
    /// Only those of this group and the groups below it
    #[arg(long, value_name = "PATH")]
    group: Option<String>,
    /// Only those: connected, idle, asleep, shut_down, agent_stopped, lost, never_seen or waiting
    #[arg(long)]
    presence: Option<Presence>,
    /// Only those whose status is ok, warning or critical
    #[arg(long)]
    status: Option<Status>,
    /// Only those that have stored the server's certificates as they are now, or have not: stored or missing
    #[arg(long, value_parser = ["stored", "missing"])]
    pins: Option<String>,
    /// Only those whose name or host name contains this text
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// By what they are sorted: name, presence, status, group, last_sync, last_seen, interval, id or why;
    /// with a - before it the other way round
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    pub(super) sort: Option<DeviceSort>,
    /// The same columns as CSV, all of it
    #[arg(long, conflicts_with = "json")]
    pub(super) csv: bool,
    /// Only their numbers, by presence, status, system, group and tag
    #[arg(long, conflicts_with_all = ["csv", "sort"])]
    pub(super) facets: bool,
}

impl DeviceList {
    /// All that was said about which, as one filter.
    pub(super) fn filter(self) -> Option<String> {
        let mut terms = Vec::new();
        terms.extend(self.group.map(|path| format!("group:{}", quoted(&path))));
        terms.extend(self.presence.map(|presence| format!("presence:{presence}")));
        terms.extend(self.status.map(|status| format!("status:{status}")));
        terms.extend(self.pins.map(|pins| format!("pins:{pins}")));
        terms.extend(self.search.filter(|text| !text.is_empty()).map(|text| quoted(&text)));
        match self.filter.filter(|filter| !filter.trim().is_empty()) {
            Some(only) if terms.is_empty() => return Some(only),
            Some(filter) => terms.push(format!("({filter})")),
            None => {}
        }
        (!terms.is_empty()).then(|| terms.join(" "))
    }
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["devices", "group", "filter", "all"]))]
pub(super) struct DeviceSync {
    /// Their names or ids
    #[arg(value_name = "NAME")]
    pub(super) devices: Vec<String>,
    /// Every device of this group and the groups below it
    #[arg(long, value_name = "PATH")]
    pub(super) group: Option<String>,
    /// Every device that this filter lets through ('musterctl device list --help')
    #[arg(long = "where", value_name = "FILTER", allow_hyphen_values = true, value_parser = filter)]
    pub(super) filter: Option<String>,
    /// Every device
    #[arg(long)]
    pub(super) all: bool,
    /// Don't ask, with --where
    #[arg(long)]
    pub(super) yes: bool,
    /// Wait for what becomes of each
    #[arg(long)]
    pub(super) wait: bool,
    /// Longest wait, with --wait
    #[arg(long, default_value = "30s", value_parser = timeout)]
    pub(super) timeout: u32,
    /// Have the devices look at themselves anew before they sync
    #[arg(long)]
    pub(super) fresh: bool,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
    .args(["group", "keep_connected", "interval", "name"]),
    group = clap::ArgGroup::new("whom").required(true).args(["device", "filter"]))]
pub(super) struct DeviceSet {
    /// Its name or id
    pub(super) device: Option<String>,
    /// Every device that this filter lets through now, all or none ('musterctl device list --help')
    #[arg(long = "where", value_name = "FILTER", allow_hyphen_values = true, value_parser = filter, conflicts_with = "name")]
    pub(super) filter: Option<String>,
    /// Don't ask, with --where
    #[arg(long)]
    pub(super) yes: bool,
    /// Its group; made when it doesn't exist
    #[arg(long, value_name = "PATH")]
    pub(super) group: Option<String>,
    /// Whether its link stays open between syncs: on, off, or 'inherit' for what its group says
    #[arg(long, value_name = "on|off|inherit")]
    pub(super) keep_connected: Option<Keep>,
    /// The interval of its syncs, such as 15m, or 'inherit' for that of its group
    #[arg(long, value_parser = interval)]
    pub(super) interval: Option<Interval>,
    /// Its name from now on
    #[arg(long, value_name = "NEW")]
    pub(super) name: Option<String>,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["device", "filter"]))]
pub(super) struct DeviceRemove {
    /// Its name or id
    pub(super) device: Option<String>,
    /// Every device that this filter lets through now ('musterctl device list --help'); when it breaks off,
    /// those that are removed stay so
    #[arg(long = "where", value_name = "FILTER", allow_hyphen_values = true, value_parser = filter)]
    pub(super) filter: Option<String>,
    /// Don't ask, with --where
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Subcommand, Debug)]
pub(super) enum ApplicationCommand {
    /// Installed applications by name and version, with how many devices have each
    #[command(after_help = "Examples:
  musterctl application list --name 'openssl*'
  musterctl application list --name libssl3 --version '<3.0.14' --devices
  musterctl application list --device kiosk-17 --json

Versions are compared as dpkg compares them.")]
    List {
        /// Only what is installed on this device (name or id)
        #[arg(long, value_name = "NAME")]
        device: Option<String>,
        /// Only these names: * stands for any text, ? for one character
        #[arg(long, value_name = "GLOB")]
        name: Option<String>,
        /// Only these versions: =, <, <=, > or >= and a version, such as '<3.0.14'
        #[arg(long, value_name = "EXPR", value_parser = version)]
        version: Option<String>,
        /// Which devices: a line for each application on each device
        #[arg(long)]
        devices: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum EventCommand {
    /// The newest stored events, the newest last
    #[command(after_help = "Examples:
  musterctl event list
  musterctl event list --device kiosk-17 --severity warning --since 1h
  musterctl event list --since 2026-11-24T08:00:00Z --limit 5000 --json")]
    List {
        #[command(flatten)]
        filter: EventFilter,
        /// Only those that the server received since then: a time (RFC 3339) or so long ago, such as 1h
        #[arg(long, value_name = "TIME", value_parser = since)]
        since: Option<Timestamp>,
        /// Only those that it received before then: the same
        #[arg(long, value_name = "TIME", value_parser = since)]
        until: Option<Timestamp>,
        /// Most events to list, the newest ones
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Events as they arrive, until Ctrl-C; goes on by itself when the server restarts
    #[command(after_help = "Examples:
  musterctl event follow
  musterctl event follow --severity error --json | while read -r event; do …; done

With --json, one JSON document a line.")]
    Follow {
        #[command(flatten)]
        filter: EventFilter,
        /// Begin with what lies at this position of the journal: a next_position that --json showed earlier
        #[arg(long, value_name = "POSITION")]
        from: Option<u64>,
        /// Twice a second the newest N at most, and how many more there were; without it: all
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(FOLLOW_NEWEST_MAX)))]
        newest: Option<u32>,
    },
}

#[derive(Args, Debug)]
pub(super) struct EventFilter {
    /// Only those of this device (name or id; a removed device's id works too)
    #[arg(long, value_name = "NAME")]
    pub(super) device: Option<String>,
    /// Only those at least this bad: info, warning, error or critical
    #[arg(long)]
    pub(super) severity: Option<Severity>,
}

#[derive(Subcommand, Debug)]
pub(super) enum GroupCommand {
    /// Make a group, with every group above it; one that exists gets the settings that are given
    #[command(after_help = "Examples:
  musterctl group create /berlin/kiosks
  musterctl group create /berlin/kiosks --interval 5m
  musterctl group create /berlin/kiosks --keep-connected on")]
    Create {
        /// Its path
        path: String,
        /// The interval of its devices' syncs, such as 15m
        #[arg(long, value_parser = interval_seconds)]
        interval: Option<u32>,
        /// Whether the links of its devices stay open between syncs: on, off, or 'inherit' for what the group
        /// above it says
        #[arg(long, value_name = "on|off|inherit")]
        keep_connected: Option<Keep>,
    },
    /// All groups, by path
    #[command(after_help = "Examples:
  musterctl group list")]
    List,
    /// Move a group, with its devices, policies and the groups below it
    #[command(after_help = "Examples:
  musterctl group move /berlin /germany/berlin --dry-run
  musterctl group move /berlin /germany/berlin")]
    Move {
        /// Its path
        path: String,
        /// The path that it is to have
        new_path: String,
        /// Only say how many devices would have other settings
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove a group with its policies; refused while it has devices or groups
    #[command(after_help = "Examples:
  musterctl group remove /berlin/kiosks
  musterctl group remove /berlin --recursive --dry-run")]
    Remove {
        /// Its path
        path: String,
        /// With the groups below it; all their devices belong to the group above it then
        #[arg(long)]
        recursive: bool,
        /// Only say how many devices would have other settings
        #[arg(long)]
        dry_run: bool,
    },
}

/// Checked here, compared at the server.
fn version(text: &str) -> Result<String, ParseError> {
    text.parse::<VersionExpression>().map(|_| text.to_owned())
}

pub(super) fn seconds(text: &str) -> Result<u64, String> {
    match parse_duration(text)?.as_secs() {
        0 => Err(format!("'{text}' is too short: at least 1s")),
        seconds => Ok(seconds),
    }
}

fn interval_seconds(text: &str) -> Result<u32, String> {
    u32::try_from(seconds(text)?).map_err(|_| format!("'{text}' is too long"))
}

/// Time to wait for devices, in seconds.
fn timeout(text: &str) -> Result<u32, String> {
    let seconds = interval_seconds(text)?;
    if (1..=CALL_SECONDS_MAX).contains(&seconds) {
        return Ok(seconds);
    }
    Err(format!("'{text}' is too long: at most {CALL_SECONDS_MAX}s"))
}

fn interval(text: &str) -> Result<Interval, String> {
    if text == "inherit" {
        return Ok(Interval::Inherited);
    }
    interval_seconds(text).map(Interval::Seconds)
}

pub(super) fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = parse_duration(text) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let then = u64::try_from(now.saturating_sub(ago).as_millis()).unwrap_or(0);
        return Ok(Timestamp(WallTime(then)));
    }
    text.parse().map(Timestamp).map_err(|_| {
        format!("'{text}' is neither a time (RFC 3339, such as 2026-11-24T10:00:00Z) nor a duration (1h)")
    })
}

/// Checked here too, so that the place of an error can be shown below the filter.
pub(super) fn filter(text: &str) -> Result<String, String> {
    text.parse::<Filter>().map(|_| text.to_owned()).map_err(|error| error.pointing(text))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn look(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let is_group = command.get_subcommands().next().is_some();
            let has_examples =
                command.get_after_help().is_some_and(|help| help.to_string().contains("Examples:"));
            assert!(is_group && path != " musterctl" || has_examples, "{path} has no examples");
            command.get_subcommands().filter(|c| c.get_name() != "help").for_each(|c| look(c, &path));
        }
        look(&Arguments::command(), "");
    }

    #[test]
    fn times_are_given_in_both_ways() {
        assert_eq!(since("1970-01-01T00:00:01Z").unwrap(), Timestamp(WallTime(1_000)));
        assert!(since("1h").unwrap() < since("1m").unwrap());
        assert!(since("yesterday").unwrap_err().contains("'yesterday' is neither"));
        assert_eq!(interval("inherit"), Ok(Interval::Inherited));
        assert_eq!(interval("15m"), Ok(Interval::Seconds(900)));
        assert_eq!((timeout("30s"), timeout("1h")), (Ok(30), Ok(3_600)));
        assert!(timeout("61m").unwrap_err().contains("at most 3600s"));
        assert!(interval("1ms").unwrap_err().contains("too short"));
    }
}
