//! The administration socket: made so that nobody else can ever connect to it.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Connections that may wait to be accepted, listen(2).
const BACKLOG: u32 = 64;

/// Mode of the socket: its owner may connect, nobody else.
const SOCKET_MODE: u32 = 0o600;

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A server listens there.
    #[error("{path}: another musterd serves this socket; stop it first, or use another data directory")]
    InUse {
        /// The socket.
        path: String,
    },
    /// Something that is no socket lies there.
    #[error("{path} is there and is no socket: move it away, or use another data directory")]
    NotASocket {
        /// Path of the file that lies there.
        path: String,
    },
    /// The system refused.
    #[error("can't listen on {path}: {source} (set another path with [admin] socket)")]
    System {
        /// The socket.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// The open socket. Its file goes away with it.
#[derive(Debug)]
pub struct AdminListener {
    pub(super) socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the file that is ours: another server's is left alone.
    identity: Option<(u64, u64)>,
}

impl AdminListener {
    /// Opens the socket at `path`. The socket of a server that died is replaced, that of a living one is not.
    ///
    /// The socket is made in a directory of its own that only this user may enter (mode 0700), gets its mode
    /// there, and is then moved to `path`: at no moment can anyone else connect.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn open(path: &Path) -> Result<Self, ListenError> {
        let to_api = path.display().to_string();
        let system = |source| ListenError::System { path: to_api.clone(), source };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system(error)),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(ListenError::NotASocket { path: to_api });
            }
            Ok(_) => match UnixStream::connect(path).await {
                Ok(_) => return Err(ListenError::InUse { path: to_api }),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    log::info!("{to_api}: replaced the socket of a server that is gone");
                }
                Err(error) => return Err(system(error)),
            },
        }
        let nursery = nursery(path);
        // Left behind by a server that died in between.
        let _ = fs::remove_dir_all(&nursery);
        let made = make(&nursery, path);
        let _ = fs::remove_dir_all(&nursery);
        let socket = made.map_err(system)?;
        Ok(Self { socket, identity: identity(path), path: path.to_owned() })
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Path at which a socket for `path` is bound before it is moved there.
#[must_use]
pub fn bound_as(path: &Path) -> PathBuf {
    nursery(path).join("s")
}

/// The directory in which the socket is made, beside its place.
fn nursery(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn make(nursery: &Path, path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(nursery)?;
    let made = bound_as(path);
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(&made)?)?;
    fs::set_permissions(&made, fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    fs::rename(&made, path)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket)))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
