//! The system's shutdown, heard on the system bus before anybody is stopped.
//!
//! systemd announces each job as it is queued (`JobNew` of org.freedesktop.systemd1(5)), those of
//! `reboot.target` and its like before it stops the first service. The bus is asked for these few signals
//! alone, so that nothing wakes the agent until a shutdown. On a system without a bus, the list of jobs is
//! asked for when the agent is stopped.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

use super::dbus::{Call, Message, next_message};
use crate::wire::datagram::NoticeKind;

/// Address of the bus (D-Bus Specification, "Well-known Message Bus Instances").
const SOCKET: &str = "run/dbus/system_bus_socket";

/// There when systemd is the service manager (sd_booted(3)).
const BOOTED: &str = "run/systemd/system";

/// Most that is held of what the bus says: its messages to us have some hundred.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Targets whose jobs mean that the system ends (systemd.special(7)), and what they lead to.
pub(super) const TARGETS: [(&str, NoticeKind); 5] = [
    ("reboot.target", NoticeKind::Reboot),
    ("kexec.target", NoticeKind::Reboot),
    ("soft-reboot.target", NoticeKind::Reboot),
    ("poweroff.target", NoticeKind::Shutdown),
    ("halt.target", NoticeKind::Shutdown),
];

const SYSTEMD: (&str, &str, &str) =
    ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
const BUS: (&str, &str, &str) = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");

/// A connection to the system bus, as long as there is one.
#[derive(Debug)]
pub struct ShutdownWatch {
    root: PathBuf,
    token: Token,
    stream: Option<UnixStream>,
    is_authenticated: bool,
    input: Vec<u8>,
    announced: Option<NoticeKind>,
}

impl ShutdownWatch {
    /// Not connected yet. `root`: the directory that the bus' socket is looked for under.
    #[must_use]
    pub fn new(root: &Path, token: Token) -> Self {
        Self {
            root: root.to_owned(),
            token,
            stream: None,
            is_authenticated: false,
            input: Vec::new(),
            announced: None,
        }
    }

    /// The kind of shutdown, when systemd has begun it.
    #[must_use]
    pub fn announced(&self) -> Option<NoticeKind> {
        self.announced
    }

    /// Connects, when there is no connection and systemd runs here.
    pub fn connect(&mut self, registry: &Registry) {
        if self.stream.is_some() || !self.root.join(BOOTED).exists() {
            return;
        }
        match self.open(registry) {
            Ok(stream) => self.stream = Some(stream),
            Err(error) => log::debug!("no system bus to hear of a shutdown: {error}"),
        }
    }

    fn open(&mut self, registry: &Registry) -> io::Result<UnixStream> {
        (self.is_authenticated, self.input) = (false, Vec::new());
        let mut stream = UnixStream::connect(self.root.join(SOCKET))?;
        // Written at once, as the bus allows: a fresh connection has room for it.
        let questions = questions();
        if stream.write(&questions)? < questions.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        registry.register(&mut stream, self.token, Interest::READABLE)?;
        Ok(stream)
    }

    /// Reads what the bus has said.
    pub fn ready(&mut self, registry: &Registry) {
        let Some(mut stream) = self.stream.take() else { return };
        match self.read(&mut stream) {
            Ok(()) => self.stream = Some(stream),
            Err(error) => {
                log::debug!("the system bus: {error}");
                let _ = registry.deregister(&mut stream);
            }
        }
    }

    fn read(&mut self, stream: &mut UnixStream) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("it has closed the connection")),
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            self.take_input()?;
        }
    }

    fn take_input(&mut self) -> io::Result<()> {
        if !self.is_authenticated {
            let Some(end) = self.input.windows(2).position(|bytes| bytes == b"\r\n") else {
                return self.bound();
            };
            if !self.input.starts_with(b"OK ") {
                return Err(io::Error::other("it refuses this user"));
            }
            self.input.drain(..end + 2);
            self.is_authenticated = true;
        }
        while let Some((length, message)) = next_message(&self.input, INPUT_BYTES_MAX)? {
            self.input.drain(..length);
            self.take(&message);
        }
        self.bound()
    }

    fn bound(&self) -> io::Result<()> {
        let is_small = self.input.len() <= INPUT_BYTES_MAX;
        if is_small { Ok(()) } else { Err(io::Error::other("it says more than can be meant for us")) }
    }

    fn take(&mut self, message: &Message) {
        // The job's object path, then its unit.
        let Some(unit) = message.texts.get(1) else { return };
        let Some((_, kind)) = TARGETS.iter().find(|(target, _)| target == unit) else { return };
        match message.member.as_str() {
            "JobNew" => self.announced = Some(*kind),
            // It has been cancelled. One that is done is followed by nothing that we would hear.
            "JobRemoved" if self.announced == Some(*kind) => self.announced = None,
            _ => {}
        }
    }
}

/// All that is ever said to the bus: who we are, and what we want to hear.
fn questions() -> Vec<u8> {
    let user = rustix::process::geteuid().as_raw().to_string();
    let user: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut bytes = format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n").into_bytes();
    let mut calls = vec![("Hello", BUS, None)];
    let rules = TARGETS.map(|(target, _)| {
        let (sender, path, interface) = SYSTEMD;
        format!("type='signal',sender='{sender}',path='{path}',interface='{interface}',arg2='{target}'")
    });
    calls.extend(rules.iter().map(|rule| ("AddMatch", BUS, Some(rule.as_str()))));
    // It announces nothing to nobody.
    calls.push(("Subscribe", SYSTEMD, None));
    for (serial, (member, (destination, path, interface), text)) in (1..).zip(calls) {
        Call { destination, path, interface, member, text }.write_to(serial, &mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests;
