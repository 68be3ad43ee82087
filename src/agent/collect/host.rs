//! Host facts: what the host says of itself.

use std::io::{BufReader, Read as _};
use std::path::Path;

use aws_lc_rs::hmac;

use super::lines::each_line;
use super::{addresses, clipped};
use crate::agent::open;
use crate::wire::id::DeviceId;
use crate::wire::section::HostFacts;

/// Collects the host facts. Quick: a few small files and uname(2).
#[must_use]
pub fn collect(root: &Path) -> HostFacts {
    let mut facts = ["etc/os-release", "usr/lib/os-release"]
        .iter()
        .find_map(|file| open::file(&root.join(file)).ok())
        .map(|file| os_release(BufReader::new(file.take(OS_RELEASE_BYTES_MAX))))
        .unwrap_or_default();
    let system = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    facts.kernel = clipped(&format!("{} {}", text(system.sysname()), text(system.release())));
    facts.architecture = clipped(&text(system.machine()));
    facts.hostname = clipped(&text(system.nodename()));
    facts.addresses = addresses::collect(root);
    facts.boot_id = boot_id(root);
    facts.agent_version = env!("CARGO_PKG_VERSION").to_owned();
    facts
}

/// The host's name: what a device is called when nobody says otherwise.
#[must_use]
pub fn hostname() -> String {
    clipped(&rustix::system::uname().nodename().to_string_lossy())
}

/// Most of an os-release file that is read; Debian's has 270.
const OS_RELEASE_BYTES_MAX: u64 = 64 * 1024;

/// Reads os-release(5), shell-like assignments: what is said of the system there.
pub(super) fn os_release(reader: impl std::io::BufRead) -> HostFacts {
    let mut facts = HostFacts { os_id: "linux".to_owned(), ..HostFacts::default() };
    // Values that could not be read stay empty.
    let _ = each_line(reader, |line| {
        let Some((name, value)) = line.split_once('=') else { return };
        let value = clipped(&unquoted(value.trim()));
        match name.trim() {
            "ID" => facts.os_id = value,
            "PRETTY_NAME" => facts.os_name = value,
            "VERSION_ID" => facts.os_version = value,
            _ => {}
        }
    });
    facts
}

/// Takes the quotes off, and the backslashes that quote the shell's special characters within double ones.
fn unquoted(value: &str) -> String {
    if let Some(inner) = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
        return inner.to_owned();
    }
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    text
}

/// Hash of what is the machine's own, keyed by that: its id (machine-id(5)) and, where it may be read, the
/// UUID of its board or virtual machine. It is of this device alone and tells nothing of either (the model is
/// `sd_id128_get_machine_app_specific(3)`). 0: the system tells none.
#[must_use]
pub fn machine(root: &Path, device: DeviceId) -> u64 {
    let text = |path: &str| open::text(&root.join(path), MACHINE_ID_BYTES_MAX).unwrap_or_default();
    let id = text("etc/machine-id");
    // So systemd leaves it before the first boot (machine-id(5)).
    let id = Some(id.trim()).filter(|id| *id != "uninitialized").unwrap_or_default();
    let board = text("sys/class/dmi/id/product_uuid").trim().to_lowercase();
    if id.is_empty() && board.is_empty() {
        return 0;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, format!("{id}\n{board}").as_bytes());
    let tag = hmac::sign(&key, &[b"muster".as_slice(), &device.0.to_be_bytes()].concat());
    let first = tag.as_ref().first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first).max(1)
}

/// Longest id that is read.
const MACHINE_ID_BYTES_MAX: u64 = 128;

/// The id of this boot, random(4); empty when the system tells none.
#[must_use]
pub fn boot_id(root: &Path) -> String {
    let text = open::text(&root.join("proc/sys/kernel/random/boot_id"), 64);
    text.map(|text| clipped(text.trim())).unwrap_or_default()
}
