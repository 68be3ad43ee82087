//! With the real dbus-daemon(1), where it is installed; what stands in for systemd owns its name there.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use super::*;

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bus that lets everybody say everything.
fn daemon(root: &Path) -> Option<Daemon> {
    let socket = root.join(SOCKET);
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    std::fs::create_dir_all(root.join(BOOTED)).unwrap();
    let config = root.join("bus.conf");
    let text = format!(
        "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
         <allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/></policy></busconfig>",
        socket.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("dbus-daemon");
    command.arg(format!("--config-file={}", config.display())).args(["--nofork", "--nopidfile"]);
    let daemon = Daemon(command.stdin(Stdio::null()).spawn().ok()?);
    let begun = Instant::now();
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(120), "the bus does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(daemon)
}

/// Announces as systemd does that a job of `unit` is queued or gone.
fn announce(bus: &mut Bus, member: &str, unit: &str) {
    bus.0.write_all(&signal(member, unit)).unwrap();
}

/// One that owns systemd's name.
struct Bus(std::os::unix::net::UnixStream);

impl Bus {
    fn own(root: &Path, name: &str) -> Self {
        let mut stream = std::os::unix::net::UnixStream::connect(root.join(SOCKET)).unwrap();
        let user: String = rustix::process::geteuid()
            .as_raw()
            .to_string()
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut bytes = format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n").into_bytes();
        let (destination, path, interface) = super::BUS;
        Call { destination, path, interface, member: "Hello", text: None }.write_to(1, &mut bytes);
        bytes.extend(request_name(name));
        stream.write_all(&bytes).unwrap();
        // One for the connection's own name, one for the other.
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut said = Vec::new();
        while said.windows(12).filter(|bytes| bytes == b"NameAcquired").count() < 2 {
            let mut buffer = [0; 512];
            let length = stream.read(&mut buffer).unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&buffer[..length]);
        }
        Self(stream)
    }

    /// Waits until the bus has read everything that was said to it, and passed it on.
    fn sync(&mut self) {
        let (destination, path, interface) = super::BUS;
        let mut bytes = Vec::new();
        Call { destination, path, interface, member: "GetId", text: None }.write_to(9, &mut bytes);
        self.0.write_all(&bytes).unwrap();
        // The answer is 32 hexadecimal digits.
        let mut said = Vec::new();
        while !said.split(|byte: &u8| !byte.is_ascii_hexdigit()).any(|digits| digits.len() == 32) {
            let mut buffer = [0; 512];
            let length = self.0.read(&mut buffer).unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&buffer[..length]);
        }
    }
}

fn message(kind: u8, fields: &[(u8, u8, &str)], serial: u32, body: &[u8]) -> Vec<u8> {
    let pad = |bytes: &mut Vec<u8>, to: usize| bytes.resize(bytes.len().next_multiple_of(to), 0);
    let mut head = Vec::new();
    for (code, of, text) in fields {
        pad(&mut head, 8);
        head.extend_from_slice(&[*code, 1, *of, 0]);
        let length = u32::try_from(text.len()).unwrap().to_le_bytes();
        head.extend_from_slice(if *of == b'g' { &length[..1] } else { &length });
        head.extend_from_slice(text.as_bytes());
        head.push(0);
    }
    let mut bytes = vec![b'l', kind, 0, 1];
    for number in [u32::try_from(body.len()).unwrap(), serial, u32::try_from(head.len()).unwrap()] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend(head);
    pad(&mut bytes, 8);
    bytes.extend_from_slice(body);
    bytes
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
    body.extend_from_slice(text.as_bytes());
    body.push(0);
}

fn request_name(name: &str) -> Vec<u8> {
    let (destination, path, interface) = super::BUS;
    let mut body = Vec::new();
    text(&mut body, name);
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend_from_slice(&[0; 4]);
    let fields = [
        (1, b'o', path),
        (2, b's', interface),
        (3, b's', "RequestName"),
        (6, b's', destination),
        (8, b'g', "su"),
    ];
    message(1, &fields, 2, &body)
}

fn signal(member: &str, unit: &str) -> Vec<u8> {
    let (_, path, interface) = SYSTEMD;
    let mut body = 1234_u32.to_le_bytes().to_vec();
    text(&mut body, "/org/freedesktop/systemd1/job/1234");
    text(&mut body, unit);
    let signature = if member == "JobRemoved" { "uoss" } else { "uos" };
    if member == "JobRemoved" {
        text(&mut body, "canceled");
    }
    let fields = [(1, b'o', path), (2, b's', interface), (3, b's', member), (8, b'g', signature)];
    message(4, &fields, 3, &body)
}

#[test]
fn a_reboot_is_heard_as_it_is_queued_and_nothing_else_is() {
    let root = tempfile::tempdir().unwrap();
    let Some(_daemon) = daemon(root.path()) else {
        crate::skip::skipped("no dbus-daemon(1) here");
        return;
    };
    let mut poll = Poll::new().unwrap();
    let registry = poll.registry().try_clone().unwrap();
    let mut watch = ShutdownWatch::new(root.path(), Token(0));
    watch.connect(poll.registry());
    let mut events = Events::with_capacity(4);
    let mut until = |watch: &mut ShutdownWatch, wanted: Option<NoticeKind>| {
        let (begun, before) = (Instant::now(), watch.announced());
        while watch.announced() != wanted {
            assert_eq!(watch.announced(), before, "{wanted:?} is what comes next");
            assert!(begun.elapsed() < Duration::from_secs(120), "{wanted:?} is not heard: {watch:?}");
            poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
            watch.ready(poll.registry());
            watch.connect(poll.registry());
        }
        assert!(watch.stream.is_some());
    };
    let mut systemd = Bus::own(root.path(), "org.freedesktop.systemd1");
    // The watch was connected before: what it asked for is in force now. One who is not systemd is not
    // believed.
    let mut other = Bus::own(root.path(), "org.example.Other");
    announce(&mut other, "JobNew", "reboot.target");
    other.sync();
    // The message that was passed on is read before the next one, in another turn.
    watch.ready(&registry);
    assert_eq!(watch.announced(), None, "it is not systemd's");
    announce(&mut systemd, "JobNew", "shop.service");
    announce(&mut systemd, "JobNew", "poweroff.target");
    until(&mut watch, Some(NoticeKind::Shutdown));
    announce(&mut systemd, "JobRemoved", "poweroff.target");
    until(&mut watch, None);
    announce(&mut systemd, "JobNew", "reboot.target");
    until(&mut watch, Some(NoticeKind::Reboot));
}

#[test]
fn without_systemd_or_a_bus_there_is_nothing_to_hear() {
    let root = tempfile::tempdir().unwrap();
    let poll = Poll::new().unwrap();
    let mut watch = ShutdownWatch::new(root.path(), Token(0));
    watch.connect(poll.registry());
    std::fs::create_dir_all(root.path().join(BOOTED)).unwrap();
    watch.connect(poll.registry());
    watch.ready(poll.registry());
    assert!(watch.stream.is_none() && watch.announced().is_none());
}
