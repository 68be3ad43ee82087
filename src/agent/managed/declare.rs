//! The device's offer: the server orders nothing else.

use super::own;
use crate::agent::application::Definition;
use crate::agent::application::task_kind;
use crate::wire::limits::DECLARATIONS_BYTES_MAX;
use crate::wire::settings::{Declaration, TaskKind};

/// Bytes that each entry takes beside its texts, in CBOR, generously.
const ENTRY_BYTES: usize = 32;

/// Offers of the definitions and of the agent itself, by name, and a line for each that found no room.
#[must_use]
pub fn declarations(
    definitions: &[Definition],
    own_kinds: &[task_kind::TaskKind],
) -> (Vec<Declaration>, Vec<String>) {
    let own = Declaration { kinds: declared(own_kinds), ..own::declaration() };
    let mut room = DECLARATIONS_BYTES_MAX.saturating_sub(bytes_of(&own));
    let mut declarations = vec![own];
    let mut problems = Vec::new();
    for definition in definitions {
        let declaration = declaration(definition);
        match room.checked_sub(bytes_of(&declaration)) {
            Some(left) => {
                room = left;
                declarations.push(declaration);
            }
            None => problems.push(format!(
                "the server is not told what '{}' offers: all schemas together may have {DECLARATIONS_BYTES_MAX} bytes",
                definition.name
            )),
        }
    }
    declarations.sort_unstable();
    (declarations, problems)
}

fn declaration(definition: &Definition) -> Declaration {
    let settings = definition.settings.as_ref();
    Declaration {
        application: definition.name.clone(),
        takes_settings: settings.is_some(),
        settings_schema: settings.map(|adapter| adapter.schema().to_owned()).unwrap_or_default(),
        kinds: declared(&definition.tasks),
    }
}

fn declared(kinds: &[task_kind::TaskKind]) -> Vec<TaskKind> {
    kinds.iter().map(|kind| kind.declared.clone()).collect()
}

fn bytes_of(declaration: &Declaration) -> usize {
    let of_kind = |kind: &TaskKind| kind.kind.len() + kind.schema.len() + ENTRY_BYTES;
    let kinds: usize = declaration.kinds.iter().map(of_kind).sum();
    declaration.application.len() + declaration.settings_schema.len() + ENTRY_BYTES + kinds
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::agent::application::definition::parse;

    #[test]
    fn what_is_defined_is_declared_and_what_finds_no_room_is_named() {
        let schema = "x".repeat(7_000);
        let define = |name: &str| {
            let text = format!(
                "name = \"{name}\"\n[condition]\npid_file = \"/x\"\n[settings]\nfile = \"/etc/{name}\"\nformat = \"json\"\n\
                 schema = {{ description = \"{schema}\" }}"
            );
            parse(&text, Path::new("x.toml")).unwrap()
        };
        let plain = parse("name = \"plain\"\n[condition]\npid_file = \"/x\"", Path::new("x.toml")).unwrap();
        let (declared, problems) = declarations(&[define("shop"), plain], &[]);
        let names: Vec<_> =
            declared.iter().map(|entry| (entry.application.as_str(), entry.takes_settings)).collect();
        assert_eq!(names, [("muster-agent", true), ("plain", false), ("shop", true)]);
        assert!(problems.is_empty() && declared[2].settings_schema.starts_with("{\"description\""));

        let many: Vec<_> = (0..8).map(|number| define(&format!("shop{number}"))).collect();
        let (declared, problems) = declarations(&many, &[]);
        assert!(minicbor::to_vec(&declared).unwrap().len() <= DECLARATIONS_BYTES_MAX);
        assert_eq!(declared.len() + problems.len(), 9);
        assert!(problems[0].contains("'shop5'"), "{problems:?}");
    }
}
