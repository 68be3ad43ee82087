//! The kernel's memory for TCP sockets: buffers from `/proc/net/sockstat`, objects from `/proc/slabinfo`
//! (which only root may read).
//!
//! Two samples with sockets opened in between give bytes a socket. With both ends on this machine both ends'
//! sockets are in both differences, so that the quotient is the share of one end.

use std::fs;
use std::io::ErrorKind;

use super::proc_text::{self, SocketStatistics};

/// The kernel's bytes for one socket of a server, used where they can't be measured: what this project
/// measured with 2,000 to 18,000 idle mutual-TLS connections.
pub(crate) const SOCKET_BYTES_DEFAULT: f64 = 4_030.0;

/// Sockets that must have come between two samples: below that what else the machine does outweighs them.
const SOCKETS_MIN: u64 = 500;

/// Slab caches that only network sockets use: their difference is taken as it is.
const SOCKET_CACHES: [&str; 8] = [
    "TCP",
    "TCPv6",
    "sock_inode_cache",
    "eventpoll_pwq",
    "tw_sock_TCP",
    "tw_sock_TCPv6",
    "request_sock_TCP",
    "request_sock_TCPv6",
];

/// Slab caches that every open file uses, or that the kernel gives back late. A socket in a poll has one
/// object of each.
const FILE_CACHES: [&str; 3] = ["eventpoll_epi", "filp", "dentry"];

/// Least growth of the caches of TCP sockets, as a share of one object for each socket that came. Less means
/// that slabs were there from before, and that what came can't be told.
const GROWTH_MIN: f64 = 0.75;

/// Most growth of a cache that is taken for one object a socket, in objects: slabs are filled in part.
const GROWTH_MAX: f64 = 1.5;

/// Why `kmalloc-*` is not counted, nor what the kernel merges into it.
const LEFT_OUT: &str = "kmalloc-* is left out: everything in the kernel allocates there, so a difference would not be the sockets' alone";

/// The kernel's memory for sockets at a moment.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct KernelSample {
    /// TCP sockets of this network namespace, over IPv4 and IPv6, both ends of a connection on this machine.
    pub(crate) tcp_sockets: u64,
    /// Pages with data that waits in sockets.
    pub(crate) tcp_buffer_bytes: u64,
    /// Memory of slabs, or why that can't be said.
    pub(crate) slabs: Result<SlabMemory, String>,
}

/// Slab caches, of those that sockets use.
pub(crate) type SlabMemory = Vec<Cache>;

/// A slab cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cache {
    name: &'static str,
    /// Of whole slabs, used or not.
    bytes: u64,
    object_bytes: u64,
}

/// The kernel's memory for one socket, and how that is known.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SocketMemory {
    pub(crate) bytes: f64,
    pub(crate) is_measured: bool,
    /// A sentence for the reader of the report.
    pub(crate) note: String,
    /// Bytes a socket by what takes them; empty when it was not measured.
    pub(crate) parts: Vec<(String, f64)>,
}

impl KernelSample {
    /// Looks now. `None` where the kernel says nothing of its sockets (not Linux, `/proc` not mounted).
    pub(crate) fn take() -> Option<Self> {
        let sockstat = fs::read_to_string("/proc/net/sockstat").ok()?;
        // A machine may be without IPv6.
        let sockstat6 = fs::read_to_string("/proc/net/sockstat6").unwrap_or_default();
        let slabinfo = fs::read_to_string("/proc/slabinfo").map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => "only root may read /proc/slabinfo".to_owned(),
            _ => format!("/proc/slabinfo can't be read: {error}"),
        });
        Self::understand(&sockstat, &sockstat6, slabinfo.as_deref(), rustix::param::page_size() as u64)
    }

    fn understand(
        sockstat: &str,
        sockstat6: &str,
        slabinfo: Result<&str, &String>,
        page_bytes: u64,
    ) -> Option<Self> {
        let SocketStatistics { inuse, memory_pages } = proc_text::sockstat(sockstat)?;
        let slabs = slabinfo.map_err(Clone::clone).and_then(|text| {
            slab_memory(text, page_bytes)
                .ok_or_else(|| "/proc/slabinfo is not as slabinfo(5) says".to_owned())
        });
        Some(Self {
            tcp_sockets: inuse.saturating_add(proc_text::sockstat6(sockstat6).unwrap_or(0)),
            tcp_buffer_bytes: memory_pages.saturating_mul(page_bytes),
            slabs,
        })
    }
}

