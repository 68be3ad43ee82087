//! Speed of reaching a device, and cost of strangers' datagrams: real processes and sockets on loopback.
//!
//! `cargo bench --bench reach`. Times of the machine that it runs on; nothing is asserted but that it works.
#![expect(clippy::unwrap_used, reason = "a bench that can't do its work ends")]

#[path = "../tests/kit/mod.rs"]
mod kit;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use kit::{Fixture, Running, Site, eventually};
use muster::wire::datagram::{Notice, NoticeKind};
use muster::wire::message::{Reach, SyncReason};

/// Forced syncs of each kind.
const ROUNDS: usize = 200;

/// Pause between them: the agent takes ten wakes a second for long.
const PAUSE: Duration = Duration::from_millis(110);

/// Datagrams a second, and for how long.
const FLOOD_PER_SECOND: u32 = 10_000;
const FLOOD_SECONDS: u32 = 3;

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        // `cargo test --benches` only looks whether it builds.
        return;
    }
    let fleet = Fleet::start();
    fleet.forced_syncs("a disconnected agent, by wake", "wake");
    fleet.site.ctl_json(&["device", "set", "kiosk", "--keep-connected", "on"]);
    eventually("the persistent link", || fleet.site.shown()["presence"] == "connected");
    fleet.forced_syncs("a connected agent, on its link", "link");
    drop(fleet);
    flood();
}

struct Fleet {
    site: Site,
    _processes: [Running; 2],
}

impl Fleet {
    fn start() -> Self {
        let (site, server) = Site::enrolled();
        site.configure("");
        let fleet = Self { _processes: [server, site.agent_process()], site };
        eventually("the first sync", || fleet.site.shown()["presence"] == "idle");
        fleet
    }

    fn forced_syncs(&self, what: &str, via: &str) {
        let (mut begun, mut synced, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let outcome = self.site.ctl_json(&["device", "sync", "kiosk", "--wait"])[0].clone();
            whole.push(u64::try_from(started.elapsed().as_micros()).unwrap());
            assert_eq!(outcome["by"], via, "{outcome}");
            begun.push(outcome["begun_microseconds"].as_u64().unwrap());
            synced.push(outcome["synced_microseconds"].as_u64().unwrap());
            std::thread::sleep(PAUSE);
        }
        println!("forced sync of {what}, {ROUNDS} rounds, from the question at the server's socket:");
        for (name, mut times) in
            [("sync begun", begun), ("in sync", synced), ("musterctl, whole process", whole)]
        {
            times.sort_unstable();
            let at = |of_hundred: usize| times[(times.len() - 1) * of_hundred / 100] as f64 / 1_000.0;
            println!(
                "  {name:<26} p50 {:>7.2} ms   p99 {:>7.2} ms   max {:>7.2} ms",
                at(50),
                at(99),
                at(100)
            );
        }
    }
}

/// CPU time of the thread with this name in this process (proc_pid_task(5), `schedstat`).
fn thread_microseconds(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of_thread = |path: std::path::PathBuf| {
        let comm = std::fs::read_to_string(path.join("comm")).ok()?;
        let schedstat = std::fs::read_to_string(path.join("schedstat")).ok()?;
        let nanoseconds: u64 = schedstat.split(' ').next()?.parse().ok()?;
        (comm.trim() == name).then_some(nanoseconds / 1_000)
    };
    tasks.filter_map(|task| of_thread(task.ok()?.path())).sum()
}

fn flood() {
    let fixture = Fixture::start();
    let kiosk = fixture.enrol("kiosk");
    let mut wire = kiosk.connect(&fixture);
    wire.sync_inventory(1);
    let reach = Reach { udp_port: 0, wake_counter: 0, notice_counter: 5, boot: 7 };
    wire.sync_as(1, SyncReason::Scheduled, Some(reach));
    let genuine = Notice { device: kiosk.id, kind: NoticeKind::Shutdown, counter: 4, boot: 7 };
    let replayed = genuine.seal(&kiosk.enrolled.notice_key);
    let mut forged = replayed;
    forged[50] ^= 1;
    let mut of_nobody = replayed;
    of_nobody[8] ^= 1;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    println!(
        "datagrams that mean nothing, {FLOOD_PER_SECOND} a second for {FLOOD_SECONDS} s, server CPU each (receiving included):"
    );
    for (name, bytes) in [("replayed", replayed), ("forged", forged), ("of an unknown device", of_nobody)] {
        let counters = fixture.server.counters();
        let (heard, cpu) = (counters.datagrams_received.get(), thread_microseconds("datagrams"));
        let begun = Instant::now();
        for number in 0..FLOOD_PER_SECOND * FLOOD_SECONDS {
            let due = begun + Duration::from_secs(1) * number / FLOOD_PER_SECOND;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            socket.send_to(&bytes, fixture.server.udp_address()).unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
        let heard = counters.datagrams_received.get() - heard;
        let each = (thread_microseconds("datagrams") - cpu) as f64 / heard as f64;
        println!("  {name:<26} {each:>6.2} µs   ({heard} heard)");
    }
    assert_eq!(fixture.server.counters().notices.get(), 0);
    let record = fixture.server.store().table().get(kiosk.id).unwrap();
    assert!(record.link.is_some() && record.departure.is_none());
}
