//! What a connected device costs a server in memory: the sizes of what stands in the tables, and the slope that the load tool measures.
//!
//! `cargo bench --bench density` holds 2,000 devices and fails when one takes more than 640 bytes; `cargo bench --bench density -- 2000 10000
//! 18000` measures larger fleets too, of which 512 are allowed, and what everything grows by between the first of them and the last.
#![expect(clippy::unwrap_used, reason = "a bench that can't do its work ends")]

use std::process::{Command, ExitCode, Stdio};

use muster::machine::hot::{HotRecord, LinkRef};
use muster::machine::session::Session;
use muster::reactor::LINK_BYTES;
use muster::reactor::channel::ServerChannel;
use muster::record_layer::SlimLink;
use muster::store::table::{CERTIFICATE_BYTES, RECORD_BYTES};
use muster::wire::time::Moment;
use serde_json::Value;

/// Most memory of a connected device, in bytes: the target.
const DEVICE_BYTES_MAX: f64 = 512.0;

/// The same with fewer devices than [`MANY_DEVICES`], in bytes. Of one server with 2,000 devices between 300 and 535 were measured: a block of 128 KiB that
/// stands now among free pieces and now in pages of its own is as much as 130 bytes of each.
const FEW_DEVICE_BYTES_MAX: f64 = 640.0;

/// From so many devices on a slope is good for the target, in devices.
const MANY_DEVICES: f64 = 10_000.0;

/// Devices where nobody says how many.
const DEVICES_DEFAULT: &str = "2000";

/// How long all of them are held, in seconds.
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
    let mut code = ExitCode::SUCCESS;
    let mut held = Vec::new();
    for fleet in &fleets {
        let mut found = hold(fleet);
        if found.is_too_much() {
            // What else moves in a process, or on a busy machine, comes on top; what a device takes is there the second time too.
            let again = hold(fleet);
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
        ("its deadline", size_of::<(Moment, LinkRef)>()),
        ("the device's record in the table", RECORD_BYTES),
        ("  of it: the record", size_of::<HotRecord>()),
        ("whose certificate it is", CERTIFICATE_BYTES),
    ];
    for (what, bytes) in rows {
        println!("{bytes:>5}  {what}");
    }
    let sum = LINK_BYTES + size_of::<(Moment, LinkRef)>() + RECORD_BYTES + CERTIFICATE_BYTES;
    println!("{sum:>5}  together, and 11 to 23 of the two indexes");
}

/// What was seen of one fleet.
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

/// Private memory of a server and of each device, as the load tool measures them from outside.
fn hold(devices: &str) -> Held {
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
        each: figure("private_bytes_per_device"),
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
