//! Lists, page by page.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, ClientError};
use crate::wire::api::url::with_query;
use crate::wire::api::{
    ApplicationQuery, AuditQuery, DeletedEvents, DeviceQuery, EventQuery, PAGE_ITEMS_MAX, Page, PageQuery,
    PolicyHistoryQuery, PolicyQuery, RunQuery, TaskQuery,
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

paged!(
    PageQuery,
    DeviceQuery,
    ApplicationQuery,
    EventQuery,
    PolicyQuery,
    PolicyHistoryQuery,
    TaskQuery,
    RunQuery,
    AuditQuery
);

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
