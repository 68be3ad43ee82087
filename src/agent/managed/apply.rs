//! Putting settings in place, step by step, so that whenever it ends the file is the old one or the new one,
//! whole.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::file::{self, Staged};
use super::journal::{Journal, Phase, Undone, recover};
use super::place::Held;
use super::work::{Apply, Failure, Placed};
use crate::agent::application::{Program, SettingsAdapter, render};
use crate::agent::checksummed;
use crate::agent::process;
use crate::fleet::schema::Schema;
use crate::wire::digest::Digest;

/// Most of a command's output that is kept for the reason of its failure.
const OUTPUT_BYTES_MAX: usize = 4 * 1024;

/// Most lines of it, and most bytes of those.
const REASON_LINES_MAX: usize = 4;
const REASON_BYTES_MAX: usize = 1_000;

/// Places at which an apply may be interrupted: behind each of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The candidate was judged good.
    Validated,
    /// The journal holds what was there before.
    Remembered,
    /// The new file is in place.
    Placed,
    /// It was judged good there.
    ValidatedInPlace,
    /// The journal says that the application may be told.
    AboutToApply,
    /// The application was told.
    Told,
    /// It could not be told; nothing is undone yet.
    Refused,
}

impl Step {
    #[cfg(test)]
    pub(super) const ALL: [Self; 7] = [
        Self::Validated,
        Self::Remembered,
        Self::Placed,
        Self::ValidatedInPlace,
        Self::AboutToApply,
        Self::Told,
        Self::Refused,
    ];
}

/// Why an apply did not get to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// The settings are not in place, and here is why.
    Failed(Failure),
    /// It ended as a killed agent does, with everything as it was at that moment.
    Interrupted,
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Failed(reason.into())
    }
}

/// Says of which file an error is, unless it says so itself.
fn named_as(path: &Path, error: &io::Error) -> String {
    let (path, said) = (path.display().to_string(), error.to_string());
    let hint = match error.kind() {
        // The shipped unit's word about all that was not widened (systemd.exec(5), `ProtectSystem=`).
        io::ErrorKind::ReadOnlyFilesystem => {
            "; if systemd runs the agent: name the directory in ReadWritePaths= of its unit, as muster-agent-settings.conf does"
        }
        _ => "",
    };
    if said.starts_with(&path) { format!("{said}{hint}") } else { format!("{path}: {said}{hint}") }
}

