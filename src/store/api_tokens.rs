//! API tokens: what is asked with one is done with its role, on its group.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use rusqlite::{Connection, Row, params};

use super::database::Database;
use super::error::StoreError;
use super::page::{Page, PageRequest};
use super::sql::Sql as _;
use super::{Store, devices, meta};
use crate::fleet::access::Grant;
use crate::machine::token::TokenLife;
use crate::wire::api::{ApiToken, ApiTokenState};
use crate::wire::id::{ApiTokenId, UserId};
use crate::wire::limits::TOKEN_SECRET_BYTES;
use crate::wire::printable::is_name;
use crate::wire::role::Role;
use crate::wire::time::WallTime;

/// Most API tokens that are kept: more than the people and programs that one server has.
pub const API_TOKENS_MAX: u64 = 1_000;

/// Time that one is kept after it has expired, so that the list says what became of it: 30 days.
const KEPT_AFTER_EXPIRY_MILLISECONDS: u64 = 30 * 24 * 3_600 * 1_000;

/// Limits of a new API token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApiToken {
    /// The one who has it.
    pub name: String,
    /// Its role, and the group on which it holds.
    pub grant: Grant,
    /// The user who makes it, if one does: it ends with them.
    pub user: Option<UserId>,
    /// When it is made.
    pub created_at: WallTime,
    /// When its time is over.
    pub expires_at: WallTime,
}

/// The holder of an API token that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTokenHolder {
    /// The one who has it.
    pub name: String,
    /// Their rights.
    pub grant: Grant,
    /// The user with whom it ends.
    pub user: Option<UserId>,
}

impl Store {
    /// The API tokens.
    #[must_use]
    pub fn api_tokens(&self) -> ApiTokens<'_> {
        ApiTokens { database: self.database() }
    }
}

/// The API tokens. Owns the table `api_tokens`.
pub struct ApiTokens<'s> {
    database: &'s Database,
}

impl ApiTokens<'_> {
    /// Makes one. Waits until it is durable. With its secret, which is seen this once.
    ///
    /// # Errors
    /// When there is no such group, its name is none, there are as many as may be, or it could not be stored.
    pub fn create(&self, new: NewApiToken) -> Result<(ApiToken, [u8; TOKEN_SECRET_BYTES]), StoreError> {
        self.database.call(move |connection| create(connection, &new))
    }

    /// Withdraws one. Waits until that is durable; the next request with it is refused.
    ///
    /// # Errors
    /// When there is no such token, or it could not be stored.
    pub fn revoke(&self, id: ApiTokenId, now: WallTime) -> Result<ApiToken, StoreError> {
        self.database.call(move |connection| {
            let sql = "UPDATE api_tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
            connection.run(sql, (id, now))?;
            get(connection, id, now)
        })
    }

    /// One, as it is `now`.
    ///
    /// # Errors
    /// When there is no such token, or the file cannot be read.
    pub fn get(&self, id: ApiTokenId, now: WallTime) -> Result<ApiToken, StoreError> {
        get(&*self.database.reader()?, id, now)
    }

    /// Those on the group with this path and below it, by id, as they are `now`.
    ///
    /// # Errors
    /// When the cursor is none, or the file cannot be read.
    pub fn list(&self, group: &str, page: &PageRequest, now: WallTime) -> Result<Page<ApiToken>, StoreError> {
        let after = page.after('k')?.map(|[id]| id.parse::<ApiTokenId>()).transpose();
        let after = after.map_err(|_| page.bad_cursor())?;
        let (from, to) = devices::range_below(group);
        let sql = format!(
            "{COLUMNS} WHERE (?1 IS NULL OR t.id > ?1) AND (g.path = ?2 OR (g.path >= ?3 AND g.path < ?4))
            ORDER BY t.id LIMIT ?5"
        );
        let values = params![after, group, from, to, page.limit()];
        let tokens = self.database.reader()?.all(&sql, values, |row| from_row(row, now))?;
        Ok(page.page('k', tokens, |token| [token.id.to_string()]))
    }

    /// Whether any is good now.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn is_any_valid(&self, now: WallTime) -> Result<bool, StoreError> {
        self.database.reader()?.has_row(&format!("SELECT 1 FROM api_tokens WHERE {VALID}"), [now])
    }

    /// Whose it is, when it is good now; nothing tells an unknown one from one with another secret, or one
    /// that is over.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn check(
        &self,
        id: ApiTokenId,
        secret: &[u8; TOKEN_SECRET_BYTES],
        now: WallTime,
    ) -> Result<Option<ApiTokenHolder>, StoreError> {
        let reader = self.database.reader()?;
        let sql = format!(
            "SELECT t.secret_hash, t.name, t.role, g.path, t.user_id FROM api_tokens t JOIN groups g ON g.id = t.group_id
            WHERE {VALID} AND t.id = ?2"
        );
        let found = reader.perhaps(&sql, params![now, id], |row| {
            let grant = Grant { role: row.get(2)?, group: row.get(3)? };
            Ok((row.get::<_, Vec<u8>>(0)?, ApiTokenHolder { name: row.get(1)?, grant, user: row.get(4)? }))
        })?;
        let hash = digest(&SHA256, secret);
        Ok(found
            .filter(|(stored, _)| verify_slices_are_equal(stored, hash.as_ref()).is_ok())
            .map(|(_, holder)| holder))
    }
}

