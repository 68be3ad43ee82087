//! The API as a page, made of its own description: operations by what they are about; one with all that it
//! takes and answers; one of the types.

use serde_json::{Map, Value, json};

use super::api::Api;
use super::form::Fields;
use super::page::{Answer, Cell, Link, Page, Part, Problem, Table};
use crate::fleet::why::shell_word;
use crate::wire::api::url::with_query;
use crate::wire::api::{ErrorCode, ErrorDetail};

/// Beginning of references to types.
const SCHEMAS: &str = "#/components/schemas/";

/// Deepest nesting of types that are parts of others.
const PARTS_DEPTH_MAX: u32 = 4;

pub(super) async fn show(api: Api, fields: Fields) -> Answer {
    let document: Value = api.get("/v1/openapi.json").await?;
    let page = match (fields.some("operation"), fields.some("type")) {
        (Some(name), _) => operation(&document, &name),
        (None, Some(name)) => one_type(&document, &name),
        (None, None) => Some(all(&document)),
    };
    let links = vec![
        Link::new("/api", "All operations"),
        Link { is_file: true, ..Link::new("/v1/openapi.json", "The description (OpenAPI 3.1, JSON)") },
    ];
    match page {
        Some(page) => page.with(Part::Links(links)).into(),
        None => Err(Problem(ErrorDetail {
            code: ErrorCode::NotFound,
            message: "the API has nothing of this name".to_owned(),
            at: None,
        })),
    }
}

/// Each operation: path, method, description.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().into_iter().flatten();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// The word of a path that says what it is about: `/v1/devices/{device}/why` is about devices.
fn subject(path: &str) -> &str {
    let word = path.split('/').find(|word| !word.is_empty() && *word != "v1").unwrap_or_default();
    word.split('.').next().unwrap_or_default()
}

fn url(what: &str, name: &str) -> String {
    with_query("/api", &json!({ (what): name }))
}

fn name_of(operation: &Value) -> &str {
    operation["operationId"].as_str().unwrap_or_default()
}

fn all(document: &Value) -> Page {
    let mut page = Page::new("/api", "The API").command(example("/v1/status", "get", None)).with(Part::text(
        "All that the console and musterctl do, they do by this API: JSON over HTTP, at the server's socket and at the \
         administrators' port. Programs come with an API token ('Authorization: Bearer'), which has a role on a group.",
    ));
    let mut all: Vec<_> = operations(document).collect();
    all.sort_by_key(|(path, method, _)| (subject(path), *path, *method));
    for about in all.chunk_by(|one, next| subject(one.0) == subject(next.0)) {
        let subject = subject(about[0].0).replace('-', " ");
        let rows = about.iter().map(|(path, method, operation)| {
            [
                Cell::link(url("operation", name_of(operation)), format!("{} {path}", method.to_uppercase())),
                type_cell(request(operation)),
                type_cell(answer(operation).1),
                Cell::text(operation["description"].as_str().unwrap_or_default()),
            ]
        });
        let heads = ["Operation", "Takes", "Answers", "For"];
        page = page.with(Part::heading(&subject)).with(Table::new(subject, heads, "").rows(rows));
    }
    page
}

/// The schema of the body that it takes.
fn request(operation: &Value) -> &Value {
    &operation["requestBody"]["content"]["application/json"]["schema"]
}

/// Media type and schema of what it answers when all is well.
fn answer(operation: &Value) -> (&str, &Value) {
    let responses = operation["responses"].as_object().into_iter().flatten();
    let good = responses.filter(|(status, _)| status.starts_with('2')).map(|(_, response)| response);
    let content = good.filter_map(|response| response["content"].as_object()?.iter().next()).next();
    content.map_or(("", &Value::Null), |(media_type, content)| (media_type, &content["schema"]))
}

fn operation(document: &Value, name: &str) -> Option<Page> {
    let (path, method, operation) = operations(document).find(|(.., one)| name_of(one) == name)?;
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let row = |one: &Value| {
        let description = one["description"].as_str().or(one["schema"]["description"].as_str());
        [
            Cell::Code(one["name"].as_str().unwrap_or_default().to_owned()),
            Cell::text(if one["in"] == "path" { "path" } else { "query" }),
            type_cell(&one["schema"]),
            Cell::text(description.unwrap_or_default()),
        ]
    };
    let heads = ["Name", "In", "Type", "About"];
    let body = request(operation);
    let sent = (!body.is_null()).then(|| sample(document, body));
    let mut page = Page::new("/api", format!("{} {path}", method.to_uppercase()))
        .command(example(path, method, sent.as_ref()))
        .with(Part::text(operation["description"].as_str().unwrap_or_default()));
    if !parameters.is_empty() {
        page = page.with(Part::heading("Parameters"));
        page = page.with(Table::new("Parameters", heads, "").rows(parameters.iter().map(row)));
    }
    if !body.is_null() {
        page = page.with(Part::heading("Takes")).with_all(of_schema(document, body, "application/json"));
    }
    let (media_type, schema) = answer(operation);
    page = page.with(Part::heading("Answers")).with_all(of_schema(document, schema, media_type));
    let refusals = operation["responses"].as_object().into_iter().flatten();
    let refusals = refusals.filter_map(|(status, response)| {
        let name = response["$ref"].as_str()?.rsplit_once('/')?.1;
        let text = document["components"]["responses"][name]["description"].as_str()?;
        Some([Cell::text(status), Cell::text(text)])
    });
    let refusals = Table::new("Refusals", ["Status", "Reason"], "It is never refused.").rows(refusals);
    Some(page.with(Part::heading("Refusals")).with(refusals))
}

