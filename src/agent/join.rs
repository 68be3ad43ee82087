//! The first boot of a device that was made from an image: it enrols by itself.
//!
//! `join.toml` in the data directory says where and with which token; `muster-agent prepare-image` writes it,
//! and so may what sets machines up. `muster-agent run` tries until it is enrolled, however long that takes,
//! and wipes the file then. The file is read anew at each attempt, so that a token that is used up can be
//! replaced.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::Deserialize;
use zeroize::{Zeroize as _, Zeroizing};

use super::ab_slots::{AbSlots, SlotError};
use super::address::{AddressError, ServerAddress};
use super::checksummed;
use super::collect::host;
use super::context::{Context, wall_time};
use super::datagram::counters::COUNTER_SLOT;
use super::directory::{BASE_FILE, Directory, DirectoryError, STATE_SLOT};
use super::enroll::{EnrollError, NewDevice, enroll};
use super::identity::{Candidate, Identity, IdentityError, KeyType};
use super::managed::own;
use super::moving::{commit, settle, stage};
use super::open;
use super::run::Signals;
use super::settings;
use crate::configuration::{ConfigError, Source};
use crate::machine::random::Random;
use crate::service_manager;
use crate::wire::token::{JoinToken, TokenError};

/// Its name in the data directory.
pub const FILE_NAME: &str = "join.toml";

/// Name of the file that says why the last attempt failed.
const PROBLEM_FILE: &str = "join.problem";

/// Longest text of such a file.
const PROBLEM_BYTES_MAX: u64 = 4_096;

/// Longest pause between attempts. A server that names a longer one is heeded.
const PAUSE_SECONDS_MAX: u64 = 300;

/// Shortest pause after a refusal: an administrator has to do something first.
const REFUSED_SECONDS_MIN: u64 = 60;

/// Interval at which a signal is looked for while an attempt is under way.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// `join.toml`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinFile {
    /// The server: a host name or an address, with a port when it is not 13000.
    server: String,
    /// The join token, as 'musterctl token create' printed it.
    token: String,
    /// Name that the device would like; its host name when left out.
    name: Option<String>,
    /// Kind of its first key; what the configuration says counts more.
    key_type: Option<KeyType>,
}

impl Drop for JoinFile {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

/// The contents of `join.toml`.
#[derive(Debug)]
pub struct Join {
    /// The server.
    pub server: ServerAddress,
    /// The token.
    pub token: JoinToken,
    /// Name that the device would like; `None`: its host name.
    pub name: Option<String>,
    /// Kind of its first key, unless the configuration says one.
    pub key_type: Option<KeyType>,
}

/// Why a device does not enrol by itself.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The data directory can't be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The identity can't be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// `join.toml` is wrong.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// Its server is none.
    #[error("{}: server: {}", .0.display(), .1)]
    Server(PathBuf, AddressError),
    /// Its token is none.
    #[error("{}: token: {}", .0.display(), .1)]
    Token(PathBuf, TokenError),
    /// It was removed meanwhile.
    #[error("{} is gone: put it back, or enrol the device with 'muster-agent enroll'", .0.display())]
    Gone(PathBuf),
    /// The enrolment failed.
    #[error("{0}: {1}")]
    Enrol(ServerAddress, EnrollError),
    /// The system refused something of this file.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
}

impl JoinError {
    /// Whether trying again may help, with no more than time.
    fn may_pass(&self) -> bool {
        match self {
            Self::Directory(_) | Self::File(_) | Self::Server(..) | Self::Token(..) => true,
            Self::Gone(_) | Self::Enrol(..) => true,
            Self::Identity(_) | Self::Io(..) => false,
        }
    }

    /// Shortest pause behind it, in seconds.
    fn pause_seconds_min(&self) -> u64 {
        match self {
            Self::Enrol(_, EnrollError::Later(seconds)) => u64::from(*seconds),
            Self::Enrol(_, EnrollError::Refused(_)) => REFUSED_SECONDS_MIN,
            _ => 0,
        }
    }
}