/// Puts settings in place. `is_over`: whether the agent ends behind this step; only tests say so.
pub(super) fn apply(job: &Apply, is_over: &dyn Fn(Step) -> bool) -> Result<Placed, Stop> {
    let at = |step| if is_over(step) { Err(Stop::Interrupted) } else { Ok(()) };
    recover(&job.journal)?;
    let settings: Value =
        serde_json::from_str(&job.settings).map_err(|error| format!("the settings are no JSON: {error}"))?;
    Schema::parse(job.adapter.schema())
        .map_err(|error| error.to_string())?
        .check(&settings)
        .map_err(|violation| violation.to_string())?;
    let place = match &job.adapter {
        SettingsAdapter::File(place) => place,
        SettingsAdapter::Embedded(application) => {
            application.hand_over(&job.settings)?;
            return Ok(Placed { digest: Digest::of_bytes(job.settings.as_bytes()), note: String::new() });
        }
    };
    let text = render::render(&place.format, &settings)?;
    let held = Held::find(&place.file).map_err(|error| named_as(&place.file, &error))?;
    let target = held.path();
    let named = |error: io::Error| named_as(target, &error);
    let (before, names) = file::read(&held).map_err(named)?.unzip();
    let staged = Staged::new(&held, text.as_bytes(), place.mode, before.as_ref()).map_err(named)?;
    if let Some(validate) = &place.validate {
        execute(validate, &staged.path)?;
    }
    at(Step::Validated)?;

    let mut journal = Journal {
        application: job.application.clone(),
        file: target.to_str().ok_or_else(|| format!("{} is not UTF-8", target.display()))?.to_owned(),
        phase: Phase::Placing,
        before,
        rollback: place.rollback.as_ref().map(|program| program.arguments.clone()).unwrap_or_default(),
        timeout_seconds: place.rollback.as_ref().map_or(0, |program| program.timeout.as_secs()),
        candidate: Some(text.clone().into_bytes()),
        is_in_place: false,
    };
    let remember = |journal: &Journal| {
        journal.write(&job.journal).map_err(|error| format!("{}: {error}", job.journal.display()))
    };
    remember(&journal)?;
    at(Step::Remembered)?;
    let undone = |journal: &Journal, reason: String| match journal.undo(&job.journal) {
        Ok(Undone::Restored) => Stop::Failed(reason.into()),
        Ok(Undone::LeftAlone) => Stop::Failed(Failure { reason, is_changed: true }),
        Err(also) => Stop::Failed(format!("{reason}; {also}").into()),
    };
    let mut note = String::new();
    match staged.commit() {
        Ok(()) => {
            if let Some(names @ 2..) = names {
                note = format!(
                    "the file before had {names} names (hard links): the others have the old content"
                );
            }
        }
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            journal.is_in_place = true;
            remember(&journal)
                .map_err(|reason| undone(&Journal { is_in_place: false, ..journal.clone() }, reason))?;
            file::overwrite(&held, text.as_bytes(), place.mode)
                .map_err(|error| undone(&journal, named(error)))?;
            note = "the file can't be replaced (a mount point), so it was written over".to_owned();
        }
        Err(error) => return Err(undone(&journal, named(error))),
    }
    at(Step::Placed)?;
    if let Some(validate) = &place.validate_in_place {
        execute(validate, target).map_err(|reason| undone(&journal, reason))?;
    }
    at(Step::ValidatedInPlace)?;

    journal.phase = Phase::Applying;
    remember(&journal)
        .map_err(|reason| undone(&Journal { phase: Phase::Placing, ..journal.clone() }, reason))?;
    at(Step::AboutToApply)?;
    if let Some(program) = &place.apply
        && let Err(reason) = execute(program, target)
    {
        at(Step::Refused)?;
        return Err(undone(&journal, reason));
    }
    at(Step::Told)?;
    checksummed::remove(&job.journal).map_err(|error| format!("{}: {error}", job.journal.display()))?;
    Ok(Placed { digest: Digest::of_bytes(text.as_bytes()), note })
}

/// Runs a command, with the file's path for `{file}`. When it does not end with code 0: why, in its own last
/// lines.
pub(super) fn execute(program: &Program, file: &Path) -> Result<(), String> {
    let file = file.to_string_lossy();
    let arguments: Vec<String> =
        program.arguments.iter().map(|argument| argument.replace("{file}", &file)).collect();
    let answer = process::run_to_end(&arguments, program.timeout, OUTPUT_BYTES_MAX)
        .map_err(|error| error.to_string())?;
    let Some(ended) = answer.failure(&format!("'{}'", program.name())) else { return Ok(()) };
    let said = last_lines(&String::from_utf8_lossy(&answer.output));
    Err(if said.is_empty() { ended } else { format!("{ended}: {said}") })
}

/// The last lines of an output, in one line.
fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut said = lines[lines.len().saturating_sub(REASON_LINES_MAX)..].join("; ");
    said.retain(|character| !character.is_control());
    said.split_off(said.ceil_char_boundary(said.len().saturating_sub(REASON_BYTES_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_file_once_and_a_sandbox_by_its_setting() {
        let path = Path::new("/etc/shop/settings.json");
        let link = io::Error::other("/etc/shop/settings.json is a link of user 1001");
        assert_eq!(named_as(path, &link), "/etc/shop/settings.json is a link of user 1001");
        let above = io::Error::other("/etc/shop is a link of user 1001");
        assert_eq!(named_as(path, &above), "/etc/shop/settings.json: /etc/shop is a link of user 1001");
        let closed = named_as(path, &io::Error::from_raw_os_error(30));
        assert!(closed.starts_with("/etc/shop/settings.json: Read-only file system"), "{closed}");
        assert!(closed.contains("ReadWritePaths="), "{closed}");
    }
}
