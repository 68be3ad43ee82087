//! What a connected device costs a server in memory: the sizes of what stands in the tables, and the slope that the load tool measures.
//!
//! `cargo bench --bench density` holds 2,000 devices and fails when one takes more than 640 bytes; `cargo bench --bench density -- 2000 10000
//! 18000` measures larger fleets too. With few devices most of what is measured is what first visits and first buffers take once, so that it
//! is no part of the checks of every change yet.
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

/// Most memory of a connected device that a change may leave, in bytes: the target is 512, and a measurement of few links is uncertain by
/// a fifth.
const DEVICE_BYTES_MAX: f64 = 640.0;

/// Devices where nobody says how many.
const DEVICES_DEFAULT: &str = "2000";

/// How long all of them are held, in seconds: long enough for the memory of the handshakes to be given back.
const HOLD_SECONDS: &str = "3";

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
    for devices in fleets {
        let each = hold(&devices);
        if each > DEVICE_BYTES_MAX {
            println!("density: {each:.0} bytes a device, at most {DEVICE_BYTES_MAX:.0} are allowed");
            code = ExitCode::FAILURE;
        }
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

/// Bytes of private memory for each device, as the load tool measures them from outside.
fn hold(devices: &str) -> f64 {
    let arguments = ["hold", "--self", "--json", "--seconds", HOLD_SECONDS, "--devices", devices];
    let output = Command::new(env!("CARGO_BIN_EXE_muster-load"))
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "muster-load hold has failed: {}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figure = |name: &str| report["figures"][name].as_f64().unwrap();
    let each = figure("private_bytes_per_device");
    println!(
        "{devices} devices: {each:.0} bytes each, of them {:.0} for the link and {:.0} for knowing the device; the kernel's {:.0} for a socket; \
         the server without devices {:.1} MiB, with all of them {:.1} MiB",
        figure("private_bytes_per_link"),
        figure("private_bytes_per_known_device"),
        figure("kernel_bytes_per_socket"),
        figure("empty_server_private_bytes") / 1_048_576.0,
        figure("held_private_bytes") / 1_048_576.0,
    );
    each
}
