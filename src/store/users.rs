//! Users, and the one-time links with which they set their passwords.
//!
//! All that somebody got by a password ends with it: sessions, and the API tokens that they made. So a former
//! administrator, or a thief who knew the password, leaves no way in behind.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use rusqlite::{Connection, Row, params};

use super::database::Database;
use super::error::StoreError;
use super::page::{Page, PageRequest};
use super::sql::Sql as _;
use super::{Store, api_tokens, devices, meta, sessions};
use crate::fleet::access::Grant;
use crate::wire::api::User;
use crate::wire::id::UserId;
use crate::wire::limits::TOKEN_SECRET_BYTES;
use crate::wire::printable::is_name;
use crate::wire::time::WallTime;

/// Most users: more than the people that one server has.
pub const USERS_MAX: u64 = 1_000;

/// Bytes of a password's salt, and of what is made of both (RFC 9106 section 4).
pub const PASSWORD_SALT_BYTES: usize = 16;
/// Bytes of the hash.
pub const PASSWORD_HASH_BYTES: usize = 32;

/// A password as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredPassword {
    /// Drawn for it alone.
    pub salt: [u8; PASSWORD_SALT_BYTES],
    /// Made of both by a function that costs memory.
    pub hash: [u8; PASSWORD_HASH_BYTES],
}

/// A new user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// The name.
    pub name: String,
    /// The role, and the group on which it holds.
    pub grant: Grant,
}

/// A person as a provider of `OpenID` Connect names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIdPerson {
    /// The provider.
    pub issuer: String,
    /// The one name of theirs there that never changes and is never another's.
    pub subject: String,
    /// The name that people know.
    pub name: String,
}

/// Life of a one-time link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLife {
    /// When it is made.
    pub created_at: WallTime,
    /// When its time is over.
    pub expires_at: WallTime,
}

/// A user with a one-time link that has just been made.
pub struct MadeLink {
    /// The user.
    pub user: User,
    /// Names them.
    pub id: UserId,
    /// The link's secret, which is seen this once.
    pub secret: [u8; TOKEN_SECRET_BYTES],
}

impl Store {
    /// The users.
    #[must_use]
    pub fn users(&self) -> Users<'_> {
        Users { database: self.database() }
    }
}

/// The users. Owns the tables `users`, `user_links` and `sessions`.
pub struct Users<'s> {
    pub(super) database: &'s Database,
}

