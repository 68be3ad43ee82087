//! Plan of a run.

use std::path::Path;

use minicbor::{Decode, Encode};

use super::program::{User, find_user};
use crate::agent::application::check::AGENT_NAME;
use crate::agent::application::embedded::{Function, TaskFunction};
use crate::agent::application::task_kind::{EXEC_KIND, exec_refusal, own_kinds};
use crate::agent::application::{Definitions, TaskKind};
use crate::agent::settings::Settings;
use crate::wire::id::RunId;
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
}

/// Works out what an order comes to on this device, by what its files say now. With it comes the function
/// that executes it, when it is no program.
///
/// # Errors
/// Why the device does not do this.
pub fn plan(settings: &Settings, order: &RunOrder) -> Result<(Plan, Option<Function<TaskFunction>>), String> {
    let kind = kind(settings, order)?;
    let invocation = kind.invocation(&order.settings)?;
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
    };
    Ok((plan, kind.function))
}

fn kind(settings: &Settings, order: &RunOrder) -> Result<TaskKind, String> {
    let (application, kind) = (&order.application, &order.kind);
    let find = |kinds: Vec<TaskKind>| kinds.into_iter().find(|known| known.declared.kind == *kind);
    if application == AGENT_NAME {
        let own = find(own_kinds(settings.tasks.exec));
        return own.ok_or_else(|| match kind.as_str() {
            EXEC_KIND => exec_refusal(),
            _ => format!("{AGENT_NAME} has no kind of task '{kind}'"),
        });
    }
    let definitions = Definitions::of(settings);
    let definition = definitions.applications.into_iter().find(|definition| definition.name == *application);
    let Some(definition) = definition else {
        return Err(format!("no {} defines '{application}'", settings.definers()));
    };
    find(definition.tasks)
        .ok_or_else(|| format!("'{application}' has no kind of task '{kind}' in any {}", settings.definers()))
}
