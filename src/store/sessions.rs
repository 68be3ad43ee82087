//! Sessions of users: each has a secret, of which the hash is kept.

use aws_lc_rs::digest::{SHA256, digest};
use rusqlite::{Connection, params};

use super::api_tokens::{self, NewApiToken};
use super::error::StoreError;
use super::meta;
use super::sql::Sql as _;
use super::users::{Proof, Users, accept};
use crate::fleet::access::Grant;
use crate::wire::api::ApiToken;
use crate::wire::id::UserId;
use crate::wire::limits::TOKEN_SECRET_BYTES;
use crate::wire::time::WallTime;

/// Longest life of a session: 7 days.
pub const SESSION_MILLISECONDS_MAX: u64 = 7 * 24 * 3_600 * 1_000;

/// Time after which one ends in which nothing was asked: 12 hours.
pub const SESSION_IDLE_MILLISECONDS_MAX: u64 = 12 * 3_600 * 1_000;

/// Sessions of one user: browsers and telephones of one person. The oldest goes when another begins.
pub const SESSIONS_OF_USER_MAX: u64 = 16;

/// API tokens of one user that a sign-in made; the oldest goes.
const SIGN_IN_TOKENS_OF_USER_MAX: u64 = 16;

/// Precision with which it is known when one was used: not every request is worth a write.
const USE_MILLISECONDS: u64 = 5 * 60 * 1_000;

/// Bytes of a session's secret.
pub const SESSION_SECRET_BYTES: usize = 32;

/// Somebody who has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The user.
    pub user: UserId,
    /// Their name.
    pub name: String,
    /// Their rights, as they are now.
    pub grant: Grant,
    /// When the session is over in any case.
    pub expires_at: WallTime,
}

impl Users<'_> {
    /// Begins a session; with its secret, which is seen this once. Waits until it is durable. Nothing: the
    /// proof is good no more.
    ///
    /// # Errors
    /// When it could not be stored.
    pub fn begin_session(
        &self,
        proof: Proof,
        now: WallTime,
    ) -> Result<Option<(SignedIn, [u8; SESSION_SECRET_BYTES])>, StoreError> {
        self.database.call(move |connection| {
            let Some((user, name, grant)) = accept(connection, &proof, now)? else { return Ok(None) };
            let sql = "DELETE FROM sessions WHERE user_id = ?1 AND id NOT IN
                (SELECT id FROM sessions WHERE user_id = ?1 ORDER BY id DESC LIMIT ?2)";
            connection.run(sql, params![user, SESSIONS_OF_USER_MAX.cast_signed() - 1])?;
            let secret = meta::random_bytes()?;
            let expires_at = WallTime(now.0.saturating_add(SESSION_MILLISECONDS_MAX));
            let sql = "INSERT INTO sessions (secret_hash, user_id, created_at, expires_at, used_at)
                VALUES (?1, ?2, ?3, ?4, ?3)";
            connection.run(sql, params![hash(&secret), user, now, expires_at])?;
            Ok(Some((SignedIn { user, name, grant, expires_at }, secret)))
        })
    }

    /// Makes an API token with the user's rights, which is good until `expires_at`; with its secret, which is
    /// seen this once. Waits until it is durable. Nothing: the proof is good no more.
    ///
    /// # Errors
    /// When there are as many as may be, or it could not be stored.
    pub fn sign_in_token(
        &self,
        proof: Proof,
        now: WallTime,
        expires_at: WallTime,
    ) -> Result<Option<(ApiToken, [u8; TOKEN_SECRET_BYTES])>, StoreError> {
        self.database.call(move |connection| {
            let Some((user, name, grant)) = accept(connection, &proof, now)? else { return Ok(None) };
            // A name that is too long for that keeps its beginning.
            let mut name = format!("musterctl of {name}");
            name.truncate(name.floor_char_boundary(crate::wire::limits::NAME_BYTES_MAX));
            name.truncate(name.trim_end().len());
            api_tokens::keep_newest(connection, user, &name, SIGN_IN_TOKENS_OF_USER_MAX - 1)?;
            let new = NewApiToken { name, grant, user: Some(user), created_at: now, expires_at };
            api_tokens::create(connection, &new).map(Some)
        })
    }

    /// Whose session it is, when it is good now; that it was used is noted.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn session(
        &self,
        secret: &[u8; SESSION_SECRET_BYTES],
        now: WallTime,
    ) -> Result<Option<SignedIn>, StoreError> {
        let idle_since = WallTime(now.0.saturating_sub(SESSION_IDLE_MILLISECONDS_MAX));
        let sql = "SELECT s.used_at, u.id, u.name, u.role, g.path, s.expires_at
            FROM sessions s JOIN users u ON u.id = s.user_id JOIN groups g ON g.id = u.group_id
            WHERE s.secret_hash = ?1 AND s.is_over = 0 AND s.expires_at > ?2 AND s.used_at > ?3";
        let hash = hash(secret);
        let found =
            self.database.reader()?.perhaps(sql, params![hash, now, idle_since], |row| -> Result<_, _> {
                let grant = Grant { role: row.get(3)?, group: row.get(4)? };
                let session =
                    SignedIn { user: row.get(1)?, name: row.get(2)?, grant, expires_at: row.get(5)? };
                Ok((row.get::<_, WallTime>(0)?, session))
            })?;
        let Some((used_at, session)) = found else { return Ok(None) };
        // A time that is ahead was written while the clock was.
        if now.0.abs_diff(used_at.0) >= USE_MILLISECONDS {
            self.database.submit(
                move |connection| {
                    let sql = "UPDATE sessions SET used_at = ?2 WHERE secret_hash = ?1";
                    connection.run(sql, params![hash, now])
                },
                |noted| {
                    if let Err(error) = noted {
                        log::warn!("that a session was used was not stored: {error}");
                    }
                },
            );
        }
        Ok(Some(session))
    }

    /// Ends a session. Waits until that is durable; its secret is worth nothing from then on.
    ///
    /// # Errors
    /// When it could not be stored.
    pub fn end_session(&self, secret: [u8; SESSION_SECRET_BYTES]) -> Result<(), StoreError> {
        self.database.call(move |connection| {
            connection.run("DELETE FROM sessions WHERE secret_hash = ?1", [hash(&secret)]).map(drop)
        })
    }
}

/// A secret of 256 random bits is found by its hash: no time that this takes tells anything of another one.
fn hash(secret: &[u8; SESSION_SECRET_BYTES]) -> Vec<u8> {
    digest(&SHA256, secret).as_ref().to_vec()
}

/// Ends all sessions of a user.
pub(super) fn end_all(connection: &Connection, user: UserId) -> Result<(), StoreError> {
    connection.run("DELETE FROM sessions WHERE user_id = ?1", [user]).map(drop)
}

/// A backup may have sessions that were ended since, and links that were used: they don't come back with it.
pub(super) fn forget(connection: &Connection) -> Result<(), StoreError> {
    connection.run("DELETE FROM sessions", [])?;
    connection.run("DELETE FROM user_links", []).map(drop)
}