impl Users<'_> {
    /// Makes one, with a one-time link. Waits until they are durable.
    ///
    /// # Errors
    /// When there is no such group, the name is none or is taken, there are as many as may be, or they could
    /// not be stored.
    pub fn create(&self, new: NewUser, link: LinkLife) -> Result<MadeLink, StoreError> {
        self.database.call(move |connection| {
            let id = insert(connection, &new, None, link.created_at)?;
            make_link(connection, id, &new.name, link)
        })
    }

    /// Makes one who signs in at a provider. Waits until they are durable.
    ///
    /// # Errors
    /// As those of [`Users::create`].
    pub fn create_at_provider(
        &self,
        new: NewUser,
        issuer: String,
        now: WallTime,
    ) -> Result<User, StoreError> {
        self.database.call(move |connection| {
            insert(connection, &new, Some(&issuer), now)?;
            get(connection, &new.name, now)
        })
    }

    /// Makes another one-time link. The password, the sessions and the API tokens of the user end. Waits
    /// until that is durable.
    ///
    /// # Errors
    /// When there is no such user, they sign in at a provider, or it could not be stored.
    pub fn renew_link(&self, name: String, link: LinkLife) -> Result<MadeLink, StoreError> {
        self.database.call(move |connection| {
            let id = find(connection, &name)?;
            if let Some(issuer) = get(connection, &name, link.created_at)?.issuer {
                return Err(StoreError::SignsInElsewhere { name, issuer });
            }
            let sql = "UPDATE users SET password_salt = NULL, password_hash = NULL WHERE id = ?1";
            connection.run(sql, [id])?;
            sessions::end_all(connection, id)?;
            api_tokens::revoke_of(connection, id, None, link.created_at)?;
            make_link(connection, id, &name, link)
        })
    }

    /// Gives a user other rights. API tokens that they made and that may more than that are revoked. Waits
    /// until it is durable; the next request has them.
    ///
    /// # Errors
    /// When there is no such user or group, or it could not be stored.
    pub fn change(&self, name: String, grant: Grant, now: WallTime) -> Result<User, StoreError> {
        self.database.call(move |connection| {
            let (id, group) = (find(connection, &name)?, devices::find_group(connection, &grant.group)?);
            let sql = "UPDATE users SET role = ?2, group_id = ?3 WHERE id = ?1";
            connection.run(sql, params![id, grant.role.name(), group])?;
            api_tokens::revoke_of(connection, id, Some(&grant), now)?;
            get(connection, &name, now)
        })
    }

    /// Removes one; sessions and API tokens of theirs end. As they were. Waits until that is durable.
    ///
    /// # Errors
    /// When there is no such user, or it could not be stored.
    pub fn remove(&self, name: String, now: WallTime) -> Result<User, StoreError> {
        self.database.call(move |connection| {
            let (user, id) = (get(connection, &name, now)?, find(connection, &name)?);
            sessions::end_all(connection, id)?;
            api_tokens::revoke_of(connection, id, None, now)?;
            connection.run("UPDATE api_tokens SET user_id = NULL WHERE user_id = ?1", [id])?;
            connection.run("DELETE FROM user_links WHERE id = ?1", [id])?;
            connection.run("DELETE FROM users WHERE id = ?1", [id])?;
            Ok(user)
        })
    }

    /// One, as they are `now`.
    ///
    /// # Errors
    /// When there is no such user, or the file cannot be read.
    pub fn get(&self, name: &str, now: WallTime) -> Result<User, StoreError> {
        get(&*self.database.reader()?, name, now)
    }

    /// Those on the group with this path and below it, by name, as they are `now`.
    ///
    /// # Errors
    /// When the cursor is none, or the file cannot be read.
    pub fn list(&self, group: &str, page: &PageRequest, now: WallTime) -> Result<Page<User>, StoreError> {
        let after = page.after('n')?.map(|[name]| name);
        let (from, to) = devices::range_below(group);
        let sql = format!(
            "{COLUMNS} WHERE (?2 IS NULL OR u.name > ?2) AND (g.path = ?3 OR (g.path >= ?4 AND g.path < ?5))
            ORDER BY u.name LIMIT ?6"
        );
        let values = params![now, after, group, from, to, page.limit()];
        let users = self.database.reader()?.all(&sql, values, from_row)?;
        Ok(page.page('n', users, |user| [user.name.clone()]))
    }

    /// Whether there is any.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn is_any(&self) -> Result<bool, StoreError> {
        self.database.reader()?.has_row("SELECT 1 FROM users", [])
    }

    /// The password of the user of this name; nothing when there is no such user, or they have none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn password(&self, name: &str) -> Result<Option<(UserId, StoredPassword)>, StoreError> {
        let sql = "SELECT id, password_salt, password_hash FROM users
            WHERE name = ?1 AND password_hash IS NOT NULL";
        self.database.reader()?.perhaps(sql, [name], |row| {
            Ok((row.get(0)?, StoredPassword { salt: row.get(1)?, hash: row.get(2)? }))
        })
    }

    /// Whether a one-time link is good now; nothing tells an unknown one from one that is over.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn has_link(
        &self,
        user: UserId,
        secret: &[u8; TOKEN_SECRET_BYTES],
        now: WallTime,
    ) -> Result<bool, StoreError> {
        has_link(&*self.database.reader()?, user, secret, now)
    }
}

/// As they are at the first parameter's time.
const COLUMNS: &str = "SELECT u.name, u.role, g.path, u.created_at, u.password_hash IS NOT NULL,
    (SELECT l.expires_at FROM user_links l WHERE l.id = u.id AND l.is_over = 0 AND l.expires_at > ?1),
    (SELECT count(*) FROM sessions s WHERE s.user_id = u.id AND s.is_over = 0 AND s.expires_at > ?1),
    (SELECT count(*) FROM api_tokens t WHERE t.user_id = u.id AND t.is_over = 0 AND t.revoked_at IS NULL
        AND t.expires_at > ?1),
    u.issuer, u.subject
    FROM users u JOIN groups g ON g.id = u.group_id";

fn from_row(row: &Row<'_>) -> rusqlite::Result<User> {
    let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(User {
        name: row.get(0)?,
        role: row.get(1)?,
        group: row.get(2)?,
        created_at: row.get::<_, WallTime>(3)?.into(),
        has_password: row.get(4)?,
        link_expires_at: row.get::<_, Option<WallTime>>(5)?.map(Into::into),
        sessions: number(6)?,
        api_tokens: number(7)?,
        issuer: row.get(8)?,
        subject: row.get(9)?,
    })
}

fn get(connection: &Connection, name: &str, now: WallTime) -> Result<User, StoreError> {
    let found = connection.perhaps(&format!("{COLUMNS} WHERE u.name = ?2"), params![now, name], from_row)?;
    found.ok_or_else(|| StoreError::NoUser(name.to_owned()))
}

fn find(connection: &Connection, name: &str) -> Result<UserId, StoreError> {
    let found = connection.perhaps("SELECT id FROM users WHERE name = ?1", [name], |row| row.get(0))?;
    found.ok_or_else(|| StoreError::NoUser(name.to_owned()))
}

