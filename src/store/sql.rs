//! Values in columns, and how statements are run.

use std::borrow::Borrow;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Params, Row};

use super::error::StoreError;
use crate::wire::api::{RunState, TaskDefinition, TaskState};
use crate::wire::digest::Digest;
use crate::wire::id::{
    ApiTokenId, ArtifactHash, CertificateHash, DeviceId, Epoch, RunId, TaskId, TokenId, UserId,
};
use crate::wire::role::Role;
use crate::wire::time::WallTime;

/// All 64 bits of a number, as SQLite's integers have a sign.
macro_rules! columns_of_64_bits {
    ($($name:ty),*) => {$(
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.0.cast_signed().into())
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                i64::column_result(value).map(|number| Self(number.cast_unsigned()))
            }
        }
    )*};
}

columns_of_64_bits!(ApiTokenId, DeviceId, TaskId, RunId, TokenId, UserId, Epoch, Digest);

macro_rules! columns_by_name {
    ($($name:ty: $what:literal),*) => {$(
        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let known = value.as_str()?.parse();
                known.map_err(|_| FromSqlError::Other(concat!($what, " is damaged").into()))
            }
        }
    )*};
}

columns_by_name!(Role: "a role", RunState: "a run's state", TaskState: "a task's state");

/// As JSON.
impl FromSql for TaskDefinition {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?)
            .map_err(|error| FromSqlError::Other(format!("a task's definition is damaged: {error}").into()))
    }
}

impl ToSql for WallTime {
    /// A time beyond what SQLite's integers hold (the year 292 million) is the last that they hold, so that
    /// times keep their order.
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(i64::try_from(self.0).unwrap_or(i64::MAX).into())
    }
}

impl FromSql for WallTime {
    /// One before 1970 is 1970.
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(|milliseconds| Self(u64::try_from(milliseconds).unwrap_or(0)))
    }
}

macro_rules! columns_of_hashes {
    ($($name:ty),*) => {$(
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.0.to_sql()
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                FromSql::column_result(value).map(Self)
            }
        }
    )*};
}

columns_of_hashes!(ArtifactHash, CertificateHash);

pub(super) trait Columns {
    /// All 64 bits of a number.
    fn number(&self, at: usize) -> rusqlite::Result<u64>;
}

impl Columns for Row<'_> {
    fn number(&self, at: usize) -> rusqlite::Result<u64> {
        self.get::<_, i64>(at).map(i64::cast_unsigned)
    }
}

/// Statements, each prepared once for its connection.
pub(super) trait Sql: Borrow<Connection> {
    /// Executes one; the number of rows that it changed.
    fn run(&self, sql: &str, values: impl Params) -> Result<usize, StoreError> {
        Ok(self.borrow().prepare_cached(sql)?.execute(values)?)
    }

    fn one<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        Ok(self.borrow().prepare_cached(sql)?.query_row(values, read)?)
    }

    fn perhaps<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.borrow().prepare_cached(sql)?.query_row(values, read).optional()?)
    }

    fn has_row(&self, sql: &str, values: impl Params) -> Result<bool, StoreError> {
        Ok(self.borrow().prepare_cached(sql)?.exists(values)?)
    }

    fn all<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        Ok(self.borrow().prepare_cached(sql)?.query_map(values, read)?.collect::<Result<_, _>>()?)
    }

    /// One row after the other.
    fn each(
        &self,
        sql: &str,
        values: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut statement = self.borrow().prepare_cached(sql)?;
        let mut rows = statement.query(values)?;
        while let Some(row) = rows.next()? {
            read(row)?;
        }
        Ok(())
    }
}

impl Sql for Connection {}
