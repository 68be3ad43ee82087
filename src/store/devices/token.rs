//! Join tokens: who may enrol, until when, how often, into which group, under which names or as which device.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, Row, params};

use super::{Devices, EnrolledDevice, InMemory, group, rows};
use crate::fleet::renewal::take_over_counter;
use crate::machine::token::TokenLife;
use crate::machine::wall_clock::Stretch;
use crate::store::error::StoreError;
use crate::store::meta;
use crate::store::sql::Sql as _;
use crate::wire::api::{Token, TokenState};
use crate::wire::id::{DeviceId, TokenId};
use crate::wire::limits::TOKEN_SECRET_BYTES;
use crate::wire::pattern::fits;
use crate::wire::printable::is_name;
use crate::wire::time::WallTime;

/// Time that a token is kept after it has expired: a late device is told that it expired, not that it never
/// was. 30 days.
const KEPT_AFTER_EXPIRY_MILLISECONDS: u64 = 30 * 24 * 3_600 * 1_000;

/// Life of a token for a copy of a device, which uses it at once: an hour.
const COPY_TOKEN_MILLISECONDS: u64 = 3_600_000;

/// Why a token lets nobody in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenRefusal {
    /// No such token, or its secret is another.
    #[error("the join token is not known here: make one with 'musterctl token create'")]
    Unknown,
    /// Its time is over.
    #[error("the join token has expired: make another with 'musterctl token create --ttl …'")]
    Expired,
    /// It was used as often as it may be.
    #[error("the join token is used up: make another with 'musterctl token create --uses …'")]
    UsedUp,
    /// An administrator withdrew it.
    #[error("the join token was revoked: ask for another one")]
    Revoked,
    /// It is for devices of other names.
    #[error(
        "the join token is for devices called '{names}', not for '{name}': enrol under such a name ('--name'), or with another token"
    )]
    Name {
        /// The pattern of the names that it is for.
        names: String,
        /// The name of the device.
        name: String,
    },
    /// It is for devices of certain names, and another device has this one.
    #[error(
        "another device is called '{name}' already, and the join token is for devices called '{names}' alone: when this is the same \
         device, reimaged, 'musterctl device re-enrol' makes a token with which it takes its record over"
    )]
    NameTaken {
        /// The pattern of the names that it is for.
        names: String,
        /// The name of the device.
        name: String,
    },
}

/// Limits of a new token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewToken {
    /// Path of the group that its devices join; made when it isn't there.
    pub group: String,
    /// When it is made.
    pub created_at: WallTime,
    /// When its time is over.
    pub expires_at: WallTime,
    /// Number of devices that may enrol with it.
    pub uses_max: u32,
    /// The pattern of the names that it lets in ([`fits`]); `None`: any.
    pub names: Option<String>,
    /// The device whose record is taken over with it, in the group that it has; `None`: new devices come in.
    pub device: Option<DeviceId>,
    /// Whether an administrator must approve each device that comes with it.
    pub approval: bool,
}

/// Permission of a token that lets a device in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invitation {
    /// The group to join.
    pub(super) group: i64,
    /// The pattern of names that it is bound to.
    pub(super) names: Option<String>,
    /// The number of the device whose record is taken over.
    pub(super) device: Option<i64>,
    /// Whether the device waits for approval.
    pub(super) approval: bool,
}

/// The certificate that an invited device is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invited {
    /// The device whose record is taken over; `None`: a new one.
    pub device: Option<DeviceId>,
    /// Counter of the certificate.
    pub counter: u32,
}

/// The end of an enrolment that is asked for once more, or for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolledBefore {
    /// Nobody has asked with this key.
    Never,
    /// It was enrolled.
    Answered {
        /// The device as it is now.
        device: Box<EnrolledDevice>,
        /// Counter of the next certificate.
        counter: u32,
    },
    /// The device was removed or its record taken over, or the token is one to take another record over: the
    /// key stands for that device no more.
    Over,
}

/// A token that was just made: the only time that its secret is seen.
#[derive(Clone, PartialEq, Eq)]
pub struct CreatedToken {
    /// As it is stored.
    pub token: Token,
    /// Its secret, for [`JoinToken`](crate::wire::token::JoinToken).
    pub secret: [u8; TOKEN_SECRET_BYTES],
}

impl std::fmt::Debug for CreatedToken {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken").field("token", &self.token).finish_non_exhaustive()
    }
}

impl InMemory {
    /// A change of join tokens is stored: until when one of them lets a device in is known from now on.
    pub(super) fn tokens_changed<T>(&self, (value, open_until): (T, WallTime)) -> T {
        self.enrolment_open_until.store(open_until.0, Ordering::Relaxed);
        value
    }
}

