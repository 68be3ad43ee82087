//! Kinds of task that a device offers: what a file in `applications.d/` says of them, and the command that
//! comes of one run's settings.
//!
//! The server names a kind and gives settings; program and arguments are the file's. A setting gets into an
//! argument only where the file has a placeholder for it, stays within that argument, and no shell sees it.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::check::AGENT_NAME;
use super::definition::COMMAND_ARGUMENTS_MAX;
use super::embedded::{Function, TaskFunction};
#[cfg(feature = "muster-agent")]
use crate::agent::release;
use crate::agent::settings::Settings;
use crate::fleet::schema::Schema;
use crate::wire::artifact::ArtifactUse;
use crate::wire::limits::{NAME_BYTES_MAX, SCHEMA_BYTES_MAX};
use crate::wire::settings;

/// The kind of the agent itself that executes any command. Exists only where the device's configuration says
/// `[tasks] exec = true`.
pub const EXEC_KIND: &str = "exec";

/// The placeholder of an artifact's path.
const ARTIFACT: &str = "artifact";

/// Time of a run when its file does not say.
pub const TASK_TIMEOUT_SECONDS_DEFAULT: u32 = 600;

/// Most time of a run: a day.
pub const TASK_TIMEOUT_SECONDS_MAX: u32 = 86_400;

/// A kind of task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskKind {
    /// Its declaration to the server.
    pub declared: settings::TaskKind,
    /// Program and arguments, with placeholders; `None`: the settings name the command (`exec`).
    pub command: Option<Vec<String>>,
    /// The user to run as; `None`: the agent's.
    pub user: Option<String>,
    /// Its working directory; `None`: `/`.
    pub directory: Option<String>,
    /// Executes it in place of a program.
    pub function: Option<Function<TaskFunction>>,
}

/// The program, arguments and input of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The user to run as; `None`: the agent's.
    pub user: Option<String>,
    /// Its working directory.
    pub directory: String,
}

/// A `[[task]]` table, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskTable {
    kind: String,
    command: Vec<String>,
    arguments: Option<Map<String, Value>>,
    #[serde(default = "default_timeout")]
    timeout_seconds: u32,
    user: Option<String>,
    #[serde(default)]
    repeatable: bool,
    #[serde(default)]
    artifact: ArtifactUse,
    directory: Option<String>,
}

fn default_timeout() -> u32 {
    TASK_TIMEOUT_SECONDS_DEFAULT
}

impl TaskTable {
    /// Looks whether it makes sense.
    ///
    /// # Errors
    /// With the fault, and what is allowed.
    pub(super) fn checked(self) -> Result<TaskKind, String> {
        if self.kind.is_empty() || self.kind.len() > NAME_BYTES_MAX {
            return Err(format!("[[task]]: kind must have 1 to {NAME_BYTES_MAX} bytes"));
        }
        let wrong = |what: String| format!("[[task]] '{}': {what}", self.kind);
        if self.command.is_empty() || self.command.len() > COMMAND_ARGUMENTS_MAX || self.command[0].is_empty()
        {
            return Err(wrong(format!(
                "command must be a program and its arguments, 1 to {COMMAND_ARGUMENTS_MAX} texts"
            )));
        }
        if !(1..=TASK_TIMEOUT_SECONDS_MAX).contains(&self.timeout_seconds) {
            return Err(wrong(format!(
                "timeout_seconds = {} is not allowed, 1 to {TASK_TIMEOUT_SECONDS_MAX} are",
                self.timeout_seconds
            )));
        }
        if self.directory.as_ref().is_some_and(|directory| !directory.starts_with('/')) {
            return Err(wrong("directory must be an absolute path".to_owned()));
        }
        let schema = self
            .arguments
            .map_or_else(|| json!({ "type": "object", "additionalProperties": false }), Value::Object);
        Schema::from_value(&schema).map_err(|error| wrong(format!("arguments: {error}")))?;
        let properties = schema.get("properties").and_then(Value::as_object);
        let has_artifact = !self.artifact.is_none();
        if has_artifact && properties.is_some_and(|known| known.contains_key(ARTIFACT)) {
            return Err(wrong(format!(
                "'{{{ARTIFACT}}}' is the path of its artifact: none of its arguments may be called so"
            )));
        }
        for (index, argument) in self.command.iter().enumerate() {
            for piece in pieces(argument).map_err(&wrong)? {
                match piece {
                    Piece::Setting(name) if index == 0 => {
                        return Err(wrong(format!(
                            "'{{{name}}}' in the program's name: the server does not choose programs"
                        )));
                    }
                    Piece::Setting(ARTIFACT) if has_artifact => {}
                    Piece::Setting(name) if !properties.is_some_and(|known| known.contains_key(name)) => {
                        return Err(wrong(format!(
                            "'{{{name}}}' is none of the properties of its arguments (a brace itself is written twice)"
                        )));
                    }
                    Piece::Setting(_) | Piece::Text(_) => {}
                }
            }
        }
        let schema = schema.to_string();
        if schema.len() > SCHEMA_BYTES_MAX {
            return Err(wrong(format!("arguments: more than {SCHEMA_BYTES_MAX} bytes as JSON")));
        }
        let declared = settings::TaskKind {
            kind: self.kind,
            schema,
            timeout_seconds: self.timeout_seconds,
            is_repeatable: self.repeatable,
            artifact: self.artifact,
        };
        let (command, user, directory) = (Some(self.command), self.user, self.directory);
        Ok(TaskKind { declared, command, user, directory, function: None })
    }
}

