//! `musterctl token`.

use super::Failure;
use super::arguments::TokenCommand;
use super::output::{Output, plain, time};
use crate::client::Client;
use crate::wire::api::{CreatedToken, NewToken, Token};
use crate::wire::units::count;

pub(super) fn run(client: &mut Client, output: &mut Output, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { ttl, uses, group, name, approval } => {
            let (ttl_seconds, uses_max) = (Some(ttl), Some(uses));
            let new = NewToken { ttl_seconds, uses: uses_max, group: Some(group), names: name, approval };
            let created = client.create_token(&new)?;
            if output.is_json {
                return output.json(&created);
            }
            let called = match &created.info.names {
                Some(names) => format!(" called '{}'", plain(names)),
                None => String::new(),
            };
            let approval = if approval { " Each waits until 'musterctl device approve'." } else { "" };
            let devices = count(uses.into(), "device");
            let group = &created.info.group;
            show(output, &created, &format!("For {devices}{called}, into group {group}.{approval}"))
        }
        TokenCommand::List => output.list(
            &["ID", "STATE", "USED", "FOR", "GROUP", "EXPIRES (UTC)"],
            client.tokens(),
            "no tokens: make one with 'musterctl token create'",
            |token| {
                vec![
                    token.id.to_string(),
                    token.state.name().to_owned(),
                    format!("{} of {}", token.used, token.uses),
                    whom(token),
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

/// Shows a token that was just made: first and alone in its line, for those who pass it on to a program.
pub(super) fn show(output: &mut Output, created: &CreatedToken, what: &str) -> Result<(), Failure> {
    output.line(&created.token)?;
    output.line(&format!(
        "\n{what} Until {} UTC; its id is {}. It is not shown again. On a device, which asks for it then:\n  \
         muster-agent enroll --server HOST --token-file -",
        time(created.info.expires_at),
        created.info.id,
    ))?;
    match (&created.install, &created.install_hint) {
        (Some(line), _) => output.line(&format!(
            "\nA device that has no agent yet gets it with this line, pasted into a shell of root (any Linux with systemd, OpenRC \
             or procd). It works as long as the token, unless the server's keys change before:\n\n{line}"
        )),
        (None, Some(hint)) => output.line(&format!("\n{hint}")),
        (None, None) => Ok(()),
    }
}

/// Which devices may use it.
fn whom(token: &Token) -> String {
    let names = match (&token.device_name, &token.names) {
        (Some(device), _) => format!("the record of {device}"),
        (None, Some(names)) => names.clone(),
        (None, None) => "any".to_owned(),
    };
    if token.approval { format!("{names}, to be approved") } else { names }
}