impl Devices {
    /// Makes a join token. Waits until it is durable.
    ///
    /// # Errors
    /// When the group's path is none, or it could not be stored.
    pub fn create_token(&self, new: NewToken) -> Result<CreatedToken, StoreError> {
        self.change_tokens(move |connection| create(connection, &new))
    }

    /// Makes a join token for one copy of the device: for the device's group, once, for an hour. `done` is
    /// called once, on the store's writer, after the commit.
    pub fn create_copy_token(
        &self,
        device: DeviceId,
        now: WallTime,
        done: impl FnOnce(Result<CreatedToken, StoreError>) + Send + 'static,
    ) {
        let memory = Arc::clone(&self.memory);
        let action =
            move |connection: &Connection| with_open_until(connection, |c| create_for_copy(c, device, now));
        self.database
            .submit(action, move |result| done(result.map(|changed| memory.tokens_changed(changed))));
    }

    /// Whether any join token lets a device in now, by the rule of [`Devices::check_token`]. Does not ask the
    /// disk.
    #[must_use]
    pub fn is_enrolment_open(&self, now: WallTime) -> bool {
        now.0 < self.memory.enrolment_open_until.load(Ordering::Relaxed)
    }

    /// Puts join tokens right after a change of the clock, as [`TokenLife::correct`] says. `done` is called
    /// when that is durable.
    pub fn correct_tokens(
        &self,
        known: WallTime,
        ran: Stretch,
        now: WallTime,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let memory = Arc::clone(&self.memory);
        let action =
            move |connection: &Connection| with_open_until(connection, |c| correct(c, known, ran, now));
        self.database
            .submit(action, move |result| done(result.map(|changed| memory.tokens_changed(changed))));
    }

    /// Withdraws a join token: nobody enrols with it any more. Waits until that is durable.
    ///
    /// # Errors
    /// When there is no such token, or it could not be stored.
    pub fn revoke_token(&self, id: TokenId, now: WallTime) -> Result<Token, StoreError> {
        self.change_tokens(move |connection| revoke(connection, id, now))
    }

    /// Whether the token would let a device of this name in now, and which certificate it is to get. Uses
    /// nothing up: [`Devices::enrol`] decides.
    ///
    /// # Errors
    /// [`StoreError::Token`] with the refusal, [`StoreError::DeviceRemoved`], or when the file cannot be
    /// read.
    pub fn check_token(
        &self,
        id: TokenId,
        secret: &[u8; TOKEN_SECRET_BYTES],
        name: &str,
        now: WallTime,
    ) -> Result<Invited, StoreError> {
        let reader = self.database.reader()?;
        match check(&reader, id, secret, name, now)?.device {
            None => Ok(Invited { device: None, counter: 1 }),
            Some(number) => Ok(Invited {
                device: Some(rows::id_of(&reader, number)?),
                counter: take_over_counter(rows::highest_counter(&reader, number)?, now),
            }),
        }
    }

    /// Whether the device of this id, which stands for the key that it asks with, was enrolled before: its
    /// answer was lost. A token that it has used up is good for that. Uses nothing up.
    ///
    /// # Errors
    /// As for [`Devices::check_token`].
    pub fn enrolled_before(
        &self,
        device: DeviceId,
        (id, secret): (TokenId, &[u8; TOKEN_SECRET_BYTES]),
        name: &str,
        now: WallTime,
    ) -> Result<EnrolledBefore, StoreError> {
        let reader = self.database.reader()?;
        let sql = "SELECT number, removed_at IS NULL AND certificate_floor = 0 FROM devices WHERE id = ?1";
        let found: Option<(i64, bool)> = reader.perhaps(sql, [device], |row| row.try_into())?;
        Ok(match found {
            None => EnrolledBefore::Never,
            Some((_, false)) => EnrolledBefore::Over,
            Some((number, true)) => {
                match check(&reader, id, secret, name, now) {
                    // It takes another record over.
                    Ok(invitation) if invitation.device.is_some() => return Ok(EnrolledBefore::Over),
                    Ok(_) | Err(StoreError::Token(TokenRefusal::UsedUp)) => {}
                    Err(error) => return Err(error),
                }
                let counter = rows::highest_counter(&reader, number)?.saturating_add(1);
                EnrolledBefore::Answered { device: Box::new(rows::enrolled(&reader, number)?), counter }
            }
        })
    }

    pub(super) fn change_tokens<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let memory = Arc::clone(&self.memory);
        let action = move |connection: &Connection| with_open_until(connection, change);
        self.database.call_then(action, move |changed| memory.tokens_changed(changed))
    }
}

