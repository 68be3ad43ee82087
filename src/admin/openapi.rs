//! The routes, and their description in OpenAPI 3.1, which is made of the handlers' own types: no route is
//! there without its description, and none says anything else than what its handler reads and answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use axum::body::Bytes;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter};
use axum::{Extension, Json, Router};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::access::{Door, May, Newcomer, Right, See};
use super::artifacts::Content;
use super::connection::Caller;
use super::error::ApiError;
use super::extract::{Body, Path, Query};
use super::install::Reached;
use super::sessions::{self, Cookie};
use super::{Answer, Created};
use crate::wire::api::{ErrorBody, ErrorCode};

/// The version of OpenAPI.
const OPENAPI: &str = "3.1.1";

/// Media type of answers of which each line is a document.
pub(super) const LINES: &str = "application/x-ndjson";

/// Description of one route and method, and the schemas that it refers to.
#[derive(Default)]
pub(super) struct Outline {
    right: String,
    /// Whether it is for those who have not signed in.
    is_open: bool,
    parameters: Vec<Value>,
    /// Media type and schema.
    body: Option<(&'static str, Value)>,
    success: Option<(u16, Option<Value>)>,
    errors: BTreeSet<u16>,
    schemas: Map<String, Value>,
}

impl Outline {
    /// The schema of a type: a reference to it, or to that of the items, where these have a name.
    fn schema<T: ToSchema>(&mut self) -> Value {
        let mut used = Vec::new();
        T::schemas(&mut used);
        let full = std::any::type_name::<T>();
        let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
        let mut schema = json!(T::schema());
        if full.starts_with("muster::") && !full.contains('<') {
            used.push((T::name().into_owned(), T::schema()));
            schema = reference(&T::name());
        } else if let Some((_, item)) = full.trim_end_matches('>').rsplit_once("::")
            && full.starts_with("alloc::vec::Vec<muster::")
        {
            self.schemas.insert(item.to_owned(), std::mem::replace(&mut schema["items"], reference(item)));
        }
        self.schemas.extend(used.into_iter().map(|(name, schema)| (name, json!(schema))));
        schema
    }

    fn fails(&mut self, codes: &[ErrorCode]) {
        self.errors.extend(codes.iter().map(|code| code.status()));
    }
}

/// A part of a request, as a handler takes it.
pub(super) trait Part {
    fn outline(outline: &mut Outline);
}

impl<R: Right> Part for May<R> {
    fn outline(outline: &mut Outline) {
        let on = if R::IS_OF_FLEET { "the whole fleet" } else { "the groups in question" };
        outline.right = format!("Needs the role {} on {on}.", R::LEAST);
        outline.fails(&[ErrorCode::Unauthenticated, ErrorCode::Forbidden]);
        outline.fails(&[ErrorCode::Busy, ErrorCode::Internal]);
    }
}

impl Part for Newcomer {
    fn outline(outline: &mut Outline) {
        outline.is_open = true;
        outline.right = "For those who have not signed in.".to_owned();
        outline.fails(&[ErrorCode::Unauthenticated, ErrorCode::Forbidden]);
        outline.fails(&[ErrorCode::Busy, ErrorCode::Internal]);
    }
}

/// The server itself puts it there.
impl Part for Extension<Caller> {
    fn outline(_: &mut Outline) {}
}

impl Part for Reached {
    fn outline(outline: &mut Outline) {
        outline.fails(&[ErrorCode::InvalidArgument]);
    }
}

impl<T: ToSchema> Part for Query<T> {
    fn outline(outline: &mut Outline) {
        outline.schema::<T>();
        let schema = json!(T::schema());
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let parameter = json!({
                "name": name,
                "in": "query",
                "description": schema["description"],
                "schema": schema,
            });
            outline.parameters.push(parameter);
        }
        outline.schemas.remove(T::name().as_ref());
        outline.fails(&[ErrorCode::InvalidArgument, ErrorCode::NotFound]);
    }
}

impl<T: ToSchema> Part for Body<T> {
    fn outline(outline: &mut Outline) {
        outline.body = Some(("application/json", outline.schema::<T>()));
        outline.fails(&[ErrorCode::InvalidArgument, ErrorCode::NotFound, ErrorCode::Conflict]);
    }
}

impl Part for Content {
    fn outline(outline: &mut Outline) {
        outline.body = Some(("application/octet-stream", json!({})));
    }
}

impl<T: ToSchema> Part for Path<T> {
    fn outline(outline: &mut Outline) {
        let schema = outline.schema::<T>();
        outline.parameters.push(json!({ "in": "path", "required": true, "schema": schema }));
        outline.fails(&[ErrorCode::InvalidArgument, ErrorCode::NotFound]);
    }
}

