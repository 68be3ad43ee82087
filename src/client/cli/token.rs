//! `musterctl token`.

use super::Failure;
use super::arguments::TokenCommand;
use super::output::{Output, count, time};
use crate::client::Client;
use crate::wire::api::NewToken;

pub(super) fn run(client: &mut Client, output: &mut Output, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { ttl, uses, group } => {
            let new = NewToken { ttl_seconds: Some(ttl), uses: Some(uses), group: Some(group) };
            let created = client.create_token(&new)?;
            if output.is_json {
                return output.json(&created);
            }
            // The token first and alone in its line: it is what is copied.
            output.line(&created.token)?;
            let devices = count(uses.into(), "device");
            output.line(&format!(
                "\nFor {devices}, until {} UTC, into group {}. Its id is {}. It is not shown again. On a device, \
                 which asks for it then:\n  muster-agent enroll --server HOST --token-file -",
                time(created.info.expires_at),
                created.info.group,
                created.info.id,
            ))
        }
        TokenCommand::List => output.list(
            &["ID", "STATE", "USED", "GROUP", "EXPIRES (UTC)"],
            client.tokens(),
            "no tokens: make one with 'musterctl token create'",
            |token| {
                vec![
                    token.id.to_string(),
                    token.state.name().to_owned(),
                    format!("{} of {}", token.used, token.uses),
                    token.group.clone(),
                    time(token.expires_at),
                ]
            },
        ),
        TokenCommand::Revoke { id } => output.answer(&client.revoke_token(id)?, |token| {
            format!("token {id} is revoked; {} enrolled with it before", count(token.used.into(), "device"))
        }),
    }
}