/// Changes join tokens; with until when one of them lets a device in then.
pub(super) fn with_open_until<T>(
    connection: &Connection,
    change: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<(T, WallTime), StoreError> {
    Ok((change(connection)?, open_until(connection)?))
}

pub(super) const COLUMNS: &str = "t.id, g.path, t.created_at, t.expires_at, t.uses_max, t.uses, t.revoked_at, t.is_over, t.names, d.id, d.name, t.approval";

/// Tables of [`COLUMNS`].
pub(super) const TABLES: &str =
    "tokens t JOIN groups g ON g.id = t.group_id LEFT JOIN devices d ON d.number = t.device";

/// The token, without its secret, as it is `now`. Of several reasons that close it the strongest is named: an
/// administrator who revoked it wants to see that it is.
pub(super) fn from_row(row: &Row<'_>, now: WallTime) -> rusqlite::Result<Token> {
    let (created_at, expires_at): (WallTime, WallTime) = (row.get(2)?, row.get(3)?);
    let (uses, used): (u32, u32) = (row.get(4)?, row.get(5)?);
    let state = if row.get::<_, Option<WallTime>>(6)?.is_some() {
        TokenState::Revoked
    } else if used >= uses {
        TokenState::UsedUp
    } else if row.get(7)? || expires_at <= now {
        TokenState::Expired
    } else {
        TokenState::Valid
    };
    let (created_at, expires_at) = (created_at.into(), expires_at.into());
    Ok(Token {
        id: row.get(0)?,
        state,
        group: row.get(1)?,
        uses,
        used,
        created_at,
        expires_at,
        names: row.get(8)?,
        device: row.get(9)?,
        device_name: row.get(10)?,
        approval: row.get(11)?,
    })
}

fn hash(secret: &[u8; TOKEN_SECRET_BYTES]) -> aws_lc_rs::digest::Digest {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret)
}

fn create(connection: &Connection, new: &NewToken) -> Result<CreatedToken, StoreError> {
    // By the clock that was right last: what goes is gone.
    let known = meta::wall_time(connection)?.unwrap_or(new.created_at).min(new.created_at);
    let long_over = known.0.saturating_sub(KEPT_AFTER_EXPIRY_MILLISECONDS);
    connection.run("DELETE FROM tokens WHERE expires_at < ?1", [WallTime(long_over)])?;
    if let Some(names) = new.names.as_ref().filter(|names| !is_name(names)) {
        return Err(StoreError::BadPattern(names.clone()));
    }
    let device = new.device.map(|device| rows::number_of(connection, device)).transpose()?;
    let group = match device {
        None => group::find_or_create(connection, &new.group)?,
        Some(number) if rows::is_waiting(connection, number)? => {
            return Err(StoreError::Waits(rows::name_of(connection, number)?));
        }
        Some(number) => rows::group_of(connection, number)?,
    };
    let id = TokenId(meta::random_number()?);
    let mut secret = [0; TOKEN_SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut secret)
        .map_err(|_| StoreError::Database("the system gives no random numbers".into()))?;
    let sql = "INSERT INTO tokens
            (id, secret_hash, group_id, created_at, expires_at, uses_max, names, device, approval)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
    let hash = hash(&secret);
    let values = params![
        id,
        hash.as_ref(),
        group,
        new.created_at,
        new.expires_at,
        new.uses_max,
        new.names,
        device,
        new.approval
    ];
    if connection.run(sql, values)? == 0 {
        return Err(StoreError::IdTaken);
    }
    Ok(CreatedToken { token: get(connection, id, new.created_at)?, secret })
}

fn create_for_copy(
    connection: &Connection,
    device: DeviceId,
    now: WallTime,
) -> Result<CreatedToken, StoreError> {
    let number = rows::number_of(connection, device)?;
    let sql = "SELECT g.path FROM devices d JOIN groups g ON g.id = d.group_id WHERE d.number = ?1";
    let group = connection.one(sql, [number], |row| row.get(0))?;
    // Those of other copies that are over: nobody looks them up.
    connection.run("DELETE FROM tokens WHERE copy_of IS NOT NULL AND expires_at < ?1", [now])?;
    let expires_at = WallTime(now.0.saturating_add(COPY_TOKEN_MILLISECONDS));
    let new = NewToken { group, created_at: now, expires_at, uses_max: 1, ..NewToken::default() };
    let created = create(connection, &new)?;
    connection.run("UPDATE tokens SET copy_of = ?2 WHERE id = ?1", (created.token.id, number))?;
    Ok(created)
}

