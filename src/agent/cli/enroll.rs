//! `muster-agent enroll` and `move`: an identity at a server, by a join token. The token comes from a file,
//! standard input or the environment: arguments of a program can be read by every user of the device (ps(1)),
//! so none is needed. A move verifies first and then commits.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::CommandError;
use super::arguments::{Enroll, Move, PrepareImage, TOKEN_VARIABLE, TokenSource};
use super::context::Context;
use super::control::{Holder, SYNC_TIMEOUT};
use crate::agent::address::ServerAddress;
use crate::agent::collect::host;
use crate::agent::context::wall_time;
use crate::agent::directory::Directory;
use crate::agent::enroll::{EnrollError, NewDevice, enroll, enroll_here};
use crate::agent::identity::{Identity, KeyType};
use crate::agent::join;
use crate::agent::local::client::LocalError;
use crate::agent::moving;
use crate::agent::signature::set_key;
use crate::wire::limits::NAME_BYTES_MAX;
use crate::wire::printable::{is_device_name, is_name};
use crate::wire::token::JoinToken;

/// Enrols the device and stores who it is now.
pub(super) fn enroll_device(arguments: &Enroll) -> Result<(), CommandError> {
    let context = Context::new(&arguments.common)?;
    let server: ServerAddress = arguments.server.parse().map_err(CommandError::usage)?;
    let token = read_token(&arguments.token)?;
    let name = arguments.name.clone().unwrap_or_else(host::hostname);
    check_length(&name)?;
    let key_type = key_type(&context, arguments.key_type)?.unwrap_or_default();
    let is_new = !context.data.exists();
    let directory = Directory::open_or_create(&context.data)?;
    enrol(arguments, key_type, &directory, &server, &token, &name).inspect_err(|_| {
        if is_new {
            // As if nothing had been tried: a directory with something in it looks like that of a device.
            directory.remove_empty();
        }
    })
}

