//! An application that is the program which embeds the agent, or a part of it: functions in place of files
//! and commands.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::Value;

use super::check::{AGENT_NAME, Observed};
use super::task_kind::{TASK_TIMEOUT_SECONDS_MAX, TaskKind};
use super::{Definition, Probe, SettingsAdapter, StatisticsSource};
use crate::agent::task::function::{Task, TaskEnd};
use crate::fleet::schema::Schema;
use crate::wire::artifact::ArtifactUse;
use crate::wire::event::{SERVER_NAME, looks_like};
use crate::wire::limits::{NAME_BYTES_MAX, SCHEMA_BYTES_MAX, STATISTICS_MAX, TASK_KINDS_MAX};
use crate::wire::section::Condition;
use crate::wire::settings;

/// A function of the embedding program. Equal to itself alone.
pub struct Function<F: ?Sized>(Arc<F>);

/// Tells the condition, and why it is so; may be empty.
pub type ConditionFunction = dyn Fn() -> (Condition, String) + Send + Sync;
/// Takes settings, or refuses them with a reason.
pub type SettingsFunction = dyn Fn(&str) -> Result<(), String> + Send + Sync;
/// Tells a number; `None`: it is not known now.
pub type NumberFunction = dyn Fn() -> Option<f64> + Send + Sync;
/// Does a task.
pub type TaskFunction = dyn Fn(&Task) -> TaskEnd + Send + Sync;

impl<F: ?Sized> Function<F> {
    /// Calls it. A panic stays within.
    ///
    /// # Errors
    /// When it panics, in words.
    pub fn call<T>(&self, call: impl FnOnce(&F) -> T) -> Result<T, String> {
        // The function is the program's: what a panic leaves half done there is the program's as well.
        catch_unwind(AssertUnwindSafe(|| call(&self.0)))
            .map_err(|_| "the program's function panicked".to_owned())
    }
}

impl<F: ?Sized> Clone for Function<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: ?Sized> PartialEq for Function<F> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<F: ?Sized> Eq for Function<F> {}

impl<F: ?Sized> fmt::Debug for Function<F> {
    /// The same in each process: the fingerprint of a definition is made of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a function")
    }
}

/// A condition that the program tells, and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedProbe {
    pub(super) version: String,
    function: Option<Function<ConditionFunction>>,
}

impl EmbeddedProbe {
    pub(super) fn observe(&self) -> Observed {
        let told = match &self.function {
            // It runs: it has just been asked.
            None => Ok((Condition::Running, String::new())),
            Some(function) => function.call(|function| function()),
        };
        let (condition, detail) = told.unwrap_or_else(|problem| (Condition::Failed, problem));
        Observed { version: Some(self.version.clone()), ..Observed::new(condition, detail) }
    }
}

/// Settings that are handed to the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedSettings {
    /// JSON Schema of what is allowed; empty: any object.
    pub(super) schema: String,
    function: Function<SettingsFunction>,
}

impl EmbeddedSettings {
    /// Hands settings over: JSON that the schema allows.
    ///
    /// # Errors
    /// Why the program refuses them.
    pub fn hand_over(&self, settings: &str) -> Result<(), String> {
        self.function.call(|function| function(settings))?
    }
}

/// A number that the program tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gauge {
    /// Its name.
    pub name: String,
    /// Its unit; may be empty.
    pub unit: String,
    function: Function<NumberFunction>,
}

impl Gauge {
    /// The number now; `None`: there is none.
    ///
    /// # Errors
    /// When the function panics.
    pub fn read(&self) -> Result<Option<f64>, String> {
        let number = self.function.call(|function| function())?;
        Ok(number.filter(|number| number.is_finite()))
    }
}

/// An application within the program that embeds the agent. The functions are called in threads of the
/// agent with a stack of 256 KiB, several of them perhaps at the same time; none may take longer than some
/// seconds but those of tasks, which have a thread each.
///
/// ```
/// let pump = muster::Application::new("heatpump", "2.1.0")
///     .condition(|| (muster::Condition::Running, String::new()))
///     .statistic("flow_temperature", "°C", || Some(35.5))
///     .settings(r#"{"type": "object"}"#, |settings| {
///         if settings.len() > 100 { Err("too long".into()) } else { Ok(()) }
///     })
///     .task("defrost", r#"{"type": "object"}"#, |task| {
///         task.progress(50, "half of the ice is gone");
///         muster::TaskEnd { exit_code: 0, output: b"done".to_vec() }
///     });
/// ```
#[derive(Debug, Clone)]
pub struct Application {
    definition: Definition,
    version: String,
}

