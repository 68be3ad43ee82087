//! `musterctl policy history` and `revert`.

use super::Failure;
use super::output::{Output, or_nothing, time};
use super::policy::drift;
use crate::client::Client;
use crate::fleet::settings::changed_version;
use crate::wire::api::{NewPolicy, PolicyHistoryQuery, PolicyRemoval, PolicyVersion, SettingsChanged};

/// All versions, the newest first; or what one of them changed.
pub(super) fn show(
    client: &mut Client,
    output: &mut Output,
    query: PolicyHistoryQuery,
    diff: Option<u64>,
) -> Result<(), Failure> {
    let Some(revision) = diff else {
        let heads = ["REVISION", "CHANGED (UTC)", "BY", "KEYS", "LOCKED", "DRIFT"];
        let nothing = "nothing is known of this policy: none was set, or its group is another one since";
        return output.list(&heads, client.policy_history(query), nothing, |version| {
            let keys = version.settings.as_ref().map(|settings| settings.len().to_string());
            vec![
                version.revision.to_string(),
                time(version.changed_at),
                or_nothing(version.changed_by.clone()),
                keys.unwrap_or_else(|| "removed".to_owned()),
                or_nothing(version.locks.join(", ")),
                drift(version.drift),
            ]
        });
    };
    let versions = all(client, query)?;
    let at = find(&versions, revision)?;
    let changes = changed_version(versions.get(at + 1), &versions[at]);
    if output.is_json {
        return output.json(&changes);
    }
    if changes.is_empty() {
        return output.line("it changed nothing");
    }
    changes.iter().try_for_each(|change| output.line(&change.to_string()))
}

/// Sets a policy to what it was. With whether devices are woken for it, and whether it is only tried.
pub(super) fn revert(
    client: &mut Client,
    (group, application): (String, String),
    revision: u64,
    (wake, dry_run): (bool, bool),
) -> Result<SettingsChanged, Failure> {
    let (of, at) = (application.clone(), group.clone());
    let query = PolicyHistoryQuery { group, application: of, ..PolicyHistoryQuery::default() };
    let mut versions = all(client, query)?;
    let version = versions.swap_remove(find(&versions, revision)?);
    let PolicyVersion { settings, locks, drift, .. } = version;
    let changed = match settings {
        Some(settings) => {
            client.set_policy(&NewPolicy { at, application, settings, locks, drift, wake, dry_run })?
        }
        None => client.remove_policy(&PolicyRemoval { at, application, wake, dry_run })?,
    };
    Ok(changed)
}

fn all(client: &mut Client, query: PolicyHistoryQuery) -> Result<Vec<PolicyVersion>, Failure> {
    let mut versions = Vec::new();
    for page in client.policy_history(query) {
        versions.extend(page?);
    }
    Ok(versions)
}

fn find(versions: &[PolicyVersion], revision: u64) -> Result<usize, Failure> {
    versions.iter().position(|version| version.revision == revision).ok_or_else(|| {
        Failure::NotReached(format!(
            "revision {revision} of this policy is not known: 'musterctl policy history' lists those that are"
        ))
    })
}
