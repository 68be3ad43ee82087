//! Plan of a run.

use std::path::Path;

use minicbor::{Decode, Encode};

use super::program::{User, find_user};
use crate::agent::application::check::AGENT_NAME;
use crate::agent::application::embedded::{Function, TaskFunction};
use crate::agent::application::task_kind::{own_kinds, own_refusal};
use crate::agent::application::{Definitions, TaskKind};
use crate::agent::artifact::Artifacts;
use crate::agent::settings::Settings;
use crate::wire::artifact::ArtifactUse;
use crate::wire::id::{ArtifactHash, RunId};
use crate::wire::task::RunOrder;

/// The system's users.
const PASSWD: &str = "/etc/passwd";

/// Plan of a run, which the supervisor executes.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Plan {
    /// Which run.
    #[n(0)]
    pub run: RunId,
    /// The application.
    #[n(1)]
    pub application: String,
    /// The kind of task.
    #[n(2)]
    pub kind: String,
    /// Program and arguments.
    #[n(3)]
    pub command: Vec<String>,
    /// Its working directory.
    #[n(4)]
    pub directory: String,
    /// Whom it runs as; `None`: as the agent.
    #[n(5)]
    pub user: Option<User>,
    /// Its time.
    #[n(6)]
    pub timeout_seconds: u32,
    /// Whether it is executed again when it was interrupted.
    #[n(7)]
    pub may_repeat: bool,
    /// Counts the executions, from 1.
    #[n(8)]
    pub attempt: u32,
    /// The file that it works with.
    #[n(9)]
    pub artifact: Option<PlannedArtifact>,
}

/// The file that a run works with.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct PlannedArtifact {
    /// Its path.
    #[n(0)]
    pub path: String,
    /// The name of the file that it was made from.
    #[n(1)]
    pub name: String,
    /// Its hash.
    #[n(2)]
    pub hash: ArtifactHash,
    /// The trusted comment of its signature; `None`: it has none that was checked.
    #[n(3)]
    pub comment: Option<String>,
}

/// Works out what an order comes to on this device, by what its files say now, with its artifact below
/// `artifacts`. With it comes the function that executes it, when it is no program.
///
/// # Errors
/// Why the device does not do this.
pub fn plan(
    settings: &Settings,
    order: &RunOrder,
    artifacts: &Artifacts,
) -> Result<(Plan, Option<Function<TaskFunction>>), String> {
    let kind = kind(settings, order)?;
    judge_artifact(settings, order, kind.declared.artifact)?;
    let artifact = order.artifact.as_ref().map(|artifact| PlannedArtifact {
        path: artifacts.path(artifact.hash).display().to_string(),
        name: artifact.name.clone(),
        hash: artifact.hash,
        comment: None,
    });
    let path = artifact.as_ref().map(|artifact| artifact.path.as_str());
    let invocation = kind.invocation(&order.settings, path)?;
    let user = invocation.user.map(|name| find_user(Path::new(PASSWD), &name)).transpose()?;
    let plan = Plan {
        run: order.run,
        application: order.application.clone(),
        kind: order.kind.clone(),
        command: invocation.command,
        directory: invocation.directory,
        user,
        timeout_seconds: order.timeout_seconds.clamp(1, kind.declared.timeout_seconds),
        may_repeat: order.may_repeat && kind.declared.is_repeatable,
        attempt: 1,
        artifact,
    };
    Ok((plan, kind.function))
}

/// Whether the runs of an order's kind come with a signature; `false` when there is no such kind.
pub(super) fn is_signed(settings: &Settings, order: &RunOrder) -> bool {
    kind(settings, order).is_ok_and(|kind| kind.declared.artifact == ArtifactUse::Signed)
}

/// Looks whether an order has the artifact that its kind needs, and whether the device takes it.
fn judge_artifact(settings: &Settings, order: &RunOrder, needed: ArtifactUse) -> Result<(), String> {
    let RunOrder { application, kind, .. } = order;
    let Some(artifact) = &order.artifact else {
        return match needed {
            ArtifactUse::None => Ok(()),
            ArtifactUse::Any | ArtifactUse::Signed => {
                Err(format!("'{kind}' of {application} needs an artifact, and the task has none"))
            }
        };
    };
    let name = &artifact.name;
    if needed == ArtifactUse::None {
        return Err(format!("'{kind}' of {application} takes no artifact, and the task has one"));
    }
    if needed == ArtifactUse::Signed && artifact.signature.is_none() {
        return Err(format!(
            "'{kind}' of {application} takes signed artifacts alone, and '{name}' has no signature"
        ));
    }
    if ["", ".", ".."].contains(&name.as_str()) || name.contains('/') || name.contains(char::is_control) {
        return Err(format!("{name:?} is no name of an artifact: a path, or not to be printed"));
    }
    if artifact.bytes > settings.artifacts.bytes_max() {
        return Err(format!(
            "its artifact has {} bytes, and this device takes {} MiB at most: [artifacts] mebibytes_max in its muster-agent.toml",
            artifact.bytes, settings.artifacts.mebibytes_max
        ));
    }
    Ok(())
}

fn kind(settings: &Settings, order: &RunOrder) -> Result<TaskKind, String> {
    let (application, kind) = (&order.application, &order.kind);
    let find = |kinds: Vec<TaskKind>| kinds.into_iter().find(|known| known.declared.kind == *kind);
    if application == AGENT_NAME {
        return find(own_kinds(settings)).ok_or_else(|| own_refusal(kind));
    }
    let definitions = Definitions::of(settings);
    let definition = definitions.applications.into_iter().find(|definition| definition.name == *application);
    let Some(definition) = definition else {
        return Err(format!("no {} defines '{application}'", settings.definers()));
    };
    find(definition.tasks)
        .ok_or_else(|| format!("'{application}' has no kind of task '{kind}' in any {}", settings.definers()))
}