pub(super) fn get(connection: &Connection, id: TokenId, now: WallTime) -> Result<Token, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM {TABLES} WHERE t.id = ?1");
    connection.perhaps(&sql, [id], |row| from_row(row, now))?.ok_or(StoreError::NoToken(id))
}

/// Withdraws a token. One that was withdrawn before keeps its time.
fn revoke(connection: &Connection, id: TokenId, now: WallTime) -> Result<Token, StoreError> {
    connection.run("UPDATE tokens SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL", (id, now))?;
    get(connection, id, now)
}

/// Puts right what the clock has made wrong ([`TokenLife::correct`]), of API tokens, one-time links and
/// sessions, too.
fn correct(connection: &Connection, known: WallTime, ran: Stretch, now: WallTime) -> Result<(), StoreError> {
    for table in ["tokens", "api_tokens", "user_links", "sessions"] {
        let sql = format!(
            "SELECT id, created_at, expires_at FROM {table}
            WHERE is_over = 0 AND (expires_at <= ?1 OR created_at > ?2)"
        );
        let lives: Vec<(i64, WallTime, WallTime)> =
            connection.all(&sql, (known.max(ran.until), now), |row| row.try_into())?;
        let sql = format!("UPDATE {table} SET created_at = ?2, expires_at = ?3, is_over = ?4 WHERE id = ?1");
        for (id, created_at, expires_at) in lives {
            let mut life = TokenLife { created_at, expires_at, is_over: false };
            life.correct(known, ran, now);
            connection.run(&sql, (id, life.created_at, life.expires_at, life.is_over))?;
        }
    }
    Ok(())
}

/// The permission that the token gives a device of this name, if it lets it in. Uses nothing up.
fn check(
    connection: &Connection,
    id: TokenId,
    secret: &[u8; TOKEN_SECRET_BYTES],
    name: &str,
    now: WallTime,
) -> Result<Invitation, StoreError> {
    let sql = "SELECT secret_hash, group_id, expires_at, uses_max, uses, revoked_at, is_over, created_at, names, device, approval
        FROM tokens WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else { return Err(TokenRefusal::Unknown.into()) };
    let stored: Vec<u8> = row.get(0)?;
    // A peer without the secret learns nothing of the token.
    if aws_lc_rs::constant_time::verify_slices_are_equal(&stored, hash(secret).as_ref()).is_err() {
        return Err(TokenRefusal::Unknown.into());
    }
    let (uses_max, uses): (u32, u32) = (row.get(3)?, row.get(4)?);
    let life = TokenLife { created_at: row.get(7)?, expires_at: row.get(2)?, is_over: row.get(6)? };
    if row.get::<_, Option<i64>>(5)?.is_some() {
        Err(TokenRefusal::Revoked.into())
    } else if life.is_over_at(now) {
        Err(TokenRefusal::Expired.into())
    } else if uses >= uses_max {
        Err(TokenRefusal::UsedUp.into())
    } else {
        let invitation = Invitation {
            group: row.get(1)?,
            names: row.get(8)?,
            device: row.get(9)?,
            approval: row.get(10)?,
        };
        match &invitation.names {
            Some(names) if !fits(names, name) => {
                Err(TokenRefusal::Name { names: names.clone(), name: name.to_owned() }.into())
            }
            _ => Ok(invitation),
        }
    }
}

/// Until when some token lets a device in, by the same rule as [`check`]; zero: none does.
pub(super) fn open_until(connection: &Connection) -> Result<WallTime, StoreError> {
    let sql =
        "SELECT max(expires_at) FROM tokens WHERE is_over = 0 AND revoked_at IS NULL AND uses < uses_max";
    let latest: Option<WallTime> = connection.one(sql, [], |row| row.get(0))?;
    Ok(latest.unwrap_or(WallTime(0)))
}

/// Checks the token and uses it once.
pub(super) fn take(
    connection: &Connection,
    id: TokenId,
    secret: &[u8; TOKEN_SECRET_BYTES],
    name: &str,
    now: WallTime,
) -> Result<Invitation, StoreError> {
    let invitation = check(connection, id, secret, name, now)?;
    connection.run("UPDATE tokens SET uses = uses + 1 WHERE id = ?1", [id])?;
    Ok(invitation)
}

/// A device is gone: nobody takes its record over any more.
pub(super) fn device_removed(connection: &Connection, number: i64, now: WallTime) -> Result<(), StoreError> {
    let sql = "UPDATE tokens SET revoked_at = ?2 WHERE device = ?1 AND revoked_at IS NULL";
    connection.run(sql, (number, now)).map(drop)
}