fn slab_memory(text: &str, page_bytes: u64) -> Option<SlabMemory> {
    let slabs = proc_text::slabinfo(text)?;
    // The kernel merges caches of one size: what is not named is counted elsewhere, or in kmalloc.
    let caches = SOCKET_CACHES.iter().chain(&FILE_CACHES).filter_map(|name| {
        let slab = slabs.iter().find(|slab| slab.name == *name)?;
        let bytes = slab.slabs.saturating_mul(slab.pages_per_slab).saturating_mul(page_bytes);
        Some(Cache { name, bytes, object_bytes: slab.object_bytes })
    });
    let caches: SlabMemory = caches.collect();
    caches.iter().any(|cache| cache.name.starts_with("TCP")).then_some(caches)
}

/// The kernel's memory for a socket, from the sockets that came between two samples; the default when that
/// can't be known.
pub(crate) fn socket_memory(before: Option<&KernelSample>, after: Option<&KernelSample>) -> SocketMemory {
    let (Some(before), Some(after)) = (before, after) else {
        return not_measured("/proc/net/sockstat can't be read");
    };
    let (slabs_before, slabs_after) = match (&before.slabs, &after.slabs) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(why), _) | (_, Err(why)) => return not_measured(why),
    };
    let sockets = after.tcp_sockets.saturating_sub(before.tcp_sockets);
    if sockets < SOCKETS_MIN {
        return not_measured(&format!("{sockets} sockets came, {SOCKETS_MIN} are the least to measure with"));
    }
    let (mut parts, mut assumed, mut tcp_objects) = (Vec::new(), Vec::new(), 0.0);
    for Cache { name, bytes, object_bytes } in slabs_after {
        let earlier = slabs_before.iter().find(|other| other.name == *name);
        let grown = growth(*bytes, earlier.map_or(0, |earlier| earlier.bytes), sockets);
        let object = *object_bytes as f64;
        if matches!(*name, "TCP" | "TCPv6") {
            tcp_objects += grown / object;
        }
        let is_one = (GROWTH_MIN..=GROWTH_MAX).contains(&(grown / object));
        let each = if FILE_CACHES.contains(name) && !is_one {
            // Others come and go meanwhile; a socket can't have more or less than its one object.
            assumed.push(*name);
            object
        } else {
            grown
        };
        parts.push((format!("slab {name}"), each));
    }
    if tcp_objects < GROWTH_MIN {
        return not_measured("the sockets found room in slabs that were there before");
    }
    parts.push(("buffers".to_owned(), growth(after.tcp_buffer_bytes, before.tcp_buffer_bytes, sockets)));
    let bytes = parts.iter().map(|(_, bytes)| bytes).sum();
    let mut note =
        format!("Kernel memory a socket: measured over {sockets} sockets (slabs and buffers); {LEFT_OUT}.");
    if !assumed.is_empty() {
        let names = assumed.join(" and ");
        note +=
            &format!(" Of {names} one object a socket is assumed: its difference is not the sockets' alone.");
    }
    SocketMemory { bytes, is_measured: true, note, parts }
}

fn not_measured(why: &str) -> SocketMemory {
    SocketMemory {
        bytes: SOCKET_BYTES_DEFAULT,
        is_measured: false,
        note: format!(
            "Kernel memory a socket: not measured here ({why}); {SOCKET_BYTES_DEFAULT:.0} bytes are taken, which is what the project \
             measured for a server's socket."
        ),
        parts: Vec::new(),
    }
}

