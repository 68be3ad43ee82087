//! Floor 2: the process's memory. What is free is given back to the system when somebody says so, and none of it goes into a file when the
//! process crashes. One of two files with `unsafe`: the C library has a call that nothing wraps.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Gives free pages back to the system. Threads that allocate meanwhile wait for it: some milliseconds with a hundred megabytes.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library has no other way, and no crate wraps it")]
pub fn give_back() {
    // SAFETY: malloc_trim(3) takes no pointer, may be called from any thread (MT-Safe), and changes nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give memory back by themselves, or not at all.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}

/// Keeps the secrets of links, and the server's key, out of core dumps.
pub fn forbid_core_dumps() {
    // A limit of zero would still let a core be piped to a program (core(5)); Linux takes a limit of one for 'none at all', and no system
    // writes a core of one byte.
    let none = Rlimit { current: Some(1), maximum: Some(1) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        log::warn!("core dumps can't be forbidden, they would contain secrets: {error}");
    }
}

/// `MemAvailable` of proc_meminfo(5), in bytes; `None` on systems without it.
pub fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
