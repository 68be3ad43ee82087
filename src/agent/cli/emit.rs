//! `muster-agent emit`: through the running agent, or into the spool directly when none runs.

use std::time::Instant;

use super::CommandError;
use super::arguments::Emit;
use super::context::{Context, wall_time};
use super::control::{ANSWER_TIMEOUT, event_line};
use super::holder::Holder;
use crate::agent::local::client::LocalError;
use crate::agent::local::peer::Peer;
use crate::agent::local::protocol::{Request, parse};
use crate::agent::spool::Spool;
use crate::wire::id::Epoch;

/// Puts an event into the spool; returns once it is durable there.
pub(super) fn command(arguments: &Emit) -> Result<(), CommandError> {
    // A program of another user needs nothing but the agent's socket.
    let context = Context::or_last_good(&arguments.common)
        .or_else(|error| Context::of_service(&arguments.common).ok_or(error))?;
    let line = event_line(arguments);
    let Request::Emit { severity, body } =
        parse(line.to_string().as_bytes(), wall_time(), Peer::Owner).map_err(CommandError::usage)?
    else {
        return Err(CommandError::usage("this is no event"));
    };
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let _lock = loop {
        match Holder::find(&context, "an emit", ANSWER_TIMEOUT)? {
            Holder::Agent(mut client) => match client.emit(&line) {
                Ok(sequence) => {
                    say!("event {sequence} is in the spool");
                    return Ok(());
                }
                // It was about to end, and answers what it has taken: the spool is free now, or the next
                // agent listens.
                Err(LocalError::Ended) if Instant::now() < deadline => {}
                Err(error) => return Err(error.into()),
            },
            Holder::Here(lock) => break lock,
        }
    };
    let mut epoch = [0; 8];
    aws_lc_rs::rand::fill(&mut epoch).map_err(|_| CommandError::refused("the system gives no randomness"))?;
    let epoch = Epoch(u64::from_ne_bytes(epoch) | 1);
    let now = wall_time();
    let directory = context.directory()?;
    let mut spool = Spool::open_directory(&directory.spool(), &context.settings.spool, epoch, now)
        .map_err(CommandError::refused)?;
    let sequence = spool.append(severity, &body, now).map_err(CommandError::refused)?;
    spool.close().map_err(CommandError::refused)?;
    say!("event {sequence} is in the spool; no agent runs, it is sent when one does");
    Ok(())
}