/// Bytes that came, for each socket. Memory that others gave back meanwhile is no gain of a socket's.
fn growth(after: u64, before: u64, sockets: u64) -> f64 {
    after.saturating_sub(before) as f64 / sockets as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_BYTES: u64 = 4_096;

    fn slabinfo(tcp_slabs: u64, dentry_slabs: u64) -> String {
        format!(
            "slabinfo - version: 2.1\n# name\n\
             TCP 92 143 2368 13 8 : tunables 0 0 0 : slabdata {tcp_slabs} {tcp_slabs} 0\n\
             kmalloc-64 9 9 64 64 1 : tunables 0 0 0 : slabdata {dentry_slabs} {dentry_slabs} 0\n\
             dentry 9 9 192 21 1 : tunables 0 0 0 : slabdata {dentry_slabs} {dentry_slabs} 0\n"
        )
    }

    fn sample(sockets: u64, pages: u64, tcp_slabs: u64, dentry_slabs: u64) -> KernelSample {
        let sockstat = format!("sockets: used 1\nTCP: inuse {sockets} orphan 0 tw 0 alloc 9 mem {pages}\n");
        let slabinfo = slabinfo(tcp_slabs, dentry_slabs);
        let sample = KernelSample::understand(&sockstat, "TCP6: inuse 3\n", Ok(&slabinfo), PAGE_BYTES);
        sample.unwrap()
    }

    #[test]
    fn a_socket_costs_what_came_divided_by_the_sockets_that_came() {
        let (before, after) = (sample(10, 1, 11, 1_000), sample(1_310, 14, 111, 1_062));
        assert_eq!(before.tcp_sockets, 13, "both families");
        let memory = socket_memory(Some(&before), Some(&after));
        let tcp = 100.0 * 8.0 * 4_096.0 / 1_300.0;
        let dentry = 62.0 * 4_096.0 / 1_300.0;
        let buffers = 13.0 * 4_096.0 / 1_300.0;
        assert!(memory.is_measured);
        assert!((memory.bytes - (tcp + dentry + buffers)).abs() < 1e-6, "{memory:?}");
        assert!(memory.note.contains("1300 sockets") && memory.note.contains("kmalloc"), "{}", memory.note);
        assert!(!memory.parts.iter().any(|(name, _)| name.contains("kmalloc")));
        assert!(!memory.note.contains("assumed"));
    }

    #[test]
    fn files_that_others_open_or_close_are_not_the_sockets() {
        for dentry_slabs in [400, 9_000] {
            let memory =
                socket_memory(Some(&sample(0, 0, 1, 1_000)), Some(&sample(1_000, 0, 79, dentry_slabs)));
            let dentry = memory.parts.iter().find(|(name, _)| name == "slab dentry").unwrap();
            assert_eq!(dentry.1, 192.0);
            assert!(memory.note.contains("Of dentry one object"), "{}", memory.note);
        }
    }

    #[test]
    fn what_others_give_back_is_no_gain() {
        let memory = socket_memory(Some(&sample(0, 90, 1, 1_000)), Some(&sample(1_000, 10, 79, 1_048)));
        let buffers = memory.parts.iter().find(|(name, _)| name == "buffers").unwrap();
        assert!(memory.is_measured && buffers.1 == 0.0, "{memory:?}");
    }

    #[test]
    fn what_can_not_be_measured_has_a_labelled_default() {
        let full = sample(0, 0, 1, 1);
        let denied = KernelSample { slabs: Err("only root may read /proc/slabinfo".into()), ..full.clone() };
        for (before, after, why) in [
            (None, Some(&full), "sockstat"),
            (Some(&denied), Some(&denied), "only root"),
            (Some(&full), Some(&full), "0 sockets came"),
            (Some(&full), Some(&sample(1_000, 9, 50, 60)), "room in slabs"),
        ] {
            let memory = socket_memory(before, after);
            assert_eq!((memory.bytes, memory.is_measured), (SOCKET_BYTES_DEFAULT, false));
            assert!(memory.note.contains("not measured") && memory.note.contains(why), "{}", memory.note);
        }
    }

    #[test]
    fn damaged_texts_are_no_measurement() {
        assert_eq!(KernelSample::understand("sockets: used 1\n", "", Ok("x"), PAGE_BYTES), None);
        let sockstat = "TCP: inuse 1 orphan 0 tw 0 alloc 9 mem 2\n";
        let text = "slabinfo - version: 2.1\nnothing of use\n";
        let sample = KernelSample::understand(sockstat, "", Ok(text), PAGE_BYTES).unwrap();
        assert_eq!((sample.tcp_sockets, sample.tcp_buffer_bytes), (1, 8_192));
        assert!(sample.slabs.unwrap_err().contains("slabinfo(5)"));
    }

    #[test]
    fn this_kernel_is_understood() {
        let sample = KernelSample::take().unwrap();
        if let Ok(slabs) = sample.slabs {
            assert!(slabs.iter().any(|cache| cache.name == "TCP" && cache.bytes > 0), "{slabs:?}");
        }
    }
}