fn insert(
    connection: &Connection,
    new: &NewUser,
    issuer: Option<&str>,
    now: WallTime,
) -> Result<UserId, StoreError> {
    if !is_name(&new.name) {
        return Err(StoreError::BadUserName(new.name.clone()));
    }
    if connection.one("SELECT count(*) FROM users", [], |row| row.get::<_, i64>(0))?
        >= USERS_MAX.cast_signed()
    {
        return Err(StoreError::TooManyUsers(USERS_MAX));
    }
    let (id, group) = (UserId(meta::random_number()?), devices::find_group(connection, &new.grant.group)?);
    let sql = "INSERT INTO users (id, name, role, group_id, created_at, issuer)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO NOTHING";
    let values = params![id, new.name, new.grant.role.name(), group, now, issuer];
    if connection.run(sql, values)? == 0 {
        return Err(StoreError::UserTaken(new.name.clone()));
    }
    Ok(id)
}

fn make_link(
    connection: &Connection,
    id: UserId,
    name: &str,
    LinkLife { created_at, expires_at }: LinkLife,
) -> Result<MadeLink, StoreError> {
    let secret = meta::random_bytes()?;
    let sql = "INSERT OR REPLACE INTO user_links (id, secret_hash, created_at, expires_at)
        VALUES (?1, ?2, ?3, ?4)";
    connection.run(sql, params![id, digest(&SHA256, &secret).as_ref(), created_at, expires_at])?;
    Ok(MadeLink { user: get(connection, name, created_at)?, id, secret })
}

fn has_link(
    connection: &Connection,
    user: UserId,
    secret: &[u8; TOKEN_SECRET_BYTES],
    now: WallTime,
) -> Result<bool, StoreError> {
    let sql = "SELECT secret_hash FROM user_links WHERE id = ?1 AND is_over = 0 AND expires_at > ?2";
    let stored = connection.perhaps(sql, params![user, now], |row| row.get::<_, Vec<u8>>(0))?;
    let hash = digest(&SHA256, secret);
    Ok(stored.is_some_and(|stored| verify_slices_are_equal(&stored, hash.as_ref()).is_ok()))
}

/// Proof of who signs in, as it was found good a moment ago.
#[derive(Clone)]
pub enum Proof {
    /// The password of theirs that is stored.
    Password(UserId, StoredPassword),
    /// A one-time link, and the password that they set with it.
    Link(UserId, [u8; TOKEN_SECRET_BYTES], StoredPassword),
    /// The word of the provider of `OpenID` Connect.
    OpenId(OpenIdPerson),
}

/// The user that a person is. A person who has signed in as one before stays that one, whatever name they
/// have at the provider now; one who has not is the user of their name, unless another person is already: so
/// no name that is given to somebody else, or taken by them, leads to another's rights.
fn at_provider(connection: &Connection, person: &OpenIdPerson) -> Result<UserId, StoreError> {
    let OpenIdPerson { issuer, subject, name } = person;
    let sql = "SELECT id FROM users WHERE issuer = ?1 AND subject = ?2";
    if let Some(id) = connection.perhaps(sql, [issuer, subject], |row| row.get(0))? {
        return Ok(id);
    }
    let sql = "SELECT id, subject IS NULL FROM users WHERE name = ?1 AND issuer = ?2";
    let named = connection.perhaps(sql, [name, issuer], |row| Ok((row.get(0)?, row.get(1)?)))?;
    match named {
        Some((id, true)) => {
            connection.run("UPDATE users SET subject = ?2 WHERE id = ?1", params![id, subject])?;
            Ok(id)
        }
        Some((_, false)) => Err(StoreError::AnotherPerson(name.clone())),
        None => Err(StoreError::NoUserOfProvider { name: name.clone(), issuer: issuer.clone() }),
    }
}

/// Uses a proof up; who it is of. Nothing: it is good no more, since something has changed meanwhile.
pub(super) fn accept(
    connection: &Connection,
    proof: &Proof,
    now: WallTime,
) -> Result<Option<(UserId, String, Grant)>, StoreError> {
    let (id, password) = match proof {
        Proof::OpenId(person) => (at_provider(connection, person)?, None),
        Proof::Password(id, password) => (*id, Some(password)),
        Proof::Link(id, secret, password) => {
            if !has_link(connection, *id, secret, now)? {
                return Ok(None);
            }
            connection.run("DELETE FROM user_links WHERE id = ?1", [id])?;
            let sql = "UPDATE users SET password_salt = ?2, password_hash = ?3 WHERE id = ?1";
            connection.run(sql, params![id, password.salt, password.hash])?;
            (*id, Some(password))
        }
    };
    let sql = "SELECT u.name, u.role, g.path FROM users u JOIN groups g ON g.id = u.group_id
        WHERE u.id = ?1 AND u.password_hash IS ?2";
    connection.perhaps(sql, params![id, password.map(|password| password.hash)], |row| {
        Ok((id, row.get(0)?, Grant { role: row.get(1)?, group: row.get(2)? }))
    })
}

/// Number of those who have rights on a group, without which it can't go.
pub(super) fn count_on_group(connection: &Connection, group: i64) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM users WHERE group_id = ?1";
    connection.one(sql, [group], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))
}
