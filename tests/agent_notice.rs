//! The shutdown notice of the agent as it is on the wire: what stands in for the server is a UDP socket, and
//! nobody answers.
#![cfg(all(feature = "server", feature = "agent", feature = "ctl"))]
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod agent_support;

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use agent_support::{Running, Site, TIMEOUT, error_of, free_udp_port};
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
        let site = Site::new();
        let server = site.server();
        let enrolled = site.enroll(&site.token());
        assert!(enrolled.status.success(), "{}", error_of(&enrolled));
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
        let port = free_udp_port();
        let text =
            format!("applications = {applications:?}\n[wake]\nport = {port}\n[collect]\nroot = {root:?}\n");
        std::fs::write(self.site.path("agent/muster-agent.toml"), text).unwrap();
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

fn terminate(agent: &Running) {
    let id = rustix::process::Pid::from_raw(i32::try_from(agent.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
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
    std::fs::create_dir_all(kiosk.site.path("root/run/systemd/system")).unwrap();
    let programs = kiosk.site.path("programs");
    std::fs::create_dir_all(&programs).unwrap();
    let systemctl = programs.join("systemctl");
    let text = "#!/bin/sh\nsleep 0.8\necho '1234 reboot.target start waiting'\n";
    std::fs::write(&systemctl, text).unwrap();
    std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let socket = kiosk.notice_socket();
    let agent = kiosk.site.agent_process_with(&[("PATH", &path)]);
    let begun = Instant::now();
    assert!(agent.end().success());
    assert!(begun.elapsed().as_secs_f64() < END_SECONDS_MAX);
    assert_eq!(kiosk.notice(&socket).kind, NoticeKind::Reboot);
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
    terminate(&agent);
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
