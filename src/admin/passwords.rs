//! Passwords: what is made of them, and how wrong ones are rationed.
//!
//! Argon2id (RFC 9106) makes each guess cost 19 MiB and some 20 ms of a core, here as for somebody who has
//! stolen the database. One password is looked at at a time, whatever comes; of wrong ones an address and an
//! account have a ration each, and all together, so that neither 10,000 guesses nor as many addresses keep a
//! core from the devices. An unknown user costs and is answered as a wrong password. A one-time link goes
//! past the ration of an account, and a session that is there goes on: nobody is locked out for good.

use std::net::IpAddr;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::Shared;
use super::blocking::Pool;
use super::error::ApiError;
use super::network::Ration;
use crate::machine::bucket::Bucket;
use crate::store::{PASSWORD_HASH_BYTES, PASSWORD_SALT_BYTES, Proof, StoredPassword};
use crate::wire::api::{ErrorCode, PASSWORD_BYTES_MAX, PASSWORD_CHARACTERS_MIN};
use crate::wire::printable::is_name;
use crate::wire::time::Moment;
use crate::wire::token::LinkText;

/// Parameters of Argon2id, as OWASP's Password Storage Cheat Sheet has them first: memory in KiB, passes,
/// parallelism.
const MEMORY_KIBIBYTES: u32 = 19 * 1_024;
const PASSES: u32 = 2;
const PARALLELISM: u32 = 1;

/// Passwords that wait for their turn, the one being looked at included; at 20 ms each they wait for less
/// than a client does.
const WAITING_MAX: usize = 16;

/// Cost of a wrong password to all together: over time there are four in a second, a tenth of a core.
const WRONG_MICROSECONDS: u64 = 250_000;

/// Wrong passwords at once, of all together.
const WRONG_AT_ONCE: u64 = 100;

/// The thread, the queue and the rations of passwords.
pub(super) struct Passwords {
    /// One thread, whose turn it is.
    turn: Pool,
    places: Semaphore,
    accounts: Mutex<Ration<String>>,
    all: Mutex<Bucket>,
}

impl Passwords {
    pub(super) fn new() -> Self {
        Self {
            turn: Pool::new(1),
            places: Semaphore::new(WAITING_MAX),
            accounts: Mutex::new(Ration::of_guesses()),
            all: Mutex::default(),
        }
    }

    /// Whether another password for this user is looked at, by all that were wrong before.
    fn may_try(&self, user: &String, now: Moment) -> bool {
        self.accounts.lock().may_take(user, now)
            && self.all.lock().opens_at(WRONG_MICROSECONDS * (WRONG_AT_ONCE - 1)) <= now
    }

    /// One was wrong.
    fn note_wrong(&self, user: String, now: Moment) {
        self.accounts.lock().take(user, now);
        self.all.lock().take(now, WRONG_MICROSECONDS);
    }

    /// Does some work when it is its turn.
    async fn in_turn(
        &self,
        work: impl FnOnce() -> Result<Proof, ApiError> + Send + 'static,
    ) -> Result<Proof, ApiError> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(ApiError::new(ErrorCode::Busy, "too many sign in at this moment: try again"));
        };
        self.turn.run(work).await
    }
}

/// Looks at a user's password. The proof is for the store, which looks whether it is still good.
pub(super) async fn check(
    shared: &Arc<Shared>,
    address: Option<IpAddr>,
    user: String,
    password: String,
) -> Result<Proof, ApiError> {
    if !is_name(&user) || password.len() > PASSWORD_BYTES_MAX {
        return Err(ApiError::invalid(format!(
            "a user's name has 1 to 255 bytes, a password at most {PASSWORD_BYTES_MAX}"
        )));
    }
    // Those who have used up their ration take no place in the queue.
    may_try(shared, address, &user)?;
    let of = Arc::clone(shared);
    let work = move || {
        may_try(&of, address, &user)?;
        let known = of.context.store.users().password(&user)?;
        let salt = known.as_ref().map_or([0; PASSWORD_SALT_BYTES], |(_, stored)| stored.salt);
        let hash = hash(&password, &salt)?;
        match known {
            Some((id, stored)) if verify_slices_are_equal(&stored.hash, &hash).is_ok() => {
                Ok(Proof::Password(id, stored))
            }
            _ => {
                note_wrong(&of, address, user);
                Err(ApiError::new(ErrorCode::Unauthenticated, "the name or the password is wrong"))
            }
        }
    };
    shared.passwords.in_turn(work).await
}

