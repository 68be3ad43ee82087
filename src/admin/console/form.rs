//! Forms: what they ask for, and what was typed.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;

use super::page::Problem;
use crate::wire::api::{ErrorCode, ErrorDetail};

/// Fields of an address or of a form that was sent, each by its name.
#[derive(Clone, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The text; empty: there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.given(name).unwrap_or_default()
    }

    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(of, _)| of == name).map(|(_, text)| text.as_str())
    }

    /// The text, when there is one.
    pub(super) fn some(&self, name: &str) -> Option<String> {
        Some(self.get(name).trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The same, as what it has to be.
    pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, ErrorDetail> {
        let parsed = self.some(name).map(|text| text.parse()).transpose();
        parsed.map_err(|error| invalid(format!("{name}: {error}")))
    }
}

/// A refusal of what was typed.
pub(super) fn invalid(message: impl Into<String>) -> ErrorDetail {
    ErrorDetail { code: ErrorCode::InvalidArgument, message: message.into(), at: None }
}

impl<S: Send + Sync> FromRequestParts<S> for Fields {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|fields| Self(fields.0)).map_err(|error| Problem(invalid(error.body_text())))
    }
}

/// Fields of a form that was sent.
pub(super) struct Sent(pub(super) Fields);

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let read = axum::Form::<Vec<(String, String)>>::from_request(request, state).await;
        let fields = read.map_err(|error| Problem(invalid(error.body_text())))?.0;
        // Browsers send lines as CRLF (HTML standard, section 4.10.21.4).
        let lines = |(name, text): (String, String)| (name, text.replace("\r\n", "\n"));
        Ok(Self(Fields(fields.into_iter().map(lines).collect())))
    }
}

/// A form. Without a button it is of no use.
pub(super) struct Form {
    pub(super) url: String,
    /// Whether it changes something.
    pub(super) is_post: bool,
    pub(super) legend: &'static str,
    pub(super) fields: Vec<Field>,
    /// Value of `action`, text, and whether it takes something away.
    pub(super) buttons: Vec<(&'static str, String, bool)>,
}

pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) label: String,
    pub(super) value: String,
    pub(super) hint: &'static str,
    pub(super) kind: Kind,
    /// Its meaning to browsers that fill forms in: a name of the HTML standard, section 4.10.18.7.
    pub(super) complete: &'static str,
    /// The place of a fault in it: what is before, at and behind it.
    pub(super) fault: Option<(String, String, String)>,
}

pub(super) enum Kind {
    Hidden,
    Line,
    Search,
    /// Never shown again.
    Password,
    /// A text of several lines.
    Area,
    /// One of these: value and text.
    Choice(Vec<(String, String)>),
    /// On or off.
    Tick,
}

impl Form {
    pub(super) fn post(url: impl Into<String>, legend: &'static str) -> Self {
        Self { url: url.into(), is_post: true, legend, fields: Vec::new(), buttons: Vec::new() }
    }

    pub(super) fn get(url: impl Into<String>, legend: &'static str) -> Self {
        Self { is_post: false, ..Self::post(url, legend) }
    }

    fn add(mut self, kind: Kind, name: &'static str, label: &str, value: &str, hint: &'static str) -> Self {
        let (label, value) = (label.to_owned(), value.to_owned());
        self.fields.push(Field { name, label, value, hint, kind, complete: "off", fault: None });
        self
    }

    pub(super) fn hidden(self, name: &'static str, value: &str) -> Self {
        self.add(Kind::Hidden, name, "", value, "")
    }

    pub(super) fn line(self, name: &'static str, label: &str, value: &str, hint: &'static str) -> Self {
        self.add(Kind::Line, name, label, value, hint)
    }

    /// The name of a user, which browsers know.
    pub(super) fn user(self, name: &'static str, label: &str, value: &str) -> Self {
        self.line(name, label, value, "").completed("username")
    }

    pub(super) fn password(
        self,
        name: &'static str,
        label: &str,
        complete: &'static str,
        hint: &'static str,
    ) -> Self {
        self.add(Kind::Password, name, label, "", hint).completed(complete)
    }

    fn completed(mut self, complete: &'static str) -> Self {
        if let Some(field) = self.fields.last_mut() {
            field.complete = complete;
        }
        self
    }

    /// A filter, with the place of the fault that was found in it.
    pub(super) fn filter(self, label: &str, value: &str, wrong: Option<&ErrorDetail>) -> Self {
        let hint = "such as os:debian tag:spare seen:>2h -name:ber*";
        let mut form = self.add(Kind::Search, "where", label, value, hint);
        if let (Some(at), Some(field)) = (wrong.and_then(|wrong| wrong.at), form.fields.last_mut()) {
            let text = |from: usize, many: usize| value.chars().skip(from).take(many).collect::<String>();
            field.fault = Some((text(0, at), text(at, 1), text(at + 1, usize::MAX)));
        }
        form
    }

    pub(super) fn area(self, name: &'static str, label: &str, value: &str, hint: &'static str) -> Self {
        self.add(Kind::Area, name, label, value, hint)
    }

    pub(super) fn choice<V: Into<String>, T: Into<String>>(
        self,
        name: &'static str,
        label: &str,
        value: &str,
        choices: impl IntoIterator<Item = (V, T)>,
    ) -> Self {
        let choices = choices.into_iter().map(|(value, text)| (value.into(), text.into())).collect();
        self.add(Kind::Choice(choices), name, label, value, "")
    }

    pub(super) fn tick(self, name: &'static str, label: &str, value: &str) -> Self {
        self.add(Kind::Tick, name, label, value, "")
    }

    pub(super) fn button(mut self, action: &'static str, text: impl Into<String>) -> Self {
        self.buttons.push((action, text.into(), false));
        self
    }

    /// A button that takes something away.
    pub(super) fn danger(mut self, action: &'static str, text: impl Into<String>) -> Self {
        self.buttons.push((action, text.into(), true));
        self
    }
}
