//! A page and what stands on it. Every page is made of the same few parts, which one template shows.

use askama::Template;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::response::{IntoResponse, Response};

use super::form::{Field, Form, Kind};
use super::text::{When, count};
use super::{assets, rights, said};
use crate::wire::api::device_table::or_nothing;
use crate::wire::api::{ErrorDetail, Timestamp};

/// Places in the head of every page: address and title.
pub(super) const PLACES: [(&str, &str); 10] = [
    ("/", "Overview"),
    ("/devices", "Devices"),
    ("/groups", "Groups"),
    ("/applications", "Applications"),
    ("/policies", "Policies"),
    ("/tasks", "Tasks"),
    ("/events", "Events"),
    ("/access", "Access"),
    ("/audit", "Audit"),
    ("/server", "Server"),
];

/// An answer in place of a page.
pub(super) type Answer = Result<Response, Problem>;

/// A page.
#[derive(Template)]
#[template(path = "page.html")]
pub(super) struct Page {
    pub(super) title: String,
    /// Address of the place that it belongs to.
    pub(super) place: &'static str,
    /// Places to go to; none for those who have not signed in.
    places: &'static [(&'static str, &'static str)],
    /// The same in a terminal.
    pub(super) command: String,
    pub(super) said: Option<String>,
    pub(super) wrong: Option<ErrorDetail>,
    pub(super) parts: Vec<Part>,
    /// Whether it changes while somebody looks at it.
    pub(super) is_live: bool,
}

impl Page {
    pub(super) fn new(place: &'static str, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            place,
            places: &PLACES,
            command: String::new(),
            said: None,
            wrong: None,
            parts: Vec::new(),
            is_live: false,
        }
    }

    /// For those who have not signed in.
    pub(super) fn outside(title: &str) -> Self {
        Self { places: &[], ..Self::new("", title) }
    }

    pub(super) fn command(mut self, command: impl Into<String>) -> Self {
        self.command = command.into();
        self
    }

    /// With the text for what was done before, which the address names.
    pub(super) fn said(mut self, fields: &super::form::Fields) -> Self {
        self.said = said::done(fields);
        self
    }

    pub(super) fn wrong(mut self, wrong: Option<ErrorDetail>) -> Self {
        self.wrong = wrong;
        self
    }

    pub(super) fn with(mut self, part: impl Into<Part>) -> Self {
        self.parts.push(part.into());
        self
    }

    pub(super) fn with_all(mut self, parts: impl IntoIterator<Item = Part>) -> Self {
        self.parts.extend(parts);
        self
    }
}

impl IntoResponse for Page {
    fn into_response(mut self) -> Response {
        rights::leave_out(&mut self.parts);
        let status = self.wrong.as_ref().map_or(200, |wrong| wrong.code.status());
        let mut answer = match self.render() {
            Ok(text) => text.into_response(),
            Err(error) => format!("the page can't be shown: {error}").into_response(),
        };
        *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, html);
        answer
    }
}

impl From<Page> for Answer {
    fn from(page: Page) -> Self {
        Ok(page.into_response())
    }
}

/// Why there is no page.
#[derive(Debug)]
pub(super) struct Problem(pub(super) ErrorDetail);

