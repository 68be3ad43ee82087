//! Address of the server.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, io};

use crate::paths::SOCKET_PATH_BYTES_MAX;
use crate::wire::api::ParseError;

/// The environment variable that names the server when `--server` doesn't.
pub const SERVER_VARIABLE: &str = "MUSTER_SERVER";

/// The server's socket when nothing names one: where a server puts it that was started in the same directory.
pub const DEFAULT_SOCKET: &str = "./muster-data/admin.sock";

/// Socket of a service: as its configuration suggests, and as it is when nothing is set.
pub(super) const SYSTEM_SOCKETS: [&str; 2] = ["/run/muster/admin.sock", "/var/lib/muster/admin.sock"];

/// The port of a server's administration when the address names none.
const PORT_DEFAULT: u16 = 13_001;

/// Longest text of a host and port.
const AUTHORITY_BYTES_MAX: usize = 261;

/// Address of the server's administration API: `unix:PATH`, or `https://HOST:PORT`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Address {
    /// Path of the Unix socket.
    Socket(PathBuf),
    /// Host and port; to be asked over TLS with an API token.
    Network(String),
}

impl Default for Address {
    fn default() -> Self {
        Self::Socket(PathBuf::from(DEFAULT_SOCKET))
    }
}

impl Address {
    /// The server that is meant when nothing names one: for root the service's, when it is there, as
    /// `musterd` takes its configuration for root; for others the one that was started in this directory, and
    /// then the service's.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::first(rustix::process::geteuid().is_root(), Path::metadata)
    }

    fn first<T>(is_root: bool, look: impl Fn(&Path) -> io::Result<T>) -> Self {
        let mut sockets = [DEFAULT_SOCKET, SYSTEM_SOCKETS[0], SYSTEM_SOCKETS[1]];
        if is_root {
            sockets.rotate_left(1);
        }
        // A service's data directory lets no other user look: connecting says so then.
        let is_there = |socket: &&str| match look(Path::new(*socket)) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
        };
        let found = sockets.into_iter().find(is_there);
        Self::Socket(found.unwrap_or(DEFAULT_SOCKET).into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
            Self::Network(authority) => write!(f, "https://{authority}"),
        }
    }
}

impl FromStr for Address {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.strip_prefix("unix:") {
            Some(path) if path.len() > SOCKET_PATH_BYTES_MAX => Err(format!(
                "the socket's path has {} bytes, at most {SOCKET_PATH_BYTES_MAX} are possible (unix(7)): name it by a shorter one",
                path.len()
            )
            .into()),
            Some(path) if !path.is_empty() => Ok(Self::Socket(PathBuf::from(path))),
            None if text.starts_with("https://") => authority(text)
                .map(Self::Network)
                .ok_or_else(|| ParseError::is_not(text, "an address such as https://muster.example.org:13001")),
            _ => {
                let wanted = format!("a server: write unix:PATH, such as unix:{DEFAULT_SOCKET}, or https://HOST:PORT");
                Err(ParseError::is_not(text, &wanted))
            }
        }
    }
}

/// Host and port of `https://HOST[:PORT][/]`.
fn authority(text: &str) -> Option<String> {
    let given = text.strip_prefix("https://")?;
    let given = given.strip_suffix('/').unwrap_or(given);
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || "-._:[]%".contains(character);
    if given.len() > AUTHORITY_BYTES_MAX || !given.chars().all(is_allowed) {
        return None;
    }
    // The port is behind the brackets of an IPv6 address (RFC 3986 section 3.2.2).
    let (host, port) = match given.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
        _ => (given, PORT_DEFAULT),
    };
    let is_whole =
        host.starts_with('[') == host.ends_with(']') && host.starts_with('[') == host.contains(':');
    (is_whole && !host.is_empty()).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_its_text() {
        let address: Address = "unix:/run/muster/admin.sock".parse().unwrap();
        assert_eq!(address, Address::Socket(PathBuf::from("/run/muster/admin.sock")));
        assert_eq!(address.to_string(), "unix:/run/muster/admin.sock");
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_said_with_the_limit() {
        let address = |bytes: usize| format!("unix:/{}", "s".repeat(bytes - 1)).parse::<Address>();
        assert_eq!(address(SOCKET_PATH_BYTES_MAX).map(|address| address.to_string().len()), Ok(5 + 107));
        let said = address(SOCKET_PATH_BYTES_MAX + 1).unwrap_err().to_string();
        assert!(said.contains("108 bytes, at most 107 are possible (unix(7))"), "{said}");
    }

    #[test]
    fn root_means_the_service_and_others_the_server_beside_them() {
        let first = |is_root, there: &[&str]| {
            let address = Address::first(is_root, |path| {
                let is_there = there.iter().any(|one| Path::new(one) == path);
                if is_there { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
            });
            address.to_string().strip_prefix("unix:").unwrap().to_owned()
        };
        assert_eq!((first(true, &[]), first(false, &[])), (DEFAULT_SOCKET.into(), DEFAULT_SOCKET.into()));
        let all = [DEFAULT_SOCKET, SYSTEM_SOCKETS[0], SYSTEM_SOCKETS[1]];
        assert_eq!(
            (first(true, &all), first(false, &all)),
            (SYSTEM_SOCKETS[0].into(), DEFAULT_SOCKET.into())
        );
        for is_root in [true, false] {
            assert_eq!(first(is_root, &all[2..]), SYSTEM_SOCKETS[1]);
        }
    }

    /// Otherwise an ordinary user was told that no server runs here.
    #[test]
    fn a_directory_that_lets_nobody_look_is_the_services() {
        let address = Address::first(false, |path| -> io::Result<()> {
            let is_closed = path.starts_with("/var/lib/muster");
            Err(if is_closed { io::ErrorKind::PermissionDenied } else { io::ErrorKind::NotFound }.into())
        });
        assert_eq!(address, Address::Socket(SYSTEM_SOCKETS[1].into()));
    }

    #[test]
    fn a_host_has_a_port_and_nothing_behind_it() {
        for (text, shown) in [
            ("https://muster.example.org", "https://muster.example.org:13001"),
            ("https://10.0.0.1:443/", "https://10.0.0.1:443"),
            ("https://[2001:db8::7]", "https://[2001:db8::7]:13001"),
            ("https://[::1]:9", "https://[::1]:9"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for text in [
            "https://",
            "https://a/b",
            "https://u@a",
            "https://a:0",
            "https://a:x",
            "https://::1",
            "https://[::1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert!("http://a".parse::<Address>().is_err());
    }

    #[test]
    fn what_is_no_address_is_named() {
        for text in ["", "unix:", "/run/muster/admin.sock", "tcp:127.0.0.1:80"] {
            assert!(text.parse::<Address>().unwrap_err().to_string().contains("write unix:PATH"), "{text}");
        }
    }
}
