//! Use of a process, seen from outside: processor time and memory, as Linux says it (proc(5)).

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A process that is looked at.
#[derive(Clone)]
pub(crate) struct Process {
    directory: PathBuf,
}

impl Process {
    /// The server's.
    pub(crate) fn of(id: u32) -> Self {
        Self { directory: Path::new("/proc").join(id.to_string()) }
    }

    /// Processor time of all its threads that live: user and system.
    pub(crate) fn cpu_nanoseconds(&self) -> Result<u64, Failure> {
        let failed = || Failure::when(format!("read the processor time of {}", self.directory.display()));
        let mut sum = 0;
        for task in std::fs::read_dir(self.directory.join("task")).map_err(failed())? {
            // A thread may end in between.
            let path = task.map_err(failed())?.path().join("schedstat");
            if let Ok(text) = std::fs::read_to_string(path) {
                sum += text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        Ok(sum)
    }

    pub(crate) fn thread_cpu_nanoseconds() -> Result<u64, Failure> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat")
            .map_err(Failure::when("read this thread's processor time"))?;
        Ok(text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0))
    }

    /// Memory that is the process's alone.
    pub(crate) fn private_bytes(&self) -> Result<u64, Failure> {
        let path = self.directory.join("smaps_rollup");
        let text =
            std::fs::read_to_string(&path).map_err(Failure::when(format_args!("read {}", path.display())))?;
        private_bytes_in(&text).ok_or_else(|| Failure(format!("{} names no private memory", path.display())))
    }

    pub(crate) fn threads(&self) -> Result<usize, Failure> {
        let tasks = std::fs::read_dir(self.directory.join("task")).map_err(Failure::when("count threads"))?;
        Ok(tasks.count())
    }
}

fn private_bytes_in(text: &str) -> Option<u64> {
    let kilobytes = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some((kilobytes("Private_Clean:")? + kilobytes("Private_Dirty:")?) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory_is_clean_and_dirty() {
        let text = "Rss:   1 kB\nShared_Dirty:   9 kB\nPrivate_Clean:   124 kB\nPrivate_Dirty:      4 kB\n";
        assert_eq!(private_bytes_in(text), Some(128 * 1024));
        assert_eq!(private_bytes_in("Rss: 1 kB"), None);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let own = Process::of(std::process::id());
        let before = own.cpu_nanoseconds().unwrap();
        let mut sum = 0_u64;
        while own.cpu_nanoseconds().unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(1));
        }
        assert!(own.private_bytes().unwrap() > 4096);
        assert!(own.threads().unwrap() >= 1);
    }
}