impl TaskKind {
    /// The kind that executes any command.
    #[must_use]
    pub fn exec() -> Self {
        let text = json!({ "type": "string", "minLength": 1 });
        let schema = json!({
            "type": "object",
            "properties": {
                "command": { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": COMMAND_ARGUMENTS_MAX },
                "user": text,
                "directory": text,
            },
            "required": ["command"],
            "additionalProperties": false,
        });
        let declared = settings::TaskKind {
            kind: EXEC_KIND.to_owned(),
            schema: schema.to_string(),
            timeout_seconds: TASK_TIMEOUT_SECONDS_MAX,
            is_repeatable: true,
            artifact: ArtifactUse::None,
        };
        Self { declared, command: None, user: None, directory: None, function: None }
    }

    /// A kind that a function executes.
    pub(super) fn of_function(declared: settings::TaskKind, function: Function<TaskFunction>) -> Self {
        Self { declared, command: None, user: None, directory: None, function: Some(function) }
    }

    /// Returns the program and arguments for these settings, one JSON object, and the path of its artifact,
    /// if it has one. None for a function.
    ///
    /// # Errors
    /// Why they are not what this kind takes.
    pub fn invocation(&self, settings: &str, artifact: Option<&str>) -> Result<Invocation, String> {
        let value: Value =
            serde_json::from_str(settings).map_err(|error| format!("the settings are not JSON: {error}"))?;
        let schema = Schema::parse(&self.declared.schema).map_err(|error| error.to_string())?;
        schema.check(&value).map_err(|violation| format!("the settings are not allowed: {violation}"))?;
        if self.function.is_some() {
            return Ok(Invocation { command: Vec::new(), user: None, directory: "/".to_owned() });
        }
        let empty = Map::new();
        let settings = value.as_object().unwrap_or(&empty);
        let text = |name: &str| settings.get(name).and_then(Value::as_str).map(str::to_owned);
        let Some(command) = &self.command else {
            let command = settings.get("command").cloned().unwrap_or_default();
            let command: Vec<String> = serde_json::from_value(command).unwrap_or_default();
            let directory = text("directory").unwrap_or_else(|| "/".to_owned());
            if command.first().is_none_or(String::is_empty) || command.iter().any(|word| word.contains('\0'))
            {
                return Err("'command': a program is missing, or a text has a zero byte".to_owned());
            }
            return Ok(Invocation { command, user: text("user"), directory });
        };
        let command =
            command.iter().map(|argument| filled(argument, settings, artifact)).collect::<Result<_, _>>()?;
        let directory = self.directory.clone().unwrap_or_else(|| "/".to_owned());
        Ok(Invocation { command, user: self.user.clone(), directory })
    }
}

/// The kinds that the agent itself offers.
#[must_use]
pub fn own_kinds(settings: &Settings) -> Vec<TaskKind> {
    let exec = settings.tasks.exec.then(TaskKind::exec);
    #[cfg(feature = "muster-agent")]
    let upgrade = (settings.embedded.is_none() && release::refusal().is_none())
        .then(|| release::apply::kind(settings.socket.path.as_deref()));
    #[cfg(not(feature = "muster-agent"))]
    let upgrade = None;
    exec.into_iter().chain(upgrade).collect()
}

/// Why a kind of the agent itself is not among those that it offers.
#[must_use]
pub fn own_refusal(kind: &str) -> String {
    match kind {
        EXEC_KIND => exec_refusal(),
        #[cfg(feature = "muster-agent")]
        release::apply::KIND if let Some(refusal) = release::refusal() => refusal,
        _ => format!("{AGENT_NAME} has no kind of task '{kind}'"),
    }
}

/// Why `exec` is refused.
fn exec_refusal() -> String {
    format!(
        "this device does not execute any command that the server names: '{EXEC_KIND}' of {AGENT_NAME} is allowed by [tasks] exec = true in its muster-agent.toml"
    )
}

enum Piece<'a> {
    Text(&'a str),
    Setting(&'a str),
}

/// An argument, cut at its placeholders.
fn pieces(argument: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = argument;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        pieces.push(Piece::Text(before));
        if from.starts_with("{{") || from.starts_with("}}") {
            pieces.push(Piece::Text(&from[..1]));
            rest = &from[2..];
            continue;
        }
        let name = from.strip_prefix('{').and_then(|from| Some(&from[..from.find('}')?]));
        let Some(name) = name.filter(|name| !name.is_empty() && !name.contains('{')) else {
            return Err(format!(
                "a brace in '{argument}' belongs to no placeholder (a brace itself is written twice)"
            ));
        };
        pieces.push(Piece::Setting(name));
        rest = &from[name.len() + 2..];
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// An argument with its placeholders filled.
fn filled(argument: &str, settings: &Map<String, Value>, artifact: Option<&str>) -> Result<String, String> {
    let mut text = String::with_capacity(argument.len());
    for piece in pieces(argument)? {
        let name = match piece {
            Piece::Text(piece) => {
                text.push_str(piece);
                continue;
            }
            Piece::Setting(name) => name,
        };
        if let Some(path) = artifact.filter(|_| name == ARTIFACT) {
            text.push_str(path);
            continue;
        }
        match settings.get(name) {
            // In an argument that begins with it, the setting must not look like an option to the program.
            Some(Value::String(value)) if text.is_empty() && value.starts_with('-') => {
                return Err(format!("'{name}': a text that begins with '-' is not allowed here"));
            }
            Some(Value::String(value)) if value.contains('\0') => {
                return Err(format!("'{name}': a zero byte is not allowed"));
            }
            Some(Value::String(value)) => text.push_str(value),
            // Writing to a string can't fail.
            Some(value @ (Value::Number(_) | Value::Bool(_))) => drop(write!(text, "{value}")),
            Some(_) => {
                return Err(format!(
                    "'{name}': only a text, a number or a truth value fits into an argument"
                ));
            }
            None => return Err(format!("'{name}' is missing: the command needs it")),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::configuration::Source;

    fn kind(text: &str) -> Result<TaskKind, String> {
        let table: TaskTable =
            Source { text, path: Path::new("x.toml") }.parse().map_err(|error| error.to_string())?;
        table.checked()
    }

    fn command(kind: &TaskKind, settings: &Value) -> Result<Vec<String>, String> {
        kind.invocation(&settings.to_string(), None).map(|invocation| invocation.command)
    }

    #[test]
    fn settings_get_into_arguments_where_the_file_says_so() {
        let text = "kind = \"restart\"\ncommand = [\"shop\", \"--in={minutes}\", \"{{{name}}}\", \"{on}\"]\n\
                    arguments = { type = \"object\", properties = { minutes = { type = \"integer\", minimum = 1 }, name = { type = \"string\" }, on = { type = \"boolean\" } } }";
        let kind = kind(text).unwrap();
        assert_eq!(
            (kind.declared.timeout_seconds, kind.declared.is_repeatable),
            (TASK_TIMEOUT_SECONDS_DEFAULT, false)
        );
        let settings = json!({ "minutes": 5, "name": "a b; rm -rf {on}", "on": true });
        assert_eq!(command(&kind, &settings).unwrap(), ["shop", "--in=5", "{a b; rm -rf {on}}", "true"]);
        let error = command(&kind, &json!({ "minutes": 0 })).unwrap_err();
        assert!(error.contains("'minutes'"), "{error}");
        let error = command(&kind, &json!({ "minutes": 1, "name": "a" })).unwrap_err();
        assert!(error.contains("'on' is missing"), "{error}");
        assert_eq!(kind.declared.kind, "restart");
    }

    #[test]
    fn an_artifact_has_a_placeholder_where_its_kind_has_one() {
        let with = "artifact = \"signed\"\narguments = { properties = { x = {} } }";
        let kind =
            kind(&format!("kind = \"a\"\ncommand = [\"a\", \"--file={{artifact}}\", \"{{x}}\"]\n{with}"))
                .unwrap();
        assert_eq!(kind.declared.artifact, ArtifactUse::Signed);
        // A setting that looks like the placeholder is none.
        let invocation = kind.invocation("{\"x\":\"{artifact}\"}", Some("/a/b")).unwrap();
        assert_eq!(invocation.command, ["a", "--file=/a/b", "{artifact}"]);
        let refused = |text: &str| self::kind(text).unwrap_err();
        let without = "kind = \"a\"\ncommand = [\"a\", \"{artifact}\"]";
        assert!(refused(without).contains("'{artifact}' is none of the properties"));
        let program = "kind = \"a\"\ncommand = [\"{artifact}\"]\nartifact = \"any\"";
        assert!(refused(program).contains("does not choose programs"));
        let both = "kind = \"a\"\ncommand = [\"a\"]\nartifact = \"any\"\narguments = { properties = { artifact = {} } }";
        assert!(refused(both).contains("none of its arguments may be called so"));
        let odd = refused("kind = \"a\"\ncommand = [\"a\"]\nartifact = \"some\"");
        assert!(odd.contains("artifact") && odd.contains("any"), "{odd}");
    }

    #[test]
    fn a_setting_never_becomes_an_option() {
        let text = "kind = \"a\"\ncommand = [\"a\", \"{x}\"]\narguments = { properties = { x = {} } }";
        let kind = kind(text).unwrap();
        assert!(command(&kind, &json!({ "x": "--delete" })).unwrap_err().contains("begins with '-'"));
        assert!(command(&kind, &json!({ "x": "a\0b" })).unwrap_err().contains("zero byte"));
        assert!(command(&kind, &json!({ "x": ["a"] })).unwrap_err().contains("only a text"));
        assert_eq!(command(&kind, &json!({ "x": -3 })).unwrap(), ["a", "-3"]);
    }

    #[test]
    fn without_arguments_nothing_is_taken() {
        let kind = kind("kind = \"a\"\ncommand = [\"true\"]").unwrap();
        assert_eq!(command(&kind, &json!({})).unwrap(), ["true"]);
        assert!(command(&kind, &json!({ "x": 1 })).is_err());
        assert!(kind.invocation("[]", None).is_err() && kind.invocation("{", None).is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("kind = \"\"\ncommand = [\"a\"]", "1 to 255 bytes"),
            ("kind = \"a\"\ncommand = []", "a program and its arguments"),
            ("kind = \"a\"\ncommand = [\"a\"]\ntimeout_seconds = 0", "1 to 86400 are"),
            ("kind = \"a\"\ncommand = [\"a\"]\ndirectory = \"x\"", "absolute"),
            ("kind = \"a\"\ncommand = [\"a\", \"{x}\"]", "'{x}' is none of the properties"),
            ("kind = \"a\"\ncommand = [\"a\", \"{x\"]", "belongs to no placeholder"),
            ("kind = \"a\"\ncommand = [\"a\", \"x}\"]", "belongs to no placeholder"),
            (
                "kind = \"a\"\ncommand = [\"{x}\"]\narguments = { properties = { x = {} } }",
                "does not choose programs",
            ),
            ("kind = \"a\"\ncommand = [\"a\"]\narguments = { pattern = \"x\" }", "arguments: schema"),
            (
                "kind = \"a\"\ncommand = [\"a\"]\nshell = true",
                "x.toml:3: shell is not known: allowed here: kind",
            ),
        ];
        for (text, what) in cases {
            let error = kind(text).unwrap_err();
            assert!(error.contains(what) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn exec_takes_a_command() {
        let exec = TaskKind::exec();
        let settings = json!({ "command": ["ls", "{x}"], "user": "nobody", "directory": "/tmp" });
        let invocation = exec.invocation(&settings.to_string(), None).unwrap();
        assert_eq!(invocation.command, ["ls", "{x}"]);
        assert_eq!((invocation.user.as_deref(), invocation.directory.as_str()), (Some("nobody"), "/tmp"));
        assert!(exec.invocation("{\"command\":[]}", None).is_err());
        assert!(exec.invocation("{\"command\":[\"\"]}", None).is_err());
        let mut settings = Settings::default();
        assert!(!own_kinds(&settings).contains(&exec));
        settings.tasks.exec = true;
        assert!(own_kinds(&settings).contains(&exec));
    }

    proptest! {
        /// However odd: one argument stays one, and its text is the setting's.
        #[test]
        fn a_text_stays_within_its_argument(value in "[^\0]{0,20}") {
            let kind = kind("kind = \"a\"\ncommand = [\"a\", \"x{x}y\", \"z\"]\narguments = { properties = { x = {} } }").unwrap();
            let command = command(&kind, &json!({ "x": value })).unwrap();
            prop_assert_eq!(command, ["a".to_owned(), format!("x{value}y"), "z".to_owned()]);
        }

        #[test]
        fn any_argument_is_judged_without_panic(argument in ".{0,20}|[{}a]{0,8}") {
            let _ = pieces(&argument);
        }
    }
}
