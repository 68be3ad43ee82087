//! `musterctl api-token`.

use clap::Subcommand;

use super::Failure;
use super::arguments::seconds;
use super::output::{Output, time};
use crate::client::Client;
use crate::wire::api::NewApiToken;
use crate::wire::id::ApiTokenId;
use crate::wire::role::Role;

#[derive(Subcommand, Debug)]
pub(super) enum ApiTokenCommand {
    /// Make an API token for a person or a program; its secret is shown this once
    #[command(after_help = "Examples:
  musterctl api-token create anna --role administrator
  musterctl api-token create dashboard --role reader --group /berlin --ttl 365d

Roles: reader sees, operator also calls devices, executes tasks and names and groups devices, policy-author also
sets policies and settings and changes groups, administrator may everything.")]
    Create {
        /// The one who gets it: as the audit names them
        name: String,
        /// Their role: reader, operator, policy-author or administrator
        #[arg(long)]
        role: Role,
        /// The group on which, with the groups below it, they may do that; they see no others
        #[arg(long, value_name = "PATH", default_value = "/")]
        group: String,
        /// Time for which it is good, such as 8h or 90d
        #[arg(long, default_value = "90d", value_parser = seconds)]
        ttl: u64,
    },
    /// All API tokens, without their secrets
    #[command(after_help = "Examples:
  musterctl api-token list
  musterctl api-token list --json | jq -r '.[] | select(.state == \"valid\") | .name'")]
    List,
    /// Withdraw an API token: the next request with it is refused
    #[command(after_help = "Examples:
  musterctl api-token revoke 00abcdef01234567")]
    Revoke {
        /// Its id, from 'musterctl api-token list'
        id: ApiTokenId,
    },
}

pub(super) fn run(client: &mut Client, output: &mut Output, command: ApiTokenCommand) -> Result<(), Failure> {
    match command {
        ApiTokenCommand::Create { name, role, group, ttl } => {
            let new = NewApiToken { name, role, group: Some(group), ttl_seconds: Some(ttl) };
            let created = client.create_api_token(&new)?;
            if output.is_json {
                return output.json(&created);
            }
            output.line(&created.token)?;
            let info = &created.info;
            output.line(&format!(
                "\nFor {}: {} on {}, until {} UTC; its id is {}. It is not shown again.",
                info.name,
                info.role,
                info.group,
                time(info.expires_at),
                info.id
            ))
        }
        ApiTokenCommand::List => output.list(
            &["ID", "NAME", "STATE", "ROLE", "GROUP", "EXPIRES (UTC)"],
            client.api_tokens(),
            "no API tokens: make one with 'musterctl api-token create'",
            |token| {
                vec![
                    token.id.to_string(),
                    token.name.clone(),
                    token.state.name().to_owned(),
                    token.role.name().to_owned(),
                    token.group.clone(),
                    time(token.expires_at),
                ]
            },
        ),
        ApiTokenCommand::Revoke { id } => output.answer(&client.revoke_api_token(id)?, |token| {
            format!("API token {id} of {} is revoked", token.name)
        }),
    }
}