fn check_length(name: &str) -> Result<(), CommandError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(CommandError::usage(format!("--name must have 1 to {NAME_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// Kind of the first key: as the command says, otherwise as the configuration does. The agent would soon
/// have another key than the command said when the two contradict each other.
fn key_type(context: &Context, argument: Option<KeyType>) -> Result<Option<KeyType>, CommandError> {
    match (argument, context.settings.key_type) {
        (Some(argument), Some(configured)) if argument != configured => Err(CommandError::usage(format!(
            "{} says key_type = \"{configured}\", which would win over --key-type {argument}: change or remove that line first",
            context.config_name()
        ))),
        (argument, configured) => Ok(argument.or(configured)),
    }
}

fn enrol(
    arguments: &Enroll,
    key_type: KeyType,
    directory: &Directory,
    server: &ServerAddress,
    token: &JoinToken,
    name: &str,
) -> Result<(), CommandError> {
    let NewDevice { identity, is_waiting } =
        enroll_here(directory, server, token, name, key_type, arguments.force)?;
    if let Some(key) = &arguments.release_key {
        set_key(directory.path(), key).map_err(CommandError::refused)?;
    }
    say!("enrolled as '{}' ({}) at {}", identity.name, identity.device, identity.server);
    if identity.name != name {
        say!("{}", other_name(name));
    }
    if is_waiting {
        say!("{}", waits(&identity));
    }
    say!("start the agent: muster-agent run{}", data_hint(arguments.common.data.as_deref()));
    Ok(())
}

/// Advice for an administrator of the server.
fn waits(identity: &Identity) -> String {
    format!(
        "it waits for approval, and is served once an administrator says so: musterctl device approve {}",
        identity.device
    )
}

/// Removes all that makes the data directory that of one device, and has machines that are made from it
/// enrol.
pub(super) fn prepare_image(arguments: &PrepareImage) -> Result<(), CommandError> {
    let context = Context::new(&arguments.common)?;
    let server: ServerAddress = arguments.server.parse().map_err(CommandError::usage)?;
    let token = read_token(&arguments.token)?;
    let key_type = key_type(&context, arguments.key_type)?;
    let directory = Directory::open_or_create(&context.data)?;
    let _only = directory.lock_join()?;
    let _lock = directory.lock_patiently("the preparation of an image")?;
    let before = Identity::read(directory.path());
    // The way to enrol is there before the identity goes: an end in between leaves a device that works.
    join::write(&directory, &server, &token, key_type)
        .map_err(|error| CommandError::refused(format!("{}: {error}", directory.path().display())))?;
    join::forget_device(&directory)?;
    say!(
        "prepared: each machine that is made from this disk enrols at {server} when 'muster-agent run' is started there"
    );
    if let Ok(Some(before)) = before {
        say!(
            "the server still lists the device that this was; remove it there: musterctl device remove '{}'   ({})",
            before.name,
            before.server
        );
    }
    say!("do not start the agent on this machine again before the image is made");
    Ok(())
}

/// Why the server gave the device another name than it asked for.
fn other_name(wanted: &str) -> String {
    let why = match (is_name(wanted), is_device_name(wanted)) {
        (true, true) => "was taken, or the token brings a device of another name back",
        (true, false) => "could be taken for a device's id, or for the server",
        (false, _) => "has characters that a name may not have, or is too long",
    };
    format!("the name '{wanted}' {why}")
}

fn data_hint(data: Option<&Path>) -> String {
    data.map(|data| format!(" --data {}", data.display())).unwrap_or_default()
}

/// Longest file of a token: a token has about a hundred.
const FILE_BYTES_MAX: u64 = 4096;

/// Finds the token: the first line of its source, so that all that `musterctl token create` prints may be
/// given.
fn read_token(source: &TokenSource) -> Result<JoinToken, CommandError> {
    let text = match (&source.token_file, &source.token) {
        (Some(file), _) if file == Path::new("-") => read_typed()?,
        (Some(file), _) => {
            // A pipe is welcome: it is what a shell makes of `<(…)`.
            let open = File::options().read(true).open(file);
            read(&file.display().to_string(), open.map_err(|error| refused(&file.display(), &error))?)?
        }
        (None, Some(token)) if token == "-" => read_typed()?,
        (None, Some(token)) => {
            eprintln!(
                "muster-agent: warning: every user of this device can read the token in the process list: give --token-file FILE, --token-file - or {TOKEN_VARIABLE} instead"
            );
            Zeroizing::new(token.clone())
        }
        (None, None) => Zeroizing::new(std::env::var(TOKEN_VARIABLE).map_err(|_| {
            CommandError::usage(format!(
                "a join token is missing: give --token-file FILE ('-' for standard input) or set {TOKEN_VARIABLE} (make one on the server: musterctl token create)"
            ))
        })?),
    };
    text.parse().map_err(CommandError::usage)
}

/// From standard input. Its line is what ends it: a user who pastes the token need not end the input as well.
fn read_typed() -> Result<Zeroizing<String>, CommandError> {
    if io::stdin().is_terminal() {
        eprintln!("the join token, and Enter:");
    }
    read("standard input", io::stdin())
}

/// The first line.
fn read(name: &str, from: impl Read) -> Result<Zeroizing<String>, CommandError> {
    let bytes_max = usize::try_from(FILE_BYTES_MAX).unwrap_or_default();
    let mut line = Zeroizing::new(Vec::with_capacity(bytes_max));
    let mut from = from.take(FILE_BYTES_MAX);
    let mut byte = [0];
    while from.read(&mut byte).map_err(|error| refused(&name, &error))? > 0 && byte != *b"\n" {
        line.push(byte[0]);
    }
    let text = String::from_utf8(std::mem::take(&mut *line));
    text.map(Zeroizing::new).map_err(|_| refused(&name, &io::Error::other("it is no text")))
}

fn refused(name: &dyn std::fmt::Display, error: &io::Error) -> CommandError {
    CommandError::usage(format!("the join token can't be read from {name}: {error}"))
}

/// Name of this command for those that find the data directory in use.
const HOLDER: &str = "a move to another server";

/// Time of a running agent to leave its old server and be in sync with the new one.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(30 + SYNC_TIMEOUT.as_secs());

/// Enrols at the new server, looks whether it answers, and only then makes the device its own.
pub(super) fn move_device(arguments: &Move) -> Result<(), CommandError> {
    let context = Context::or_last_good(&arguments.common)?;
    let server: ServerAddress = arguments.server.parse().map_err(CommandError::usage)?;
    let token = read_token(&arguments.token)?;
    arguments.name.as_deref().map(check_length).transpose()?;
    let directory = Directory::open(&context.data)?;
    let _only = directory.lock_move()?;
    let mut holder = Holder::find(&context, HOLDER, TAKE_OVER_TIMEOUT)?;
    if let Holder::Here(_) = holder {
        moving::settle(&directory)?;
    }
    let old = Identity::read_enrolled(directory.path())?;
    let stays = |why: &str| CommandError::refused(format!("the device stays with {}: {why}", old.server));
    if let Some(configured) = &context.settings.server {
        return Err(stays(&format!(
            "{} says server = \"{configured}\", which would win over any move: remove that line first",
            context.config_name()
        )));
    }
    if old.pin_hashes().contains(&token.server_certificate) {
        return Err(stays("the token is that server's own (make one on the server that you mean)"));
    }
    let name = arguments.name.as_deref().unwrap_or(&old.name);
    let key_type = key_type(&context, arguments.key_type)?.unwrap_or_else(|| old.key_type());
    let NewDevice { identity: new, is_waiting } =
        enroll(&server, &token, name, key_type, Some(directory.path()), wall_time())
            .map_err(|error| stays(&not_enrolled(&error)))?;
    say!("enrolled as '{}' ({}) at {server}", new.name, new.device);
    if is_waiting {
        say!("{}", waits(&new));
    }
    moving::verify(&server, &new, is_waiting).map_err(|why| {
        stays(&format!(
            "{server} enrolled it, but does not answer it as it should: {why} (there, it is device '{}': asked again, with a new token where that one is used up, it is the same; or remove it there)",
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

/// Why there is no new device here, and what to do.
fn not_enrolled(error: &EnrollError) -> String {
    match error.may_be_enrolled() {
        true => format!(
            "{error} (it may be enrolled there all the same: asked again, with a new token where that one is used up, it is the same device)"
        ),
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
    fn a_device_that_may_be_enrolled_all_the_same_is_told_so_and_no_other() {
        let lost = not_enrolled(&EnrollError::TimedOut("b:13000".into()));
        assert!(lost.contains("it may be enrolled there all the same"), "{lost}");
        let report = ErrorReport { code: ErrorCode::TokenExpired, message: "the token has expired".into() };
        let refused = not_enrolled(&EnrollError::Refused(report));
        assert!(!refused.contains("may be enrolled"), "{refused}");
    }
}
