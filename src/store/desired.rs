//! The settings that each device should have.

use rusqlite::Connection;

use super::error::StoreError;
use super::orders::{self, OrdersChange};
use crate::wire::digest::Digest;
use crate::wire::settings::SettingsOrder;

/// The digest of all settings that the device should have.
pub(super) fn digest_of(connection: &Connection, number: i64) -> Result<Digest, StoreError> {
    let mut statement = connection.prepare_cached("SELECT digest FROM desired_settings WHERE device = ?1")?;
    let mut sum = Digest::EMPTY;
    for digest in statement.query_map([number], |row| row.get::<_, i64>(0))? {
        sum = sum.with(Digest(digest?.cast_unsigned()));
    }
    Ok(sum)
}

/// Works out anew what the device should have, after what it declares, its group or its own settings changed. What the table is to be
/// told.
pub(super) fn renew(connection: &Connection, number: i64) -> Result<Option<OrdersChange>, StoreError> {
    orders::refresh(connection, number)
}

/// The settings that the device should have and, by its own report, was not given yet; and those that it was given and should not have
/// any more.
pub(super) fn orders_of(_connection: &Connection, _number: i64) -> Result<Vec<SettingsOrder>, StoreError> {
    Ok(Vec::new())
}
