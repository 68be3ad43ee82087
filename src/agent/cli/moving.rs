//! `muster-agent move`: to another server, verify-then-commit.

use std::path::Path;
use std::time::Duration;

use super::arguments::Move;
use super::context::{Context, wall_time};
use super::control::SYNC_TIMEOUT;
use super::enroll::data_hint;
use super::holder::Holder;
use super::{CommandError, token};
use crate::agent::address::ServerAddress;
use crate::agent::directory::Directory;
use crate::agent::enroll::{EnrollError, enroll};
use crate::agent::identity::Identity;
use crate::agent::local::client::LocalError;
use crate::agent::moving;
use crate::wire::limits::NAME_BYTES_MAX;

/// Name of this command for those that find the data directory in use.
const HOLDER: &str = "a move to another server";

/// Time of a running agent to leave its old server and be in sync with the new one.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(30 + SYNC_TIMEOUT.as_secs());

/// Enrols at the new server, looks whether it answers, and only then makes the device its own.
pub(super) fn command(arguments: &Move) -> Result<(), CommandError> {
    let context = Context::or_last_good(&arguments.common)?;
    let server: ServerAddress = arguments.server.parse().map_err(CommandError::usage)?;
    let token = token::find(&arguments.token)?;
    if arguments.name.as_ref().is_some_and(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
        return Err(CommandError::usage(format!("--name must have 1 to {NAME_BYTES_MAX} bytes")));
    }
    let directory = context.directory()?;
    let _only = directory.lock_move()?;
    let mut holder = Holder::find(&context, HOLDER, TAKE_OVER_TIMEOUT)?;
    if let Holder::Here(_) = holder {
        moving::settle(&directory)?;
    }
    let old = Identity::read(directory.path())?.ok_or_else(|| {
        CommandError::refused(format!(
            "this device has not enrolled (no identity in {}): muster-agent enroll --server HOST --token-file FILE",
            directory.path().display()
        ))
    })?;
    let stays = |why: &str| CommandError::refused(format!("the device stays with {}: {why}", old.server));
    if let Some(configured) = &context.settings.server {
        return Err(stays(&format!(
            "{} says server = \"{configured}\", which would win over any move: remove that line first",
            context.config.as_deref().unwrap_or(Path::new("the configuration")).display()
        )));
    }
    if old.pin_hashes().contains(&token.server_certificate) {
        return Err(stays("the token is that server's own (make one on the server that you mean)"));
    }
    let name = arguments.name.as_deref().unwrap_or(&old.name);
    let new = enroll(&server, &token, name, context.settings.key_type, wall_time())
        .map_err(|error| stays(&not_enrolled(&error)))?;
    say!("enrolled as '{}' ({}) at {server}", new.name, new.device);
    moving::verify(&server, &new).map_err(|why| {
        stays(&format!(
            "{server} enrolled it, but does not answer it as it should: {why} (a use of the token is spent; there, remove device '{}' and make a new token)",
            new.name
        ))
    })?;
    say!("{server} answers the device, and its certificate is the one that the token names");
    moving::stage(&directory, &new).map_err(|error| stays(&error.to_string()))?;
    say!("ready to leave {}", old.server);
    loop {
        match holder {
            Holder::Here(_lock) => {
                moving::commit(&directory, &new)?;
                say!("the device belongs to {server} now");
                say!("start the agent: muster-agent run{}", data_hint(arguments.common.data.as_deref()));
                break;
            }
            Holder::Agent(mut agent) => match agent.request_move() {
                Ok(problem) => {
                    say!("the device belongs to {server} now: the running agent took over");
                    match problem {
                        None => say!("in sync with {server}"),
                        Some(problem) => say!(
                            "not in sync yet: {problem}; the agent tries again by itself (muster-agent status)"
                        ),
                    }
                    break;
                }
                Err(LocalError::Refused(why)) => {
                    moving::discard(&directory)?;
                    return Err(stays(&why));
                }
                Err(error) => match Identity::read(directory.path())? {
                    Some(identity) if identity == new => {
                        say!("the device belongs to {server} now");
                        say!("not in sync yet: {error}; see how the agent does: muster-agent status");
                        break;
                    }
                    // It has ended without taking over, or has not answered.
                    _ => holder = holder_without_agent(&directory, &error)?,
                },
            },
        }
    }
    say!(
        "the old server still lists the device; remove it there: musterctl device remove '{}'   ({})",
        old.name,
        old.server
    );
    Ok(())
}

/// Why there is no new device, and what became of the token.
fn not_enrolled(error: &EnrollError) -> String {
    match error.may_be_enrolled() {
        true => format!("{error} (a use of the token may be spent: look at 'musterctl token list' there)"),
        false => error.to_string(),
    }
}

/// The directory is ours when the agent has ended; otherwise it may still take over, and nobody else may.
fn holder_without_agent(directory: &Directory, error: &LocalError) -> Result<Holder, CommandError> {
    directory.lock_patiently(HOLDER).map(Holder::Here).map_err(|_| {
        CommandError::refused(format!(
            "{error}; the agent runs and may still take over: 'muster-agent status' says which server the device belongs to"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{ErrorCode, ErrorReport};

    #[test]
    fn the_token_is_named_when_it_may_be_spent_and_only_then() {
        let lost = not_enrolled(&EnrollError::TimedOut("b:13000".into()));
        assert!(lost.contains("a use of the token may be spent"), "{lost}");
        let report = ErrorReport { code: ErrorCode::TokenExpired, message: "the token has expired".into() };
        let refused = not_enrolled(&EnrollError::Refused(report));
        assert!(!refused.contains("may be spent"), "{refused}");
    }
}
