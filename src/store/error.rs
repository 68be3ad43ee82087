//! Errors of the store.

use crate::wire::units::count_that;
use rusqlite::ErrorCode;

/// Why the store did not do what it was asked. Each says what was wrong and, where anything can be done,
/// what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite refused or failed; nothing was changed.
    #[error("the store failed: {0}")]
    Database(String),
    /// The file system has no room; nothing was changed. The store goes on by itself when there is room.
    #[error("the store's disk is full: make room in the data directory; nothing was changed")]
    Full,
    /// The disk fails, or what is on it is no whole database any more; nothing was changed.
    #[error("the store's disk or file is damaged: {0}")]
    Medium(String),
    /// The file is no whole database.
    #[error(
        "{path} is damaged ({what}); if a copy was put beside an older {path}-wal, both are of no use. Restore a backup into an empty \
         directory: 'musterd restore FILE --data DIR'"
    )]
    Damaged {
        /// The file.
        path: String,
        /// The first thing that is wrong.
        what: String,
    },
    /// More waits than the store takes. Nothing was changed; try later.
    #[error("the store has too much to do: try again later")]
    Busy,
    /// The store has stopped.
    #[error("the store has stopped")]
    Stopped,
    /// The file belongs to something else, or to a newer version of muster.
    #[error("{path} has schema version {found}, this muster knows up to {known}: use a newer muster")]
    NewerSchema {
        /// The file.
        path: String,
        /// The version it has.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// The file cannot be opened or its mode cannot be set.
    #[error("cannot open {path}: {reason}")]
    Open {
        /// The file.
        path: String,
        /// The message of the system or of SQLite.
        reason: String,
    },
    /// No device has that name or id.
    #[error("there is no device '{0}'")]
    NoDevice(String),
    /// The device was removed.
    #[error("device {0} was removed: it must enrol again to come back")]
    DeviceRemoved(crate::wire::id::DeviceId),
    /// Another device has that name.
    #[error("another device is called '{0}': choose another name")]
    NameTaken(String),
    /// The name is empty, too long, holds characters that are not seen, or could be taken for an id.
    #[error(
        "'{0}' cannot be a device name: 1 to 255 bytes, no control or invisible characters, no space at either end, \
         and not the form of a device id (16 hexadecimal digits), nor stand in brackets or begin with 'device:'"
    )]
    BadName(String),
    /// More devices would be kept connected than there may be. Nothing was changed.
    #[error(
        "{} kept connected{} and max_persistent_connections is {max}: raise [links] max_persistent_connections or turn it off for others",
        count_that(*persistent, "device", "is", "are"),
        if *more > 1 { format!(", {more} more would be") } else { String::new() }
    )]
    TooManyPersistent {
        /// Number of devices that are.
        persistent: u64,
        /// Number of devices that would be, beside them.
        more: u64,
        /// The limit.
        max: u64,
    },
    /// No device takes settings for the application.
    #[error("no device takes settings for '{application}'; known are: {known}")]
    UnknownApplication {
        /// The application.
        application: String,
        /// Some for which settings are taken.
        known: String,
    },
    /// The settings can't be right.
    #[error("settings of '{application}': {reason}")]
    BadSettings {
        /// The application.
        application: String,
        /// The place, and what is allowed.
        reason: String,
    },
    /// Nothing was set there.
    #[error("nothing is set for '{application}' in {from}")]
    NoPolicy {
        /// The group, or the device.
        from: String,
        /// The application.
        application: String,
    },
    /// The group can't be moved there, or removed.
    #[error("{0}")]
    GroupRefused(String),
    /// There is no such task.
    #[error("there is no task {0}")]
    NoTask(crate::wire::id::TaskId),
    /// There is no such run.
    #[error("there is no run {0}")]
    NoRun(crate::wire::id::RunId),
    /// The task can't be made; says why.
    #[error("{0}")]
    BadTask(String),
    /// As many tasks are active as there may be.
    #[error("{active} tasks are active, as many as there may be: cancel one first")]
    TooManyTasks {
        /// Their number.
        active: u64,
    },
    /// There is no such artifact.
    #[error("there is no artifact {0}: add it first ('musterctl artifact add FILE')")]
    NoArtifact(crate::wire::id::ArtifactHash),
    /// Something can't become an artifact; says why.
    #[error("{0}")]
    BadArtifact(String),
    /// An artifact can't be added or removed as things are; says why.
    #[error("{0}")]
    ArtifactRefused(String),
    /// An artifact is larger than one may be.
    #[error("an artifact has at most {0} bytes")]
    ArtifactTooLarge(u64),
    /// There is no such group.
    #[error("there is no group '{0}'")]
    NoGroup(String),
    /// The path is not one of a group.
    #[error("'{0}' is not a group path: names separated by '/', such as /berlin/kiosks")]
    BadGroup(String),
    /// No tag or view has this name.
    #[error("there is no {kind} '{name}'")]
    NoLabel {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A tag or a view is not allowed, and why.
    #[error("{0}")]
    BadLabel(String),
    /// There is no room for another tag, or view.
    #[error("there are {count} {kind}s, as many as there may be: remove one first")]
    TooManyLabels {
        /// Its kind.
        kind: &'static str,
        /// Their number.
        count: u64,
    },
    /// There is no such token.
    #[error("there is no token {0}")]
    NoToken(crate::wire::id::TokenId),
    /// There is no such API token.
    #[error("there is no API token {0}")]
    NoApiToken(crate::wire::id::ApiTokenId),
    /// The text names no holder of an API token.
    #[error("'{0}' can't be the name of an API token: 1 to 255 bytes, no control or invisible characters")]
    BadApiTokenName(String),
    /// As many API tokens are kept as may be.
    #[error(
        "there are {0} API tokens, as many as may be: those that were revoked go 30 days after their time is over"
    )]
    TooManyApiTokens(u64),
    /// There is no such user.
    #[error("there is no user '{0}'")]
    NoUser(String),
    /// The user has no password to be set.
    #[error(
        "{name} signs in at {issuer} and has no password: to change that, remove the user and make another"
    )]
    SignsInElsewhere {
        /// The user.
        name: String,
        /// The provider.
        issuer: String,
    },
    /// No user of that name signs in at that provider.
    #[error(
        "'{name}', as {issuer} names you, is no user here who signs in there: ask an administrator ('musterctl user create NAME \
         --role ROLE --openid')"
    )]
    NoUserOfProvider {
        /// The name.
        name: String,
        /// The provider.
        issuer: String,
    },
    /// Somebody else has signed in at the provider as the user of that name.
    #[error(
        "another person has signed in as '{0}' before, whose name there is yours now: ask an administrator, who removes the \
         user and makes another if you are meant"
    )]
    AnotherPerson(String),
    /// Another user has that name.
    #[error("there is a user '{0}' already: 'musterctl user passwd' makes another link for them")]
    UserTaken(String),
    /// The text is no name of a user.
    #[error("'{0}' can't be the name of a user: 1 to 255 bytes, no control or invisible characters")]
    BadUserName(String),
    /// There are as many users as may be.
    #[error("there are {0} users, as many as may be: remove one first")]
    TooManyUsers(u64),
    /// The token does not let the device in.
    #[error(transparent)]
    Token(#[from] super::devices::TokenRefusal),
    /// The text is no pattern of names.
    #[error(
        "'{0}' is no pattern of device names: 1 to 255 bytes, '*' stands for any text, '?' for one character"
    )]
    BadPattern(String),
    /// The device does not wait for approval.
    #[error("device '{0}' does not wait for approval")]
    NotWaiting(String),
    /// The device waits for approval.
    #[error("device '{0}' waits for approval: approve it first ('musterctl device approve')")]
    Waits(String),
    /// As many devices wait for approval as may.
    #[error(
        "{0} devices wait for approval already, as many as may: approve or remove some ('musterctl device list --presence waiting')"
    )]
    TooManyWaiting(u64),
    /// Another certificate was issued to the device meanwhile.
    #[error("another certificate was issued to device {0} at the same moment: try again")]
    CounterTaken(crate::wire::id::DeviceId),
    /// A cursor that this store did not hand out.
    #[error("'{0}' is not a cursor of this list: begin without one")]
    BadCursor(String),
    /// A number is taken that was drawn at random: draw another.
    #[error("that random id is taken: try again")]
    IdTaken,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Medium(error.to_string())
            }
            _ => Self::Database(error.to_string()),
        }
    }
}