/// The answer of a handler.
pub(super) trait Reply {
    fn outline(outline: &mut Outline);
}

impl<T: ToSchema> Reply for Answer<T> {
    fn outline(outline: &mut Outline) {
        outline.success = Some((200, Some(outline.schema::<T>())));
    }
}

impl<T: ToSchema> Reply for Created<T> {
    fn outline(outline: &mut Outline) {
        outline.success = Some((201, Some(outline.schema::<T>())));
    }
}

impl<T: ToSchema> Reply for Result<(StatusCode, Cookie, Json<T>), ApiError> {
    fn outline(outline: &mut Outline) {
        <Created<T> as Reply>::outline(outline);
    }
}

impl<T: ToSchema> Reply for Result<(Cookie, Json<T>), ApiError> {
    fn outline(outline: &mut Outline) {
        <Answer<T> as Reply>::outline(outline);
    }
}

/// Its route says what it is ([`Methods::answering`]).
impl Reply for Result<Response, ApiError> {
    fn outline(outline: &mut Outline) {
        outline.success = Some((200, None));
    }
}

/// A handler whose parts and answer say what they are.
pub(super) trait Described<T>: Handler<T, Door> {
    fn outline(outline: &mut Outline);
}

macro_rules! described {
    ($($part:ident),+) => {
        impl<F, Fut, M, R, $($part,)+> Described<(M, $($part,)+)> for F
        where
            F: FnOnce($($part),+) -> Fut + Handler<(M, $($part,)+), Door>,
            Fut: Future<Output = R>,
            R: Reply,
            $($part: Part,)+
        {
            fn outline(outline: &mut Outline) {
                R::outline(outline);
                $($part::outline(outline);)+
            }
        }
    };
}
described!(A);
described!(A, B);
described!(A, B, C);
described!(A, B, C, D);

/// The methods of one path.
#[derive(Default)]
pub(super) struct Methods {
    router: MethodRouter<Door>,
    described: Vec<DescribedMethod>,
}

struct DescribedMethod {
    name: &'static str,
    outline: fn(&mut Outline),
    answer: Option<Lines>,
}

/// Media type of an answer that is no single document of JSON, and the schema of a line of it.
type Lines = (&'static str, fn(&mut Outline) -> Value);

macro_rules! methods {
    ($($method:ident: $filter:ident;)+) => {
        $(
            pub(super) fn $method<T: 'static>(handler: impl Described<T>) -> Methods {
                Methods::default().$method(handler)
            }
        )+

        impl Methods {
            $(
                pub(super) fn $method<T: 'static, H: Described<T>>(mut self, handler: H) -> Self {
                    self.router = self.router.on(MethodFilter::$filter, handler);
                    let (name, outline) = (stringify!($method), H::outline);
                    self.described.push(DescribedMethod { name, outline, answer: None });
                    self
                }
            )+
        }
    };
}
methods! {
    get: GET;
    post: POST;
    patch: PATCH;
    delete: DELETE;
}

impl Methods {
    /// The last method answers with something else than one document of JSON: with text of this media type,
    /// or with lines each of which is a `T`.
    pub(super) fn answering<T: ToSchema>(mut self, media_type: &'static str) -> Self {
        if let Some(last) = self.described.last_mut() {
            last.answer = Some((media_type, Outline::schema::<T>));
        }
        self
    }
}

/// Paths with their methods.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<Door>,
    described: Vec<(&'static str, Vec<DescribedMethod>)>,
}

impl Routes {
    pub(super) fn route(mut self, path: &'static str, methods: Methods) -> Self {
        self.router = self.router.route(path, methods.router);
        self.described.push((path, methods.described));
        self
    }

    pub(super) fn into_router(self) -> Router<Door> {
        self.router
    }

    /// The description of all of them.
    fn document(&self) -> Value {
        let (mut paths, mut schemas) = (BTreeMap::new(), Map::new());
        for (path, methods) in &self.described {
            let operations = methods.iter().map(|method| (method.name, method.operation(path, &mut schemas)));
            paths.insert(path, operations.collect::<BTreeMap<_, _>>());
        }
        let mut outline = Outline::default();
        let error = outline.schema::<ErrorBody>();
        schemas.append(&mut outline.schemas);
        open_parts(&mut schemas);
        let responses = ERRORS.iter().map(|(code, description)| {
            let content = json!({ "application/json": { "schema": error } });
            (code.status().to_string(), json!({ "description": description, "content": content }))
        });
        json!({
            "openapi": OPENAPI,
            "info": {
                "title": "muster",
                "version": env!("CARGO_PKG_VERSION"),
                "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
                "description": "The administration API. It is at the server's socket, and at [admin] listen over TLS.",
            },
            "security": [{ "token": [] }, { "session": [] }],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "responses": responses.collect::<Map<_, _>>(),
                "securitySchemes": {
                    "session": { "type": "apiKey", "in": "cookie", "name": sessions::NAME },
                    "token": { "type": "http", "scheme": "bearer", "description": "An API token (musterctl api-token create)." },
                },
            },
        })
    }
}

