//! Layer 2: the memory of the whole process. A call here concerns everything in it, so that only the
//! program's owner may decide about it. One of two files with `unsafe`: the C library has calls that nothing
//! wraps.

/// Memory at the end of a heap that is kept for what comes next, and the size from which a block has pages of
/// its own. Left alone, the C library raises both with every large block that is freed, up to 64 MB for each
/// thread, and gives nothing back below.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 128 * 1024;

/// Heaps at least.
#[cfg(target_env = "gnu")]
const HEAPS_MIN: usize = 2;

/// Asks the allocator to keep little of what is freed, and to make no more heaps than threads can run at a
/// time: left alone it makes one for each thread, and each keeps pages in which something small lives on.
/// Before any other thread is started.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library has no other way, and no crate wraps it")]
pub fn keep_little() {
    let cores = std::thread::available_parallelism().map_or(HEAPS_MIN, usize::from);
    let heaps = libc::c_int::try_from(cores.max(HEAPS_MIN)).unwrap_or(libc::c_int::MAX);
    let settings = [
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES),
        (libc::M_MMAP_THRESHOLD, KEPT_BYTES),
        (libc::M_ARENA_MAX, heaps),
    ];
    for (what, value) in settings {
        // SAFETY: mallopt(3) takes two numbers and no pointer, and these are settings that it documents.
        if unsafe { libc::mallopt(what, value) } == 0 {
            log::debug!("the allocator keeps what it likes");
        }
    }
}

/// Other allocators have other rules.
#[cfg(not(target_env = "gnu"))]
pub fn keep_little() {}

/// Gives free pages back to the system. Threads that allocate meanwhile wait for it: some milliseconds with a
/// hundred megabytes.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library has no other way, and no crate wraps it")]
pub fn give_back() {
    // SAFETY: malloc_trim(3) takes no pointer, may be called from any thread (MT-Safe), and changes nothing
    // that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give memory back by themselves, or not at all.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}

/// Memory of this process that is resident, by proc_pid_statm(5); `None` on systems without it.
#[cfg(feature = "server")]
pub fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Descriptors of this process, which Linux 6.2 and later says without having them listed (proc_pid_fd(5));
/// `None` on other systems.
#[cfg(feature = "server")]
pub fn open_descriptors() -> Option<u64> {
    std::fs::metadata("/proc/self/fd").ok().map(|folder| folder.len()).filter(|count| *count > 0)
}

/// `MemAvailable` of proc_meminfo(5); `None` on systems without it.
pub fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
