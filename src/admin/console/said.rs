//! The page that comes after a change tells that it was done. The address has a name for it that stands for a
//! text of the server: an address that somebody else made can't put their words on a page.

use super::form::Fields;
use super::text::many;

/// Names of changes, and the text for each; `{}` stands for a number of devices.
const DONE: [(&str, &str); 17] = [
    ("approved", "Approved. It is in sync within about a minute."),
    ("approved-devices", "{} approved. In sync within about a minute."),
    ("called", "{} asked to sync now."),
    ("cancelled", "The task is cancelled."),
    ("changed", "Changed, on {}."),
    ("made", "Made."),
    ("moved", "Moved: {} with other settings."),
    ("removed", "Removed."),
    ("removed-devices", "{} removed."),
    ("revoked", "Withdrawn: the next request with it is refused."),
    ("rotated", "Done: the stage of the rotation is under 'Certificate'."),
    ("saved", "Saved."),
    ("set", "Set: {} with other settings."),
    ("signed-out", "You are signed out."),
    ("tagged", "Tagged: {} changed."),
    ("task", "The task is made, for {}."),
    ("untagged", "Tag taken: {} changed."),
];

/// The same address, which tells what was done.
pub(super) fn with(url: &str, done: &str, devices: u64) -> String {
    let (path, anchor) = url.split_once('#').unwrap_or((url, ""));
    let separator = if path.contains('?') { '&' } else { '?' };
    let anchor = if anchor.is_empty() { String::new() } else { format!("#{anchor}") };
    format!("{path}{separator}done={done}&number={devices}{anchor}")
}

/// The text for what the address tells.
pub(super) fn done(fields: &Fields) -> Option<String> {
    let (_, text) = DONE.iter().find(|(name, _)| *name == fields.get("done"))?;
    let number = fields.get("number").parse().unwrap_or(0);
    Some(text.replace("{}", &many(number, "device")))
}
