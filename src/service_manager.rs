//! Layer 2: what a daemon tells the service manager that started it (sd_notify(3)).
//!
//! One datagram of `NAME=VALUE` lines to the socket that `NOTIFY_SOCKET` names. Without the variable nothing
//! is said.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The environment variable that names the socket.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// The service is up: what is ordered after it may begin.
pub fn ready() {
    say("READY=1");
}

/// Its configuration is being read again; [`ready`] tells that this is over.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    say(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
}

/// It is about to end.
pub fn stopping() {
    say("STOPPING=1");
}

/// Its state, for people, in one line; `systemctl status` shows it.
pub fn status(text: &str) {
    say(&format!("STATUS={}", text.replace('\n', "; ")));
}

/// The interval at which the service manager wants to hear [`well`]: a third of the time after which it takes
/// the service for stuck (sd_watchdog_enabled(3)). `None`: it does not listen for that.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_of_another = number("WATCHDOG_PID").is_some_and(|id| id != u64::from(std::process::id()));
    let microseconds = number("WATCHDOG_USEC").filter(|_| !is_of_another)?;
    Some(Duration::from_micros(microseconds / 3))
}

/// It does its work.
pub fn well() {
    say("WATCHDOG=1");
}

fn say(lines: &str) {
    let Some(socket) = std::env::var_os(VARIABLE) else { return };
    if let Err(error) = send(&socket, lines) {
        log::warn!("the service manager can't be told '{lines}': {VARIABLE} {}: {error}", socket.display());
    }
}

/// A path, or `@` and a name of the abstract namespace (unix(7)).
fn send(socket: &OsStr, lines: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => abstract_address(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(lines.as_bytes(), &address).map(drop)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_socket_with_a_path_hears_the_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        assert!(send(path.as_os_str(), "READY=1").is_err(), "nobody listens");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(heard(&socket), "READY=1");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn so_does_one_without_a_path() {
        let name = format!("muster-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&abstract_address(name.as_bytes()).unwrap()).unwrap();
        send(format!("@{name}").as_ref(), "STOPPING=1").unwrap();
        assert_eq!(heard(&socket), "STOPPING=1");
    }
}
