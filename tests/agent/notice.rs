//! The shutdown notice of the agent as it is on the wire: what stands in for the server is a UDP socket, and
//! nobody answers.

use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::kit::{Site, TIMEOUT};
use muster::agent::identity::Identity;
use muster::wire::datagram::{DATAGRAM_BYTES_MAX, Notice, NoticeKind, boot_of};

/// Time in which nothing may come before a test believes that nothing will.
const QUIET: Duration = Duration::from_millis(300);

/// Longest end of an agent, whatever its server does. The agent promises two seconds; the machine may be
/// busy.
const END_SECONDS_MAX: f64 = 3.0;

const BOOT_ID: &str = "0b5e9a1c-4c1d-4b7e-9f0a-3d2c1b0a9f8e";

/// An enrolled device whose server has gone.
struct Kiosk {
    site: Site,
    identity: Identity,
}

impl Kiosk {
    fn enrol() -> Self {
        let (site, server) = Site::enrolled();
        server.kill();
        let identity = Identity::read(&site.path("agent")).unwrap().unwrap();
        Self { site, identity }
    }

    /// The agent's host is a made-up one, and one application takes so long to be looked at that the agent
    /// does not come to connect.
    fn configure(&self, is_slow: bool) {
        let (root, applications) = (self.site.path("root"), self.site.path("applications.d"));
        let boot_id = root.join("proc/sys/kernel/random/boot_id");
        std::fs::create_dir_all(boot_id.parent().unwrap()).unwrap();
        std::fs::write(boot_id, format!("{BOOT_ID}\n")).unwrap();
        std::fs::create_dir_all(&applications).unwrap();
        if is_slow {
            let text = "name = \"slow\"\n[condition]\ncommand = [\"sleep\", \"30\"]\ntimeout_seconds = 60\n";
            std::fs::write(applications.join("slow.toml"), text).unwrap();
        }
        self.site.configure(&format!("[collect]\nroot = {root:?}\n"));
    }

    /// systemd runs, and systemctl(1) is these lines of a shell. The `PATH` on which it is found.
    fn with_systemctl(&self, lines: &str) -> String {
        std::fs::create_dir_all(self.site.path("root/run/systemd/system")).unwrap();
        let programs = self.site.path("programs");
        std::fs::create_dir_all(&programs).unwrap();
        let systemctl = programs.join("systemctl");
        std::fs::write(&systemctl, format!("#!/bin/sh\n{lines}\n")).unwrap();
        std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("{}:{}", programs.display(), std::env::var("PATH").unwrap())
    }

    /// The socket at which the server heard notices: the number of its TCP port.
    fn notice_socket(&self) -> UdpSocket {
        let socket = UdpSocket::bind(self.site.address).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket
    }

    /// The three copies of one authentic notice, and nothing else.
    fn notice(&self, socket: &UdpSocket) -> Notice {
        let mut bytes = [0; DATAGRAM_BYTES_MAX];
        let mut copies = Vec::new();
        for _ in 0..3 {
            let length = socket.recv(&mut bytes).unwrap();
            copies.push(bytes[..length].to_vec());
        }
        assert!(copies.iter().all(|copy| *copy == copies[0]), "{copies:x?}");
        socket.set_read_timeout(Some(QUIET)).unwrap();
        assert!(socket.recv(&mut bytes).is_err(), "a fourth copy");
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        let notice = Notice::open(&copies[0], &self.identity.notice_key).unwrap();
        assert_eq!((notice.device, notice.boot), (self.identity.device, boot_of(BOOT_ID)));
        notice
    }
}

#[test]
fn three_copies_leave_with_a_number_that_no_life_of_the_agent_has_used() {
    let kiosk = Kiosk::enrol();
    kiosk.configure(false);
    let socket = kiosk.notice_socket();
    let mut last = 0;
    for is_killed_before in [false, true, false] {
        if is_killed_before {
            kiosk.site.agent_process().kill();
        }
        assert!(kiosk.site.agent_process().end().success());
        let notice = kiosk.notice(&socket);
        assert_eq!(notice.kind, NoticeKind::AgentStopped);
        assert!(notice.counter > last, "{} after {last}", notice.counter);
        last = notice.counter;
    }
}

#[test]
fn an_agent_that_never_came_to_connect_finds_the_server_for_its_notice() {
    let kiosk = Kiosk::enrol();
    kiosk.configure(true);
    let socket = kiosk.notice_socket();
    assert!(kiosk.site.agent_process().end().success());
    assert_eq!(kiosk.notice(&socket).kind, NoticeKind::AgentStopped);
    let log = kiosk.site.log("agent.log");
    assert!(!log.contains("refused"), "it tried to connect: {log}");
}

/// While it begins a shutdown systemd takes long to answer, longest on small machines.
#[test]
fn a_reboot_is_told_as_one_though_the_service_manager_is_busy() {
    let kiosk = Kiosk::enrol();
    kiosk.configure(false);
    let path = kiosk.with_systemctl("sleep 0.8; echo '1234 reboot.target start waiting'");
    let socket = kiosk.notice_socket();
    let agent = kiosk.site.agent_process_with(&[("PATH", &path)]);
    let begun = Instant::now();
    assert!(agent.end().success());
    assert!(begun.elapsed().as_secs_f64() < END_SECONDS_MAX);
    assert_eq!(kiosk.notice(&socket).kind, NoticeKind::Reboot);
}