/// Looks at a one-time link, and makes what is kept of the password that somebody sets with it.
pub(super) async fn check_link(
    shared: &Arc<Shared>,
    address: Option<IpAddr>,
    link: &str,
    password: String,
) -> Result<Proof, ApiError> {
    let characters = password.chars().count();
    if characters < PASSWORD_CHARACTERS_MIN || password.len() > PASSWORD_BYTES_MAX {
        return Err(ApiError::invalid(format!(
            "the password has {characters} characters: choose one of {PASSWORD_CHARACTERS_MIN} characters to \
             {PASSWORD_BYTES_MAX} bytes, such as four words"
        )));
    }
    let link = LinkText::of_link(link).map_err(|error| ApiError::invalid(error.to_string()))?;
    let of = Arc::clone(shared);
    let work = move || {
        may_try_from(&of, address)?;
        if !of.context.store.users().has_link(link.user, &link.secret, of.context.clock.ages().wall)? {
            note_wrong_from(&of, address);
            return Err(link_is_over());
        }
        let mut salt = [0; PASSWORD_SALT_BYTES];
        aws_lc_rs::rand::fill(&mut salt)
            .map_err(|_| ApiError::internal("the system gives no random numbers"))?;
        let hash = hash(&password, &salt)?;
        Ok(Proof::Link(link.user, link.secret, StoredPassword { salt, hash }))
    };
    shared.passwords.in_turn(work).await
}

pub(super) fn link_is_over() -> ApiError {
    let text = "the one-time link is not known here, has expired or was used: ask an administrator for another one \
                ('musterctl user passwd')";
    ApiError::new(ErrorCode::Unauthenticated, text)
}

fn too_many() -> ApiError {
    let text = "too many passwords were wrong, from your address or for this user: try again in a minute, or ask for a \
                one-time link ('musterctl user passwd' on the server)";
    ApiError::new(ErrorCode::Busy, text)
}

/// Whether another proof of somebody at this address is looked at.
pub(super) fn may_try_from(shared: &Shared, address: Option<IpAddr>) -> Result<(), ApiError> {
    let now = shared.context.clock.moment();
    let may = address.is_none_or(|address| shared.guesses.lock().may_take(&address, now));
    if may { Ok(()) } else { Err(too_many()) }
}

/// One from there was none.
pub(super) fn note_wrong_from(shared: &Shared, address: Option<IpAddr>) {
    if let Some(address) = address {
        shared.guesses.lock().take(address, shared.context.clock.moment());
    }
}

fn may_try(shared: &Shared, address: Option<IpAddr>, user: &String) -> Result<(), ApiError> {
    may_try_from(shared, address)?;
    let may = shared.passwords.may_try(user, shared.context.clock.moment());
    if may { Ok(()) } else { Err(too_many()) }
}

fn note_wrong(shared: &Shared, address: Option<IpAddr>, user: String) {
    if let Some(address) = address {
        log::warn!("administration: a wrong password came from {address}");
    }
    note_wrong_from(shared, address);
    shared.passwords.note_wrong(user, shared.context.clock.moment());
}

fn hash(password: &str, salt: &[u8; PASSWORD_SALT_BYTES]) -> Result<[u8; PASSWORD_HASH_BYTES], ApiError> {
    let failed = |error: argon2::Error| ApiError::internal(format!("a password can't be looked at: {error}"));
    let params =
        Params::new(MEMORY_KIBIBYTES, PASSES, PARALLELISM, Some(PASSWORD_HASH_BYTES)).map_err(failed)?;
    let mut hash = [0; PASSWORD_HASH_BYTES];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password.as_bytes(), salt, &mut hash).map_err(failed)?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_passwords_are_rationed_by_account_and_all_together_whatever_addresses_they_come_from() {
        let (passwords, now) = (Passwords::new(), Moment(1_000_000_000));
        let tried = |user: &String| {
            let may_try = |_: &u32| {
                let may = passwords.may_try(user, now);
                if may {
                    passwords.note_wrong(user.clone(), now);
                }
                may
            };
            (0..1_000).filter(may_try).count()
        };
        assert_eq!(tried(&"anna".to_owned()), 20);
        assert_eq!(tried(&"ben".to_owned()), 20, "another account has its own");
        let others: usize = (0..100).map(|number| tried(&format!("user-{number}"))).sum();
        assert_eq!(others, 60, "a hundred at once");
        assert!(!passwords.may_try(&"carl".to_owned(), now), "one that had none wrong");
    }

    /// As the reference implementation (`argon2 0123456789abcdef -id -k 19456 -t 2 -p 1 -l 32`) has it: the
    /// kept hashes must stay good.
    #[test]
    fn the_hash_is_that_of_the_reference_implementation() {
        let hash = hash("correct horse", b"0123456789abcdef").unwrap();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ae4d8c8b713876044c8347c76986a9b5655944aaacfffe9bea4dff9e7b6a1899");
    }
}
