//! The tables and timers of a server with two million links, without their sockets: nothing in the code is to
//! assume fewer. Their cost is printed (`cargo test --release --test library two_million -- --nocapture`);
//! the test holds that they work, and that growing never takes a multiple of what is there.

use std::time::Instant;

use crate::alone;
use muster::machine::device_state::CertificateStatus;
use muster::machine::device_state::{DeviceState, LinkRef};
use muster::machine::session::Session;
use muster::machine::slab::SegmentedSlab;
use muster::machine::timers::Timers;
use muster::reactor::LINK_BYTES;
use muster::record_layer::{SlimLink, Start, Suite};
use muster::store::table::DeviceTable;
use muster::wire::id::{CertificateHash, DeviceId};
use muster::wire::time::{CoarseMoment, Moment, Now, WallTime};

const LINKS: u64 = 2_000_000;

/// Spread as the ids of devices and the hashes of certificates are (the finaliser of SplitMix64).
fn spread(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn certificate(number: u64) -> CertificateHash {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&spread(number ^ 1 << 40).to_be_bytes());
    hash[8..16].copy_from_slice(&spread(number ^ 1 << 41).to_be_bytes());
    CertificateHash(hash)
}

/// Resident memory, now and at most, in bytes (proc_pid_status(5)).
fn resident() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0)
            << 10
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Does something with a table of two million entries, and prints what it took.
fn measured<R>(what: &str, work: impl FnOnce() -> R) -> R {
    let (before, start) = (resident().0, Instant::now());
    let result = work();
    let taken = start.elapsed();
    let bytes = resident().0.saturating_sub(before);
    let each = bytes / LINKS;
    println!("{what}: {:.2} s, {} MiB more, {each} bytes each", taken.as_secs_f64(), bytes >> 20);
    result
}

#[test]
fn two_million_links_have_names_records_and_deadlines() {
    // Memory is counted.
    if alone::is_elsewhere("two_million::two_million_links_have_names_records_and_deadlines") {
        return;
    }
    let now = Now { moment: Moment(1), wall: WallTime(1) };
    let table = DeviceTable::default();
    measured("device records and certificates", || {
        for number in 0..LINKS {
            table.insert(DeviceState::new(DeviceId(spread(number)), 900), &certificate(number));
        }
    });
    assert_eq!(table.len() as u64, LINKS);

    let mut links: SegmentedSlab<(SlimLink, Session, [u8; LINK_REST]), 1_024> = SegmentedSlab::new();
    measured("links", || {
        let secret = [7; 32];
        let start = || Start { secret: &secret, sequence: 0 };
        for number in 0..LINKS {
            let link = SlimLink::new(Suite::Aes128Gcm, start(), start()).unwrap();
            links.insert((link, Session::new(&now, Some(DeviceId(spread(number)))), [1; LINK_REST]));
        }
    });
    assert_eq!((links.len() as u64, links.capacity() as u64), (LINKS, LINKS.next_multiple_of(1_024)));

    let mut timers: Timers<u32, CoarseMoment> = Timers::default();
    measured("deadlines", || {
        for number in 0..LINKS {
            timers.arm(Moment(spread(number) % 1_000_000_000), u32::try_from(number).unwrap());
        }
    });
    measured("every device looked up by its certificate, its link named", || {
        for number in 0..LINKS {
            let device = DeviceId(spread(number));
            assert_eq!(table.by_certificate(&certificate(number)), CertificateStatus::Known(device));
            let name = LinkRef::new(0, u32::try_from(number).unwrap(), 1);
            assert_eq!(table.with(device, |record| record.link = name), Some(()));
        }
    });
    let mut due = 0;
    measured("every deadline come due", || {
        let mut last = CoarseMoment::not_before(Moment(0));
        while let Some(next) = timers.next() {
            assert!(next >= last, "earliest first");
            last = next;
            let slot = timers.due(next.moment()).unwrap();
            assert!(links.get(slot as usize).is_some());
            due += 1;
        }
    });
    assert_eq!(due, LINKS);

    let (_, most) = resident();
    let (grown, _) = resident();
    println!("resident: {} MiB now, {} MiB at most", grown >> 20, most >> 20);
    // All of it was there at once, the timers too; nothing was there twice.
    assert!(most - grown < grown / 4, "growing took {} MiB for a moment", (most - grown) >> 20);
    measured("every link gone", || {
        for number in 0..LINKS {
            assert!(links.remove(usize::try_from(number).unwrap()).is_some());
        }
    });
    assert_eq!(links.capacity(), 0);
}

/// Bytes that a link has besides its records and its session.
const LINK_REST: usize = LINK_BYTES - size_of::<SlimLink>() - size_of::<Session>();
