//! `muster-agent run`

use super::CommandError;
use super::arguments::Run;
use super::context::Context;
use crate::agent::run::Agent;

/// Runs the agent until a signal asks for the end.
pub(super) fn command(arguments: &Run) -> Result<(), CommandError> {
    let context = Context::new(&arguments.common)?;
    // A logger that is there already belongs to whoever embeds the agent.
    let _ = env_logger::Builder::new().filter_level(log::LevelFilter::Debug).try_init();
    log::set_max_level(context.settings.log_level.into());
    Agent::new(context).and_then(Agent::run).map_err(CommandError::refused)
}