/// Answers that are no success.
const ERRORS: [(ErrorCode, &str); 8] = [
    (ErrorCode::InvalidArgument, "The request can't be understood, or a value in it is not allowed."),
    (ErrorCode::Unauthenticated, "The server does not know who asks."),
    (ErrorCode::Forbidden, "Those who ask may not do that, or not there."),
    (ErrorCode::NotFound, "Something that the request names is not there."),
    (ErrorCode::Conflict, "It contradicts what is there, such as a name that is taken."),
    (ErrorCode::TooLarge, "The body is too long."),
    (ErrorCode::Internal, "Something failed at the server; its log has the reason."),
    (ErrorCode::Busy, "The server has too much to do, or stops, or a wrong token came too often; try again."),
];

impl DescribedMethod {
    fn operation(&self, path: &str, schemas: &mut Map<String, Value>) -> Value {
        let mut outline = Outline::default();
        (self.outline)(&mut outline);
        if self.name != "get" {
            // Each change is read whole, for the audit.
            outline.fails(&[ErrorCode::InvalidArgument, ErrorCode::Conflict, ErrorCode::TooLarge]);
        }
        let (status, schema) = outline.success.take().unwrap_or((200, None));
        let content = match self.answer {
            Some((media_type, line)) => json!({ media_type: { "schema": line(&mut outline) } }),
            None => json!({ "application/json": { "schema": schema } }),
        };
        let errors = outline.errors.iter().map(|status| {
            (status.to_string(), json!({ "$ref": format!("#/components/responses/{status}") }))
        });
        let mut responses: Map<_, _> = errors.collect();
        responses.insert(status.to_string(), json!({ "description": "It is done.", "content": content }));
        let mut names = path.split(['{', '}']).skip(1).step_by(2);
        for parameter in outline.parameters.iter_mut().filter(|parameter| parameter["in"] == "path") {
            parameter["name"] = json!(names.next());
        }
        let words = path.split(|letter: char| !letter.is_ascii_alphanumeric());
        let words = words.filter(|word| !word.is_empty() && *word != "v1");
        let name: Vec<_> = std::iter::once(self.name).chain(words).collect();
        let mut operation = json!({
            "operationId": name.join("_"),
            "description": outline.right,
            "parameters": outline.parameters,
            "responses": responses,
        });
        if outline.is_open {
            operation["security"] = json!([]);
        }
        if let Some((media_type, schema)) = outline.body {
            let content = json!({ media_type: { "schema": schema } });
            operation["requestBody"] = json!({ "required": true, "content": content });
        }
        schemas.append(&mut outline.schemas);
        operation
    }
}

/// Lets what is a part of other objects have the members of those beside its own.
fn open_parts(schemas: &mut Map<String, Value>) {
    let parts = schemas.values().filter_map(|schema| schema["allOf"].as_array()).flatten();
    let parts = parts.filter_map(|part| part["$ref"].as_str()?.rsplit_once('/'));
    let parts: Vec<String> = parts.map(|(_, name)| name.to_owned()).collect();
    for part in parts {
        if let Some(schema) = schemas.get_mut(&part).and_then(Value::as_object_mut) {
            schema.remove("additionalProperties");
        }
    }
}

/// The description of the API. It is made for the first that asks, and kept for the others: all share its
/// bytes, and a server that nobody asks has none.
pub(super) async fn show(may: May<See>) -> Result<Response, ApiError> {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let made = || DOCUMENT.get_or_init(|| document().to_string().into_bytes().into_boxed_slice().into());
    let bytes = may.shared.run(move |_| Ok(made().clone())).await?;
    Ok(([(CONTENT_TYPE, "application/json")], bytes).into_response())
}

fn document() -> Value {
    without_links(super::routes().document())
}

/// Texts stand for Rust's documentation too, where names in square brackets are links.
fn without_links(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("[`", "`").replace("`]", "`")),
        Value::Array(items) => items.into_iter().map(without_links).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, without_links(value))).collect()
        }
        value => value,
    }
}

#[cfg(test)]
mod tests;