/// Reads `join.toml` of the data directory; `None` when it has none.
///
/// # Errors
/// When the file can't be read, or says something that is not allowed.
pub fn read(directory: &Path) -> Result<Option<Join>, JoinError> {
    let path = directory.join(FILE_NAME);
    let text = match settings::text(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(ConfigError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let mut file: JoinFile = Source { text: &text, path: &path }.parse()?;
    let server = file.server.parse().map_err(|error| JoinError::Server(path.clone(), error))?;
    let token = file.token.parse().map_err(|error| JoinError::Token(path, error))?;
    Ok(Some(Join { server, token, name: file.name.take(), key_type: file.key_type }))
}

/// Has a device enrol by itself; durable when this returns. Mode 0600: the token is in it.
///
/// # Errors
/// When the system refuses.
pub fn write(
    directory: &Directory,
    server: &ServerAddress,
    token: &JoinToken,
    key_type: Option<KeyType>,
) -> io::Result<()> {
    let key_type = key_type.map(|key_type| format!("key_type = \"{key_type}\"\n")).unwrap_or_default();
    let text = Zeroizing::new(format!(
        "# With this 'muster-agent run' enrols the device when it is not enrolled, and removes the file then.\n\
         server = \"{server}\"\ntoken = \"{token}\"\n{key_type}"
    ));
    checksummed::write_bytes(&directory.path().join(FILE_NAME), text.as_bytes())
}

/// Why the last attempt to enrol failed, if one did.
#[must_use]
pub fn problem(directory: &Path) -> Option<String> {
    open::text(&directory.join(PROBLEM_FILE), PROBLEM_BYTES_MAX).ok()
}

/// The token is of no more use: it is overwritten and removed.
fn wipe(directory: &Path) -> io::Result<()> {
    let path = directory.join(FILE_NAME);
    if let Ok(mut file) = File::options().write(true).open(&path) {
        let zeros = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or_default()];
        file.write_all(&zeros)?;
        file.sync_all()?;
    }
    checksummed::remove(&directory.join(PROBLEM_FILE))?;
    checksummed::remove(&path)
}

/// Enrols the device when it has a `join.toml` and is not enrolled, and tries until it is. Returns at once in
/// every other case. `false`: a signal asked for the end before.
///
/// # Errors
/// When the data directory or what is in it can't be used.
pub fn at_first_boot(context: &Context, signals: &Signals) -> Result<bool, JoinError> {
    let directory = match Directory::open(&context.data) {
        // That there is none is what the agent says.
        Err(DirectoryError::NotThere(_)) => return Ok(true),
        directory => directory?,
    };
    let file = directory.path().join(FILE_NAME);
    if !file.exists() {
        return Ok(true);
    }
    let io = |error| JoinError::Io(file.clone(), error);
    if Identity::read(directory.path())?.is_some() {
        log::info!("the device is enrolled: {} is of no use and is removed", file.display());
        wipe(directory.path()).map_err(io)?;
        return Ok(true);
    }
    let _only = directory.lock_join()?;
    // It is started; whether the server answers is another matter.
    service_manager::ready();
    let mut random = Random::new(seed().map_err(io)?);
    for attempt in 0.. {
        let error = match attempt_enrolment(&directory, context.settings.key_type, signals) {
            Ok(Attempt::Enrolled) => {
                wipe(directory.path()).map_err(io)?;
                return Ok(true);
            }
            Ok(Attempt::Ended) => return Ok(false),
            Err(error) if error.may_pass() => error,
            Err(error) => return Err(error),
        };
        let text = error.to_string();
        let pause = pause(attempt, error.pause_seconds_min(), &mut random);
        log::warn!("not enrolled yet: {text}; the next attempt is in {} s", pause.as_secs());
        service_manager::status(&format!("not enrolled yet: {text}"));
        if problem(directory.path()).as_deref() != Some(&text) {
            // It is for people alone: without room they read the log.
            let _ = checksummed::write_bytes(&directory.path().join(PROBLEM_FILE), text.as_bytes());
        }
        if ended_before(signals, Instant::now() + pause).map_err(io)? {
            return Ok(false);
        }
    }
    Ok(false)
}

/// Waits until then, and tells the service manager meanwhile that all is well. Returns whether a signal asked
/// for the end.
fn ended_before(signals: &Signals, until: Instant) -> io::Result<bool> {
    let interval = service_manager::watchdog_interval().unwrap_or(Duration::MAX);
    loop {
        service_manager::well();
        let left = until.saturating_duration_since(Instant::now());
        if signals.wait_for_end(Instant::now() + left.min(interval))? {
            return Ok(true);
        }
        if left <= interval {
            return Ok(false);
        }
    }
}

/// The upper half of a window that doubles with each attempt: devices of one image boot together.
fn pause(attempt: u32, seconds_min: u64, random: &mut Random) -> Duration {
    let window = 2_000_u64.saturating_mul(1 << attempt.min(16)).min(PAUSE_SECONDS_MAX * 1_000);
    let window = window.max(seconds_min.saturating_mul(1_500));
    Duration::from_millis(window - random.up_to(window / 3))
}

enum Attempt {
    Enrolled,
    /// A signal asked for the end.
    Ended,
}

fn attempt_enrolment(
    directory: &Directory,
    key_type: Option<KeyType>,
    signals: &Signals,
) -> Result<Attempt, JoinError> {
    // Another may have enrolled it by hand meanwhile, and so wiped nothing.
    if Identity::read(directory.path())?.is_some() {
        return Ok(Attempt::Enrolled);
    }
    let Some(join) = read(directory.path())? else {
        return Err(JoinError::Gone(directory.path().join(FILE_NAME)));
    };
    let Join { server, token, name, key_type: of_image } = join;
    let key_type = key_type.or(of_image).unwrap_or_default();
    log::info!("enrolling at {server}");
    let name = name.unwrap_or_else(host::hostname);
    let at = server.clone();
    let kept_in = directory.path().to_owned();
    let enroll = move || enroll(&at, &token, &name, key_type, Some(&kept_in), wall_time());
    let outcome = in_background(enroll, signals)?;
    let Some(enrolled) = outcome else { return Ok(Attempt::Ended) };
    let NewDevice { identity, is_waiting } = enrolled.map_err(|error| JoinError::Enrol(server, error))?;
    let _lock = directory.lock_patiently("an enrolment")?;
    settle(directory)?;
    if Identity::read(directory.path())?.is_none() {
        stage(directory, &identity)?;
        commit(directory, &identity)?;
        let waits = if is_waiting { ", and waits for approval" } else { "" };
        log::info!("enrolled as '{}' ({}) at {}{waits}", identity.name, identity.device, identity.server);
    }
    Ok(Attempt::Enrolled)
}

/// Does what may take a minute and a half on a thread; `None` when a signal asked for the end meanwhile.
fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    signals: &Signals,
) -> Result<Option<T>, JoinError> {
    let (sender, receiver) = channel();
    let io = |error| JoinError::Io(PathBuf::from(FILE_NAME), error);
    let thread = std::thread::Builder::new().name("enrol".to_owned());
    thread.spawn(move || drop(sender.send(work()))).map_err(io)?;
    loop {
        match next(&receiver) {
            Ok(outcome) => return Ok(Some(outcome)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io(io::Error::other("the enrolment has panicked; the log says where")));
            }
            Err(RecvTimeoutError::Timeout) if signals.wait_for_end(Instant::now()).map_err(io)? => {
                return Ok(None);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn next<T>(receiver: &Receiver<T>) -> Result<T, RecvTimeoutError> {
    receiver.recv_timeout(SIGNAL_INTERVAL)
}

fn seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no randomness"))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Removes everything that makes the data directory that of one device: identity, state, spool, settings and
/// runs that its server ordered. The caller holds the directory's lock. Other files stay.
///
/// # Errors
/// When the system refuses.
pub fn forget_device(directory: &Directory) -> Result<(), SlotError> {
    moving_slots(directory)?;
    for slot in [STATE_SLOT, COUNTER_SLOT, own::SLOT] {
        AbSlots::new(directory.path(), slot).remove()?;
    }
    for file in [BASE_FILE, PROBLEM_FILE] {
        let path = directory.path().join(file);
        checksummed::remove(&path).map_err(|source| SlotError::Io(path, source))?;
    }
    for path in [directory.spool(), directory.ordered(), directory.runs(), directory.artifacts()] {
        open::if_there(fs::remove_dir_all(&path)).map_err(|source| SlotError::Io(path, source))?;
    }
    Ok(())
}

/// First the identity: whatever happens then, nothing of the device is used any more.
fn moving_slots(directory: &Directory) -> Result<(), SlotError> {
    Identity::remove(directory.path())?;
    Candidate::forget(directory.path())?;
    super::moving::discard(directory).map_err(|error| match error {
        IdentityError::AbSlots(error) => error,
        other => SlotError::Io(directory.path().to_owned(), io::Error::other(other.to_string())),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::agent::identity::tests::example;
    use crate::wire::id::{CertificateHash, TokenId};

    fn token() -> JoinToken {
        JoinToken { id: TokenId(7), secret: [1; 24], server_certificate: CertificateHash([2; 32]) }
    }

    #[test]
    fn what_was_written_is_read_and_is_wiped() {
        let outer = tempfile::tempdir().unwrap();
        let directory = Directory::open_or_create(outer.path()).unwrap();
        assert!(read(outer.path()).unwrap().is_none());
        write(&directory, &"muster.example.org".parse().unwrap(), &token(), None).unwrap();
        let path = outer.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let join = read(outer.path()).unwrap().unwrap();
        assert_eq!((join.server.to_string(), join.name), ("muster.example.org:13000".to_owned(), None));
        assert_eq!(join.token, token());
        // A second name of the file shows what became of its contents.
        fs::hard_link(&path, outer.path().join("copy")).unwrap();
        wipe(outer.path()).unwrap();
        assert!(!path.exists());
        let left = fs::read(outer.path().join("copy")).unwrap();
        assert!(!left.is_empty() && left.iter().all(|byte| *byte == 0), "{left:?}");
    }

    #[test]
    fn a_wrong_file_is_named_and_says_nothing_of_the_token() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join(FILE_NAME);
        for (text, why) in [
            ("server = \"a\"\n", "token"),
            ("server = \"a\"\ntoken = \"muster1-x\"\n", "incomplete or mistyped"),
            ("server = \"a:b:c\"\ntoken = \"muster1-x\"\n", "server"),
            ("server = \"a\"\ntoken = \"t\"\ngroup = \"/\"\n", "group is not known"),
        ] {
            fs::write(&path, text).unwrap();
            let error = read(outer.path()).unwrap_err();
            assert!(error.may_pass());
            let error = error.to_string();
            assert!(error.contains("join.toml") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn everything_of_the_device_goes_and_the_rest_stays() {
        let outer = tempfile::tempdir().unwrap();
        let directory = Directory::open_or_create(outer.path()).unwrap();
        for _ in 0..2 {
            example().write(directory.path()).unwrap();
            AbSlots::new(directory.path(), STATE_SLOT).write(b"state").unwrap();
            AbSlots::new(directory.path(), COUNTER_SLOT).write(b"counters").unwrap();
            AbSlots::new(directory.path(), own::SLOT).write(b"{}").unwrap();
            stage(&directory, &example()).unwrap();
            Candidate::to_ask(directory.path(), "muster.example.org", KeyType::Ed25519, "a").unwrap();
        }
        fs::write(outer.path().join(BASE_FILE), "base").unwrap();
        for below in ["spool/info", "orders", "runs/0123456789abcdef"] {
            fs::create_dir_all(outer.path().join(below)).unwrap();
            fs::write(outer.path().join(below).join("file"), "x").unwrap();
        }
        fs::write(outer.path().join("muster-agent.toml"), "").unwrap();
        forget_device(&directory).unwrap();
        let left: Vec<_> =
            fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["muster-agent.toml"]);
        forget_device(&directory).unwrap();
    }

    #[test]
    fn attempts_thin_out_to_five_minutes_and_a_server_that_names_a_time_is_heeded() {
        let mut random = Random::new(1);
        let first = pause(0, 0, &mut random).as_millis();
        assert!((1_300..=2_000).contains(&first), "{first}");
        let late = pause(40, 0, &mut random).as_secs();
        assert!((200..=300).contains(&late), "{late}");
        assert!(pause(0, 900, &mut random).as_secs() >= 900);
    }
}
