//! `muster-agent run`

use std::io;

use super::CommandError;
use super::arguments::RunArguments;
use super::context::Context;
use crate::agent::run::Agent;
use crate::agent::run::signals::Signals;
use crate::logging;

/// Runs the agent until a signal asks for the end. `signals`: caught since the process began.
pub(super) fn command(
    arguments: &RunArguments,
    signals: Option<io::Result<Signals>>,
) -> Result<(), CommandError> {
    let signals = signals
        .unwrap_or_else(Signals::catch)
        .map_err(|error| CommandError::refused(format!("can't handle signals: {error}")))?;
    let context = Context::or_last_good(&arguments.common)?;
    logging::start(context.settings.log_level.into())
        .map_err(|error| CommandError::refused(format!("can't start logging: {error}")))?;
    Agent::new(context, signals).and_then(Agent::run).map_err(CommandError::refused)
}
