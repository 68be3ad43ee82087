//! Floor 2: the process's memory. What is free is given back to the system when somebody says so, and none of it goes into a file when the
//! process crashes. One of two files with `unsafe`: the C library has a call that nothing wraps.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Memory at the end of a heap that is kept for what comes next, and the size from which a block has pages of its own, in bytes. Left alone,
/// the C library raises both with every large block that is freed, up to 64 MB for each thread, and gives nothing back below.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 128 * 1024;

/// Heaps at least, in heaps.
#[cfg(target_env = "gnu")]
const HEAPS_MIN: usize = 2;

/// Where the C library is told how it caches (ld.so(8)); it looks there once, before the program begins.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Free blocks of each of 64 sizes that a thread may keep for itself, in blocks, instead of the library's 7. Each stands alone in a page that can't be given back
/// for its sake: with seven 1.5 MiB of a server that a fleet has visited. Two serve a server's threads as well.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TUNABLE: (&str, &str) = ("glibc.malloc.tcache_count", "2");

/// Has the C library's threads keep little for themselves. It can only be told so before the program begins: so this begins it again, as the same process, with
/// the same arguments, and a setting more in its environment. Where that is there already, or can't be done, it returns. To be called before anything else.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn begin_with_small_caches() {
    use std::os::unix::process::CommandExt as _;
    let Some(tunables) = with_small_caches(std::env::var_os(TUNABLES)) else { return };
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error = command.args(arguments).env(TUNABLES, tunables).exec();
    log::debug!("threads keep more free memory for themselves: {error}");
}

/// Other C libraries have other caches.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn begin_with_small_caches() {}

/// The tunables with ours behind what is there; `None` when somebody has said something of it already.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn with_small_caches(before: Option<std::ffi::OsString>) -> Option<std::ffi::OsString> {
    let (name, value) = TUNABLE;
    let mut tunables = before.unwrap_or_default();
    if tunables.as_encoded_bytes().windows(name.len()).any(|part| part == name.as_bytes()) {
        return None;
    }
    if !tunables.is_empty() {
        tunables.push(":");
    }
    tunables.push(format!("{name}={value}"));
    Some(tunables)
}

/// Asks the allocator to keep little of what is freed, and to make no more heaps than threads can run at a time: left alone it makes one
/// for each thread, and each keeps pages in which something small lives on. Before any other thread is started.
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

/// Lets go of the pages of the program and of the C library, as far as they are the files': those of the start are never needed again, and what is needed comes
/// back from the page cache by itself, at some microseconds a piece.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the mapping is the loader's, and no safe type stands for it")]
pub fn let_go_of_code() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    let Ok(program) = std::env::current_exe() else { return };
    for (start, end) in code_of(&maps, &program.to_string_lossy()) {
        // SAFETY: the range is a mapping of the program's or the C library's file that nobody may write to, and was never written to: the loader writes only to
        // what it maps writable (elf(5), PT_GNU_RELRO lies in such a segment). Its pages hold what the file holds, and one that is touched again is
        // mapped again with the same bytes (madvise(2), MADV_DONTNEED). These mappings are made by the loader and stay until the process
        // ends, so that the range still is what it was when it was read.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Only Linux tells which pages those are.
#[cfg(not(target_os = "linux"))]
pub fn let_go_of_code() {}

/// Where the code of the program and of the C library is mapped, and what the program's file begins with, its constants (proc_pid_maps(5)). What the loader has made
/// read-only after it wrote to it lies further behind.
#[cfg(target_os = "linux")]
fn code_of<'m>(maps: &'m str, program: &'m str) -> impl Iterator<Item = (usize, usize)> + 'm {
    maps.lines().filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights, offset) = (fields.next()?, fields.next()?, fields.next()?);
        let file = fields.nth(2)?;
        let is_code = rights == "r-xp" && (file == program || file.ends_with("/libc.so.6"));
        let is_constant = rights == "r--p" && file == program && u64::from_str_radix(offset, 16) == Ok(0);
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        (is_code || is_constant).then_some((address(start)?, address(end)?))
    })
}

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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_and_executed_of_the_program_is_let_go_of() {
        let maps = "\
            5500-5600 r--p 00000000 fe:00 1 /usr/bin/musterd\n\
            5600-5900 r-xp 00100000 fe:00 1 /usr/bin/musterd\n\
            5900-5980 r--p 00400000 fe:00 1 /usr/bin/musterd\n\
            5980-5a00 rw-p 00480000 fe:00 1 /usr/bin/musterd\n\
            7f00-7f08 r--p 00000000 fe:00 2 /usr/lib/libc.so.6\n\
            7f08-7f10 r-xp 00008000 fe:00 2 /usr/lib/libc.so.6\n\
            7ff0-7ff1 r-xp 00000000 00:00 0 [vdso]\n";
        let ours = [(0x5500, 0x5600), (0x5600, 0x5900), (0x7f08, 0x7f10)];
        assert_eq!(code_of(maps, "/usr/bin/musterd").collect::<Vec<_>>(), ours);
        assert_eq!(code_of(maps, "/usr/bin/muster").count(), 1, "the C library's");
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_an_administrator_has_tuned_stays_as_it_is() {
        let with = |before: Option<&str>| with_small_caches(before.map(std::ffi::OsString::from));
        assert_eq!(with(None).unwrap(), "glibc.malloc.tcache_count=2");
        assert_eq!(
            with(Some("glibc.malloc.perturb=1")).unwrap(),
            "glibc.malloc.perturb=1:glibc.malloc.tcache_count=2"
        );
        assert_eq!(with(Some("glibc.malloc.tcache_count=0")), None);
        assert_eq!(with(with(None).unwrap().to_str()), None, "it begins again once");
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        for _ in 0..3 {
            let_go_of_code();
            give_back();
        }
        assert!(std::fs::read_to_string("/proc/self/maps").is_ok());
    }
}
