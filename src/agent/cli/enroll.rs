//! `muster-agent enroll`

use super::arguments::Enroll;
use super::context::{Context, wall_time};
use super::{CommandError, token};
use crate::agent::address::ServerAddress;
use crate::agent::collect::host;
use crate::agent::directory::Directory;
use crate::agent::enroll::enroll;
use crate::agent::identity::{Identity, IdentityError};
use crate::agent::moving::{commit, settle, stage};
use crate::wire::limits::NAME_BYTES_MAX;
use crate::wire::printable::{is_device_name, is_name};
use crate::wire::token::JoinToken;

/// Enrols the device and stores who it is now.
pub(super) fn command(arguments: &Enroll) -> Result<(), CommandError> {
    let context = Context::new(&arguments.common)?;
    let server: ServerAddress = arguments.server.parse().map_err(CommandError::usage)?;
    let token = token::find(&arguments.token)?;
    let name = arguments.name.clone().unwrap_or_else(host::hostname);
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(CommandError::usage(format!("--name must have 1 to {NAME_BYTES_MAX} bytes")));
    }
    let is_new = !context.data.exists();
    let directory = Directory::open_or_create(&context.data)?;
    enrol(arguments, &context, &directory, &server, &token, &name).inspect_err(|_| {
        if is_new {
            // As if nothing had been tried: a directory with something in it looks like that of a device.
            directory.remove_empty();
        }
    })
}

fn enrol(
    arguments: &Enroll,
    context: &Context,
    directory: &Directory,
    server: &ServerAddress,
    token: &JoinToken,
    name: &str,
) -> Result<(), CommandError> {
    let _lock = directory.lock_patiently("an enrolment")?;
    settle(directory)?;
    match Identity::read(directory.path()) {
        Ok(None) => {}
        Ok(Some(known)) if !arguments.force => {
            return Err(CommandError::refused(format!(
                "this device is enrolled already, as '{}' ({}) at {}: give another --data, or --force to become a new device",
                known.name, known.device, known.server
            )));
        }
        Err(error @ IdentityError::Damaged { .. }) if !arguments.force => return Err(error.into()),
        Ok(Some(_)) | Err(IdentityError::Damaged { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let identity = enroll(server, token, name, context.settings.key_type, wall_time())?;
    stage(directory, &identity)?;
    commit(directory, &identity)?;
    say!("enrolled as '{}' ({}) at {}", identity.name, identity.device, identity.server);
    if identity.name != name {
        say!("{}", other_name(name));
    }
    say!("start the agent: muster-agent run{}", data_hint(arguments.common.data.as_deref()));
    Ok(())
}

/// Why the server gave the device another name than it asked for.
fn other_name(wanted: &str) -> String {
    let why = match (is_name(wanted), is_device_name(wanted)) {
        (true, true) => "was taken",
        (true, false) => "could be taken for a device's id, or for the server",
        (false, _) => "has characters that a name may not have, or is too long",
    };
    format!("the name '{wanted}' {why}")
}

pub(super) fn data_hint(data: Option<&std::path::Path>) -> String {
    data.map(|data| format!(" --data {}", data.display())).unwrap_or_default()
}
