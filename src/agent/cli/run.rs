//! `muster-agent run`

use super::CommandError;
use super::arguments::Run;
use super::context::Context;
use crate::agent::run::Agent;
use crate::logging;

/// Runs the agent until a signal asks for the end.
pub(super) fn command(arguments: &Run) -> Result<(), CommandError> {
    let context = Context::new(&arguments.common)?;
    logging::start(context.settings.log_level.into())
        .map_err(|error| CommandError::refused(format!("can't start logging: {error}")))?;
    Agent::new(context).and_then(Agent::run).map_err(CommandError::refused)
}