impl Application {
    /// An application that runs whenever it is asked. Both texts have 1 to 255 bytes.
    #[must_use]
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        let (name, version) = (name.into(), version.into());
        let probe = Probe::Embedded(EmbeddedProbe { version: version.clone(), function: None });
        Self { definition: Definition::new(name.clone(), name, probe), version }
    }

    /// Tells its condition, and in words why it is so. Asked once a minute and before a sync that somebody
    /// wants.
    #[must_use]
    pub fn condition(mut self, function: impl Fn() -> (Condition, String) + Send + Sync + 'static) -> Self {
        let function = Some(Function(Arc::new(function) as Arc<ConditionFunction>));
        self.definition.probe = Probe::Embedded(EmbeddedProbe { version: self.version.clone(), function });
        self
    }

    /// Tells a number; `None`: it is not known now. Asked as for the [condition](Self::condition).
    #[must_use]
    pub fn statistic(
        mut self,
        name: impl Into<String>,
        unit: impl Into<String>,
        function: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) -> Self {
        let gauge = Gauge { name: name.into(), unit: unit.into(), function: Function(Arc::new(function)) };
        match &mut self.definition.statistics {
            Some(StatisticsSource::Embedded(gauges)) => gauges.push(gauge),
            statistics => *statistics = Some(StatisticsSource::Embedded(vec![gauge])),
        }
        self
    }

    /// Takes settings, or refuses them with a reason. They are JSON that `schema`, a JSON Schema, allows.
    /// Called with each change, and with the settings in force once after each start: the program needs to
    /// keep none.
    #[must_use]
    pub fn settings(
        mut self,
        schema: impl Into<String>,
        function: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let function = Function(Arc::new(function) as Arc<SettingsFunction>);
        let settings = EmbeddedSettings { schema: schema.into(), function };
        self.definition.settings = Some(SettingsAdapter::Embedded(settings));
        self
    }

    /// Does tasks of a kind, one at a time for each application, in a thread of its own. Their arguments are
    /// JSON that `schema` allows. A task that the end of the program interrupts is not begun again.
    #[must_use]
    pub fn task(
        self,
        kind: impl Into<String>,
        schema: impl Into<String>,
        function: impl Fn(&Task) -> TaskEnd + Send + Sync + 'static,
    ) -> Self {
        self.task_with_artifact(kind, schema, ArtifactUse::None, function)
    }

    /// As [`task`](Self::task), of a kind whose tasks come with a file ([`Task::artifact`]): firmware, say.
    /// It is fetched into the agent's directory before the function is called, and deleted when that has
    /// ended.
    #[must_use]
    pub fn task_with_artifact(
        mut self,
        kind: impl Into<String>,
        schema: impl Into<String>,
        artifact: ArtifactUse,
        function: impl Fn(&Task) -> TaskEnd + Send + Sync + 'static,
    ) -> Self {
        let declared = settings::TaskKind {
            kind: kind.into(),
            schema: schema.into(),
            timeout_seconds: TASK_TIMEOUT_SECONDS_MAX,
            is_repeatable: false,
            artifact,
        };
        let function = Function(Arc::new(function) as Arc<TaskFunction>);
        self.definition.tasks.push(TaskKind::of_function(declared, function));
        self
    }

    /// Looks whether the device can offer it.
    ///
    /// # Errors
    /// With the fault, and what is allowed.
    pub(in crate::agent) fn checked(self) -> Result<Definition, String> {
        let Self { definition, version } = self;
        let name = &definition.name;
        let wrong = |what: String| format!("application '{name}': {what}");
        let is_name = |text: &str| (1..=NAME_BYTES_MAX).contains(&text.len());
        if !is_name(name) || looks_like(name, AGENT_NAME) || looks_like(name, SERVER_NAME) {
            return Err(wrong(format!(
                "a name has 1 to {NAME_BYTES_MAX} bytes, and is not '{AGENT_NAME}', which is the agent, nor '{SERVER_NAME}', which is the server"
            )));
        }
        if !is_name(&version) {
            return Err(wrong(format!("a version has 1 to {NAME_BYTES_MAX} bytes")));
        }
        let judge = |schema: &str| {
            if schema.len() > SCHEMA_BYTES_MAX {
                return Err(format!("a schema may have {SCHEMA_BYTES_MAX} bytes"));
            }
            let value: Value = serde_json::from_str(schema).map_err(|error| error.to_string())?;
            Schema::from_value(&value).map(drop).map_err(|error| error.to_string())
        };
        if let Some(settings) = &definition.settings {
            judge(settings.schema()).map_err(|error| wrong(format!("settings: {error}")))?;
        }
        if let Some(StatisticsSource::Embedded(gauges)) = &definition.statistics {
            let odd = gauges.iter().find(|gauge| !is_name(&gauge.name) || gauge.unit.len() > NAME_BYTES_MAX);
            if odd.is_some() || gauges.len() > STATISTICS_MAX {
                return Err(wrong(format!(
                    "statistics are at most {STATISTICS_MAX}, each with a name of 1 to {NAME_BYTES_MAX} bytes and a unit of no more"
                )));
            }
        }
        if definition.tasks.len() > TASK_KINDS_MAX {
            return Err(wrong(format!("kinds of task are at most {TASK_KINDS_MAX}")));
        }
        for (index, task) in definition.tasks.iter().enumerate() {
            let kind = &task.declared.kind;
            if !is_name(kind) || definition.tasks[..index].iter().any(|other| other.declared.kind == *kind) {
                return Err(wrong(format!(
                    "task '{kind}': each kind has a name of 1 to {NAME_BYTES_MAX} bytes of its own"
                )));
            }
            judge(&task.declared.schema).map_err(|error| wrong(format!("task '{kind}': {error}")))?;
        }
        Ok(definition)
    }
}
