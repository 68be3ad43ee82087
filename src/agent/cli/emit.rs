//! `muster-agent emit`: through the running agent, or into the spool directly when none runs.

use super::CommandError;
use super::arguments::Emit;
use super::context::{Context, wall_time};
use super::control::{ANSWER_TIMEOUT, event_line};
use super::holder::Holder;
use crate::agent::local::peer::Peer;
use crate::agent::local::protocol::{Request, parse};
use crate::agent::spool::Spool;
use crate::wire::id::Epoch;

/// Puts an event into the spool; returns once it is durable there.
pub(super) fn command(arguments: &Emit) -> Result<(), CommandError> {
    let context = Context::new(&arguments.common)?;
    let line = event_line(arguments);
    let Request::Emit { severity, body } =
        parse(line.to_string().as_bytes(), wall_time(), Peer::Owner).map_err(CommandError::usage)?
    else {
        return Err(CommandError::usage("this is no event"));
    };
    let _lock = match Holder::find(&context, "an emit", ANSWER_TIMEOUT)? {
        Holder::Agent(mut client) => {
            let sequence = client.emit(&line)?;
            println!("event {sequence} is in the spool");
            return Ok(());
        }
        Holder::Here(lock) => lock,
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
    println!("event {sequence} is in the spool; no agent runs, it is sent when one does");
    Ok(())
}
