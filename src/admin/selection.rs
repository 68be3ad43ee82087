//! Lists of devices that a filter lets through: page by page, and whole, as CSV.

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

use super::Answer;
use super::access::{May, See};
use super::context::AdminContext;
use super::devices::to_api;
use super::error::ApiError;
use super::extract::{Query, page};
use super::lines::body_of;
use super::why::record_of;
use crate::fleet::filter::Filter;
use crate::store::Moment;
use crate::store::query::{DeviceRow, PageRequest};
use crate::wire::api::device_table::{HEADS, cells, csv_line};
use crate::wire::api::{Device, DeviceQuery, DeviceSort, Page};

/// Rows in one piece of a table: some hundred kilobytes.
const PIECE_ROWS_MAX: usize = 2_048;

/// A filter as it is asked with; without one everything is let through.
pub(super) fn filter(text: Option<&str>) -> Result<Filter, ApiError> {
    Ok(text.unwrap_or_default().parse()?)
}

pub(super) fn moment(context: &AdminContext) -> Moment {
    Moment { now: context.clock.now().wall, present_since: context.clock.present_since() }
}

fn device(context: &AdminContext, row: DeviceRow) -> Device {
    let record = record_of(context, row.device);
    to_api(context, row, &record)
}

pub(super) async fn list(
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<DeviceQuery>,
) -> Answer<Page<Device>> {
    let page = page(asked.limit, asked.cursor)?;
    let (filter, sort) = (scope.filter(asked.filter.as_deref())?, asked.sort.unwrap_or_default());
    shared.answer(move |context| page_of(context, &filter, sort, &page)).await
}

/// A page of the devices that the filter lets through.
pub(super) fn page_of(
    context: &AdminContext,
    filter: &Filter,
    sort: DeviceSort,
    page: &PageRequest,
) -> Result<Page<Device>, ApiError> {
    let found = context.store.selection().page(filter, sort, moment(context), page)?;
    Ok(found.map(|row| device(context, row)))
}

/// All devices that the filter lets through, as a table. An answer that breaks off is not whole.
pub(super) async fn table(
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<DeviceQuery>,
) -> Result<Response, ApiError> {
    if asked.limit.is_some() || asked.cursor.is_some() {
        return Err(ApiError::invalid("a table has no pages: leave limit and cursor out"));
    }
    let (filter, sort) = (scope.filter(asked.filter.as_deref())?, asked.sort.unwrap_or_default());
    let select = move |context: &AdminContext| {
        Ok(context.store.selection().numbers(&filter, sort, moment(context))?)
    };
    let numbers = shared.run(select).await?;
    let (pieces, body) = body_of(std::convert::identity);
    tokio::spawn(async move {
        let mut is_taken = pieces.send(Ok(Bytes::from(csv_line(HEADS)))).await.is_ok();
        let mut some = numbers.chunks(PIECE_ROWS_MAX);
        while is_taken && let Some(some) = some.next() {
            let some = some.to_vec();
            let piece = shared.run(move |context| rows(context, &some)).await;
            is_taken = piece.is_ok();
            is_taken &= pieces.send(piece).await.is_ok();
        }
    });
    Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8; header=present")], body).into_response())
}

/// Lines of the table, as the devices are now.
fn rows(context: &AdminContext, numbers: &[i64]) -> Result<Bytes, ApiError> {
    let rows = context.store.selection().rows(numbers)?;
    let line = |row| csv_line(cells(&device(context, row)).each_ref().map(String::as_str));
    Ok(rows.into_iter().map(line).collect::<String>().into())
}
