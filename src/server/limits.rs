//! Most links: the configuration's number, as far as descriptors and memory allow.

use std::ops::RangeInclusive;

use super::config::{Config, LinksConfig};
use super::process::descriptors;
use crate::concurrency::reactors::LinkSettings;
use crate::machine::admission::strangers;
use crate::memory;
use crate::reactor::HANDSHAKES_BEYOND_MAX;

/// Bytes that a persistent link takes: half a kilobyte here, four of the kernel's for its socket, and what
/// both have under way.
const PERSISTENT_LINK_BYTES: u64 = 6 * 1024;

/// Memory that links may hold beside what each takes idle, when the configuration does not say.
const HELD_BYTES: RangeInclusive<u64> = 64 << 20..=1 << 30;

/// Least memory that the links of one reactor may hold: the largest inventory of a device, 50,000 entries,
/// takes about 10 MB.
const HELD_BYTES_MIN: u64 = 16 << 20;

/// Descriptors that are not for links, in descriptors: database, event log, administration, libraries.
const DESCRIPTOR_RESERVE: u64 = 256;

/// The reactors' settings, from the configuration.
pub(super) fn link_settings(links: &LinksConfig, links_max: u64, reactors: usize) -> LinkSettings {
    LinkSettings {
        links_max,
        links_beyond_max: links_beyond_max(links_max, reactors),
        stranger_places: strangers::places(links_max, reactors),
        held_bytes_max: held_bytes_max(links, reactors),
        // Each has its share of them: the kernel deals connections out evenly.
        handshake_interval_microseconds: links
            .handshakes_per_second
            .map_or(0, |rate| 1_000_000 * reactors as u64 / (rate as u64).max(1)),
        handshake_deadline: links.handshake_deadline,
        idle_deadline: links.idle_deadline,
        write_deadline: links.write_deadline,
    }
}

/// Memory that the links of one reactor may hold beside what each takes idle. The largest upload of an honest
/// device fits several times.
fn held_bytes_max(links: &LinksConfig, reactors: usize) -> u64 {
    let by_memory = || {
        memory::available_bytes()
            .map_or(*HELD_BYTES.start(), |free| (free / 8).clamp(*HELD_BYTES.start(), *HELD_BYTES.end()))
    };
    (links.buffer_bytes.unwrap_or_else(by_memory) / reactors as u64).max(HELD_BYTES_MIN)
}

/// Most links that are no devices': handshakes, strangers, and as many strangers whose enrolment is being
/// worked on.
fn links_beyond_max(links_max: u64, reactors: usize) -> u64 {
    HANDSHAKES_BEYOND_MAX + 2 * strangers::places(links_max, reactors) * reactors as u64
}

/// Most links of devices: the configuration's number, as far as there are descriptors.
pub(super) fn allowed_links(links: &LinksConfig, descriptors: u64, reactors: usize) -> u64 {
    let wanted = links.max as u64;
    let reserve = DESCRIPTOR_RESERVE + links_beyond_max(wanted.min(descriptors), reactors);
    let possible = descriptors.saturating_sub(reserve).max(1);
    if wanted > possible {
        log::warn!(
            "links.max is {wanted}, but this process may have {descriptors} open files: {possible} links are allowed \
             (raise LimitNOFILE, or 'ulimit -n')"
        );
    }
    wanted.min(possible)
}

/// Most links that may be asked to stay: the configuration's number, or what the links and half of the memory
/// that is free allow.
pub(super) fn allowed_persistent(links: &LinksConfig, links_max: u64) -> u64 {
    let free = memory::available_bytes();
    let by_memory = free.map_or(u64::MAX, |bytes| bytes / 2 / PERSISTENT_LINK_BYTES);
    // Some links are always those of devices that come by.
    let possible = (links_max - links_max / 16).min(by_memory);
    let allowed = links.max_persistent_connections.map_or(possible, |wanted| wanted as u64);
    if allowed > possible {
        log::warn!(
            "links.max_persistent_connections is {allowed}, but links and memory allow about {possible} (links.max, LimitNOFILE)"
        );
    }
    log::info!(
        "max_persistent_connections is {allowed}: {links_max} links are allowed, {} MiB of memory are free",
        free.map_or("unknown".into(), |bytes| (bytes >> 20).to_string())
    );
    allowed
}

/// Most reactors, in threads: a reactor's number is a byte.
const REACTORS_MAX: usize = 64;

/// Sizes of the parts of a server.
pub(super) struct Sizes {
    /// That reactors run on.
    pub(super) cores: usize,
    pub(super) reactors: usize,
    pub(super) workers: usize,
    pub(super) descriptors: u64,
    pub(super) links_max: u64,
    pub(super) persistent_max: u64,
    pub(super) links: LinkSettings,
}

impl Sizes {
    pub(super) fn of(config: &Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let reactors = config.reactors.unwrap_or(cores).clamp(1, REACTORS_MAX);
        let descriptors = descriptors();
        let links_max = allowed_links(&config.links, descriptors, reactors);
        Self {
            cores: cores.min(reactors),
            reactors,
            workers: config.workers.unwrap_or(cores),
            descriptors,
            links_max,
            persistent_max: allowed_persistent(&config.links, links_max),
            links: link_settings(&config.links, links_max, reactors),
        }
    }
}
