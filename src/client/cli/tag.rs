//! `musterctl tag` and `musterctl view`.

use clap::{Args, Subcommand};

use super::Failure;
use super::arguments::filter;
use super::output::{NOTHING_THERE, Output, plain};
use crate::client::Client;
use crate::wire::api::{Selected, TagChange, TagRule, View};
use crate::wire::units::count;

#[derive(Subcommand, Debug)]
pub(super) enum TagCommand {
    /// Give devices a tag; it is made when it isn't there
    #[command(after_help = "Examples:
  musterctl tag set kiosk --where 'name:kiosk-*'
  musterctl tag set spare --device kiosk-17 --device kiosk-18
  musterctl device list --where tag:spare")]
    Set(TagDevices),
    /// Take a tag from devices
    #[command(after_help = "Examples:
  musterctl tag unset spare --device kiosk-17
  musterctl tag unset spare --where group:/berlin --yes")]
    Unset(TagDevices),
    /// Give a tag to all devices of a filter, at every moment; to those that were given it as well
    #[command(after_help = "Examples:
  musterctl tag rule outdated 'version:<0.2 or app:openssl<3.0.14'
  musterctl tag rule silent 'seen:>7d'
  musterctl tag rule outdated --none")]
    Rule {
        /// The tag
        tag: String,
        /// The filter ('musterctl device list --help'), without tags and views
        #[arg(value_name = "FILTER", allow_hyphen_values = true, value_parser = filter, required_unless_present = "none")]
        rule: Option<String>,
        /// From now on only those have it that were given it
        #[arg(long, conflicts_with = "rule")]
        none: bool,
    },
    /// All tags, with their rules and the number of devices that have each
    #[command(after_help = "Examples:
  musterctl tag list
  musterctl tag list --json | jq '.[] | select(.devices == 0)'")]
    List,
    /// Remove a tag, from all devices and with its rule
    #[command(after_help = "Examples:
  musterctl tag remove spare")]
    Remove {
        /// The tag
        tag: String,
    },
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["device", "filter"]))]
pub(super) struct TagDevices {
    /// The tag: letters, digits, '-', '_' and '.'
    tag: String,
    /// These, by name or id; may be given several times
    #[arg(long, value_name = "NAME", num_args = 1..)]
    device: Vec<String>,
    /// Those that this filter lets through now ('musterctl device list --help')
    #[arg(long = "where", value_name = "FILTER", allow_hyphen_values = true, value_parser = filter)]
    filter: Option<String>,
    /// Don't ask
    #[arg(long)]
    yes: bool,
}

#[derive(Subcommand, Debug)]
pub(super) enum ViewCommand {
    /// Give a filter a name, or a name another filter
    #[command(after_help = "Examples:
  musterctl view save silent 'seen:>7d -tag:spare'
  musterctl device list --where 'view:silent group:/berlin'")]
    Save {
        /// Its name: letters, digits, '-', '_' and '.'
        name: String,
        /// The filter ('musterctl device list --help'), without views
        #[arg(value_name = "FILTER", allow_hyphen_values = true, value_parser = filter)]
        filter: String,
    },
    /// All views
    #[command(after_help = "Examples:
  musterctl view list")]
    List,
    /// Remove a view
    #[command(after_help = "Examples:
  musterctl view remove silent")]
    Remove {
        /// Its name
        name: String,
    },
}

pub(super) fn run(client: &mut Client, output: &mut Output, command: TagCommand) -> Result<(), Failure> {
    match command {
        TagCommand::Set(devices) => change(client, output, devices, false),
        TagCommand::Unset(devices) => change(client, output, devices, true),
        TagCommand::Rule { tag, rule, .. } => {
            let has_rule = rule.is_some();
            let meant = client.set_tag_rule(&tag, &TagRule { rule })?;
            output.answer(&meant, |meant| match has_rule {
                true => format!(
                    "{} {} the tag {tag} by this rule now",
                    count(meant.devices, "device"),
                    has(meant)
                ),
                false => format!("the tag {tag} has no rule any more"),
            })
        }
        TagCommand::List => {
            let tags = std::iter::once(client.tags());
            output.list(&["TAG", "DEVICES", "RULE"], tags, "no tags", |tag| {
                let rule = tag.rule.clone().unwrap_or_else(|| NOTHING_THERE.into());
                vec![tag.name.clone(), tag.devices.to_string(), rule]
            })
        }
        TagCommand::Remove { tag } => output.answer(&client.remove_tag(&tag)?, |tag| {
            format!("tag {} is removed: {} had it", plain(&tag.name), count(tag.devices, "device"))
        }),
    }
}

fn has(meant: &Selected) -> &'static str {
    if meant.devices == 1 { "has" } else { "have" }
}

fn change(client: &mut Client, output: &mut Output, asked: TagDevices, takes: bool) -> Result<(), Failure> {
    let TagDevices { tag, device: devices, filter, yes } = asked;
    let done = if takes { "is taken from" } else { "is given to" };
    let asks = filter.is_some() && !yes;
    let mut change = TagChange { devices, filter, takes, dry_run: true };
    if asks && output.may_ask() {
        let meant = client.change_tag(&tag, &change)?;
        output.confirm(&format!("the tag {tag} {done} {}", count(meant.devices, "device")))?;
    }
    change.dry_run = false;
    output.answer(&client.change_tag(&tag, &change)?, |changed| {
        format!("the tag {tag} {done} {}", count(changed.devices, "device"))
    })
}

pub(super) fn run_view(
    client: &mut Client,
    output: &mut Output,
    command: ViewCommand,
) -> Result<(), Failure> {
    match command {
        ViewCommand::Save { name, filter } => output
            .answer(&client.save_view(&View { name, filter })?, |view| {
                format!("view:{} stands for {}", plain(&view.name), plain(&view.filter))
            }),
        ViewCommand::List => {
            let views = std::iter::once(client.views());
            output.list(&["VIEW", "FILTER"], views, "no views", |view| {
                vec![view.name.clone(), view.filter.clone()]
            })
        }
        ViewCommand::Remove { name } => output.answer(&client.remove_view(&name)?, |view| {
            format!("view {} is removed; it was {}", plain(&view.name), plain(&view.filter))
        }),
    }
}