/// Those that are good at the first parameter's time.
const VALID: &str = "is_over = 0 AND revoked_at IS NULL AND expires_at > ?1";

const COLUMNS: &str =
    "SELECT t.id, t.name, t.role, g.path, t.created_at, t.expires_at, t.revoked_at, t.is_over
    FROM api_tokens t JOIN groups g ON g.id = t.group_id";

fn from_row(row: &Row<'_>, now: WallTime) -> rusqlite::Result<ApiToken> {
    let life = TokenLife { created_at: row.get(4)?, expires_at: row.get(5)?, is_over: row.get(7)? };
    let state = match row.get::<_, Option<WallTime>>(6)? {
        Some(_) => ApiTokenState::Revoked,
        None if life.is_over_at(now) => ApiTokenState::Expired,
        None => ApiTokenState::Valid,
    };
    Ok(ApiToken {
        id: row.get(0)?,
        name: row.get(1)?,
        state,
        role: row.get(2)?,
        group: row.get(3)?,
        created_at: life.created_at.into(),
        expires_at: life.expires_at.into(),
    })
}

fn get(connection: &Connection, id: ApiTokenId, now: WallTime) -> Result<ApiToken, StoreError> {
    let found = connection.perhaps(&format!("{COLUMNS} WHERE t.id = ?1"), [id], |row| from_row(row, now))?;
    found.ok_or(StoreError::NoApiToken(id))
}

pub(super) fn create(
    connection: &Connection,
    new: &NewApiToken,
) -> Result<(ApiToken, [u8; TOKEN_SECRET_BYTES]), StoreError> {
    if !is_name(&new.name) {
        return Err(StoreError::BadApiTokenName(new.name.clone()));
    }
    // By the clock that was right last: what goes is gone.
    let known = meta::wall_time(connection)?.unwrap_or(new.created_at).min(new.created_at);
    let long_over = WallTime(known.0.saturating_sub(KEPT_AFTER_EXPIRY_MILLISECONDS));
    connection.run("DELETE FROM api_tokens WHERE expires_at < ?1", [long_over])?;
    let count = "SELECT count(*) FROM api_tokens";
    if connection.one(count, [], |row| row.get::<_, i64>(0))? >= API_TOKENS_MAX.cast_signed() {
        return Err(StoreError::TooManyApiTokens(API_TOKENS_MAX));
    }
    let group = devices::find_group(connection, &new.grant.group)?;
    let id = ApiTokenId(meta::random_number()?);
    let secret = meta::random_bytes()?;
    let hash = digest(&SHA256, &secret);
    let sql =
        "INSERT INTO api_tokens (id, secret_hash, name, role, group_id, created_at, expires_at, user_id)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING";
    let role: Role = new.grant.role;
    let (created, expires) = (new.created_at, new.expires_at);
    let values = params![id, hash.as_ref(), new.name, role.name(), group, created, expires, new.user];
    if connection.run(sql, values)? == 0 {
        return Err(StoreError::IdTaken);
    }
    Ok((get(connection, id, new.created_at)?, secret))
}

/// Revokes those that a user made and that may more than `left`, or all of them.
pub(super) fn revoke_of(
    connection: &Connection,
    user: UserId,
    left: Option<&Grant>,
    now: WallTime,
) -> Result<(), StoreError> {
    let sql = "SELECT t.id, t.role, g.path FROM api_tokens t JOIN groups g ON g.id = t.group_id
        WHERE t.user_id = ?1 AND t.revoked_at IS NULL";
    let made = connection.all(sql, [user], |row| {
        Ok((row.get::<_, ApiTokenId>(0)?, Grant { role: row.get(1)?, group: row.get(2)? }))
    })?;
    for (id, grant) in made {
        if !left.is_some_and(|left| left.allows(grant.role, &grant.group)) {
            connection.run("UPDATE api_tokens SET revoked_at = ?2 WHERE id = ?1", params![id, now])?;
        }
    }
    Ok(())
}

/// Forgets all but the newest of those of a name that a user made.
pub(super) fn keep_newest(
    connection: &Connection,
    user: UserId,
    name: &str,
    count: u64,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM api_tokens WHERE user_id = ?1 AND name = ?2 AND id NOT IN
        (SELECT id FROM api_tokens WHERE user_id = ?1 AND name = ?2 ORDER BY created_at DESC LIMIT ?3)";
    connection.run(sql, params![user, name, count.cast_signed()]).map(drop)
}

/// Forgets those on a group that were revoked; the number of those that are left, without which it can't go.
pub(super) fn leave_group(connection: &Connection, group: i64) -> Result<u64, StoreError> {
    let sql = "DELETE FROM api_tokens WHERE group_id = ?1 AND (revoked_at IS NOT NULL OR is_over = 1)";
    connection.run(sql, [group])?;
    let sql = "SELECT count(*) FROM api_tokens WHERE group_id = ?1";
    connection.one(sql, [group], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))
}
