//! Settings that a server makes for the whole process that it runs in.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::memory;

/// Settings that a server makes for the whole process, other threads and libraries in it included. Nothing by
/// default: a program that embeds a server has its own mind about its process. `musterd run` asks for [all of
/// it](Self::DAEMON).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProcessOptions {
    /// No core dumps, which would contain the keys of the server and of its links (`RLIMIT_CORE` of
    /// setrlimit(2)).
    pub forbid_core_dumps: bool,
    /// As many open files as the hard limit allows (`RLIMIT_NOFILE`): each link takes one. The soft limit is
    /// for programs that use select(2).
    pub raise_descriptor_limit: bool,
    /// The allocator makes no more heaps than there are cores and keeps little of what is freed (mallopt(3)),
    /// and what is free is given back to the system when a storm of handshakes or a fleet of links is over
    /// (malloc_trim(3)). With glibc; elsewhere nothing.
    pub keep_memory_small: bool,
}

impl ProcessOptions {
    /// For a process that is a server and nothing else.
    pub const DAEMON: Self =
        Self { forbid_core_dumps: true, raise_descriptor_limit: true, keep_memory_small: true };

    /// Makes the settings. Before any secret is read and any thread started.
    pub(super) fn apply(self) {
        if self.forbid_core_dumps {
            forbid_core_dumps();
        }
        if self.raise_descriptor_limit {
            raise_descriptor_limit();
        }
        if self.keep_memory_small {
            memory::keep_little();
        }
    }
}

fn forbid_core_dumps() {
    // A limit of zero would still let a core be piped to a program (core(5)); Linux takes a limit of one for
    // 'none at all', and no system writes a core of one byte.
    let none = Rlimit { current: Some(1), maximum: Some(1) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        log::warn!("core dumps can't be forbidden, they would contain secrets: {error}");
    }
}

fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        log::warn!("the limit of open files stays as it is: {error}");
    }
}

/// Number of files that this process may have open.
pub(super) fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
