//! Memory that a connected device costs a server: the sizes of its parts in the tables, and the slope that
//! the load tool measures.
//!
//! `cargo bench -p muster-load --bench density` holds 2,000 devices and fails when one takes more than 640
//! bytes; `cargo bench -p muster-load --bench density -- 2000 10000 18000` measures larger fleets too, of
//! which 512 are allowed, and what everything grows by between the first of them and the last.
#![expect(clippy::unwrap_used, reason = "a bench that can't do its work ends")]

use std::process::{Command, ExitCode, Stdio};

use muster::machine::device_state::DeviceState;
use muster::machine::session::Session;
use muster::reactor::channel::ServerChannel;
use muster::reactor::{DEADLINE_BYTES, LINK_BYTES};
use muster::record_layer::SlimLink;
use muster::store::table::{CERTIFICATE_BYTES, DeviceTable, RECORD_BYTES};
use muster::wire::id::{CertificateHash, DeviceId};
use serde_json::Value;

/// Most memory of a connected device: the target.
const DEVICE_BYTES_MAX: f64 = 512.0;

/// The same with fewer devices than [`MANY_DEVICES`]: what else moves in a process is a fifth of what so few
/// take.
const FEW_DEVICE_BYTES_MAX: f64 = 640.0;

/// Records with which the device table is measured on its own.
const TABLE_RECORDS: u64 = 200_000;

/// From this many devices on a slope is good for the target.
const MANY_DEVICES: f64 = 10_000.0;

/// Devices where nobody says how many.
const DEVICES_DEFAULT: &str = "2000";

/// Time for which all of them are held.
const HOLD_SECONDS: &str = "1";

fn main() -> ExitCode {
    let mut fleets: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if std::env::args().any(|argument| argument == "--test") {
        // `cargo test --benches` only looks whether it builds.
        return ExitCode::SUCCESS;
    }
    if fleets.is_empty() {
        fleets.push(DEVICES_DEFAULT.to_owned());
    }
    sizes();
    let table = table();
    println!(
        "{table:>5.0}  a known device in a table of {TABLE_RECORDS}, as this process grows, with everything"
    );
    let mut code = ExitCode::SUCCESS;
    let mut held = Vec::new();
    for fleet in &fleets {
        let mut found = hold(fleet, table);
        if found.is_too_much() {
            // Other memory that moves in a process, or on a busy machine, comes on top; a device's is there
            // the second time too.
            let again = hold(fleet, table);
            found = if again.each < found.each { again } else { found };
        }
        if found.is_too_much() {
            let (each, most) = (found.each, found.most());
            println!("density: {each:.0} bytes a device with {fleet} devices, at most {most:.0} are allowed");
            code = ExitCode::FAILURE;
        }
        held.push(found);
    }
    if let (Some(first), Some(last)) = (held.first(), held.last())
        && last.devices > first.devices
    {
        println!(
            "between {} and {} connected devices the whole server grew by {:.0} bytes a device",
            first.devices,
            last.devices,
            (last.bytes - first.bytes) / (last.devices - first.devices)
        );
    }
    code
}

fn sizes() {
    println!("bytes  what");
    let rows = [
        ("a link in a reactor's table", LINK_BYTES),
        ("  of it: the channel", size_of::<ServerChannel>()),
        ("    of it: two secrets, two numbers, a state", size_of::<SlimLink>()),
        ("  of it: the session", size_of::<Session>()),
        ("its deadline", DEADLINE_BYTES),
        ("the device's record in the table", RECORD_BYTES),
        ("  of it: the record", size_of::<DeviceState>()),
        ("whose certificate it is", CERTIFICATE_BYTES),
    ];
    for (what, bytes) in rows {
        println!("{bytes:>5}  {what}");
    }
    let sum = LINK_BYTES + DEADLINE_BYTES + RECORD_BYTES + CERTIFICATE_BYTES;
    println!("{sum:>5}  together, and 11 to 23 of the two indexes");
}

/// Growth of the device table for each device, in bytes: `Anonymous` of this process, as the load tool looks
/// at servers.
fn table() -> f64 {
    let spread = |number: u64| {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let before = anonymous_bytes();
    let table = DeviceTable::default();
    for number in 1..=TABLE_RECORDS {
        let mut certificate = CertificateHash([0; 32]);
        certificate.0[..8].copy_from_slice(&spread(number).to_be_bytes());
        certificate.0[8..16].copy_from_slice(&number.to_be_bytes());
        table.insert(DeviceState::new(DeviceId(spread(number)), 900), &certificate);
    }
    assert_eq!(table.len() as u64, TABLE_RECORDS);
    (anonymous_bytes() - before) / TABLE_RECORDS as f64
}

fn anonymous_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap() * 1_024.0
}

/// Observation of one fleet.
struct Held {
    devices: f64,
    /// Bytes of a connected device.
    each: f64,
    /// Bytes of the server with all links.
    bytes: f64,
}

impl Held {
    fn most(&self) -> f64 {
        if self.devices < MANY_DEVICES { FEW_DEVICE_BYTES_MAX } else { DEVICE_BYTES_MAX }
    }

    fn is_too_much(&self) -> bool {
        self.each > self.most()
    }
}

/// Private memory of a server and of each device, as the load tool measures them from outside. A server that
/// knows few devices has them where something else was, so that a device counts with no less than the `table`
/// takes for it.
fn hold(devices: &str, table: f64) -> Held {
    let arguments =
        ["hold", "--self", "--no-cache", "--json", "--seconds", HOLD_SECONDS, "--devices", devices];
    let output = Command::new(env!("CARGO_BIN_EXE_muster-load"))
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "muster-load hold has failed: {}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figure = |name: &str| report["figures"][name].as_f64().unwrap();
    let mebibytes = |name: &str| figure(name) / 1_048_576.0;
    let held = Held {
        devices: figure("links"),
        each: figure("private_bytes_per_link") + figure("private_bytes_per_known_device").max(table),
        bytes: figure("held_private_bytes"),
    };
    println!(
        "{devices} devices: {:.0} bytes each, of them {:.0} for the link and {:.0} for knowing the device; the kernel's {:.0} for a socket; \
         the server without devices {:.1} MiB, when all had been there and gone {:.1}, with all of them {:.1}; \
         {:.2} of that when they had gone again, {:.2} of the server before the first link",
        held.each,
        figure("private_bytes_per_link"),
        figure("private_bytes_per_known_device"),
        figure("kernel_bytes_per_socket"),
        mebibytes("empty_server_private_bytes"),
        mebibytes("idle_private_bytes"),
        mebibytes("held_private_bytes"),
        figure("memory_after_closing_ratio"),
        figure("memory_after_closing_of_started_ratio"),
    );
    held
}