/// Nobody asks for the list of jobs then: it would say that nothing but the agent is stopped.
#[test]
fn a_reboot_that_systemd_has_announced_is_told_as_one() {
    let kiosk = Kiosk::enrol();
    kiosk.configure(false);
    let path = kiosk.with_systemctl("true");
    let bus = kiosk.site.path("root/run/dbus/system_bus_socket");
    std::fs::create_dir_all(bus.parent().unwrap()).unwrap();
    let bus = UnixListener::bind(bus).unwrap();
    let socket = kiosk.notice_socket();
    let agent = kiosk.site.agent_process_with(&[("PATH", &path)]);
    let mut agents_end = bus.accept().unwrap().0;
    agents_end.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
    agents_end.write_all(&job_new("reboot.target")).unwrap();
    // It hears the bus before it answers this.
    assert_eq!(kiosk.site.status()["running"], true);
    assert!(agent.end().success());
    assert_eq!(kiosk.notice(&socket).kind, NoticeKind::Reboot, "{}", kiosk.site.log("agent.log"));
}

/// The signal JobNew of org.freedesktop.systemd1(5), as D-Bus writes it (D-Bus Specification 0.41).
fn job_new(unit: &str) -> Vec<u8> {
    fn text(bytes: &mut Vec<u8>, text: &str) {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.bytes().chain([0]));
    }
    let mut fields = Vec::new();
    for (code, kind, value) in [
        (1, b'o', "/org/freedesktop/systemd1"),
        (2, b's', "org.freedesktop.systemd1.Manager"),
        (3, b's', "JobNew"),
    ] {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([code, 1, kind, 0]);
        text(&mut fields, value);
    }
    fields.resize(fields.len().next_multiple_of(8), 0);
    fields.extend(b"\x08\x01g\0\x03uos\0");
    let mut body = 1234_u32.to_le_bytes().to_vec();
    text(&mut body, "/org/freedesktop/systemd1/job/1234");
    text(&mut body, unit);
    let lengths = [body.len(), 1, fields.len()].map(|number| u32::try_from(number).unwrap().to_le_bytes());
    let mut bytes = [&[b'l', 4, 0, 1][..], lengths.as_flattened(), &fields].concat();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body);
    bytes
}

/// At a level that is seen, and with the time that it had.
#[test]
fn a_service_manager_that_does_not_answer_in_time_is_named_in_the_log() {
    let kiosk = Kiosk::enrol();
    kiosk.configure(false);
    let path = kiosk.with_systemctl("sleep 60");
    let socket = kiosk.notice_socket();
    let mut log = String::new();
    // The agent may end a moment before the one who asks has given up.
    for _ in 0..10 {
        let agent = kiosk.site.agent_process_with(&[("PATH", &path)]);
        let begun = Instant::now();
        assert!(agent.end().success());
        assert!(begun.elapsed().as_secs_f64() < END_SECONDS_MAX);
        assert_eq!(kiosk.notice(&socket).kind, NoticeKind::AgentStopped);
        log = kiosk.site.log("agent.log");
        if log.contains("whether the system shuts down is not known") {
            break;
        }
    }
    let said = log.lines().find(|line| line.contains("'systemctl' took longer than 1.6 s and was ended"));
    assert!(said.is_some_and(|line| line.contains(" WARN ")), "{log}");
}

/// With a server that does not answer and an event to deliver, a shutdown notice is more than a second away.
#[test]
fn who_asks_twice_does_not_want_to_wait() {
    let kiosk = Kiosk::enrol();
    kiosk.configure(false);
    // The kernel takes the connection, and nobody ever says anything on it.
    let _silent = TcpListener::bind(kiosk.site.address).unwrap();
    let agent = kiosk.site.agent_process();
    assert!(kiosk.site.emit("info", "waits").status.success());
    agent.signal(rustix::process::Signal::TERM);
    // The agent hears of the one before the other comes.
    std::thread::sleep(Duration::from_millis(200));
    assert!(agent.end().success());
    let log = kiosk.site.log("agent.log");
    assert!(log.contains("ended") && !log.contains("shutdown notice"), "{log}");
}

/// Neither with something to deliver nor without.
#[test]
fn a_name_that_leads_nowhere_holds_nobody_up() {
    let kiosk = Kiosk::enrol();
    kiosk.configure(false);
    let file = kiosk.site.path("agent/muster-agent.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    // RFC 6761 section 6.4
    std::fs::write(&file, format!("server = \"muster.invalid\"\n{text}")).unwrap();
    for has_event in [false, true] {
        let agent = kiosk.site.agent_process();
        if has_event {
            assert!(kiosk.site.emit("info", "waits").status.success());
        }
        let begun = Instant::now();
        assert!(agent.end().success());
        let took = begun.elapsed().as_secs_f64();
        println!("with an event: {has_event}, {took:.2} s");
        assert!(took < END_SECONDS_MAX, "the end took {took:.1} s");
    }
}
