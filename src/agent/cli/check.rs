//! `muster-agent check`

use serde_json::json;

use super::CommandError;
use super::arguments::{Check, Common};
use super::context::Context;
use super::control::ANSWER_TIMEOUT;
use super::holder::Holder;
use crate::agent::check::check;
use crate::agent::check::line::{Line, Report};
use crate::agent::directory::{Directory, DirectoryError};
use crate::paths;
use crate::wire::printable;

/// Looks at the configuration and the paths that it names; reading it says what is wrong with the rest.
pub(super) fn configuration(common: &Common) -> Result<(), CommandError> {
    let context = Context::new(common)?;
    context.check_all().map_err(CommandError::refused)?;
    let file =
        context.config.as_ref().map_or("no configuration file".into(), |file| file.display().to_string());
    say!("{file}: ok (data in {}, socket {})", context.data.display(), context.socket().display());
    if let Some(unseen) = paths::unseen("muster-agent") {
        eprintln!("muster-agent: {unseen}");
    }
    Ok(())
}

/// Looks at everything between this device and its server.
pub(super) fn command(arguments: &Check) -> Result<(), CommandError> {
    let context = Context::or_last_good(&arguments.common)?;
    let (directory, mut holder) = match context.directory() {
        // That there is none is what the line of the identity says.
        Err(DirectoryError::NotThere(path)) => (Directory::not_there(path), None),
        directory => (directory?, Some(Holder::find(&context, "a check", ANSWER_TIMEOUT)?)),
    };
    let agent = match &mut holder {
        Some(Holder::Agent(agent)) => Some(agent),
        Some(Holder::Here(_)) | None => None,
    };
    let mut show = |line: &Line| {
        if !arguments.json {
            say!("{line}");
        }
    };
    let mut report = Report::new(&mut show);
    check(&directory, &context.settings, agent, &mut report);
    if arguments.json {
        let document = json!({ "ok": report.is_ok(), "lines": report.lines() });
        say!("{}", printable::json_pretty(&document).unwrap_or_default());
    }
    match (report.is_ok(), report.problems()) {
        (true, _) => Ok(()),
        (false, 1) => Err(CommandError::refused("1 line is not ok")),
        (false, problems) => Err(CommandError::refused(format!("{problems} lines are not ok"))),
    }
}