impl From<ErrorDetail> for Problem {
    fn from(detail: ErrorDetail) -> Self {
        Self(detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        Page::new("", "This can't be shown").wrong(Some(self.0)).into_response()
    }
}

/// Another page, which says what was done.
pub(super) fn see(url: &str) -> Response {
    match HeaderValue::from_str(url) {
        Ok(url) => (StatusCode::SEE_OTHER, [(LOCATION, url)]).into_response(),
        Err(_) => (StatusCode::SEE_OTHER, [(LOCATION, "/")]).into_response(),
    }
}

/// A part of a page.
pub(super) enum Part {
    Heading(String),
    Text(String),
    /// Something that should be seen before all else.
    Notice(String),
    /// A text as it was written.
    Written(String),
    /// The same, to be copied; one on a page.
    ToCopy(String),
    Facts(Vec<(&'static str, Cell)>),
    Tiles(Vec<Tile>),
    Table(Table),
    Form(Form),
    Links(Vec<Link>),
    /// Values to choose by, in named groups.
    Choices(Vec<(&'static str, Vec<Link>)>),
    Plot(Plot),
    /// Beside each other.
    Group(Vec<Part>),
    /// Shown when it is opened.
    Folded(String, Vec<Part>),
}

impl Part {
    pub(super) fn heading(text: impl Into<String>) -> Self {
        Self::Heading(text.into())
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

impl From<Table> for Part {
    fn from(table: Table) -> Self {
        Self::Table(table)
    }
}

impl From<Form> for Part {
    fn from(form: Form) -> Self {
        Self::Form(form)
    }
}

#[derive(Template)]
#[template(path = "parts.html")]
struct Parts<'p> {
    parts: &'p [Part],
}

fn parts(parts: &[Part]) -> Parts<'_> {
    Parts { parts }
}

/// Tells a field from those of other forms.
fn id(form: &Form, field: &Field) -> String {
    let letters = form.legend.chars().filter(char::is_ascii_alphabetic);
    format!("{}-{}", letters.collect::<String>(), field.name)
}

/// Whether any of them is chosen.
fn is_chosen(groups: &[(&str, Vec<Link>)]) -> bool {
    groups.iter().any(|(_, links)| links.iter().any(|link| link.is_chosen))
}

/// A number that leads to what it counts.
pub(super) struct Tile {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) kind: &'static str,
    pub(super) url: String,
}

pub(super) struct Link {
    pub(super) url: String,
    pub(super) text: String,
    /// Stands behind it.
    pub(super) note: String,
    /// Whether it is one that is chosen.
    pub(super) is_chosen: bool,
    /// Whether it leads to a file.
    pub(super) is_file: bool,
}

impl Link {
    pub(super) fn new(url: impl Into<String>, text: impl Into<String>) -> Self {
        Self { url: url.into(), text: text.into(), note: String::new(), is_chosen: false, is_file: false }
    }
}

/// A curve over a day.
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) latest: String,
    pub(super) lowest: String,
    pub(super) highest: String,
    /// Corners of each stretch without gaps, as SVG has them.
    pub(super) lines: Vec<String>,
}

/// A table: each column is said once, and on narrow screens each row becomes a card.
pub(super) struct Table {
    pub(super) caption: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// Stands there when there is no row.
    pub(super) nothing: String,
    /// The next page.
    pub(super) next: Option<String>,
    /// Address of a stream of rows that come to its top.
    live: Option<String>,
}

pub(super) struct Column {
    pub(super) head: String,
    /// Sorted by it, the other way round when it is so already.
    pub(super) sort_url: Option<String>,
    /// `ascending` or `descending`; empty: it is not sorted by this.
    pub(super) sorted: &'static str,
}

impl Table {
    pub(super) fn new<const N: usize>(caption: impl Into<String>, heads: [&str; N], nothing: &str) -> Self {
        let column = |head: &str| Column { head: head.to_owned(), sort_url: None, sorted: "" };
        Self {
            caption: caption.into(),
            columns: heads.into_iter().map(column).collect(),
            rows: Vec::new(),
            nothing: nothing.to_owned(),
            next: None,
            live: None,
        }
    }

    pub(super) fn rows<const N: usize>(mut self, rows: impl IntoIterator<Item = [Cell; N]>) -> Self {
        self.rows = rows.into_iter().map(Vec::from).collect();
        self
    }

    pub(super) fn next(mut self, url: Option<String>) -> Self {
        self.next = url;
        self
    }

    pub(super) fn live(mut self, url: Option<String>) -> Self {
        self.live = url;
        self
    }
}

#[derive(Template)]
#[template(path = "row.html")]
struct Row<'r> {
    heads: Vec<&'r str>,
    row: &'r [Cell],
}

fn row<'r>(table: &'r Table, row: &'r [Cell]) -> Row<'r> {
    Row { heads: table.columns.iter().map(|column| column.head.as_str()).collect(), row }
}

/// A row alone.
pub(super) fn table_row(heads: &[&str], row: &[Cell]) -> String {
    Row { heads: heads.to_vec(), row }.render().unwrap_or_default()
}

/// A value, in a table or beside its name.
pub(super) enum Cell {
    Text(String),
    Link(String, String),
    /// A link to where something is changed, for those alone who may.
    Change(String, &'static str),
    Number(u64),
    When(Option<When>),
    /// A state: its colour's name, and the word.
    State(&'static str, String),
    Code(String),
    /// A button: address, name and value, its text.
    Button(String, Vec<(&'static str, String)>, &'static str),
}

#[derive(Template)]
#[template(path = "cell.html")]
struct CellText<'c> {
    cell: &'c Cell,
}

fn cell(cell: &Cell) -> CellText<'_> {
    CellText { cell }
}

fn digits(number: &u64) -> String {
    count(*number)
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(or_nothing(text))
    }

    pub(super) fn link(url: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Link(url.into(), text.into())
    }

    pub(super) fn when(at: impl Into<Option<Timestamp>>) -> Self {
        Self::When(at.into().map(When::new))
    }
}
