//! `musterctl user`.

use clap::Subcommand;

use super::Failure;
use super::output::{Output, time, time_or_nothing};
use crate::client::{Address, Client};
use crate::wire::api::{NewUser, User, UserChange, UserLink};
use crate::wire::role::Role;
use crate::wire::units::count;

#[derive(Subcommand, Debug)]
pub(super) enum UserCommand {
    /// Make a user; prints a one-time link with which they set their password, within a day
    #[command(after_help = "Examples:
  musterctl user create anna --role administrator
  musterctl user create ben --role operator --group /berlin
  musterctl user create carla --role reader --openid

Who has the link sets the password: send it as you would send that. In a browser it opens the console, on a command line
'musterctl login --link-file -' takes it. Roles are those of 'musterctl api-token create --help'.")]
    Create {
        /// The name to sign in with
        name: String,
        /// Their role: reader, operator, policy-author or administrator
        #[arg(long)]
        role: Role,
        /// The group on which, with the groups below it, they may do that; they see no others
        #[arg(long, value_name = "PATH", default_value = "/")]
        group: String,
        /// They sign in at the provider of OpenID Connect that the server's configuration names, and have no
        /// password; the first there with this name is the user from then on, and nobody else
        #[arg(long)]
        openid: bool,
    },
    /// All users
    #[command(after_help = "Examples:
  musterctl user list
  musterctl user list --json | jq -r '.[] | select(.has_password | not) | .name'")]
    List,
    /// Give a user another role or group: at once, in sessions that are open, too
    #[command(after_help = "Examples:
  musterctl user set ben --role policy-author
  musterctl user set ben --group /

API tokens that they made and that may more than that are revoked.")]
    Set {
        /// The name
        name: String,
        /// Their role from now on
        #[arg(long, required_unless_present = "group")]
        role: Option<Role>,
        /// The group on which it holds from now on
        #[arg(long, value_name = "PATH")]
        group: Option<String>,
    },
    /// Make another one-time link: for somebody who has forgotten the password, or whose password others know
    #[command(after_help = "Examples:
  musterctl user passwd anna

The password, the sessions and the API tokens that the user has made end at once.")]
    Passwd {
        /// The name
        name: String,
    },
    /// Remove a user; their sessions and the API tokens that they made end at once
    #[command(after_help = "Examples:
  musterctl user remove ben")]
    Remove {
        /// The name
        name: String,
    },
}

pub(super) fn run(client: &mut Client, output: &mut Output, command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Create { name, role, group, openid } => {
            let made = client.create_user(&NewUser { name, role, group: Some(group), openid })?;
            show_link(client, output, made)
        }
        UserCommand::List => output.list(
            &["NAME", "ROLE", "GROUP", "PASSWORD", "SESSIONS", "API TOKENS"],
            client.users(),
            "no users: make one with 'musterctl user create'",
            |user| {
                vec![
                    user.name.clone(),
                    user.role.name().to_owned(),
                    user.group.clone(),
                    password(user),
                    user.sessions.to_string(),
                    user.api_tokens.to_string(),
                ]
            },
        ),
        UserCommand::Set { name, role, group } => {
            let user = client.change_user(&name, &UserChange { role, group })?;
            output.answer(&user, |user| format!("{} is {} on {}", user.name, user.role, user.group))
        }
        UserCommand::Passwd { name } => {
            let made = client.renew_user_link(&name)?;
            show_link(client, output, made)
        }
        UserCommand::Remove { name } => output.answer(&client.remove_user(&name)?, |user| {
            let (sessions, tokens) = (count(user.sessions, "session"), count(user.api_tokens, "API token"));
            format!("{} is removed; {sessions} and {tokens} ended", user.name)
        }),
    }
}

fn password(user: &User) -> String {
    match user.link_expires_at {
        Some(at) => format!("link until {}", time(at)),
        None if user.subject.is_some() => "openid".to_owned(),
        None if user.issuer.is_some() => "openid, not yet".to_owned(),
        None if user.has_password => "set".to_owned(),
        None => "none".to_owned(),
    }
}

fn show_link(client: &Client, output: &mut Output, mut made: UserLink) -> Result<(), Failure> {
    // The server can't know by which of its names it is reached; who asks over the network does.
    if let (Address::Network(authority), Some((_, secret))) =
        (client.connection.address(), made.link.split_once("/welcome#"))
    {
        made.link = format!("https://{authority}/welcome#{secret}");
    }
    if output.is_json {
        return output.json(&made);
    }
    output.line(&made.link)?;
    if let UserLink { info: User { name, role, group, issuer: Some(issuer), .. }, .. } = &made {
        return output.line(&format!("\nFor {name}: {role} on {group}. They sign in there, at {issuer}."));
    }
    let (info, until) = (&made.info, made.info.link_expires_at);
    output.line(&format!(
        "\nFor {}: {} on {}. It sets the password, once, until {} UTC; it is not shown again.",
        info.name,
        info.role,
        info.group,
        time_or_nothing(until)
    ))
}