fn one_type(document: &Value, name: &str) -> Option<Page> {
    let schema = document["components"]["schemas"].get(name)?;
    let page = Page::new("/api", name).with_all(schema["description"].as_str().map(Part::text));
    Some(page.with(members(document, schema)))
}

/// A type by its name, and its members.
fn of_schema(document: &Value, schema: &Value, media_type: &str) -> Vec<Part> {
    if schema.is_null() {
        return vec![Part::text(format!("A document: {media_type}."))];
    }
    let mut inner = schema;
    if !schema["items"].is_null() {
        inner = &schema["items"];
    } else if !schema["properties"]["items"].is_null() {
        inner = &schema["properties"]["items"]["items"];
    }
    vec![
        Part::Facts(vec![("Type", type_cell(schema)), ("As", Cell::text(media_type))]),
        Part::Table(members(document, inner)),
    ]
}

fn target<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(SCHEMAS));
    name.map_or(schema, |name| &document["components"]["schemas"][name])
}

/// The members of an object, or the values that are allowed.
fn members(document: &Value, schema: &Value) -> Table {
    let mut rows = Vec::new();
    collect(document, schema, PARTS_DEPTH_MAX, &mut rows);
    Table::new("Members", ["Name", "Type", "Needed", "About"], "It has no members.").rows(rows)
}

fn collect(document: &Value, schema: &Value, depth: u32, rows: &mut Vec<[Cell; 4]>) {
    let schema = target(document, schema);
    let needed =
        |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let about = member["description"].as_str().or(target(document, member)["description"].as_str());
        rows.push([
            Cell::Code(name.clone()),
            type_cell(member),
            Cell::text(if needed(name) { "yes" } else { "" }),
            Cell::text(about.unwrap_or_default()),
        ]);
    }
    let values = schema["enum"].as_array().into_iter().flatten();
    rows.extend(
        values.map(|value| {
            [Cell::Code(value.to_string()), Cell::text("value"), Cell::text(""), Cell::text("")]
        }),
    );
    if depth > 0 {
        let parts = ["allOf", "oneOf", "anyOf"].into_iter().filter_map(|of| schema[of].as_array());
        parts.flatten().for_each(|part| collect(document, part, depth - 1, rows));
    }
}

/// A type's name, which leads to it where it has a page.
fn type_cell(schema: &Value) -> Cell {
    let choices = || ["oneOf", "anyOf", "allOf"].into_iter().filter_map(|of| schema[of].as_array()).flatten();
    let mut named = choices().chain([schema, &schema["items"], &schema["properties"]["items"]["items"]]);
    let name = named.find_map(|one| one["$ref"].as_str()?.strip_prefix(SCHEMAS));
    match name {
        Some(name) => Cell::link(url("type", name), type_name(schema)),
        None => Cell::text(type_name(schema)),
    }
}

fn type_name(schema: &Value) -> String {
    let joined = |all: &[Value], by: &str| {
        let names: Vec<_> =
            all.iter().map(type_name).filter(|name| !name.is_empty() && name != "null").collect();
        names.join(by)
    };
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(SCHEMAS)) {
        return name.to_owned();
    }
    for (of, by) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " with ")] {
        if let Some(all) = schema[of].as_array() {
            return joined(all, by);
        }
    }
    let items = &schema["properties"]["items"]["items"];
    if !items.is_null() {
        return format!("page of {}", type_name(items));
    }
    let simple = match &schema["type"] {
        Value::Array(all) => {
            all.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default()
        }
        one => one.as_str().unwrap_or_default(),
    };
    match simple {
        "array" => format!("list of {}", type_name(&schema["items"])),
        "" if schema.is_object() => "anything".to_owned(),
        simple => simple.to_owned(),
    }
}

/// A body with the members that are needed, to begin with.
fn sample(document: &Value, schema: &Value) -> Value {
    let schema = target(document, schema);
    let needed = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let value = |name: &str| {
        let member = target(document, &schema["properties"][name]);
        match type_name(member).as_str() {
            "integer" | "number" => json!(0),
            "boolean" => json!(false),
            "object" => json!({}),
            kind if kind.starts_with("list") => json!([]),
            _ => member["enum"].get(0).cloned().unwrap_or_else(|| json!("…")),
        }
    };
    Value::Object(needed.map(|name| (name.to_owned(), value(name))).collect::<Map<_, _>>())
}

/// The same in a terminal, at the socket.
fn example(path: &str, method: &str, body: Option<&Value>) -> String {
    let how = if method == "get" { String::new() } else { format!(" -X {}", method.to_uppercase()) };
    let body = body.map_or_else(String::new, |body| {
        format!(" -H 'content-type: application/json' -d {}", shell_word(&body.to_string()))
    });
    let path = path.replace(['{', '}'], "");
    format!("curl --unix-socket muster-data/admin.sock{how}{body} http://localhost{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names_that_people_read() {
        for (schema, name) in [
            (json!({ "$ref": "#/components/schemas/Device" }), "Device"),
            (json!({ "type": ["string", "null"] }), "string"),
            (json!({ "type": "array", "items": { "$ref": "#/components/schemas/Tag" } }), "list of Tag"),
            (json!({ "oneOf": [{ "type": "null" }, { "$ref": "#/components/schemas/Keep" }] }), "Keep"),
            (json!({ "properties": { "items": { "items": { "type": "integer" } } } }), "page of integer"),
            (json!({}), "anything"),
            (json!(null), ""),
        ] {
            assert_eq!(type_name(&schema), name);
        }
        assert_eq!(
            [subject("/v1/devices.csv"), subject("/v1/devices/{device}"), subject("/metrics")],
            ["devices", "devices", "metrics"]
        );
    }
}
