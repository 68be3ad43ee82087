//! Lists, page by page, and how a URL asks for them (RFC 3986).

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, ClientError};
use crate::wire::api::{
    ApplicationQuery, AuditQuery, DeletedEvents, DeviceQuery, EventQuery, PAGE_ITEMS_MAX, Page, PageQuery,
    PolicyQuery, RunQuery, TaskQuery,
};

/// Items that are asked for at once when the caller names no number.
const PAGE_ITEMS: u32 = PAGE_ITEMS_MAX / 2;

/// A query that is answered in pages.
pub trait Paged: Serialize {
    /// Begin of the page.
    fn cursor(&mut self) -> &mut Option<String>;
    /// Most items of the page.
    fn limit(&mut self) -> &mut Option<u32>;
}

macro_rules! paged {
    ($($query:ty),*) => {
        $(impl Paged for $query {
            fn cursor(&mut self) -> &mut Option<String> {
                &mut self.cursor
            }

            fn limit(&mut self) -> &mut Option<u32> {
                &mut self.limit
            }
        })*
    };
}

paged!(PageQuery, DeviceQuery, ApplicationQuery, EventQuery, PolicyQuery, TaskQuery, RunQuery, AuditQuery);

/// A list, page by page. Ends after the last page or after the first error.
#[derive(Debug)]
pub struct Pages<'c, Q, T> {
    client: &'c mut Client,
    path: &'static str,
    query: Option<Q>,
    deleted: Option<DeletedEvents>,
    items: PhantomData<T>,
}

impl<'c, Q: Paged, T> Pages<'c, Q, T> {
    pub(super) fn new(client: &'c mut Client, path: &'static str, mut query: Q) -> Self {
        query.limit().get_or_insert(PAGE_ITEMS);
        Self { client, path, query: Some(query), deleted: None, items: PhantomData }
    }

    /// Events that are missing of a list, as far as it was read, because they were deleted. `None`: nothing.
    #[must_use]
    pub fn deleted(&self) -> Option<DeletedEvents> {
        self.deleted
    }
}

impl<Q: Paged, T: DeserializeOwned> Pages<'_, Q, T> {
    /// The first items of the list, this many at most.
    #[cfg(feature = "ctl")]
    pub(super) fn first(&mut self, items_max: usize) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        while items.len() < items_max
            && let Some(page) = self.next()
        {
            items.extend(page?);
        }
        items.truncate(items_max);
        Ok(items)
    }
}

impl<Q: Paged, T: DeserializeOwned> Iterator for Pages<'_, Q, T> {
    type Item = Result<Vec<T>, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut query = self.query.take()?;
        let url = with_query(self.path, &query);
        match self.client.ask::<(), Page<T>>("GET", &url, None) {
            Err(error) => Some(Err(error)),
            Ok(page) => {
                self.deleted = page.deleted.or(self.deleted);
                if page.next_cursor.is_some() {
                    *query.cursor() = page.next_cursor;
                    self.query = Some(query);
                }
                Some(Ok(page.items))
            }
        }
    }
}

/// `base` and one more segment, percent-encoded.
pub(super) fn path(base: &str, segment: &str) -> String {
    let mut path = format!("{base}/");
    encode(segment, &mut path);
    path
}

/// `path` and, behind a question mark, every field of `query` that is there.
pub(super) fn with_query<Q: Serialize>(path: &str, query: &Q) -> String {
    let mut url = path.to_owned();
    let mut separator = '?';
    // A query is a struct of texts and numbers: it becomes an object whatever is in it.
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) else { return url };
    for (name, value) in fields {
        let text = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        url.push(separator);
        separator = '&';
        encode(&name, &mut url);
        url.push('=');
        encode(&text, &mut url);
    }
    url
}

/// Appends `text`, with everything but the unreserved characters percent-encoded (RFC 3986 section 2).
fn encode(text: &str, url: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push('%');
            url.push(char::from(HEX[usize::from(byte >> 4)]));
            url.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::api::DeviceQuery;

    #[test]
    fn a_query_names_what_is_there() {
        let query = DeviceQuery {
            filter: Some("group:/a b".into()),
            sort: Some("-name".parse().unwrap()),
            limit: Some(5),
            ..DeviceQuery::default()
        };
        assert_eq!(
            with_query("/v1/devices", &query),
            "/v1/devices?limit=5&sort=-name&where=group%3A%2Fa%20b"
        );
        assert_eq!(with_query("/v1/devices", &DeviceQuery::default()), "/v1/devices");
    }

    #[test]
    fn a_name_can_hold_anything() {
        assert_eq!(path("/v1/devices", "a/ü?#"), "/v1/devices/a%2F%C3%BC%3F%23");
    }
}
