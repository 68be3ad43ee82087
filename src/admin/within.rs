//! Administration by the program that embeds the server: the functions behind the routes, without HTTP. They
//! block, and may not be called from a task of an asynchronous runtime.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Runtime;

use super::context::AdminContext;
use super::error::ApiError;
use super::events::{Filter, name_devices};
use super::extract::page;
use super::follow::reader::Reader;
use super::{selection, tokens};
use crate::store::{AuditEntry, Store};
use crate::wire::api::{
    CreatedToken, Device, DeviceQuery, ErrorDetail, FollowLine, NewToken, PAGE_ITEMS_MAX,
};

/// Makes a join token. Its row in the audit says that the program did.
///
/// # Errors
/// A value that is not allowed, or why the token can't be stored.
pub fn create_token(context: &AdminContext, new: NewToken) -> Result<CreatedToken, ErrorDetail> {
    let entry = AuditEntry {
        at: context.clock.ages().wall,
        actor: "the program".to_owned(),
        origin: "process".to_owned(),
        action: "POST /v1/tokens".to_owned(),
        target: "/v1/tokens".to_owned(),
        before: None,
        after: Some(json!(new).to_string()),
    };
    let (made, _) = Store::audited(entry, || tokens::make(context, new));
    Ok(made?)
}

/// Devices, in the order of the query, read page by page. Ends after the last one, or after the first error.
pub struct Devices<'s> {
    context: &'s AdminContext,
    /// `None`: there are no more pages.
    query: Option<DeviceQuery>,
    read: VecDeque<Device>,
}

impl<'s> Devices<'s> {
    /// Those that the query wants.
    #[must_use]
    pub fn new(context: &'s AdminContext, query: DeviceQuery) -> Self {
        Self { context, query: Some(query), read: VecDeque::new() }
    }

    fn read_page(&mut self, mut query: DeviceQuery) -> Result<(), ErrorDetail> {
        let wanted = page(query.limit.or(Some(PAGE_ITEMS_MAX)), query.cursor.take())?;
        let filter = selection::filter(query.filter.as_deref())?;
        let found = selection::page_of(self.context, &filter, query.sort.unwrap_or_default(), &wanted)?;
        self.read = found.items.into();
        self.query = found.next_cursor.map(|cursor| DeviceQuery { cursor: Some(cursor), ..query });
        Ok(())
    }
}

impl Iterator for Devices<'_> {
    type Item = Result<Device, ErrorDetail>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.read.is_empty() {
            let query = self.query.take()?;
            if let Err(error) = self.read_page(query) {
                return Some(Err(error));
            }
        }
        self.read.pop_front().map(Ok)
    }
}

/// Reads the events from a position on, and waits for more. It holds 128 of them at most: a slow reader is
/// behind in the journal, and no queue grows.
pub struct EventSubscription<'s> {
    context: &'s AdminContext,
    reader: Reader,
    lines: VecDeque<FollowLine>,
    runtime: Runtime,
}

impl<'s> EventSubscription<'s> {
    /// From this position on; `None`: from now on.
    ///
    /// # Errors
    /// When the position is beyond the journal's end, or the system refuses.
    pub fn new(context: &'s AdminContext, position: Option<u64>) -> Result<Self, ErrorDetail> {
        let from = super::follow::begin(&*context.log, position)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let refused = |error: io::Error| ApiError::internal(format!("following events: {error}"));
        let reader = Reader::new(Filter::default(), from, None);
        Ok(Self { context, reader, lines: VecDeque::new(), runtime: runtime.map_err(refused)? })
    }

    /// Position up to which everything has been returned: where another subscription goes on.
    #[must_use]
    pub fn position(&self) -> u64 {
        match self.lines.front() {
            None => self.reader.reached(),
            Some(FollowLine::Event(event)) => event.position,
            Some(FollowLine::Gone { from, .. }) => *from,
            Some(FollowLine::Reached(position) | FollowLine::Skipped { to: position, .. }) => *position,
        }
    }

    /// The next event, or which ones are gone before they were read. Waits for it, `timeout` at most; `None`:
    /// nothing came, or the server has ended.
    ///
    /// # Errors
    /// When the journal or the names of devices can't be read.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<FollowLine>, ErrorDetail> {
        let deadline = Instant::now() + timeout;
        let mut durable = self.context.durable.clone();
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            durable.mark_unchanged();
            let log = &*self.context.log;
            let is_at_end = self.reader.read(log).map_err(|error| ApiError::internal(error.to_string()))?;
            let (gone, mut events) = self.reader.take();
            let reader = self.context.store.reader().map_err(ApiError::from)?;
            name_devices(&reader, &mut events)?;
            self.lines.extend(gone);
            self.lines.extend(events.into_iter().map(|event| FollowLine::Event(Box::new(event))));
            if !self.lines.is_empty() || !is_at_end {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let changed =
                self.runtime.block_on(async { tokio::time::timeout(left, durable.changed()).await });
            if !matches!(changed, Ok(Ok(()))) {
                return Ok(None);
            }
        }
    }
}
